"""Words that no dictionary has get their phones from a model of letters and phones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from asr import pretrained
from asr.decoding import language
from asr.decoding.language import Language
from asr.decoding.ngram import NGramModel, Order
from asr.errors import LanguageModelError
from asr.pronouncer import Pronouncer, pair_name


def little_model() -> NGramModel:
    pairs = [
        ("ph", ("F",)),
        ("p", ("P",)),
        ("h", ("HH",)),
        ("i", ("IH",)),
        ("i", ("AY",)),
        ("x", ("K", "S")),
        ("e", ()),
    ]
    names = ["<unk>", "<s>", "</s>", *(pair_name(*pair) for pair in pairs)]
    log_probs = np.log(np.array([1e-6, 1e-9, 0.2, 0.2, 0.1, 0.05, 0.2, 0.1, 0.1, 0.05], "f4"))
    n = len(names)
    return NGramModel(
        names, [Order(np.zeros(n, "i4"), np.arange(n, dtype="i4"), log_probs, np.zeros(n, "f4"))]
    )


def test_letters_become_the_likeliest_phones() -> None:
    pronouncer = Pronouncer(little_model())
    assert pronouncer.pronounce("phixe") == [("F", "IH", "K", "S")]
    assert pronouncer.pronounce("phi", n_best=2) == [("F", "IH"), ("F", "AY")]
    assert pronouncer.pronounce("pi'i") == [("P", "IH", "IH")]  # the apostrophe is silent
    assert pronouncer.pronounce("e") == []


def test_a_model_of_words_is_no_pronouncer(tmp_path: Path) -> None:
    model = little_model()
    language.save(Language(NGramModel([f"w{i}" for i in range(10)], model.orders)), tmp_path / "words.lm")
    with pytest.raises(LanguageModelError, match="'w0' is not a pair of letters and phones"):
        Pronouncer.load(tmp_path / "words.lm")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("kubernetes", "K UW B ER N"),
        ("siegfrieda", "S IY G F R IY D AH"),
        ("blorptastic", "B L AO R P T AE S T IH K"),
    ],
)
def test_the_shipped_pronouncer_knows_english_spelling(word: str, expected: str) -> None:
    found = [" ".join(phones) for phones in Pronouncer.load(pretrained.PRONOUNCER_FILE).pronounce(word, 3)]
    assert any(phones.startswith(expected) for phones in found), found
