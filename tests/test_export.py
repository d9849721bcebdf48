"""asr export: a graph that runs without torch, with all that recognition needs."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asr import checkpoint, cli
from asr.errors import ExitStatus
from asr.onnx_engine import OnnxEngine


def test_a_graph_carries_what_its_checkpoint_knows(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model = checkpoint.load(tiny_checkpoint)
    model.info["calibration"] = {"offset": 0.5, "slope": 2.0}
    model.log_priors["characters"] = np.log(np.full(29, 1 / 29, np.float32))
    checkpoint.save(model, tmp_path / "model.safetensors")
    assert cli.main(["export", str(tmp_path / "model.safetensors"), "--fp32"]) == ExitStatus.OK
    exported = OnnxEngine(tmp_path / "model.onnx").metadata
    assert exported.labels == model.labels and exported.info == model.info
    np.testing.assert_allclose(exported.log_priors["characters"], model.log_priors["characters"])
    assert exported.describes_the_same(checkpoint.read(tmp_path / "model.safetensors"))


def test_a_graph_fits_a_checkpoint_from_before_its_model_had_all_settings(tiny_checkpoint: Path) -> None:
    new = checkpoint.load(tiny_checkpoint).metadata
    old = replace(new, model={name: new.model[name] for name in new.model if name != "self_conditioning"})
    assert new.describes_the_same(old) and old.describes_the_same(new)
    assert not new.describes_the_same(replace(old, model={**old.model, "n_layers": 7}))
    assert not new.describes_the_same(replace(old, info={"step": -1}))


def test_export_tells_size_and_difference(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tiny_checkpoint), "-o", str(tmp_path)]) == ExitStatus.OK
    size, difference = capsys.readouterr().out.splitlines()
    assert size.startswith(f"{tmp_path / 'tiny.onnx'}: ")
    assert "frames: probabilities differ by 0.0" in difference


def test_int8_is_smaller(parrot: Path, tmp_path: Path) -> None:
    sizes = []
    for option in ("--int8", "--fp32"):
        path = tmp_path / f"graph{option}.onnx"
        assert cli.main(["export", str(parrot), option, "-o", str(path)]) == ExitStatus.OK
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1]


CONDITIONED = {"middle_outputs": ("characters",), "self_conditioning": True}


def untrained(**shape: Any) -> checkpoint.Checkpoint:
    """A tiny model of a shape, as ModelConfig has it."""
    import torch

    from asr.features import LogMel
    from asr.labels import Labels
    from asr.model import AcousticModel, ModelConfig

    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AcousticModel(ModelConfig(n_layers=2, n_hidden=8, n_model=12, n_channels=2, **shape)).eval()
        for condition in model.conditions.parameters():
            torch.nn.init.normal_(condition)  # they begin as zeros
    return checkpoint.Checkpoint(model, LogMel(), {"characters": Labels.of_kind("characters")})


@pytest.mark.parametrize("shape", [{"cell": "gru"}, {"cell": "rnn"}, CONDITIONED])
def test_other_models_and_no_look_ahead_are_exported_too(shape: dict[str, Any], tmp_path: Path) -> None:
    from asr import export

    tiny = untrained(bidirectional=False, **shape)
    export.export(tiny, tmp_path / "model.onnx", int8=False)
    assert export.compare(tiny, tmp_path / "model.onnx", [export.synthetic_sound()]).largest < 1e-4


@pytest.mark.parametrize("bidirectional", [True, False])
def test_output_layers_stay_in_float32(bidirectional: bool, tmp_path: Path) -> None:
    import onnx

    from asr import export

    export.export(untrained(bidirectional=bidirectional, **CONDITIONED), tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    makers = {name: node.op_type for node in nodes for name in node.output}
    for layer in ("outputs", "middle_outputs"):
        bias = f"model.{layer}.characters.bias"
        (found,) = [[*node.input] for node in nodes if bias in node.input]
        assert {makers[name] for name in found if name != bias} == {"MatMul"}
    assert any("Integer" in node.op_type or "DynamicQuantize" in node.op_type for node in nodes)


def test_a_name_that_is_no_graph_is_refused_before_anything_is_loaded(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(tiny_checkpoint), "-o", str(tmp_path / "x.bin")]) == ExitStatus.USAGE
    assert "neither a folder nor a name that ends with .onnx" in capsys.readouterr().err


def test_without_the_package_onnx_it_says_how_to_get_it(
    tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", str(tiny_checkpoint), "-o", str(tmp_path)]) == ExitStatus.USAGE
    assert "needs onnx, which is not installed; pip install 'asr-offline[train]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
