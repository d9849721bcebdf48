"""asr data: manifests from folders and tables, their split, and what is found wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from asr import cli
from asr.errors import ManifestError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.preparation import prepare, split
from asr.validation import unknown_characters, validate

RATE = 16_000


def speak(path: Path, seconds: float, text: str | None = None, *, rate: int = RATE, seed: int = 0) -> Path:
    """A recording of noise, and the text beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate))
    soundfile.write(path, samples, rate)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three speakers with two recordings each."""
    for i, speaker in enumerate(("ann", "ben", "cem")):
        for take in (1, 2):
            text = f"Take {take}\nof {speaker}.\n"
            speak(tmp_path / "in" / speaker / f"{take}.wav", 1 + take, text, seed=i)
    return tmp_path / "in"


# --- prepare --------------------------------------------------------------------------------------


def test_a_folder_of_recordings_with_texts_becomes_a_manifest(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "train.jsonl"
    arguments = ["--speakers-from-folders", "--corpus", "home"]
    assert cli.main(["data", "prepare", str(folder), "-o", str(output), *arguments]) == 0
    assert capsys.readouterr() == (f"{output}: 6 utterances, 0.00 h\n", "")
    assert rows(output)[0] == {
        "id": "ann/1",
        "audio": "in/ann/1.wav",  # relative: the two can be moved together
        "text": "Take 1 of ann.",
        "duration": 2.0,
        "speaker": "ann",
        "corpus": "home",
    }
    assert [utterance.audio.exists() for utterance in read_manifest(output)] == [True] * 6


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_a_table_of_recordings_becomes_a_manifest(
    folder: Path, tmp_path: Path, suffix: str, delimiter: str
) -> None:
    table = tmp_path / f"table{suffix}"
    lines = [["text", "audio", "speaker"], ['"Well', " said"], ["in/ann/1.wav", "ann"]]
    text = '"Well, ""said"""' if delimiter == "," else 'Well, "said"'
    lines = [["text", "audio", "speaker"], [text, "in/ann/1.wav", "ann"], ["two", "in/ben/2.wav", ""]]
    table.write_text("\ufeff" + "".join(delimiter.join(line) + "\n" for line in lines), encoding="utf-8")
    found = prepare(table)
    assert found.failures == []
    assert [(u.id, u.text, u.speaker, u.duration) for u in found.utterances] == [
        ("in/ann/1.wav", 'Well, "said"', "ann", 2.0),
        ("in/ben/2.wav", "two", "", 3.0),
    ]


@pytest.mark.parametrize(
    ("names", "path"),
    [("client_id\tpath\tsentence", "{}.wav"), ("Audio\tText\tSpeaker", "clips/{}.wav")],
)
def test_a_table_may_name_its_columns_as_common_voice_does(tmp_path: Path, names: str, path: str) -> None:
    speak(tmp_path / "clips" / "1.wav", 1.0)
    values = {"client_id": "ann", "speaker": "ann", "sentence": "one", "text": "one"}
    row = [values.get(name.lower(), path.format(1)) for name in names.split("\t")]
    (tmp_path / "train.tsv").write_text(f"{names}\n" + "\t".join(row) + "\n")
    (utterance,) = prepare(tmp_path / "train.tsv").utterances
    assert (utterance.text, utterance.speaker) == ("one", "ann")
    assert utterance.audio == tmp_path / "clips" / "1.wav"


def test_a_table_may_name_its_columns_as_deepspeech_does(tmp_path: Path) -> None:
    speak(tmp_path / "1.wav", 1.0)
    (tmp_path / "t.csv").write_text("wav_filename,wav_filesize,transcript\n1.wav,32044,one\n")
    assert [u.text for u in prepare(tmp_path / "t.csv").utterances] == ["one"]


