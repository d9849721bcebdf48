"""Batches of similar length whose padded audio stays within so many seconds.

Order and membership follow from (seed, epoch) alone, so a resumed run goes through the same batches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def make_batches(
    lengths: Sequence[int], max_frames: int, *, seed: int, epoch: int, shortest_first: bool = False
) -> list[list[int]]:
    """Indices grouped so that items x longest <= max_frames; each index stands in one batch.

    shortest_first: easy utterances first, as SortaGrad (Amodei et al. 2016) does for the first pass.
    An item longer than max_frames gets a batch of its own.
    """
    random = np.random.default_rng([seed, epoch])
    # A little noise on the lengths mixes neighbours anew in every epoch at little cost in padding.
    noisy = np.asarray(lengths) * random.uniform(0.95, 1.05, len(lengths))
    batches: list[list[int]] = []
    batch: list[int] = []
    longest = 0
    for index in np.argsort(noisy, kind="stable"):
        longest_with = max(longest, lengths[index])
        if batch and longest_with * (len(batch) + 1) > max_frames:
            batches.append(batch)
            batch, longest_with = [], lengths[index]
        batch.append(int(index))
        longest = longest_with
    if batch:
        batches.append(batch)
    if not shortest_first:
        random.shuffle(batches)
    return batches
