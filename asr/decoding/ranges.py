"""Many ranges of integers at once."""

from __future__ import annotations

import numpy as np


def joined_ranges(firsts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """first, first + 1, ... of each range, one range after the other. firsts, lengths: (n,)."""
    ends = lengths.cumsum()
    return np.arange(lengths.sum()) + (firsts - ends + lengths).repeat(lengths)
