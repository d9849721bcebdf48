"""Checkpoints: what is saved comes back, and what is not a checkpoint is refused in one line."""

from __future__ import annotations

import dataclasses
import json
import resource
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from asr import checkpoint, metadata
from asr.errors import CheckpointError, OutputError
from asr.metadata import FORMAT
from asr.model import AcousticModel


@torch.inference_mode()
def outputs(loaded: checkpoint.Checkpoint) -> dict[str, torch.Tensor]:
    samples = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    frames = loaded.front_end(samples)
    return loaded.model(frames[None], torch.tensor([len(frames)]))[0]


def with_metadata(source: Path, target: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with other metadata."""
    metadata = read_metadata(source) | changes
    save_file(load_file(source), target, {"asr": json.dumps(metadata)})
    return target


def read_metadata(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["asr"])


def assert_refused(path: Path, reason: str = "") -> None:
    with pytest.raises(CheckpointError, match=reason) as error:
        checkpoint.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 500


def test_a_loaded_model_gives_the_same_output(tiny_checkpoint: Path, tmp_path: Path) -> None:
    first = checkpoint.load(tiny_checkpoint)
    first.front_end.mean.fill_(-3)
    first.front_end.deviation.fill_(2)
    first.info["note"] = {"hours": 1.5}
    checkpoint.save(first, tmp_path / "copy.safetensors")
    second = checkpoint.load(tmp_path / "copy.safetensors")
    expected = outputs(first)
    for name, log_probs in outputs(second).items():
        assert torch.equal(log_probs, expected[name])
    assert second.labels == first.labels and second.info == first.info
    assert second.model.config == first.model.config
    assert second.front_end.config == first.front_end.config
    assert not second.model.training


def test_a_compact_file_has_a_quarter_of_the_size_and_nearly_the_same_output(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    tiny = checkpoint.load(tiny_checkpoint)
    config = dataclasses.replace(tiny.model.config, n_hidden=160, n_model=128)
    whole = dataclasses.replace(tiny, model=AcousticModel(config).eval())
    checkpoint.save(whole, tmp_path / "whole.safetensors")
    path = tmp_path / "compact.safetensors"
    checkpoint.save(whole, path, compact=True)
    tensors = load_file(path)
    assert tensors["model.layers.0.directions.0.weight_hh_l0"].dtype == torch.int8
    assert tensors["model.outputs.characters.weight"].dtype == torch.float16
    assert tensors["features.mean"].dtype == torch.float32
    assert tensors["model.layers.0.norm.running_var"].dtype == torch.float32
    assert path.stat().st_size < 0.3 * (tmp_path / "whole.safetensors").stat().st_size
    compact = checkpoint.load(path)
    assert all(p.dtype == torch.float32 for p in compact.model.parameters())
    expected = outputs(whole)
    for name, log_probs in outputs(compact).items():
        torch.testing.assert_close(log_probs, expected[name], atol=0.05, rtol=0)


def test_the_same_model_saved_twice_is_the_same_file(tiny_checkpoint: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(tiny_checkpoint)
    for name in "ab":
        checkpoint.save(loaded, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "gone.safetensors", "no such model file")
    assert_refused(tmp_path, "no such model file")


@pytest.mark.parametrize("content", [b"", b"RIFF....WAVE", b"\xff" * 1000, bytes(100)])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert_refused(path, "not a readable model file")


@pytest.mark.parametrize("part", [0.01, 0.5, 0.999])
def test_a_truncated_file_is_refused(tiny_checkpoint: Path, tmp_path: Path, part: float) -> None:
    content = tiny_checkpoint.read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(content[: int(part * len(content))])
    assert_refused(path, "not a readable model file")


def test_corrupt_bytes_in_the_header_are_refused_or_harmless(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    content = tiny_checkpoint.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    path = tmp_path / "model.safetensors"
    refused = 0
    for position in range(0, size, 61):
        damaged = bytearray(content)
        damaged[position] ^= 0x15
        path.write_bytes(damaged)
        try:
            checkpoint.load(path)
        except CheckpointError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 0.5 * size / 61


def test_a_safetensors_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    assert_refused(path, "not a model of asr")


def test_a_newer_format_says_to_update(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = with_metadata(tiny_checkpoint, tmp_path / "new", format=FORMAT + 1)
    assert_refused(path, "newer.*update asr")


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "one"},
        {"model": {"n_hiden": 3}},
        {"model": 7},
        {"model": {"n_hidden": 17}},
        {"model": {"cell": "lstn"}},
        {"features": {"n_mels": 40}},
        {"labels": {"characters": {}}},
        {"labels": []},
        {"labels": {}},
    ],
)
def test_metadata_that_does_not_fit_is_refused(
    tiny_checkpoint: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    original = read_metadata(tiny_checkpoint)
    if isinstance(changes.get("model"), dict):
        changes = {"model": original["model"] | changes["model"]}
    path = with_metadata(tiny_checkpoint, tmp_path / "model", **changes)
    assert_refused(path, "damaged or foreign")


def test_a_missing_tensor_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    for name in ("features.mean", "model.outputs.phones.weight"):
        tensors = load_file(tiny_checkpoint)
        del tensors[name]
        metadata = {"asr": json.dumps(read_metadata(tiny_checkpoint))}
        save_file(tensors, tmp_path / "model", metadata)
        assert_refused(tmp_path / "model", "damaged or foreign")


def test_saving_makes_missing_folders(tiny_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint.save(checkpoint.load(tiny_checkpoint), tmp_path / "new" / "folder" / "model")
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["model"]


def test_a_folder_that_cannot_be_made_is_one_line(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/model: cannot be written"):
        checkpoint.save(checkpoint.load(tiny_checkpoint), tmp_path / "file" / "model")


def test_a_failed_save_leaves_the_older_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_text("older")

    def fail(temporary: str) -> None:
        Path(temporary).write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left"):
        checkpoint.write_atomically(path, fail)
    assert path.read_text() == "older" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("writer", ["safetensors", "torch"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    tiny_checkpoint: Path, tmp_path: Path, writer: str
) -> None:
    loaded = checkpoint.load(tiny_checkpoint)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OutputError) as error:
            if writer == "safetensors":
                checkpoint.save(loaded, tmp_path / "model")
            else:
                state = loaded.model.state_dict()
                checkpoint.write_atomically(tmp_path / "m", lambda file: torch.save(state, file))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_a_description_holds_the_plain_facts(tiny_checkpoint: Path) -> None:
    facts = metadata.describe(tiny_checkpoint)
    assert facts["labels"] == {"characters": 29, "phones": 40}
    assert facts["weights"] == sum(p.numel() for p in checkpoint.load(tiny_checkpoint).model.parameters())
    assert json.dumps(facts)
