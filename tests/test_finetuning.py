"""Beginning with another model, training parts of it, large batches in parts, stopping early, averaging."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest
import torch
from singing import CHARACTERS_ONLY, metrics, prepared, run_config, write_config

from asr import checkpoint, cli
from asr.checkpoint import Checkpoint
from asr.errors import CheckpointError, ConfigError
from asr.features import LogMel
from asr.labels import Labels
from asr.model import AcousticModel, ModelConfig
from asr.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("own_random_numbers_and_one_thread")


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.load(path).model.state_dict()


@pytest.fixture(scope="module")
def base(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt the sung words, as characters and as phones."""
    folder = tmp_path_factory.mktemp("base")
    prepared(folder, corpus, "training.max_updates=150").train()
    return folder / "run" / "best.safetensors"


# --- beginning with another model -----------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [(), ("model.self_conditioning=true",), ("model.n_layers=3",), ("model.n_layers=4",)],
)
def test_a_model_begun_from_another_knows_at_once_what_that_one_knew(
    corpus: Path, tmp_path: Path, base: Path, changes: tuple[str, ...]
) -> None:
    fresh = prepared(tmp_path, corpus)
    begun = Trainer(run_config(tmp_path, corpus, *changes), torch.device("cpu"))
    begun.start_from(checkpoint.load(base))
    begun.prepare()
    assert fresh.validate()["word_error"] > 0.9
    assert begun.validate()["word_error"] < 0.2


def test_a_deeper_model_can_be_averaged_with_the_one_that_it_began_with(
    corpus: Path, tmp_path: Path, base: Path
) -> None:
    deeper = Trainer(run_config(tmp_path, corpus, "model.n_layers=4"), torch.device("cpu"))
    deeper.start_from(checkpoint.load(base))
    deeper.prepare()
    deeper.validate()
    mean = checkpoint.average([tmp_path / "run/best.safetensors", base]).model
    features, lengths = torch.randn(1, 60, 80), torch.tensor([60])
    expected, _ = checkpoint.load(base).model.eval()(features, lengths)
    found, _ = mean.eval()(features, lengths)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_mean_and_deviation_are_those_the_weights_were_trained_with(
    corpus: Path, tmp_path: Path, base: Path
) -> None:
    source = checkpoint.load(base)
    source.front_end.mean += 1
    trainer = Trainer(run_config(tmp_path, corpus, "training.max_updates=2"), torch.device("cpu"))
    trainer.start_from(source)
    trainer.prepare()
    trainer.train()
    saved = checkpoint.load(tmp_path / "run/last.safetensors")
    assert torch.equal(saved.front_end.mean, source.front_end.mean)
    resumed = prepared(tmp_path, corpus)  # not told of the source any more
    assert resumed.resume()
    assert torch.equal(resumed.front_end.mean, source.front_end.mean)


