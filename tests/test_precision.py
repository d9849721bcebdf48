"""What a training computes in: bfloat16 where the processor gains by it, float32 on all others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from singing import ROOT, write_config

from asr.training import precision
from asr.training.precision import autocast, has_bfloat16

CPU = torch.device("cpu")
# oneDNN and torch then take the paths of a processor with AVX2 and no more.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}
NOTE = "asr: warning: this processor has no bfloat16 (AVX-512 BF16): training in float32\n"

# Rehearses a training, computes a teacher's posteriors and trains a recurrent language model.
TRAINS_EVERYTHING = """
import pathlib, sys, numpy, torch
from types import SimpleNamespace
from asr import checkpoint, cli
from asr.training import precision, teacher
torch.set_num_threads(1)
config, model, folder = sys.argv[1:]
assert cli.main(["train", config, "training.mixed_precision=true", "--dry-run", "--device", "cpu"]) == 0
frames = [numpy.zeros((40, 80), numpy.float16)]
group = SimpleNamespace(rank=0, size=1, wait=lambda: None)
teacher.posteriors(checkpoint.load(pathlib.Path(model)), frames, pathlib.Path(folder), group)
text = pathlib.Path(folder, "text.txt")
text.write_text("so many words of so few kinds\\n" * 600)
options = ["--words", "10", "--cells", "8", "--epochs", "1", "-o", f"{folder}/x.rnn"]
assert cli.main(["lm", "train", str(text), *options]) == 0
"""


def test_without_bfloat16_everything_is_trained_in_float32_and_it_is_said_once(
    corpus: Path, tmp_path: Path, tiny_checkpoint: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAINS_EVERYTHING, write_config(tmp_path, corpus), tiny_checkpoint, tmp_path],
        env=os.environ | AVX2,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "this set-up can learn" in done.stdout
    assert done.stderr.count("float32") == 1 and NOTE in done.stderr


def answer(monkeypatch: pytest.MonkeyPatch, *, in_hardware: bool, lstm_runs: bool) -> bool:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": in_hardware})
    monkeypatch.setattr(precision, "_lstm_runs", lambda: lstm_runs)
    has_bfloat16.cache_clear()
    try:
        return has_bfloat16()
    finally:
        has_bfloat16.cache_clear()


@pytest.mark.parametrize(
    ("in_hardware", "lstm_runs", "expected"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_bfloat16_is_taken_where_the_processor_has_it_and_its_lstms_run(
    monkeypatch: pytest.MonkeyPatch, in_hardware: bool, lstm_runs: bool, expected: bool
) -> None:
    assert answer(monkeypatch, in_hardware=in_hardware, lstm_runs=lstm_runs) is expected


@pytest.mark.parametrize("rank", ["0", "1"])
def test_of_several_processes_one_says_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, rank: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    answer(monkeypatch, in_hardware=False, lstm_runs=True)
    assert len(caplog.records) == (rank == "0")


def test_looking_leaves_the_random_numbers_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with torch.inference_mode():
        precision._lstm_runs()
    assert torch.equal(torch.rand(3), expected)


def test_what_is_not_wanted_is_not_done() -> None:
    layer = torch.nn.Linear(2, 2)
    with autocast(CPU, wanted=False):
        assert layer(torch.zeros(1, 2)).dtype == torch.float32
    with autocast(CPU):
        expected = torch.bfloat16 if has_bfloat16() else torch.float32
        assert layer(torch.zeros(1, 2)).dtype == expected
