"""A student of one direction that learns from a teacher of two, and begins with its weights."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from singing import CHARACTERS_ONLY, asr, metrics, prepared, run_config, torchrun, write_config

from asr import checkpoint
from asr.errors import AsrError, CheckpointError
from asr.model import AcousticModel, ModelConfig
from asr.training import teacher as teachers
from asr.training.finetuning import copy_weights
from asr.training.teacher import distillation_loss, posteriors
from asr.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")

STUDENT = ("model.bidirectional=false", "model.lookahead=4")
TAUGHT = 'training.losses={ "characters@teacher" = 1.0, "phones@teacher" = 1.0 }'
ALONE = SimpleNamespace(rank=0, size=1, wait=lambda: None)


@pytest.fixture(scope="module")
def teacher(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    prepared(folder, corpus, "training.max_updates=150").train()
    return folder / "run" / "best.safetensors"


# --- posteriors -----------------------------------------------------------------------------------


def test_a_student_learns_words_from_posteriors_alone(corpus: Path, tmp_path: Path, teacher: Path) -> None:
    overrides = [*STUDENT, TAUGHT, "model.middle_outputs=[]", f"data.teacher={teacher}"]
    student = prepared(tmp_path, corpus, "training.max_updates=150", *overrides)
    student.train()
    assert student.validate()["word_error"] < 0.3
    losses = [line["loss/phones@teacher"] for line in metrics(tmp_path) if line["event"] == "training"]
    assert losses[-1] < losses[0] / 2
    info = checkpoint.load(tmp_path / "run/best.safetensors").info
    assert info["config"]["data"]["teacher"] == "best.safetensors"


def test_posteriors_are_the_teachers_whatever_they_were_batched_with(
    corpus: Path, tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = checkpoint.load(teacher)
    frames = prepared(tmp_path, corpus).training_set.frames
    found = posteriors(source, frames, tmp_path, ALONE)
    for item, given in list(zip(frames, found, strict=True))[:5]:
        features = source.front_end.normalize(torch.from_numpy(item.astype(np.float32)))
        with torch.inference_mode():
            outputs, _ = source.model(features[None], torch.tensor([len(features)]))
        for name in ("characters", "phones"):
            np.testing.assert_allclose(given[name], outputs[name][0].exp().numpy(), atol=0.03)
    monkeypatch.setattr(teachers, "_compute", None)  # so that nothing is computed again
    again = posteriors(source, frames, tmp_path, ALONE)
    np.testing.assert_array_equal(again[3]["phones"], found[3]["phones"])


def test_two_processes_share_the_teachers_work(corpus: Path, tmp_path: Path, teacher: Path) -> None:
    source = checkpoint.load(teacher)
    frames = prepared(tmp_path, corpus).training_set.frames
    both = threading.Barrier(2)
    found = {}

    def work(rank: int) -> None:
        group = SimpleNamespace(rank=rank, size=2, wait=both.wait)
        found[rank] = posteriors(source, frames, tmp_path / "two", group)

    (tmp_path / "two").mkdir()
    threads = [threading.Thread(target=work, args=(rank,)) for rank in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = posteriors(source, frames, tmp_path, ALONE)
    for rank in (0, 1):
        for given, expected in zip(found[rank], alone, strict=True):
            np.testing.assert_allclose(given["phones"], expected["phones"], atol=0.03)


def test_two_processes_train_with_a_teacher(corpus: Path, tmp_path: Path, teacher: Path) -> None:
    path = write_config(tmp_path, corpus)
    overrides = [*STUDENT, TAUGHT, f"data.teacher={teacher}", "model.middle_outputs=[]"]
    arguments = ["train", path, "--device", "cpu", "training.max_updates=3", *overrides]
    result = asr(*arguments, launcher=torchrun(2))
    assert result.returncode == 0, result.stderr
    assert checkpoint.load(tmp_path / "run/last.safetensors").info["training"]["updates"] == 3


def test_the_loss_is_nothing_for_the_teachers_own_answer_and_leaves_out_the_padding() -> None:
    generator = np.random.default_rng(1)
    targets = [generator.dirichlet(np.ones(5), n).astype(np.float32) for n in (7, 4)]
    log_probs = torch.zeros(2, 7, 5)
    for row, target in zip(log_probs, targets, strict=True):
        row[: len(target)] = torch.from_numpy(target).log()
    lengths = torch.tensor([7, 4])
    assert float(distillation_loss(log_probs, lengths, targets)) == pytest.approx(0, abs=1e-6)
    worse = log_probs.clone()
    worse[1, :4] = worse[1, :4].flip(-1)
    expected = (targets[1] * (np.log(targets[1]) - np.log(targets[1][:, ::-1]))).sum() / 11
    assert float(distillation_loss(worse, lengths, targets)) == pytest.approx(expected, rel=1e-4)


def test_a_lesson_is_stretched_to_the_speed_of_the_augmented_audio() -> None:
    ramp = np.linspace(0.1, 0.9, 50)
    target = np.stack([ramp, 1 - ramp], -1).astype(np.float32)
    for n in (45, 55):
        at_speed = np.linspace(0.1, 0.9, n)
        log_probs = torch.from_numpy(np.log(np.stack([at_speed, 1 - at_speed], -1))).float()[None]
        assert float(distillation_loss(log_probs, torch.tensor([n]), [target])) < 1e-4


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([TAUGHT, "data.teacher="], "data.teacher is missing"),
        ([TAUGHT, "data.teacher=nowhere.safetensors"], "nowhere.safetensors"),
        ([TAUGHT, "features.n_mels=40", "model.n_mels=40"], "trained on other features"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(
    corpus: Path, tmp_path: Path, teacher: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(AsrError, match=message) as caught:
        prepared(tmp_path, corpus, f"data.teacher={teacher}", "model.middle_outputs=[]", *overrides)
    assert "\n" not in str(caught.value)


def test_a_teacher_without_the_output_that_is_to_be_learnt_is_refused(corpus: Path, tmp_path: Path) -> None:
    prepared(tmp_path, corpus, "training.max_updates=2", *CHARACTERS_ONLY).train()
    (tmp_path / "student").mkdir()
    with pytest.raises(CheckpointError, match="the teacher has other phones, or none"):
        given = f"data.teacher={tmp_path}/run/best.safetensors"
        prepared(tmp_path / "student", corpus, TAUGHT, given, "model.middle_outputs=[]")


# --- weights --------------------------------------------------------------------------------------


def test_a_model_of_one_direction_begins_with_the_forward_half_of_one_of_two() -> None:
    shape = {"n_layers": 2, "n_hidden": 6, "n_model": 8, "n_channels": 2}
    source = AcousticModel(ModelConfig(**shape)).eval()
    with torch.no_grad():
        for layer in source.layers:
            layer.project.weight[:, 6:] = 0  # nothing is said by the backward half
    target = AcousticModel(ModelConfig(**shape, bidirectional=False)).eval()
    copy_weights(source, target)
    features, lengths = torch.randn(2, 30, 80), torch.tensor([30, 22])
    with torch.inference_mode():
        expected, _ = source(features, lengths)
        found, _ = target(features, lengths)
    torch.testing.assert_close(found["characters"], expected["characters"])


def test_more_cells_leave_room_beside_those_that_are_copied() -> None:
    shape = {"n_layers": 1, "n_model": 8, "n_channels": 2}
    source = AcousticModel(ModelConfig(**shape, n_hidden=4))
    target = AcousticModel(ModelConfig(**shape, n_hidden=6, bidirectional=False, lookahead=2))
    before = target.layers[0].directions[0].weight_hh_l0.detach().clone()
    copy_weights(source, target)
    ours, theirs = target.layers[0], source.layers[0]
    assert torch.equal(ours.project.weight[:, :4], theirs.project.weight[:, :4])
    for gate in range(4):
        mine, given = ours.directions[0], theirs.directions[0]
        new, old = slice(6 * gate, 6 * gate + 4), slice(4 * gate, 4 * gate + 4)
        assert torch.equal(mine.weight_ih_l0[new], given.weight_ih_l0[old])
        assert torch.equal(mine.weight_hh_l0[new, :4], given.weight_hh_l0[old])
        assert torch.equal(mine.bias_ih_l0[new], given.bias_ih_l0[old])
        own = slice(6 * gate + 4, 6 * gate + 6)
        assert torch.equal(mine.weight_hh_l0[own], before[own])


def test_a_model_of_fewer_cells_cannot_begin_with_these(
    corpus: Path, tmp_path: Path, teacher: Path
) -> None:
    trainer = Trainer(run_config(tmp_path, corpus, *STUDENT, "model.n_hidden=8"), torch.device("cpu"))
    with pytest.raises(CheckpointError, match="of another shape: .*n_hidden 24 != 8"):
        trainer.start_from(checkpoint.load(teacher))


def test_twice_as_many_cells_of_one_direction_are_not_taken_for_two_directions() -> None:
    shape = {"n_layers": 1, "n_model": 8, "n_channels": 2}
    source = AcousticModel(ModelConfig(**shape, n_hidden=3))
    target = AcousticModel(ModelConfig(**shape, n_hidden=6, bidirectional=False))
    before = target.layers[0].project.weight.detach().clone()
    copy_weights(source, target)
    assert torch.equal(target.layers[0].project.weight[:, :3], source.layers[0].project.weight[:, :3])
    assert torch.equal(target.layers[0].project.weight[:, 3:], before[:, 3:])