def test_the_shape_is_that_of_the_model_begun_with_unless_the_configuration_says_otherwise(
    corpus: Path, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_config(tmp_path, corpus)
    text = path.read_text()
    path.write_text(text[: text.index("[model]")] + text[text.index("[augment]") :])
    arguments = ["--init-from", str(base), "--device", "cpu", "training.max_updates=2", "model.dropout=0.3"]
    assert cli.main(["train", str(path), *arguments]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/run/best.safetensors\n"
    shape = checkpoint.load(tmp_path / "run/best.safetensors").model.config
    assert shape.n_hidden == 24 and shape.middle_outputs == ("phones",) and shape.dropout == 0.3


def test_the_model_begun_with_is_validated_before_the_first_update(
    corpus: Path, tmp_path: Path, base: Path
) -> None:
    trainer = Trainer(run_config(tmp_path, corpus, "training.max_updates=2"), torch.device("cpu"))
    trainer.start_from(checkpoint.load(base))
    trainer.prepare()
    trainer.train()
    first, *later = [entry for entry in metrics(tmp_path) if entry["event"] == "validation"]
    assert first["update"] == 0 and first["word_error"] < 0.2 and [entry["update"] for entry in later] == [2]


def test_a_run_already_begun_goes_on_with_its_own_weights(
    corpus: Path, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(write_config(tmp_path, corpus)), "--init-from", str(base), "--device", "cpu"]
    assert cli.main([*command, "training.max_updates=20"]) == 0
    before = weights(tmp_path / "run/last.safetensors")
    assert cli.main([*command, "training.max_updates=20"]) == 0
    assert capsys.readouterr().err.startswith(f"resuming {tmp_path}/run at update 20")
    after = weights(tmp_path / "run/last.safetensors")
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not torch.equal(after["reduction.first.weight"], weights(base)["reduction.first.weight"])


def test_outputs_that_the_source_has_not_begin_anew(corpus: Path, tmp_path: Path) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir()
    both.mkdir()
    prepared(alone, corpus, *CHARACTERS_ONLY, "training.max_updates=2").train()
    trainer = Trainer(run_config(both, corpus), torch.device("cpu"))
    own = trainer.model.state_dict()["outputs.phones.weight"].clone()
    trainer.start_from(checkpoint.load(alone / "run/last.safetensors"))
    state, source = trainer.model.state_dict(), weights(alone / "run/last.safetensors")
    assert torch.equal(state["outputs.phones.weight"], own)
    assert torch.equal(state["outputs.characters.weight"], source["outputs.characters.weight"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.n_hidden=20", "another shape: n_hidden 24 != 20"),
        ("features.f_min=50.0", "trained on other features"),
    ],
)
def test_a_model_of_another_shape_is_refused(
    corpus: Path, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], override: str, message: str
) -> None:
    path = str(write_config(tmp_path, corpus))
    assert cli.main(["train", path, override, "--init-from", str(base), "--device", "cpu"]) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_model_that_does_not_exist_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(write_config(tmp_path, corpus))
    assert cli.main(["train", path, "--init-from", "gone"]) == 1
    assert "gone: neither a model file nor a shipped model" in capsys.readouterr().err


def test_a_state_from_before_fine_tuning_existed_can_be_resumed(corpus: Path, tmp_path: Path) -> None:
    prepared(tmp_path, corpus, "training.max_updates=3").train()
    path = tmp_path / "run/last.pt"
    state = torch.load(path, weights_only=True)
    for name in ("best_epoch", "mean", "deviation"):
        del state[name]
    torch.save(state, path)
    trainer = prepared(tmp_path, corpus, "training.max_updates=5", "training.patience=1")
    assert trainer.resume()
    trainer.train()
    assert trainer.update == 5


# --- learning rates of parts ----------------------------------------------------------------------


def test_a_frozen_part_does_not_move_and_a_slow_one_moves_less(corpus: Path, tmp_path: Path) -> None:
    moved = {}
    for factor in ("1.0", "0.1"):
        folder = tmp_path / factor
        folder.mkdir()
        factors = f'{{reduction = 0.0, "layers.0" = 0.0, "layers.1" = {factor}, "layers.1.norm" = 0.0}}'
        trainer = prepared(folder, corpus, f"training.learning_rate_factors={factors}")
        before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        for _ in range(3):
            trainer.step([0, 1, 2], defaultdict(float))
        after = trainer.model.state_dict()
        for name in before:
            if name.startswith(("reduction.", "layers.0.", "layers.1.norm.")):
                assert torch.equal(before[name], after[name]), name
        name = "layers.1.project.weight"
        moved[factor] = float((after[name] - before[name]).norm())
        assert not torch.equal(before["outputs.phones.weight"], after["outputs.phones.weight"])
    assert 0 < moved["0.1"] < 0.2 * moved["1.0"]


def test_without_factors_the_optimizer_is_that_of_earlier_states(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(run_config(tmp_path, corpus), torch.device("cpu"))
    wide, narrow = trainer.optimizer.param_groups
    parameters = list(trainer.model.parameters())
    assert all(a is b for a, b in zip(wide["params"], [p for p in parameters if p.dim() > 1], strict=True))
    assert all(a is b for a, b in zip(narrow["params"], [p for p in parameters if p.dim() <= 1], strict=True))


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ("{layer = 0.5}", "no part of the model is 'layer' .*reduction, dropout, layers"),
        ('{"layers.0.nor" = 0.5}', "no part of the model is 'layers.0.nor'"),
        ("{reduction = -1.0}", "reduction must be 0 or more"),
        ("{reduction=0.0,layers=0.0,norm=0.0,outputs=0.0,middle_outputs=0.0}", "nothing is left to train"),
    ],
)
def test_factors_that_make_no_sense_are_refused(
    corpus: Path, tmp_path: Path, factors: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Trainer(run_config(tmp_path, corpus, f"training.learning_rate_factors={factors}"))


# --- a batch in parts -----------------------------------------------------------------------------


def test_a_batch_computed_in_parts_gives_the_gradient_of_the_whole(corpus: Path, tmp_path: Path) -> None:
    # With frozen batch norms an item's gradient does not depend on what it is batched with.
    frozen = 'training.learning_rate_factors={"layers.0.norm" = 0.0, "layers.1.norm" = 0.0}'
    updated = []
    for parts in (1, 3, 50):
        folder = tmp_path / str(parts)
        folder.mkdir()
        overrides = [frozen, "model.dropout=0.0", f"training.accumulate={parts}", "training.clip_norm=1e9"]
        trainer = prepared(folder, corpus, *overrides)
        totals: dict[str, float] = defaultdict(float)
        trainer.step(list(range(7)), totals)
        gradient = torch.cat([p.grad.flatten() for p in trainer.trained if p.grad is not None])
        updated.append((gradient, totals["loss/characters"], totals["frames"]))
    for gradient, loss, n_frames in updated[1:]:
        torch.testing.assert_close(gradient, updated[0][0], rtol=1e-3, atol=1e-5)
        assert loss == pytest.approx(updated[0][1], rel=1e-5) and n_frames == updated[0][2]


def test_learning_works_in_parts_too(corpus: Path, tmp_path: Path) -> None:
    overrides = [*CHARACTERS_ONLY, "training.max_updates=150", "training.accumulate=2"]
    trainer = prepared(tmp_path, corpus, *overrides)
    trainer.train()
    assert trainer.results["word_error"] < 0.3


@pytest.mark.parametrize("override", ["training.accumulate=0", "training.patience=-1", "training.keep=-1"])
def test_impossible_counts_are_refused(corpus: Path, tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=override.split("=")[0] + " must be [01] or more"):
        run_config(tmp_path, corpus, override)


# --- stopping early -------------------------------------------------------------------------------


def test_a_run_that_no_longer_gets_better_stops_and_stays_stopped(corpus: Path, tmp_path: Path) -> None:
    still = "training.learning_rate=1e-12"
    overrides = [*CHARACTERS_ONLY, "training.max_updates=1000", "training.patience=2", still]
    trainer = prepared(tmp_path, corpus, *overrides)
    trainer.train()
    assert trainer.epoch - trainer.best_epoch == 2 and trainer.position == 0 and trainer.update < 1000
    validations = [entry for entry in metrics(tmp_path) if entry["event"] == "validation"]
    assert len(validations) == trainer.epoch
    again = prepared(tmp_path, corpus, *overrides)
    assert again.resume()
    again.train()
    assert again.update == trainer.update


def test_a_run_that_gets_better_is_not_stopped(corpus: Path, tmp_path: Path) -> None:
    overrides = [*CHARACTERS_ONLY, "training.max_updates=100", "training.patience=3"]
    trainer = prepared(tmp_path, corpus, *overrides)
    trainer.train()
    assert trainer.update == 100


# --- averaging ------------------------------------------------------------------------------------


def test_a_run_keeps_the_models_of_its_latest_validations(corpus: Path, tmp_path: Path) -> None:
    overrides = [*CHARACTERS_ONLY, "training.max_updates=20", "training.validate_updates=4"]
    trainer = prepared(tmp_path, corpus, *overrides, "training.keep=2")
    trainer.train()
    assert [path.name for path in trainer._kept_models()] == [
        "update-0000016.safetensors",
        "update-0000020.safetensors",
    ]
    trainer.forget()
    assert not trainer._kept_models()


def test_the_average_is_the_mean_of_weights_and_batch_norm_statistics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = {"characters": Labels.of_kind("characters")}
    paths = []
    for i in range(3):
        model = AcousticModel(ModelConfig(n_layers=1, n_hidden=4, n_model=8, n_channels=2))
        model.state_dict()["layers.0.norm.running_mean"].fill_(i)
        checkpoint.save(Checkpoint(model, LogMel(), labels), tmp_path / f"{i}.safetensors")
        paths.append(str(tmp_path / f"{i}.safetensors"))
    output = str(tmp_path / "mean.safetensors")
    assert cli.main(["average", *paths, "-o", output]) == 0
    assert capsys.readouterr().out == f"{output}\n"
    mean, parts = weights(Path(output)), [weights(Path(path)) for path in paths]
    assert mean["layers.0.norm.running_mean"].tolist() == [1.0] * 8
    for name, value in mean.items():
        torch.testing.assert_close(value.float(), sum(part[name].float() for part in parts) / 3)
    assert checkpoint.load(output).info == {"averaged": 3}


def test_a_model_without_self_conditioning_has_it_at_no_weight_in_a_mean(tmp_path: Path) -> None:
    labels = {"phones": Labels.of_kind("phones")}
    shape = {"outputs": {"phones": 40}, "middle_outputs": ("phones",), "n_layers": 2, "n_hidden": 4}
    for has_it in (True, False):
        model = AcousticModel(ModelConfig(**shape, self_conditioning=has_it, n_model=8, n_channels=2))
        if has_it:
            model.state_dict()["conditions.phones.weight"].fill_(1.0)
        checkpoint.save(Checkpoint(model, LogMel(), labels), tmp_path / f"{has_it}.safetensors")
    with_it, without = tmp_path / "True.safetensors", tmp_path / "False.safetensors"
    mean = checkpoint.average([with_it, without, with_it, with_it]).model
    assert (mean.state_dict()["conditions.phones.weight"] == 0.75).all()
    parts = [checkpoint.load(path).model.state_dict() for path in (with_it, without)]
    for name, value in parts[1].items():
        torch.testing.assert_close(mean.state_dict()[name].float(), 0.75 * parts[0][name] + 0.25 * value)
    with pytest.raises(CheckpointError, match="not of the same run"):
        checkpoint.average([without, with_it])


def test_models_of_different_runs_are_not_averaged(tmp_path: Path, base: Path, tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="tiny.safetensors: not of the same run as .*best"):
        checkpoint.average([base, tiny_checkpoint])
    other = checkpoint.load(base)
    other.front_end.mean += 1
    checkpoint.save(other, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="other.safetensors: not of the same run"):
        checkpoint.average([base, tmp_path / "other.safetensors"])
