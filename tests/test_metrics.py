"""What a run records, and the rehearsal of a run."""

from __future__ import annotations

import builtins
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from singing import CHARACTERS_ONLY, prepared, write_config

from asr import cli
from asr.training import curves
from asr.training.metrics import Metrics

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")


def write_run(metrics: Metrics, updates: list[int], loss: float) -> None:
    for update in updates:
        values = {"loss/characters": loss / update, "learning_rate": 1e-3, "skipped": 0}
        metrics.write("training", update, epoch=0, **values)
        metrics.write("validation", update, epoch=0, word_error=1 / update)


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make a package as if it were not installed."""
    real = builtins.__import__

    def importing(name: str, *args: Any) -> Any:
        if name.startswith(package):
            raise ModuleNotFoundError(f"No module named '{package}'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", importing)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is given to a TensorBoard that stands in for the real one."""
    given: list[tuple[Any, ...]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            given.append((Path(folder).name, purge_step))

        def add_scalar(self, name: str, value: float, update: int) -> None:
            given.append((name, value, update))

        def flush(self) -> None: ...

    module = types.SimpleNamespace(SummaryWriter=SummaryWriter)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return given


def test_numbers_go_to_tensorboard_where_it_is_installed(tmp_path: Path, board: list[Any]) -> None:
    metrics = Metrics(tmp_path)
    metrics.write("data", 0, utterances=3)
    assert board == []
    write_run(metrics, [50], loss=100.0)
    assert board == [
        ("tensorboard", 50),
        ("training/loss/characters", 2.0, 50),
        ("training/learning_rate", 1e-3, 50),
        ("validation/word_error", 0.02, 50),
    ]


def test_without_tensorboard_and_matplotlib_the_metrics_are_still_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics(tmp_path)
    for package in ("torch.utils.tensorboard", "matplotlib"):
        hide(monkeypatch, package)
    with caplog.at_level(logging.WARNING, logger="asr"):
        for update in (50, 100):
            write_run(metrics, [update], loss=100.0)
            metrics.draw()
    assert len(metrics.path.read_text().splitlines()) == 4
    assert [record.message for record in caplog.records] == [
        "no curves.png: matplotlib is not installed; pip install 'asr-offline[train]' adds it"
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl"}


def test_infinity_is_written_as_null(tmp_path: Path, board: list[Any]) -> None:
    metrics = Metrics(tmp_path)
    metrics.write("training", 1, gradient=float("inf"), rate=0.123456789)
    entry = json.loads(metrics.path.read_text())
    assert entry == {"event": "training", "update": 1, "gradient": None, "rate": 0.123457}


def test_the_curves_are_those_of_the_metrics(tmp_path: Path, board: list[Any]) -> None:
    metrics = Metrics(tmp_path)
    write_run(metrics, [50, 100], loss=100.0)
    entries = curves.read_metrics(metrics.path)
    assert curves.series(entries, "training", "loss/") == {"loss/characters": [(50, 2.0), (100, 1.0)]}
    assert curves.series(entries, "validation", "_error") == {"word_error": [(50, 0.02), (100, 0.01)]}
    metrics.draw()
    first = matplotlib.image.imread(tmp_path / "curves.png")
    write_run(metrics, [150, 200], loss=1.0)
    metrics.draw()
    second = matplotlib.image.imread(tmp_path / "curves.png")
    assert first.shape == second.shape and first.shape[1] >= 1000 and (first != second).any()


def test_updates_that_a_killed_run_did_again_count_once(tmp_path: Path, board: list[Any]) -> None:
    metrics = Metrics(tmp_path)
    write_run(metrics, [50, 100, 150], loss=100.0)
    resumed = Metrics(tmp_path)
    resumed.write("data", 0, utterances=3)
    write_run(resumed, [100, 150], loss=200.0)
    entries = curves.read_metrics(metrics.path)
    assert curves.series(entries, "training", "loss/")["loss/characters"] == [
        (50, 2.0),
        (100, 2.0),
        (150, 1.333333),
    ]


def test_a_short_run_has_no_empty_panels(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.write("validation", 3, epoch=0, word_error=0.5)
    metrics.draw()
    height, width, _ = matplotlib.image.imread(tmp_path / "curves.png").shape
    assert width < 1.5 * height


def test_a_run_without_any_number_yet_can_be_drawn(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path)
    metrics.write("data", 0, utterances=3)
    metrics.draw()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_restarting_forgets_the_records(corpus: Path, tmp_path: Path, board: list[Any]) -> None:
    trainer = prepared(tmp_path, corpus, *CHARACTERS_ONLY, "training.max_updates=2")
    trainer.train()
    (tmp_path / "run/tensorboard").mkdir()
    trainer.forget()
    assert {path.suffix for path in (tmp_path / "run").iterdir()} == {".safetensors", ""}
    assert not (tmp_path / "run/tensorboard").exists()


# --- asr train --dry-run --------------------------------------------------------------------------


def dry_run(folder: Path, corpus: Path, *arguments: str) -> int:
    path = str(write_config(folder, corpus))
    return cli.main(["train", path, "--dry-run", "--device", "cpu", *arguments])


def test_a_dry_run_says_that_a_good_set_up_can_learn_and_leaves_nothing_behind(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(tmp_path, corpus) == 0
    out, err = capsys.readouterr()
    assert out.startswith("this set-up can learn: loss ") and " on 8 utterances" in out
    assert err == "" and [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_dry_run_says_that_a_learning_rate_is_much_too_small(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.training.dry_run.MOST_UPDATES", 30)
    assert dry_run(tmp_path, corpus, "training.learning_rate=1e-9") == 1
    out = capsys.readouterr().out
    assert out.startswith("this set-up does not learn: loss ") and "after 30 updates" in out


def test_a_dry_run_finds_what_is_wrong_with_the_data(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry_run(tmp_path, corpus, "data.max_seconds=0.1") == 2
    assert dry_run(tmp_path, corpus, "data.lexicon=gone.tsv") == 1
    out, err = capsys.readouterr()
    assert out == "" and "no utterance is usable" in err and "gone.tsv: lexicon not found" in err
