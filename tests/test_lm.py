"""asr lm: building language models from text and ARPA, tuning and describing them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr import cli
from asr.decoding import language
from asr.decoding.decoder import DecoderOptions
from asr.lm import GRID, perplexity, tune

DATA = Path(__file__).parent / "data"
ARPA = """\\data\\
ngram 1=5
ngram 2=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.3
-0.6\t</s>
-0.4\tthe\t-0.2
-0.5\tqwrtz

\\2-grams:
-0.2\t<s> the
-0.9\tthe the

\\end\\
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "kenlm").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    (tmp_path / "empty").write_text("\n...\n")
    return tmp_path


def lm(*arguments: str) -> int:
    return cli.main(["lm", *arguments])


def test_an_arpa_file_becomes_a_language_with_pronunciations(capsys: pytest.CaptureFixture[str]) -> None:
    assert lm("build", "lm.arpa", "-o", "the.lm") == 0
    output = capsys.readouterr()
    assert output.out == "the.lm\n"
    assert output.err == ""
    built = language.load("the.lm")
    assert built.lm.words == ("<unk>", "<s>", "</s>", "the", "qwrtz")
    assert built.pronunciations is not None and set(built.pronunciations.words.tolist()) == {3, 4}
    assert built.info == {"sources": ["lm.arpa"]}


def test_without_a_lexicon_words_are_spelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert lm("build", "lm.arpa", "-o", "the.lm", "--lexicon", "none") == 0
    assert language.load("the.lm").pronunciations is None
    assert capsys.readouterr().err == ""


