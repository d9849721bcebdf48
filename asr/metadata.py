"""What a model file says about itself besides its weights, as JSON; no torch, so that any engine reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from asr.errors import CheckpointError
from asr.labels import Labels

FORMAT = 1
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation
KEY = "asr"  # under which a model file, safetensors or ONNX, keeps the JSON


@dataclass
class Metadata:
    """Configurations, labels of the outputs, and where a model comes from.

    model, features: the plain values of ModelConfig and FeatureConfig.
    log_priors: of some outputs, the natural logs of the labels' mean posteriors over training data.
    """

    model: Mapping[str, Any]
    features: Mapping[str, Any]
    labels: dict[str, Labels]
    log_priors: dict[str, np.ndarray] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)  # plain values: data, configuration, results

    def to_json(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "model": self.model,
                "features": self.features,
                "labels": {
                    name: {"kind": labels.kind, "symbols": list(labels.symbols)}
                    for name, labels in self.labels.items()
                },
                "log_priors": {name: values.tolist() for name, values in self.log_priors.items()},
                "info": self.info,
            }
        )

    def describes_the_same(self, other: Metadata) -> bool:
        """Whether both come from one training run at one point, its log priors left aside.

        A setting of the model that only one of them has is newer than the other; its default changes nothing.
        """
        settings = self.model.keys() & other.model.keys()
        return all(self.model[name] == other.model[name] for name in settings) and all(
            getattr(self, name) == getattr(other, name) for name in ("features", "labels", "info")
        )

    @classmethod
    def from_json(cls, text: str, path: Path) -> Metadata:
        """Raises CheckpointError, which names the file, for what is no such JSON or of a newer format."""
        try:
            data = json.loads(text)
            if data["format"] > FORMAT:
                raise CheckpointError(
                    f"{path}: format {data['format']} is newer than this program reads ({FORMAT}); update asr"
                )
            labels = {
                name: Labels(entry["kind"], tuple(entry["symbols"]))
                for name, entry in data["labels"].items()
            }
            log_priors = {
                name: np.array(values, np.float32) for name, values in data.get("log_priors", {}).items()
            }
            return cls(data["model"], data["features"], labels, log_priors, data["info"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, error) from None


def read(path: Path) -> Metadata:
    """What a checkpoint says of itself, its log priors left out; CheckpointError if it is none."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="numpy") as file:
            text = (file.metadata() or {}).get(KEY)
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(f"{path}: not a readable model file ({reason[:200]})") from None
    if text is None:
        raise CheckpointError(f"{path}: a safetensors file, but not a model of asr")
    return Metadata.from_json(text, path)


def describe(path: Path) -> dict[str, Any]:
    """The plain facts of a checkpoint, for `asr info`; CheckpointError if it is none."""
    metadata = read(path)
    with safe_open(path, framework="numpy") as file:
        shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}
    n_weights = sum(
        math.prod(shape)
        for name, shape in shapes.items()
        if name.startswith("model.") and not name.endswith(_STATISTICS)  # measured, not learned
    )
    return {
        "weights": n_weights,
        "model": metadata.model,
        "features": metadata.features,
        "labels": {name: len(labels) for name, labels in metadata.labels.items()},
        **metadata.info,
    }


def damaged(path: Path, error: Exception) -> CheckpointError:
    """The error for a model file whose content does not hold together."""
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return CheckpointError(f"{path}: damaged or foreign model file ({reason})")
