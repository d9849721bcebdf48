"""The script that repeats a small training with one thing changed each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from singing import ROOT

TINY = (
    *("model.n_layers=1", "model.n_hidden=8", "model.n_model=8", "model.n_channels=2"),
    *("training.max_updates=3", "training.batch_seconds=8"),
)


def ablations(corpus: Path, output: Path, *options: str) -> list[list[str]]:
    """The table's rows, split into cells."""
    script = ROOT / "recipes" / "english" / "ablations.py"
    manifests = (str(corpus / "train.jsonl"), str(corpus / "dev.jsonl"))
    overrides = (*TINY, f"data.lexicon={corpus}/lexicon.tsv")
    command = [sys.executable, str(script), *manifests, "--output", str(output)]
    command += ["--corpus", "", *options, *overrides]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]


@pytest.mark.usefixtures("own_random_numbers_and_one_thread")
def test_every_row_is_a_training_with_its_change_and_is_run_once(corpus: Path, tmp_path: Path) -> None:
    head, _, first, second, third = ablations(corpus, tmp_path, "--rows", "3", "--every", "2")
    assert head[0] == "changed" and [first[0], second[0]] == ["nothing", "another seed"]
    assert first[1] == second[1] != third[1], "a GRU of 309 cells has other weights"
    assert all(0 < float(cell) for row in (first, second, third) for cell in row[2:5])
    assert len((tmp_path / "train.jsonl").read_text().splitlines()) == 30
    assert ablations(corpus, tmp_path, "--rows", "1", "--every", "2")[2][:5] == first[:5]
    assert (tmp_path / "00" / "metrics.jsonl").read_text().count('"validation"') == 1
