"""Manifests: one utterance a line, and the line that is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.errors import ManifestError
from asr.manifest import Utterance, read_manifest

GOOD = {"audio": "a.wav", "text": "one", "duration": 1.5}


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_line_becomes_an_utterance(tmp_path: Path) -> None:
    entry = GOOD | {"id": "u1", "speaker": "s", "corpus": "c", "anything": "else"}
    path = write(tmp_path / "m.jsonl", json.dumps(entry))
    assert read_manifest(path) == [Utterance("u1", tmp_path / "a.wav", "one", 1.5, "s", "c")]


def test_audio_is_found_beside_the_manifest_unless_absolute(tmp_path: Path) -> None:
    lines = [json.dumps(GOOD | {"audio": audio}) for audio in ("x/a.wav", "/data/a.wav")]
    found = [utterance.audio for utterance in read_manifest(write(tmp_path / "m.jsonl", *lines))]
    assert found == [tmp_path / "x" / "a.wav", Path("/data/a.wav")]


def test_an_utterance_without_an_id_is_called_after_its_audio(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path / "m.jsonl", json.dumps(GOOD)))[0].id == "a.wav"


def test_blank_lines_are_skipped(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", "", json.dumps(GOOD), "  ", json.dumps(GOOD), "")
    assert len(read_manifest(path)) == 2


def test_a_line_separator_inside_a_text_does_not_end_the_line(tmp_path: Path) -> None:
    entry = GOOD | {"text": "one\u2028two\x85three"}
    path = write(tmp_path / "m.jsonl", json.dumps(entry, ensure_ascii=False))
    assert read_manifest(path)[0].text == "one\u2028two\x85three"


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "7",
        '{"text": "one", "duration": 1}',
        '{"audio": "a.wav", "duration": 1}',
        '{"audio": "a.wav", "text": "one"}',
        '{"audio": "a.wav", "text": "one", "duration": "long"}',
        '{"audio": "a.wav", "text": "one", "duration": null}',
        '{"audio": "a.wav", "text": "one", "duration": NaN}',
        '{"audio": 7, "text": "one", "duration": 1}',
        '{"audio": "", "text": "one", "duration": 1}',
        '{"audio": "a\\u0000.wav", "text": "one", "duration": 1}',
        '{"audio": "a.wav", "text": null, "duration": 1}',
        '{"audio": "a.wav", "text": 7, "duration": 1}',
        '{"audio": "a.wav", "text": ["one"], "duration": 1}',
        '{"audio": "a.wav", "text": "\\ud800", "duration": 1}',
        '{"audio": "a.wav", "text": "one", "duration": true}',
        '{"audio": "a.wav", "text": "one", "duration": -1}',
        '{"audio": "a.wav", "text": "one", "duration": Infinity}',
        f'{{"audio": "a.wav", "text": "one", "duration": 1{"0" * 400}}}',
        '{"audio": "a.wav", "text": "one", "duration": 1, "speaker": {}}',
        '{"audio": "a.wav", "text": "o\0ne", "duration": 1}',
        "[" * 100_000,
        '{"a":' * 100_000,
    ],
    ids=lambda line: line[:60],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(GOOD), line)
    with pytest.raises(ManifestError, match=r"m\.jsonl:2: not an utterance .* needs audio, text"):
        read_manifest(path)
    failures: list[str] = []
    assert len(read_manifest(path, failures=failures)) == 1  # whoever asks for the others gets them
    assert len(failures) == 1 and failures[0].startswith(f"{path}:2: not an utterance (")


def test_a_name_that_is_null_is_none_and_one_that_is_a_number_is_its_text(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(GOOD | {"id": None, "speaker": 84, "corpus": None}))
    (utterance,) = read_manifest(path)
    assert (utterance.id, utterance.speaker, utterance.corpus) == ("a.wav", "84", "")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_does_not_matter(tmp_path: Path, encoding: str) -> None:
    lines = json.dumps(GOOD) + "\n\ufeff" + json.dumps(GOOD)  # two files, one after the other
    (tmp_path / "m.jsonl").write_bytes(lines.encode(encoding))
    assert len(read_manifest(tmp_path / "m.jsonl")) == 2


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_a_manifest_without_utterances_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.jsonl").write_bytes(content)
    with pytest.raises(ManifestError, match=r"m\.jsonl: "):
        read_manifest(tmp_path / "m.jsonl")


def test_a_missing_manifest_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"gone\.jsonl: No such file"):
        read_manifest(tmp_path / "gone.jsonl")
    with pytest.raises(ManifestError, match="directory"):
        read_manifest(tmp_path)