@pytest.mark.parametrize(
    ("suffix", "bad", "reason"),
    [
        (".csv", 'one.wav,"Look a little closer', "a quotation mark without its other half"),
        (".csv", '"one.wav,two', "a quotation mark without its other half"),
        (".csv", 'one.wav,"Look" a little', "',' expected after '\"'"),
        (".csv", "one.wav,Look, a little", "has 3 columns, not 2; a text with commas stands in quotes"),
        (".csv", "one.wav,two,", "has 3 columns, not 2"),
        (".csv", "one.wav", "has 1 columns, not 2"),
        (".csv", ",text", "needs audio and text"),
        (".csv", 'one.wav,"goes\non and on\nand ends"', "a text in quotes goes on in the next line"),
        (".csv", "one.wav,a\0b", "zero byte"),
        (".csv", f"one.wav,{'x' * 200_000}", "field larger than field limit"),
        (".csv", "gone.wav,two", "gone.wav: no such file"),
        (".tsv", "one.wav\ttwo\t", "has 3 columns, not 2"),
        (".tsv", "one.wav", "has 1 columns, not 2"),
    ],
)
def test_a_bad_row_costs_itself_and_is_named_with_its_number(
    tmp_path: Path, suffix: str, bad: str, reason: str
) -> None:
    table, tab = tmp_path / f"t{suffix}", {".csv": ",", ".tsv": "\t"}[suffix]
    for name in ("one", "two", "three"):
        speak(tmp_path / f"{name}.wav", 1.0)
    good = [f"{name}.wav{tab}{name}" for name in ("one", "two", "three")]
    table.write_text("\n".join([f"audio{tab}text", good[0], bad, "", *good[1:]]) + f"\n{tab}\n")
    found = prepare(table)
    assert [u.text for u in found.utterances] == ["one", "two", "three"]
    (failure,) = found.failures
    assert failure.startswith(f"{table}:3: ") and reason in failure


def test_quotation_marks_of_a_tsv_are_text(tmp_path: Path) -> None:
    for name in ("one", "two"):
        speak(tmp_path / f"{name}.wav", 1.0)
    (tmp_path / "t.tsv").write_text('path\tsentence\none.wav\t"Look a little\ntwo.wav\tcloser"\n')
    found = prepare(tmp_path / "t.tsv")
    assert [u.text for u in found.utterances] == ['"Look a little', 'closer"'] and not found.failures


def test_a_column_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("audio,text,text\na.wav,one,two\n")
    with pytest.raises(ManifestError, match="names the column text twice"):
        prepare(tmp_path / "t.csv")


def test_audio_outside_the_manifests_folder_keeps_its_whole_path(folder: Path, tmp_path: Path) -> None:
    write_manifest(tmp_path / "elsewhere" / "train.jsonl", prepare(folder).utterances)
    assert rows(tmp_path / "elsewhere" / "train.jsonl")[0]["audio"] == str(folder / "ann/1.wav")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_texts_are_read_in_utf_8_and_utf_16_with_a_mark_and_nothing_else(
    tmp_path: Path, encoding: str
) -> None:
    text = speak(tmp_path / "in" / "a.wav", 1.0).with_suffix(".txt")
    text.write_bytes("The café\r\nwas empty".encode(encoding))
    found = prepare(tmp_path / "in")
    if encoding in {"utf-8-sig", "utf-16"}:
        assert [u.text for u in found.utterances] == ["The café was empty"]
    else:
        assert found.utterances == [] and found.failures[0].startswith(f"{text}:1: ")
        assert "UTF-8" in found.failures[0]


