"""A batch without a finite loss is skipped and named; too many in a row end the run."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from singing import CHARACTERS_ONLY, ROOT, metrics, prepared, torchrun, write_config

from asr.errors import TrainingError
from asr.files import remove_leftovers
from asr.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")

SMALL = [*CHARACTERS_ONLY, "training.max_updates=30", "training.batch_seconds=12"]


def poison(trainer: Trainer, index: int) -> str:
    """Make the features of one utterance NaN; its id."""
    trainer.training_set.frames[index] = np.full_like(trainer.training_set.frames[index], np.nan)
    return trainer.training_set.utterances[index].id


def assert_finite(trainer: Trainer) -> None:
    assert all(value.isfinite().all() for value in trainer.model.state_dict().values())
    assert all(value.isfinite().all() for value in trainer.average.values())


def test_a_poisoned_utterance_is_named_and_the_others_still_train(
    corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = prepared(tmp_path, corpus, *SMALL)
    name = poison(trainer, 7)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    with caplog.at_level(logging.WARNING, logger="asr"):
        trainer.train()
    skipped = [entry for entry in metrics(tmp_path) if entry["event"] == "skipped"]
    n_batches = len(trainer._batches())
    assert 30 // n_batches <= len(skipped) <= -(-30 // n_batches)  # once an epoch
    assert {entry["fault"] for entry in skipped} == {f"features that are not finite numbers in {name}"}
    assert f"batch skipped: features that are not finite numbers in {name}" in caplog.text
    assert_finite(trainer)
    after = trainer.model.state_dict()
    assert not torch.equal(after["outputs.characters.weight"], before["outputs.characters.weight"])
    assert trainer.update == 30


def test_a_skipped_batch_leaves_weights_statistics_and_average_as_they_were(
    corpus: Path, tmp_path: Path
) -> None:
    trainer = prepared(tmp_path, corpus, *SMALL)
    poison(trainer, 1)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    average = {key: value.clone() for key, value in trainer.average.items()}
    trainer.step([0, 1, 2], defaultdict(float))
    for key, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[key]), key
        assert torch.equal(trainer.average[key], average[key])


def test_three_skipped_batches_in_a_row_stop_the_run_and_keep_its_checkpoint(
    corpus: Path, tmp_path: Path
) -> None:
    prepared(tmp_path, corpus, *SMALL, "training.max_updates=4").train()
    kept = (tmp_path / "run/last.pt").read_bytes()
    trainer = prepared(tmp_path, corpus, *SMALL)
    assert trainer.resume()
    for index in range(len(trainer.training_set)):
        poison(trainer, index)
    message = r"stopped at update 7, the last 3 .*last\.pt is from before"
    with pytest.raises(TrainingError, match=message) as error:
        trainer.train()
    assert "\n" not in str(error.value)
    assert (tmp_path / "run/last.pt").read_bytes() == kept
    assert_finite(trainer)


def test_a_batch_that_trains_ends_a_row_of_skipped_ones(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, *SMALL)
    poison(trainer, 0)
    totals: dict[str, float] = defaultdict(float)
    for index in (0, 0, 1, 0, 0):
        trainer.step([index], totals)
    with pytest.raises(TrainingError, match="no checkpoint was written yet"):
        trainer.step([0], totals)
    assert totals["skipped"] == 5 and totals["updates"] == 1


def test_a_label_longer_than_its_audio_is_named_as_such(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, *SMALL)
    trainer.training_set.labels["characters"][3] = [5, 5] * 500
    trainer.step([3, 4], defaultdict(float))
    name = trainer.training_set.utterances[3].id
    assert metrics(tmp_path)[-1]["fault"] == f"audio shorter than its label in {name}"


def test_exploding_gradients_are_named_as_such(corpus: Path, tmp_path: Path) -> None:
    trainer = prepared(tmp_path, corpus, *SMALL)
    trainer.model.get_parameter("outputs.characters.weight").register_hook(lambda g: g * torch.inf)
    trainer.step(list(range(9)), defaultdict(float))
    fault = metrics(tmp_path)[-1]["fault"]
    assert fault.startswith("exploding gradients in train") and " and 4 more; a lower" in fault


def test_audio_too_loud_for_a_float_is_left_out_of_the_mean(corpus: Path, tmp_path: Path) -> None:
    samples = np.full(32_000, 1e30, np.float32)
    samples[::2] *= -1
    soundfile.write(tmp_path / "loud.wav", samples, 16_000, subtype="FLOAT")
    rows = (corpus / "train.jsonl").read_text().replace('"train', f'"{corpus}/train')
    rows += f'{{"audio": "{tmp_path}/loud.wav", "text": "bad", "duration": 2.0}}\n'
    (tmp_path / "train.jsonl").write_text(rows)
    trainer = prepared(tmp_path, corpus, *SMALL, f"data.train={tmp_path}/train.jsonl")
    assert len(trainer.training_set) == 60
    assert trainer.front_end.mean.isfinite().all()


POISONED = """
import os, sys, numpy, torch
from collections import defaultdict
from asr import config
from asr.errors import TrainingError
from asr.training.config import RunConfig
from asr.training.trainer import Trainer
torch.set_num_threads(1)
trainer = Trainer(config.load(sys.argv[1], sys.argv[2:], RunConfig), torch.device("cpu"))
trainer.prepare()
frames = trainer.training_set.frames
frames[7] = numpy.full_like(frames[7], numpy.nan)
trainer.train()
weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
first, second = trainer.group.gather(weights)
assert torch.equal(first, second) and weights.isfinite().all()
for i in range(len(frames)):
    if trainer.group.rank == 1:
        frames[i] = numpy.full_like(frames[i], numpy.nan)