def test_words_of_a_dictionary_are_added_with_their_pronunciations() -> None:
    Path("names.dict").write_text("zzyx Z IH1 K S # a name\nzzyx(2) Z AY1 K S\nthe DH AH0\n")
    Path("names.tsv").write_text("zzyx\tZ IH K S\n")
    without, built, again = ("without.lm", "names.lm", "again.lm")
    assert lm("build", "lm.arpa", "-o", without, "-q") == 0
    assert lm("build", "lm.arpa", "-o", built, "--add-words", "names.dict", "--added-share", "0.25") == 0
    assert lm("build", "lm.arpa", "-o", again, "--add-words", "names.tsv", "--added-share", "0") == 0
    old, new = language.load(without), language.load(built)
    assert old.pronunciations is not None and new.pronunciations is not None
    assert new.lm.words == (*old.lm.words, "zzyx") and new.info["sources"] == ["lm.arpa", "names.dict"]
    assert len(new.pronunciations.of_word(5)) == 2 == len(new.pronunciations.of_word(3))
    np.testing.assert_allclose(np.exp(new.lm.unigrams), [*(0.75 * np.exp(old.lm.unigrams)), 0.25], atol=1e-6)
    # After "the" it is backed off to; what n-grams say stays as it was.
    assert new.lm.score_sentence(["the", "zzyx"])[1] == pytest.approx(np.log(0.25 * 10**-0.2))
    assert new.lm.score_sentence(["the", "the"])[1] == pytest.approx(np.log(10**-0.9))
    assert language.load(again).lm.words == old.lm.words


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "holds no pronunciations"), ("the DH AX\n", "'the' is said 'DH AX'"), (None, "not a readable")],
)
def test_a_bad_dictionary_is_one_line(
    content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("bad.dict").write_text(content)
    assert lm("build", "lm.arpa", "-o", "x.lm", "--add-words", "bad.dict") == 1
    error = capsys.readouterr().err
    assert error.startswith("asr: error: bad.dict: ") and message in error and error.count("\n") == 1
    assert not Path("x.lm").exists()


def test_info_tells_sizes_and_the_perplexity_of_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text").write_text("The the!\nthe Zebra\n\n")
    assert lm("build", "lm.arpa", "-o", "the.lm", "-q") == 0
    capsys.readouterr()
    assert lm("info", "the.lm", "--text", "text", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["words"] == 5 and facts["2-grams"] == 2 and facts["unknown_words"] == "25.00 %"
    # <s> the, the the, </s> backed off through "the"; <s> the, <unk> and </s> likewise.
    log10 = (-0.2 - 0.9 - 0.8) + (-0.2 - 0.2 - 1.5 - 0.6)
    assert facts["perplexity"] == pytest.approx(10 ** (-log10 / 6), abs=0.01)
    assert lm("info", "the.lm") == 0
    assert "2-grams: 2\n" in capsys.readouterr().out


def test_the_shipped_language_is_small_and_quick_to_load() -> None:
    import time

    from asr import pretrained

    path = pretrained.shipped_language()
    assert path is not None and path.stat().st_size <= 25e6
    best = min(_seconds(lambda: language.load(path), time.perf_counter) for _ in range(3))
    assert best < 1.5  # 0.3 on a quiet machine
    model = language.load(path).lm
    assert perplexity(model, ["he was a man of the world"])[0] < 100 < perplexity(model, ["the the of of"])[0]


def _seconds(action, clock) -> float:  # type: ignore[no-untyped-def]
    began = clock()
    action()
    return clock() - began


def test_text_becomes_a_model_that_likes_such_text() -> None:
    sentences = ["The cat sat on the mat.", "The dog sat on the log.", "A cat and a dog sat."] * 30
    with lzma.open("text.xz", "wt") as file:
        file.write("\n".join(sentences))
    assert lm("build", "text.xz", "-o", "small.lm", "--order", "3", "--mix", "none", "-q") == 0
    model = language.load("small.lm").lm
    assert len(model.counts) == 3
    likely, unlikely = (perplexity(model, [text])[0] for text in ("a cat sat on the log", "log the on a sat"))
    assert 2 * likely < unlikely
    assert (
        lm(
            "build",
            "text.xz",
            "-o",
            "tiny.lm",
            "--order",
            "3",
            "--mix",
            "none",
            "--entropy-prune",
            "1e-2",
            "-q",
        )
        == 0
    )
    assert (
        lm("build", "text.xz", "-o", "few.lm", "--order", "2", "--vocabulary", "4", "--mix", "none", "-q")
        == 0
    )
    assert sum(language.load("tiny.lm").lm.counts) < sum(model.counts)
    assert set(language.load("few.lm").lm.words) == {"<unk>", "<s>", "</s>", "the", "sat", "a", "cat"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["build", "lm.arpa"], 2, "needs texts or an ARPA file, and -o FILE"),
        (["build", "none.arpa", "-o", "x.lm"], 1, "none.arpa: not a readable ARPA file (No such file"),
        (["build", "lm.arpa", "lm.arpa", "-o", "x.lm"], 1, "converted by itself"),
        (["build", "lm.arpa", "-o", "x.lm", "--lexicon", "none.tsv"], 1, "none.tsv: lexicon not found"),
        (["build", "lm.arpa", "-o", "lm.arpa/x.lm"], 1, "x.lm: cannot be written"),
        (["build", "lm.arpa", "-o", "x.lm", "--count-prune", "a"], 2, "not a list of numbers"),
        (["build", "kenlm", "-o", "x.lm"], 1, "kenlm: a binary file of KenLM; give the ARPA file"),
        (["build", "empty", "-o", "x.lm"], 1, "empty: no words to count"),
        (["build", "lm.arpa", "-o", "x.lm", "--mix", "none.lm"], 1, "none.lm: no such language model"),
        (["info", "lm.arpa"], 1, "asr lm build makes one from text or ARPA"),
        (["info", "none.lm"], 1, "none.lm: no such language model"),
        (["tune"], 2, "needs one manifest"),
        (["tune", "dev.jsonl", "--save"], 2, "say with --lm which file"),
        (["tune", "dev.jsonl"], 1, "dev.jsonl: No such file"),
        (["grow"], 2, "invalid choice: 'grow'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], status: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lm(*arguments) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not Path("x.lm").exists()


TRADE = "\n".join(
    f"{verb} the {part} of the quillback {thing}"
    for verb in ("check", "drain", "oil")
    for part in ("gasket", "spindle", "flange")
    for thing in ("lathe", "zorbing press")
)


def test_own_text_is_mixed_with_the_shipped_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from asr import pretrained
    from asr.decoding.decoder import find_language
    from asr.labels import Labels

    Path("shipped.txt").write_text(
        "he was a man of the world\nthe world was a stage\nhe was of the stage\n" * 9
    )
    assert lm("build", "shipped.txt", "--mix", "none", "-o", "shipped.lm", "-q") == 0
    monkeypatch.setattr(pretrained, "LANGUAGE_FILE", Path("shipped.lm"))  # one that is quickly mixed
    with bz2.open("notes.txt", "wt", encoding="utf-8-sig") as file:  # by its content, not by its name
        file.write(TRADE)
    capsys.readouterr()
    assert lm("build", "notes.txt", "-o", "my.lm") == 0
    error = capsys.readouterr().err
    shipped, mine = language.load("shipped.lm"), language.load("my.lm")
    share = 100 * mine.info["mixed"]["share"]
    assert error.startswith(f"mixed with english: {share:.0f} % of the new texts, ") and share <= 10
    assert mine.lm.words[: len(shipped.lm.words)] == shipped.lm.words
    assert mine.pronunciations is not None
    assert mine.pronunciations.of_word(mine.lm.ids["quillback"])  # which no dictionary has
    other = ["he was a man of the world"]
    assert perplexity(mine.lm, ["oil the gasket of the quillback lathe"])[0] < 200
    assert perplexity(mine.lm, other)[0] < 2.5 * perplexity(shipped.lm, other)[0]
    # What goes with the shipped model goes with the mixture.
    found = find_language(
        DecoderOptions(lm="my.lm"),
        {"phones": Labels.of_kind("phones")},
        pretrained.LANGUAGE_FILE,
        pretrained.RECURRENT_FILE,
    )
    assert found is not None and found.recurrent is not None


def test_another_model_can_be_mixed_in_with_a_share_of_ones_own() -> None:
    Path("text").write_text("the cat\nthe dog\n")
    assert lm("build", "lm.arpa", "-o", "the.lm", "-q") == 0
    assert lm("build", "text", "-o", "mix.lm", "--mix", "the.lm", "--mix-share", "0.25", "-q") == 0
    mixed = language.load("mix.lm")
    assert mixed.info["mixed"] == {"with": "the.lm", "share": 0.25}
    assert set(mixed.lm.words) == {"<unk>", "<s>", "</s>", "the", "qwrtz", "cat", "dog"}


@pytest.mark.parametrize(("name", "opener"), [("x.lm", open), ("x", gzip.open), ("x.txt", lzma.open)])
def test_an_arpa_file_is_known_by_what_it_holds(name: str, opener: Any) -> None:
    with opener(name, "wt", encoding="utf-8-sig") as file:
        file.write("made by a toolkit\n\n" + ARPA)
    assert lm("build", name, "-o", "the.out", "-q", "--lexicon", "none") == 0
    assert language.load("the.out").lm.words == ("<unk>", "<s>", "</s>", "the", "qwrtz")


class Hears:
    """A stand-in for a recogniser that errs the less, the nearer its weights are to some."""

    def __init__(self, options: DecoderOptions | None = None) -> None:
        self.options = options

    def with_decoding(self, options: DecoderOptions) -> Hears:
        return Hears(options)

    @contextmanager
    def in_processes(self, n: int) -> Iterator[Hears]:
        yield self

    def decoding(self, outputs: list[dict[str, np.ndarray]]) -> Hears:
        return self

    def result(self) -> Hears:
        return self

    @property
    def text(self) -> str:
        assert self.options is not None
        best = {"prior_weight": 0.4, "lm_weight": 1.2, "word_score": -1.5}
        steps = sum(abs(getattr(self.options, name) - value) / GRID[name] for name, value in best.items())
        return " ".join(["word"] * (100 - round(steps)))


def test_tuning_walks_to_the_best_weights() -> None:
    start = DecoderOptions(prior_weight=0.6, lm_weight=0.8, word_score=0.0)
    trials = tune(Hears(), [(" ".join(["word"] * 100), [])], start)  # type: ignore[arg-type]
    assert trials[0].word_error == 0
    best = {"prior_weight": 0.4, "lm_weight": 1.2, "word_score": -1.5}
    assert vars(trials[0].options) == vars(start) | best
    assert len({trial.options for trial in trials}) == len(trials)


def test_the_best_weights_are_kept_in_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    from asr.audio import read_audio

    audio = DATA / "1462-170142-0003.flac"
    seconds = len(read_audio(audio)) / 16_000
    entry = {"audio": str(audio), "text": "the room was empty when he entered", "duration": seconds}
    Path("dev.jsonl").write_text(json.dumps(entry))
    assert lm("build", "lm.arpa", "-o", "the.lm", "-q") == 0
    assert lm("tune", "dev.jsonl", "--lm", "the.lm", "--beam-size", "5", "--save", "-q") == 0
    assert set(language.load("the.lm").info["decoding"]) == set(GRID)
    assert "% words wrong" in capsys.readouterr().out
