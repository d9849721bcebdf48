"""A batch, its CTC loss, and what may be wrong with it when there is none."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.labels import frames_needed

MOST_NAMES = 5  # utterances that a message lists
REMEDY = "a lower training.learning_rate may help"


@dataclass(frozen=True)
class Batch:
    """features: (batch, frames, mels) normalised; lengths: (batch,); targets: of every output layer.

    A target is None when the utterance has no label of that kind. lessons: a teacher's probabilities,
    (frames', labels) for each item, of the outputs that learn from it.
    """

    features: Tensor
    lengths: Tensor
    targets: dict[str, list[list[int] | None]]
    ids: list[str]
    lessons: dict[str, list[np.ndarray]] = field(default_factory=dict)

    @property
    def n_frames(self) -> int:
        return int(self.lengths.sum())


def ctc_loss(log_probs: Tensor, lengths: Tensor, targets: list[list[int] | None]) -> Tensor:
    """CTC loss per label (Graves et al. 2006), the mean over the items that have a target.

    log_probs: (batch, frames', labels). int64 lengths and targets choose the native kernels, which
    are right for items of different lengths; cuDNN's are not for every input.
    """
    kept = [i for i, target in enumerate(targets) if target is not None]
    if not kept:
        return log_probs.sum() * 0
    labels = [torch.tensor(targets[i], dtype=torch.long) for i in kept]
    n_labels = torch.tensor([len(label) for label in labels])
    losses = F.ctc_loss(
        log_probs[kept].transpose(0, 1),
        torch.cat(labels).to(log_probs.device),
        lengths[kept],
        n_labels.to(log_probs.device),
        reduction="none",
    )
    # An item without labels (noise) counts as if it had one in eight frames, about as dense as speech.
    per = torch.where(n_labels > 0, n_labels, lengths[kept].cpu() / 8)
    return (losses / per.to(losses)).mean()


def likely_fault(batch: Batch, lengths: Tensor) -> str:
    """Which utterances probably made the loss of a batch infinite or not a number, and why.

    lengths: (batch,) output frames.
    """
    damaged = [id for id, item in zip(batch.ids, batch.features, strict=True) if not item.isfinite().all()]
    if damaged:
        return f"features that are not finite numbers in {names_of(damaged)}"
    short = [
        id
        for i, id in enumerate(batch.ids)
        for target in [targets[i] for targets in batch.targets.values()]
        if target is not None and frames_needed(target) > lengths[i]
    ]
    if short:
        return f"audio shorter than its label in {names_of(list(dict.fromkeys(short)))}"
    return f"exploding values in {names_of(batch.ids)}; {REMEDY}"


def names_of(ids: list[str]) -> str:
    """The ids for a message, the first few of many."""
    more = len(ids) - MOST_NAMES
    return ", ".join(ids[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
