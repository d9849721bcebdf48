"""Beginning with the weights of another model, and learning rates that differ from layer to layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from torch import Tensor, nn

from asr.errors import CheckpointError, ConfigError
from asr.model import AcousticModel, deepened

# Modules that a model may have and the one it begins with has not.
_OWN = ("outputs.", "middle_outputs.", "conditions.", "future.")


def copy_weights(source: AcousticModel, target: AcousticModel) -> None:
    """Give target the weights of source; what source has not keeps its own: output layers, what is heard of
    middle ones, cells of wider layers, the look-ahead.

    A target of one direction takes the forward direction of a bidirectional source, and may have more
    cells in it. The layers that only a deeper target has begin by adding nothing; half of them are below the
    middle. CheckpointError names what differs in anything but that, outputs and dropout.
    """
    ours, theirs = (dataclasses.asdict(model.config) for model in (target, source))
    free = {"outputs", "middle_outputs", "self_conditioning", "dropout"}
    if ours["n_layers"] > theirs["n_layers"]:
        free.add("n_layers")
    if theirs["bidirectional"] and not ours["bidirectional"] and ours["n_hidden"] >= theirs["n_hidden"]:
        free |= {"bidirectional", "n_hidden", "lookahead"}
    different = [f"{key} {theirs[key]} != {ours[key]}" for key in ours if theirs[key] != ours[key]]
    different = [text for text in different if text.split()[0] not in free]
    if different:
        raise CheckpointError(f"the model to begin with is of another shape: {', '.join(different)}")
    wanted = target.state_dict()
    given = source.state_dict()
    if ours["n_layers"] > theirs["n_layers"]:
        given = deepened(given, theirs["n_layers"], wanted)
    absent = [name for name in wanted if name not in given and not name.startswith(_OWN)]
    assert not absent, absent  # the configurations agree, so the layers do
    fewer_directions = ours["bidirectional"] != theirs["bidirectional"]
    for name, value in wanted.items():
        if name not in given:
            continue
        is_recurrent = name.startswith("layers.")
        # Columns for twice as many cells are as wide as those for two directions, but mean others.
        halved = fewer_directions and is_recurrent and name.endswith("project.weight")
        if given[name].shape == value.shape and not halved:
            value.copy_(given[name])
        elif is_recurrent:
            _copy_cells(given[name], value, theirs["n_hidden"], ours["n_hidden"], name)


def _copy_cells(source: Tensor, target: Tensor, n_source: int, n_target: int, name: str) -> None:
    """Copy the forward direction's first n_source cells of a recurrent layer or of its projection."""
    if name.endswith("project.weight"):
        target[:, :n_source] = source[:, :n_source]
        return
    # Rows stand gate after gate; weight_hh has the cells of the frame before as its columns.
    n = n_source
    ours, theirs = target.view(-1, n_target, *target.shape[1:]), source.view(-1, n, *source.shape[1:])
    if "weight_hh" in name:
        ours[:, :n, :n] = theirs
    else:
        ours[:, :n] = theirs


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
