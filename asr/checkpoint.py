"""A trained model in one file: weights and all that is needed to transcribe with them.

The format is safetensors with JSON metadata: no classes, no paths, nothing that runs when loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from asr import config
from asr.errors import AsrError, CheckpointError
from asr.features import FeatureConfig, LogMel
from asr.files import write_atomically
from asr.labels import Labels
from asr.metadata import KEY, Metadata, damaged, read
from asr.model import AcousticModel, ModelConfig, deepened

_PRIOR = "log_prior."  # and the name of an output
_SCALE = "scale."  # and the name of a tensor of integers, whose rows it multiplies
_MANY = 1 << 16  # weights: the smaller matrices stay at half precision in a compact file


@dataclass
class Checkpoint:
    """A model ready to run, its front end, the labels of its outputs, and where it comes from.

    log_priors: of some outputs, the natural logs of the labels' mean posteriors over training data.
    """

    model: AcousticModel
    front_end: LogMel
    labels: dict[str, Labels]
    log_priors: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)  # plain values: data, configuration, results

    @property
    def metadata(self) -> Metadata:
        """All but the tensors, as plain values."""
        return Metadata(
            dataclasses.asdict(self.model.config),
            dataclasses.asdict(self.front_end.config),
            self.labels,
            self.log_priors,
            self.info,
        )


def round_rows(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix as 8-bit integers and (rows, 1) factors."""
    scale = matrix.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
    return (matrix / scale).round().to(torch.int8), scale


def save(checkpoint: Checkpoint, path: str | Path, *, compact: bool = False) -> None:
    """Write a checkpoint; an older file of that name stays whole until the new one is complete.

    compact: store large matrices as 8-bit integers with a factor for each row and the others as float16,
    about a quarter of the size; vectors and statistics stay float32.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in checkpoint.model.state_dict().items():
        name, tensor = f"model.{name}", tensor.detach().cpu().contiguous()
        if compact and tensor.numel() >= _MANY:
            tensor, tensors[f"{_SCALE}{name}"] = round_rows(tensor)
        elif compact and tensor.dim() > 1:
            tensor = tensor.half()
        tensors[name] = tensor
    tensors["features.mean"] = checkpoint.front_end.mean.cpu()
    tensors["features.deviation"] = checkpoint.front_end.deviation.cpu()
    for name, log_priors in checkpoint.log_priors.items():
        tensors[f"{_PRIOR}{name}"] = torch.from_numpy(log_priors)
    text = dataclasses.replace(checkpoint.metadata, log_priors={}).to_json()
    write_atomically(path, lambda file: save_file(tensors, file, {KEY: text}))


def load(path: str | Path) -> Checkpoint:
    """Read a checkpoint, ready for inference on the CPU; CheckpointError says what is wrong with it."""
    path = Path(path)
    metadata = read(path)
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        for name in [name for name in tensors if name.startswith(_SCALE)]:
            scale = tensors.pop(name)
            tensors[name.removeprefix(_SCALE)] = tensors[name.removeprefix(_SCALE)] * scale
        model = AcousticModel(config.from_mapping(metadata.model, ModelConfig))
        front_end = LogMel(config.from_mapping(metadata.features, FeatureConfig))
        front_end.mean.copy_(tensors.pop("features.mean"))
        front_end.deviation.copy_(tensors.pop("features.deviation"))
        log_priors = {
            name.removeprefix(_PRIOR): tensors.pop(name).numpy()
            for name in list(tensors)
            if name.startswith(_PRIOR)
        }
        model.load_state_dict({name.removeprefix("model."): t for name, t in tensors.items()})
        labels = metadata.labels
        if {name: len(symbols) for name, symbols in labels.items()} != model.config.outputs:
            raise ValueError("labels and outputs do not agree")
        if any(len(values) != len(labels[name]) for name, values in log_priors.items()):
            raise ValueError("labels and priors do not agree")
    except (
        *(AsrError, SafetensorError, OSError, RuntimeError),
        *(KeyError, TypeError, ValueError, AttributeError),
    ) as error:
        raise damaged(path, error) from None
    model.eval()
    front_end.eval()
    return Checkpoint(model, front_end, labels, log_priors, metadata.info)


def average(paths: Sequence[str | Path]) -> Checkpoint:
    """The mean of several checkpoints of one run: weights and batch-norm statistics.

    One without self-conditioning, with which the run began, is as if it had it at no weight. One of
    fewer layers is as if its new layers added nothing. The first must have them. CheckpointError when
    they are not of one shape, or do not share labels and features.
    """
    first, *others = [load(path) for path in paths]
    mean = {
        name: value / len(paths) if value.dtype.is_floating_point else value
        for name, value in first.model.state_dict().items()
    }
    for path, other in zip(paths[1:], others, strict=True):
        same_features = other.front_end.config == first.front_end.config and all(
            torch.equal(value, first.front_end.state_dict()[name])
            for name, value in other.front_end.state_dict().items()
        )
        config = other.model.config
        if not config.self_conditioning:
            config = dataclasses.replace(config, self_conditioning=first.model.config.self_conditioning)
        n_layers = config.n_layers
        if n_layers < first.model.config.n_layers:
            config = dataclasses.replace(config, n_layers=first.model.config.n_layers)
        if config != first.model.config or other.labels != first.labels or not same_features:
            raise CheckpointError(f"{path}: not of the same run as {paths[0]}: another shape, labels or data")
        weights = other.model.state_dict()
        if n_layers < config.n_layers:
            weights = deepened(weights, n_layers, first.model.state_dict())
        for name, value in weights.items():
            if value.dtype.is_floating_point:
                mean[name] = mean[name] + value / len(paths)
        for name, log_priors in other.log_priors.items():
            first.log_priors[name] = np.logaddexp(first.log_priors[name], log_priors)
    first.model.load_state_dict(mean)
    first.log_priors = {n: values - np.log(len(paths)) for n, values in first.log_priors.items()}
    first.info["averaged"] = len(paths)
    return first
