"""The best path: the likeliest label of every frame, repeats merged, blanks dropped (Graves 2006)."""

from __future__ import annotations

import torch
from torch import Tensor


def best_path(log_probs: Tensor, blank: int = 0) -> list[int]:
    """(frames, labels) -> label ids."""
    path = torch.unique_consecutive(log_probs.argmax(-1))
    return [label for label in path.tolist() if label != blank]
