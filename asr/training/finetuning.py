"""Beginning with the weights of another model, and learning rates that differ from layer to layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import nn

from asr.errors import CheckpointError, ConfigError
from asr.model import AcousticModel

OUTPUT_LAYERS = ("outputs.", "middle_outputs.")


def copy_weights(source: AcousticModel, target: AcousticModel) -> None:
    """Give target the weights of source; an output layer that source has not keeps its own.

    CheckpointError names what differs in anything but outputs and dropout.
    """
    ours, theirs = (dataclasses.asdict(model.config) for model in (target, source))
    free = {"outputs", "middle_outputs", "dropout"}
    different = [f"{key} {theirs[key]} != {ours[key]}" for key in ours if theirs[key] != ours[key]]
    different = [text for text in different if text.split()[0] not in free]
    if different:
        raise CheckpointError(f"the model to begin with is of another shape: {', '.join(different)}")
    wanted = target.state_dict()
    weights = {
        name: value
        for name, value in source.state_dict().items()
        if name in wanted and value.shape == wanted[name].shape
    }
    missing = [name for name in wanted if name not in weights and not name.startswith(OUTPUT_LAYERS)]
    assert not missing, missing  # the configurations agree, so the layers do
    target.load_state_dict({**wanted, **weights})


def learning_rate_factors(model: nn.Module, factors: Mapping[str, float]) -> dict[str, float]:
    """Every parameter's factor on the learning rate, by name; 0 freezes it.

    factors: by the dotted name of a module or parameter (reduction, layers.0), the longest that fits
    counts; ConfigError for a name that nothing has.
    """
    names = [name for name, _ in model.named_parameters()]
    found = dict.fromkeys(names, 1.0)
    for prefix in sorted(factors, key=len):
        inside = [name for name in names if f"{name}.".startswith(f"{prefix}.")]
        if not inside:
            known = ", ".join(name for name, _ in model.named_children())
            raise ConfigError(f"training.learning_rate_factors: no part of the model is '{prefix}' ({known})")
        if factors[prefix] < 0:
            raise ConfigError(f"training.learning_rate_factors: {prefix} must be 0 or more")
        found.update(dict.fromkeys(inside, factors[prefix]))
    if not any(found.values()):
        raise ConfigError("training.learning_rate_factors: everything is frozen, so nothing is left to train")
    return found
