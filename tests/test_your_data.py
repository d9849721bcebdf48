"""The guide of recipes/your_data: its commands, as they stand there, on a small folder and a tiny model."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import ROOT
from singing import WORDS, prepared, sing

from asr import cli

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")

GUIDE = (ROOT / "recipes/your_data/README.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The command lines of the guide's first block, without the program's name."""
    block = re.search(r"```\n(.*?)```", GUIDE, re.DOTALL)
    assert block
    lines = [shlex.split(line) for line in block[1].splitlines()]
    assert all(line[0] == "bin/asr" for line in lines)
    return [line[1:] for line in lines]


@pytest.fixture
def home(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with recordings, the recipe, and a small model that stands in for `english`."""
    base = tmp_path / "base"
    base.mkdir()
    prepared(base, corpus, "training.max_updates=60").train()
    (tmp_path / "asr/pretrained/english").mkdir(parents=True)
    (base / "run/best.safetensors").rename(tmp_path / "asr/pretrained/english/model.safetensors")
    lexicon = (corpus / "lexicon.tsv").read_text()
    (tmp_path / "asr/pretrained/english/lexicon.tsv").write_text(lexicon)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "recordings").mkdir()
    random = np.random.default_rng(5)
    for i in range(30):
        text = " ".join(random.choice(WORDS, 3))
        soundfile.write(tmp_path / f"recordings/{i}.wav", sing(text, random), 16_000)
        (tmp_path / f"recordings/{i}.txt").write_text(f"{text.capitalize()}.\n")
    soundfile.write(tmp_path / "talk.wav", sing("bad dead cab", random), 16_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("asr.pretrained.FOLDER", tmp_path / "asr/pretrained")
    return tmp_path


def test_the_commands_of_the_guide_make_a_better_model(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = {}
    for line in commands():
        if line[0] == "train":
            settings = ["learning_rate=1e-2", "max_updates=60", "validate_updates=0", "batch_seconds=8"]
            line += ["data.lexicon=asr/pretrained/english/lexicon.tsv", "--device", "cpu"]
            line += [f"training.{setting}" for setting in settings]
        if line[0] == "evaluate":
            line += ["--json"]
        if line[0] in ("evaluate", "transcribe"):
            line += ["--beam-size", "1"]  # no language model knows these words
        line = ["talk.wav" if word == "talk.m4a" else word for word in line]
        assert cli.main(line) == 0, line
        out, err = capsys.readouterr()
        says_whom = line[:2] == ["data", "prepare"] and err.startswith("held out: 11 % of the sound")
        assert err == "" or says_whom, line
        outputs[" ".join(line[:4])] = out
    prepared_lines = outputs["data prepare recordings/ -o"].splitlines()
    assert prepared_lines[0].startswith("data/yours.jsonl: 27 utterances")
    assert prepared_lines[1].startswith("data/yours-validation.jsonl: 3 utterances")
    before, after = (
        json.loads(outputs[f"evaluate data/yours-validation.jsonl -m {model}"])["corpora"][0]["cer"]
        for model in ("english", "runs/your-data/best.safetensors")
    )
    assert after < before
    assert outputs["transcribe talk.wav -m runs/your-data/best.safetensors"].strip()


def test_every_file_that_the_guide_names_exists() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", GUIDE):
        assert (ROOT / "recipes/your_data" / link).exists(), link
    assert "recipes/your_data/finetune.toml" in GUIDE
    assert (ROOT / "recipes/your_data/finetune.toml").is_file()