def test_a_recording_without_text_or_sound_is_named_and_the_others_are_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "ann/1.txt").unlink()
    (folder / "ben/1.wav").write_text("not sound")
    (folder / "cem/1.txt").write_bytes(b"\xff\xfe\xff")
    output = tmp_path / "train.jsonl"
    assert cli.main(["data", "prepare", str(folder), "-o", str(output)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 3 and err.count("asr: error: ") == 3
    assert "ann/1.wav: no 1.txt beside it" in err and "ben/1.wav: " in err and "cem/1.txt: " in err
    assert [row["id"] for row in rows(output)] == ["ann/2", "ben/2", "cem/2"]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["prepare", "in"], 2, "-o MANIFEST is missing"),
        (["prepare", "in", "-o", "m.jsonl", "--json"], 2, "--json is for data validate"),
        (["prepare", "in", "-o", "m.jsonl", "--validation-share", "1.5"], 2, "between 0 and 1"),
        (["prepare", "gone", "-o", "m.jsonl"], 1, "gone: neither a folder nor a .csv or .tsv table"),
        (["prepare", "gone.csv", "-o", "m.jsonl"], 1, "gone.csv: No such file"),
        (["prepare", "empty", "-o", "m.jsonl"], 1, "empty: no audio files"),
        (
            ["prepare", "bad.csv", "-o", "m.jsonl"],
            1,
            "bad.csv: its first line names no column audio (path, wav_filename) and no text (sentence,"
            " transcript); it has: file;words",
        ),
        (["prepare", "short.tsv", "-o", "./short.tsv"], 2, "short.tsv: is an input of this command"),
        (["validate", "in", "--corpus", "x"], 2, "takes no option of data prepare"),
        (["validate", "gone.jsonl"], 1, "gone.jsonl: No such file"),
        (["mend", "in"], 2, "invalid choice: 'mend'"),
    ],
)
def test_what_cannot_be_done_gives_its_exit_status_and_one_line(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    status: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.csv").write_text("file;words\nx.wav;x\n")
    (tmp_path / "short.tsv").write_text("audio\ttext\nx.wav\n")
    assert cli.main(["data", *arguments]) == status
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and message in err
    assert not (tmp_path / "m.jsonl").exists()


# --- the split ------------------------------------------------------------------------------------


def utterances(n_speakers: int, n_each: int) -> list[Utterance]:
    return [
        Utterance(f"s{s}-{i}", Path(f"{s}-{i}.wav"), "x", 10.0, speaker=f"s{s}" if n_speakers > 1 else "")
        for s in range(n_speakers)
        for i in range(n_each)
    ]


def test_no_speaker_is_in_both_parts() -> None:
    everybody = utterances(20, 5)
    training, held_out = split(everybody, 0.2)
    assert not {u.speaker for u in training} & {u.speaker for u in held_out}
    assert len(held_out) == 20 and len(training) == 80
    assert sorted(training + held_out, key=str) == sorted(everybody, key=str)


def test_the_split_follows_from_the_names_not_from_their_order() -> None:
    everybody = utterances(20, 5)
    held_out = {u.id for u in split(everybody, 0.2)[1]}
    assert held_out == {u.id for u in split(everybody[::-1], 0.2)[1]}


def test_one_speaker_is_split_by_recording() -> None:
    training, held_out = split(utterances(1, 50), 0.1)
    assert len(held_out) == 5 and len(training) == 45


def test_both_parts_have_something_however_small_the_share() -> None:
    assert len(split(utterances(2, 1), 0.01)[1]) == 1
    assert len(split(utterances(2, 1), 0.99)[0]) == 1


def test_the_held_out_part_gets_a_manifest_of_its_own(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "home.jsonl"
    arguments = ["--speakers-from-folders", "--validation-share", "0.3"]
    assert cli.main(["data", "prepare", str(folder), "-o", str(output), *arguments]) == 0
    held_out = tmp_path / "home-validation.jsonl"
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [str(output), str(held_out)]
    (speaker,) = {row["speaker"] for row in rows(held_out)}
    assert err.startswith("held out: ") and f" % of the sound, all of {speaker}: no speaker is in both" in err
    assert len(rows(output)) == 4 and len(rows(held_out)) == 2
    assert len({row["speaker"] for row in rows(held_out)}) == 1


def test_a_single_recording_cannot_be_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speak(tmp_path / "in" / "a.wav", 1.0, "a")
    arguments = ["-o", str(tmp_path / "m.jsonl"), "--validation-share", "0.1"]
    assert cli.main(["data", "prepare", str(tmp_path / "in"), *arguments]) == 1
    assert "one recording alone cannot be split" in capsys.readouterr().err


# --- validate -------------------------------------------------------------------------------------


def findings(entries: list[Utterance]) -> dict[tuple[str, str], str]:
    """(id, kind) -> detail."""
    return {(f.utterance, f.kind): f.detail for f in validate(entries).findings}


def test_sound_recordings_have_no_findings(folder: Path) -> None:
    good = [u for u in prepare(folder).utterances if u.id.endswith("1")]
    result = validate(good)
    assert result.findings == [] and result.durations == [2.0, 2.0, 2.0]
    assert ("2-5 s", 3, 6.0) in result.histogram()


def test_every_flaw_is_found_and_nothing_else(tmp_path: Path) -> None:
    def utterance(id: str, text: str = "well", seconds: float = 2.0, **options: Any) -> Utterance:
        audio = speak(tmp_path / f"{id}.wav", seconds, seed=sum(id.encode()), **options)
        return Utterance(id, audio, text, seconds)

    loud = utterance("loud")
    soundfile.write(loud.audio, np.sign(np.random.default_rng(1).standard_normal(2 * RATE)), RATE)
    silent = utterance("silent")
    soundfile.write(silent.audio, np.full(2 * RATE, 1e-4), RATE, subtype="PCM_24")
    damaged = utterance("damaged")
    damaged.audio.write_text("not sound")
    wrong = utterance("wrong")
    wrong = Utterance(wrong.id, wrong.audio, wrong.text, 2.5)
    copied = utterance("copied")
    copy = Utterance("copy", Path(shutil.copy(copied.audio, tmp_path / "copy.wav")), "well", 2.0)
    entries = [
        utterance("good"),
        utterance("hasty", "ee" * 20, 2.0),  # 40 letters, 39 of them repeats: 79 frames, 3.16 s
        utterance("fits", "ab" * 25, 2.0),
        utterance("wordless", "...", 2.0),
        utterance("dear", "5 €, 日本 and naïve `x`", 2.0),
        utterance("low", rate=8000),
        *(loud, silent, damaged, wrong, copied, copy),
        Utterance("again", copied.audio, "well", 2.0),
        Utterance("good", tmp_path / "gone.wav", "well", 2.0),
    ]
    found = findings(entries)
    assert {key: found[key] for key in sorted(found)} == {
        ("again", "duplicate audio"): "the same as copied",
        ("again", "duplicate content"): "the same as copied",
        ("copy", "duplicate content"): "the same as copied",
        ("damaged", "unreadable audio"): found["damaged", "unreadable audio"],
        ("dear", "unknown characters"): "€ 日 本",
        ("good", "duplicate id"): "the same as good",
        ("good", "unreadable audio"): found["good", "unreadable audio"],
        ("hasty", "audio too short for its text"): "2.00 s, needs 3.16 s",
        ("loud", "clipping"): "100.0 % of the samples",
        ("low", "other sample rate"): "8000 Hz",
        ("silent", "silence"): "-80 dB",
        ("wordless", "empty text"): "'...'",
        ("wrong", "wrong duration"): "2.00 s, not 2.50 s",
    }
    assert "gone.wav" in found["good", "unreadable audio"]


def test_characters_that_are_spelled_or_folded_are_known() -> None:
    assert unknown_characters("Café & 25 % — “don’t”, A+B @ 3rd …") == ""
    assert unknown_characters("5 £ = Ω") == "= £ Ω"


def test_errors_give_exit_status_1_and_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    good = prepare(folder).utterances
    write_manifest(manifest, [u for u in good if u.id != "ben/2"])
    assert cli.main(["data", "validate", str(manifest)]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "0 errors" in out and "3-5" not in out
    (folder / "cem/2.wav").write_text("not sound")
    assert cli.main(["data", "validate", str(manifest)]) == 1
    out, err = capsys.readouterr()
    assert err == "" and "unreadable audio" in out and "cem/2: " in out and "1 errors" in out


def test_json_has_every_finding_and_the_durations(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [Utterance("a", folder / "ann/1.wav", "", 2.0)])
    assert cli.main(["data", "validate", str(manifest), "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert (result["utterances"], result["errors"], result["warnings"], result["notes"]) == (1, 1, 0, 0)
    assert result["findings"] == [
        {"severity": "error", "kind": "empty text", "id": "a", "detail": "''"}
    ]
    assert {"range": "2-5 s", "recordings": 1, "seconds": 2.0} in result["durations"]


def test_a_row_that_cannot_be_used_is_an_error(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, prepare(folder).utterances[:1])
    with manifest.open("a") as file:
        file.write('{"audio": "a.wav", "text": null, "duration": 1}\n')
    assert cli.main(["data", "validate", str(manifest), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["findings"]
    assert (found["severity"], found["kind"]) == ("error", "unusable row")
    assert found["detail"].startswith(f"{manifest}:2: ")


def test_a_written_manifest_reads_as_what_was_written(folder: Path, tmp_path: Path) -> None:
    before = prepare(folder, speakers_from_folders=True).utterances
    write_manifest(tmp_path / "m.jsonl", before)
    assert read_manifest(tmp_path / "m.jsonl") == before
