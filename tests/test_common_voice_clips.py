"""The recipe step that extracts clips without texts from Git repositories."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_recipe

from asr.audio import read_audio
from asr.manifest import Utterance, read_manifest, write_manifest

step = load_recipe("english/common_voice_clips.py")


def tone(seconds: float, level: float = 0.5) -> np.ndarray:
    return level * np.sin(2 * np.pi * 440 * np.arange(round(32_000 * seconds)) / 32_000)


def commit(folder: Path, files: dict[str, np.ndarray | str]) -> Path:
    for name, contents in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(contents, str):
            path.write_text(contents)
        else:
            soundfile.write(path, contents, 32_000, format="MP3")
    who = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "clips"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True, env={**os.environ, **who})
    return folder / ".git"


TABLE = "path\tsentence\tage\ncommon_voice_en_1.mp3\tHe said \"no.\ttwenties\ncommon_voice_en_9.mp3\t\t\n"
REPORTS = "sentence\tsentence_id\treason\nWe have no clip of this one.\t1\tother\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    return commit(
        tmp_path / "clips",
        {
            "data/validated.tsv": TABLE,
            "data/reported.tsv": REPORTS,
            "data/other.tsv": "version https://git-lfs.github.com/spec/v1\n",
            **{f"data/clips/common_voice_en_{n}.mp3": tone(1.0) for n in (1, 2, 3)},
            "data/clips/common_voice_en_4.mp3": tone(0.3),
            "data/clips/common_voice_en_5.mp3": tone(1.0, 0.0),
            "data/clips/common_voice_en_6.mp3": "no sound file",
            "data/input.mp3": tone(1.0),
        },
    )


def test_only_clips_without_a_text_and_not_known_are_written(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = Utterance("commonvoice_en-common_voice_en_3", tmp_path / "x.opus", "x", 1.0)
    write_manifest(tmp_path / "dev.jsonl", [known])
    arguments = [str(repository), str(tmp_path / "out"), "--known", str(tmp_path / "dev.jsonl")]
    assert step.main(arguments) == 0
    said = capsys.readouterr().out
    assert "1 clips; left out: 1 with a text, 1 known, 0 not in the repository, 3 no sentence" in said
    (utterance,) = read_manifest(tmp_path / "out/clips.jsonl")
    assert utterance.id == "commonvoice_untranscribed-common_voice_en_2" and utterance.text == ""
    heard = read_audio(utterance.audio)
    assert utterance.duration == pytest.approx(1.0, abs=0.1)
    assert len(heard) == round(utterance.duration * 16_000)
    frequency = np.fft.rfftfreq(len(heard), 1 / 16_000)[np.abs(np.fft.rfft(heard)).argmax()]
    assert frequency == pytest.approx(440, abs=5)
    assert [path.name for path in (tmp_path / "out/clips").iterdir()] == ["common_voice_en_2.flac"]


def test_the_texts_of_all_tables_are_listed_normalised(repository: Path, tmp_path: Path) -> None:
    assert step.main([str(repository), str(tmp_path / "out")]) == 0
    texts = (tmp_path / "out/texts-elsewhere.txt").read_text()
    assert texts == "he said no\nwe have no clip of this one\n"


def test_a_second_repository_adds_only_what_the_first_lacks(repository: Path, tmp_path: Path) -> None:
    names = [f"common_voice_en_{n}" for n in (2, 8)]
    other = commit(tmp_path / "other", {f"{name}.mp3": tone(1.0) for name in names})
    assert step.main([str(repository), str(other), str(tmp_path / "out")]) == 0
    found = [utterance.audio.stem for utterance in read_manifest(tmp_path / "out/clips.jsonl")]
    assert sorted(found) == ["common_voice_en_2", "common_voice_en_3", "common_voice_en_8"]


def test_a_folder_without_a_repository_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step.main([str(tmp_path), str(tmp_path / "out")]) == 1
    assert f"{tmp_path}: not a Git repository with files" in capsys.readouterr().err
