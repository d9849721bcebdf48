"""Counting errors, and asr evaluate on real speech."""

import json
from pathlib import Path

import numpy as np
import pytest
from scripts import load_recipe

from asr.cli import main
from asr.evaluation import (
    Counts,
    Evaluation,
    Result,
    calibration_error,
    count_characters,
    count_words,
    error_report,
    judge_words,
    sum_counts,
)
from asr.manifest import Utterance
from asr.transcript import Word

DATA = Path(__file__).parent / "data"


def result(name: str, reference: str, hypothesis: str, corpus: str = "a") -> Result:
    return Result(
        Utterance(name, Path(name), reference, 1.0, corpus=corpus),
        reference,
        hypothesis,
        count_words(reference, hypothesis),
        count_characters(reference, hypothesis),
        None,
    )


def test_each_kind_of_error_is_counted() -> None:
    counts = count_words("a b c d", "a x c d e")
    assert (counts.substitutions, counts.deletions, counts.insertions, counts.length) == (1, 0, 1, 4)
    assert counts.rate == 0.5
    assert count_words("a b", "").deletions == 2


def test_words_where_nobody_speaks_are_insertions() -> None:
    assert count_words("", "uh huh") == Counts(insertions=2)
    assert count_characters("", "uh") == Counts(insertions=2)
    assert count_words("", "").rate == 0


def test_rates_of_a_corpus_weigh_by_length() -> None:
    total = sum_counts([count_words("a", "b"), count_words("a b c", "a b c"), None])
    assert total.rate == 0.25


def test_a_total_stands_beside_several_corpora() -> None:
    one = Evaluation([result("1", "a", "a")])
    two = Evaluation([result("1", "a", "a"), result("2", "b", "c", corpus="b")])
    assert list(one.by_corpus()) == ["a"]
    assert list(two.by_corpus()) == ["a", "b", "total"]


def test_the_report_shows_the_worst_first_and_no_correct_ones() -> None:
    report = error_report(
        Evaluation([result("fine", "a b", "a b"), result("half", "a b", "a x"), result("all", "a b", "x y")])
    )
    assert "fine" not in report
    assert report.index("all") < report.index("half")
    assert "REF: a b" in report and "HYP: a x" in report


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.jsonl"
    row = {"audio": str(DATA / "1462-170142-0003.flac"), "text": "The room was empty when he entered."}
    path.write_text(json.dumps({**row, "duration": 2.4, "corpus": "x", "id": "room"}) + "\n")
    return path


def test_the_command_measures_the_shipped_model(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lexicon = tmp_path / "lexicon.tsv"
    lexicon.write_text(
        "the\tDH AH\nroom\tR UW M\nwas\tW AA Z\nempty\tEH M P T IY\nwhen\tW EH N\nhe\tHH IY\n"
        "entered\tEH N T ER D\n"
    )
    errors = tmp_path / "errors.txt"
    status = main(
        ["evaluate", str(manifest), "--json", "--errors", str(errors), "--lexicon", str(lexicon)]
    )
    assert status == 0
    row = json.loads(capsys.readouterr().out)["corpora"][0]
    assert row["corpus"] == "x" and row["words"] == 7
    assert 0 <= row["cer"] < 60
    assert 0 <= row["per"] < 60
    assert errors.exists()


def test_the_table_has_a_line_a_corpus(manifest: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(manifest)]) == 0
    head, row, speed, confidence = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["corpus", "utterances", "words", "wer"]
    assert row.split()[:3] == ["x", "1", "7"]
    assert "real-time factor" in speed


def test_an_unknown_corpus_or_manifest_is_one_line(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(manifest), "--corpus", "y"]) == 1
    assert main(["evaluate", "missing.jsonl"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"asr: error: {manifest}: no rows of corpus y",
        "asr: error: missing.jsonl: No such file or directory",
    ]


def test_what_cannot_be_read_is_named_and_the_others_are_measured(
    manifest: Path, tmp_path: Path, parrot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "noise.wav").write_bytes(b"not sound" * 100)
    bad = [{"audio": audio, "text": "one", "duration": 1} for audio in ("gone.wav", "noise.wav")]
    bad += [{"audio": "x.wav", "text": None, "duration": 1}]
    with manifest.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in bad)
    manifest.write_text("".join(reversed(manifest.read_text().splitlines(keepends=True))))
    assert main(["evaluate", str(manifest), "-m", str(parrot), "--json"]) == 1
    out, err = capsys.readouterr()
    assert [row["utterances"] for row in json.loads(out)["corpora"]] == [1]
    assert json.loads(out)["failures"] == 3
    lines = err.splitlines()
    assert f"{manifest}:1: not an utterance" in lines[0]
    assert "noise.wav" in lines[1] and "gone.wav: no such file" in lines[2]
    assert lines[3] == f"asr data validate {manifest} lists all that is wrong with it" and len(lines) == 4


def test_nothing_but_unreadable_recordings_is_an_error(
    tmp_path: Path, parrot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio": "gone.wav", "text": "one", "duration": 1}')
    assert main(["evaluate", str(manifest), "-m", str(parrot)]) == 1
    out, err = capsys.readouterr()
    assert out == "" and "gone.wav" in err and "no recording of it could be transcribed" in err


def test_info_describes_the_shipped_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["labels"] == {"characters": 29, "phones": 40}
    assert facts["weights"] > 1_000_000
    assert main(["info"]) == 0
    assert "updates:" in capsys.readouterr().out


def test_words_are_right_where_the_reference_has_them_in_their_place() -> None:
    words = [Word(text, 0, 1, p) for text, p in [("the", 0.9), ("cat", 0.8), ("22", 0.7), ("sat", 0.6)]]
    judged = judge_words("the cat twenty three sat", words)
    assert judged == ((0.9, True), (0.8, True), (0.7, True), (0.7, False), (0.6, True))
    assert judge_words("", words[:1]) == ((0.9, False),)
    assert judge_words("silence", []) == ()


def test_the_calibration_error_is_the_distance_from_the_share_of_right_words() -> None:
    honest = [(0.75, True)] * 3 + [(0.75, False)] + [(0.25, True)] + [(0.25, False)] * 3
    assert calibration_error(honest) == pytest.approx(0)
    boastful = [(1.0, True)] * 6 + [(1.0, False)] * 4
    assert calibration_error(boastful) == pytest.approx(0.4)
    assert calibration_error(honest + boastful) == pytest.approx(0.4 * 10 / 18)
    assert calibration_error([]) == 0


def test_a_calibration_makes_probabilities_honest(tmp_path: Path) -> None:
    """Of words with a mean log posterior of m, 1 / (1 + exp(-1 - 2 m)) are right."""
    calibrate = load_recipe("english/calibrate.py")
    random = np.random.default_rng(0)
    means = -random.exponential(1, 4000)
    words = [(mean, bool(random.random() < 1 / (1 + np.exp(-1 - 2 * mean)))) for mean in means]
    fitted = calibrate.fit(words)
    assert (fitted.offset, fitted.slope) == (pytest.approx(1, abs=0.2), pytest.approx(2, abs=0.2))
    assert calibration_error(calibrate.apply(fitted, words)) < 0.02
    calibrate.draw(calibrate.apply(fitted, words), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
