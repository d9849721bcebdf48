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


def test_many_words_are_pronounced_as_each_alone_and_quickly() -> None:
    shipped = Pronouncer.load(pretrained.PRONOUNCER_FILE)
    ends = ("anka", "orril", "eex", "anl", "orrix", "eeka", "anx", "orrika", "eel")
    words = [first + end for first in "bdfgkm" for end in ends]
    assert shipped.pronounce_all(words, 2) == [shipped.pronounce(word, 2) for word in words]
    import time

    many = [f"{one}{other}" for one in words for other in words][:1500]
    began = time.process_time()
    assert all(shipped.pronounce_all(many))
    assert time.process_time() - began < 5  # 0.5 on a quiet machine; one by one 6


def test_a_model_of_words_is_no_pronouncer(tmp_path: Path) -> None:
    model = little_model()
    words = (*model.words[:3], *(f"w{i}" for i in range(7)))
    language.save(Language(NGramModel(words, model.orders)), tmp_path / "words.lm")
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
