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
    ],
)
def test_a_bad_line_is_named_by_file_and_number(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "m.jsonl", json.dumps(GOOD), line)
    with pytest.raises(ManifestError, match=r"m\.jsonl:2: not an utterance .* needs audio, text"):
        read_manifest(path)


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