try:
    for _ in range(3):
        trainer.step(list(range(6)), defaultdict(float))
except TrainingError as error:
    os.write(1, f"stopped {trainer.group.rank} {trainer.update}\\n".encode())  # at once: two write
trainer.group.leave()
"""


def test_two_processes_skip_the_same_batches_and_stop_together(corpus: Path, tmp_path: Path) -> None:
    script = tmp_path / "poisoned.py"
    script.write_text(POISONED)
    command = [sys.executable, "-m", *torchrun(2), script, write_config(tmp_path, corpus), *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.splitlines()) == ["stopped 0 33", "stopped 1 33"]
    skipped = [entry["fault"] for entry in metrics(tmp_path) if entry["event"] == "skipped"]
    assert skipped[0].endswith(" in train7.wav") and len(set(skipped[:-3])) == 1


def test_leftovers_of_a_killed_save_are_removed_at_the_start(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    leftovers = [tmp_path / "run" / f".{name}.x1y2z3" for name in ("last.pt", "best.safetensors")]
    other = tmp_path / "run" / ".notes"
    for path in (*leftovers, other):
        path.write_text("half")
    prepared(tmp_path, corpus, *SMALL)
    assert not any(path.exists() for path in leftovers) and other.exists()


def test_removing_leftovers_takes_a_name_literally(tmp_path: Path) -> None:
    for name in (".m[1].pt.abc", ".m1.pt.abc"):
        (tmp_path / name).write_text("")
    remove_leftovers(tmp_path / "m[1].pt")
    assert [path.name for path in tmp_path.iterdir()] == [".m1.pt.abc"]


def test_changed_audio_is_read_again(corpus: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "u.wav", np.zeros(32_000), 16_000)
    (tmp_path / "dev.jsonl").write_text('{"audio": "u.wav", "text": "bad", "duration": 2.0}\n')
    overrides = [*SMALL, f"data.validation={tmp_path}/dev.jsonl"]
    silent = prepared(tmp_path, corpus, *overrides).validation_set.frames[0]
    soundfile.write(tmp_path / "u.wav", 0.1 * np.sin(np.arange(32_000)), 16_000)
    loud = prepared(tmp_path, corpus, *overrides).validation_set.frames[0]
    assert loud.max() > silent.max() + 5
