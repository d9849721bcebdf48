"""Many ranges of integers at once, and their different ones."""

from __future__ import annotations

import numpy as np


def joined_ranges(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """first, first + 1, ... of each range, one range after the other. firsts, lengths: (n,)."""
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + (firsts - ends + lengths).repeat(lengths)


def distinct(integers: np.ndarray) -> np.ndarray:
    """Each of (n,) integers once, in order; for the few of a frame several times as fast as np.unique()."""
    return np.array(sorted(set(integers.tolist())), np.int64)
