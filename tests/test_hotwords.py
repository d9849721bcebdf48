"""Hot words: how they are written, and that the search finds them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from asr.decoding import hotwords
from asr.decoding.decoder import DecoderFactory, DecoderOptions
from asr.decoding.hotwords import HotWord
from asr.decoding.language import Language
from asr.decoding.ngram import NGramModel, Order
from asr.decoding.prefix_tree import Pronunciations
from asr.errors import UsageError
from asr.labels import Labels

PHONES = Labels.of_kind("phones")


def test_a_list_names_words_phrases_and_boosts() -> None:
    assert hotwords.parse("Anneke, new-york , kubernetes:8,o'brien:-1.5", 5.0) == [
        HotWord("anneke", 5.0),
        HotWord("new york", 5.0),
        HotWord("kubernetes", 8.0),
        HotWord("o'brien", -1.5),
    ]


def test_a_file_has_one_a_line_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_text("# people\nanneke\n\nsiobhan : 7  # an irish name\n")
    assert hotwords.read(path, 5.0) == [HotWord("anneke", 5.0), HotWord("siobhan", 7.0)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Zoë", "zoe"),
        ("Þórunn Đoković", "thorunn dokovic"),
        ("AT&T", "a t and t"),
        ("TCP/IP", "t c p i p"),
        ("Marks & Spencer", "marks and spencer"),
        ("U.S.A.", "u s a"),
        ("R2", "r two"),
        ("C3PO", "c three p o"),
        ("COVID19", "covid nineteen"),
        ("Dr. Who", "doctor who"),
        ("NASA", "nasa"),
    ],
)
def test_a_hot_word_is_what_one_says(text: str, said: str) -> None:
    assert hotwords.parse(text) == [HotWord(said, hotwords.DEFAULT_BOOST)]


def test_an_odd_entry_is_named_and_the_others_are_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="asr")  # quiet runs of the program turn it down
    path = tmp_path / "words"
    path.write_bytes("\ufeff# names\r\nguide\r\n★\r\nzoë:7\r\n".encode())
    assert hotwords.read(path, 5.0) == [HotWord("guide", 5.0), HotWord("zoe", 7.0)]
    assert [record.getMessage().split(": ")[:2] for record in caplog.records] == [[f"{path}:3", "'★'"]]
    path.write_text("guide\nzoë:nan\n")
    with pytest.raises(UsageError, match="words:2: 'zoë:nan': a boost is from"):
        hotwords.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" , ", "there are none"),
        ("anneke:loud", "'anneke:loud': the boost is no number"),
        ("anneke:nan", "hot words: 'anneke:nan': a boost is from -100 to 100"),
        ("anneke:inf", "a boost is from"),
        ("anneke:1e9", "a boost is from"),
        ("★", "'★': a hot word needs something that can be said"),
        (":5", "something that can be said"),
        ("a" * 3000, "a word has 60 letters at most"),
        ("apostle " * 3000, "a hot word has 20 words at most"),
    ],
)
def test_what_is_no_hot_word_is_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        hotwords.parse(text)


def test_an_empty_or_missing_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(UsageError, match="empty: there are none"):
        hotwords.read(tmp_path / "empty")
    with pytest.raises(UsageError, match="none: not a readable list of hot words .No such file"):
        hotwords.read(tmp_path / "none")


def language() -> Language:
    words = ["<unk>", "<s>", "</s>", "a", "neck", "uh", "new", "yolk"]
    log_probs = np.log(np.array([1e-6, 1e-9, 0.2, 0.4, 0.1, 0.1, 0.1, 0.1], "f4"))
    unigrams = Order(np.zeros(8, "i4"), np.arange(8, dtype="i4"), log_probs, np.zeros(8, "f4"))
    phones = {"a": "AH", "neck": "N EH K", "uh": "AH", "new": "N UW", "yolk": "Y OW K"}
    spoken = Pronunciations.of((PHONES.encode(phones[w].split()), words.index(w)) for w in phones)
    return Language(NGramModel(words, [unigrams]), spoken)


def decode(units: str, *hot_words: HotWord, probability: float = 0.9) -> list[str]:
    path = [index for unit in units.split() for index in (PHONES.symbols.index(unit), 0)]
    matrix = np.full((len(path), len(PHONES)), (1 - probability) / (len(PHONES) - 1))
    matrix[np.arange(len(path)), path] = probability
    options = DecoderOptions(lm_weight=1.0, word_score=0.0, hot_words=hot_words)
    spoken = {
        "anneke": [("AE", "N", "AH", "K", "AH"), ("AH", "N", "EH", "K", "AH")],
        "york": [tuple("Y AO R K".split())],
    }
    decoder = DecoderFactory(
        {"phones": PHONES}, {}, options, language(), lambda words: [spoken[word] for word in words]
    )()
    decoder.step(np.log(matrix).astype("f4"))
    return [word.text for word in decoder.end()]


def test_a_name_that_nobody_has_heard_is_found() -> None:
    assert decode("AH N EH K AH") == ["a", "neck", "a"]
    assert decode("AH N EH K AH", HotWord("anneke", 12.0)) == ["anneke"]


def test_a_phrase_of_known_and_unknown_words_is_found() -> None:
    assert "york" not in " ".join(decode("N UW Y AO R K"))
    assert decode("N UW Y AO R K", HotWord("new york", 12.0)) == ["new york"]


def test_a_hot_word_is_not_heard_where_nothing_like_it_was_said() -> None:
    assert decode("N EH K", HotWord("anneke", 12.0), HotWord("new york", 12.0)) == ["neck"]


def test_hot_words_need_a_search_and_a_language() -> None:
    characters = {"characters": Labels.of_kind("characters")}
    for options in (
        DecoderOptions(beam_size=1, hot_words=(HotWord("a", 1.0),)),
        DecoderOptions(beam_size=9, hot_words=(HotWord("a", 1.0),)),
    ):
        with pytest.raises(UsageError, match="hot words need"):
            DecoderFactory(characters, {}, options, None)
