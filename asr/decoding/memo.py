"""Remembering what an expensive function of integers gave, for many arguments at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np


class Memo:
    """A direct-mapped cache: every key has one slot, and the latest key takes it. Threads may share it."""

    def __init__(self, bits: int, dtype: Any) -> None:
        """2**bits slots for values of dtype, which may have several fields."""
        self.dtype = np.dtype(dtype)
        self._mask = (1 << bits) - 1
        self._keys = np.full(1 << bits, -1, np.int64)
        self._values = np.zeros(1 << bits, dtype)
        self._lock = threading.Lock()

    def get(self, keys: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """(n,) values of (n,) keys, which are 0 or more; compute(rows) makes those of keys[rows]."""
        slots = keys & self._mask
        with self._lock:
            values = self._values[slots]
            missing = (self._keys[slots] != keys).nonzero()[0]
            if len(missing):
                values[missing] = compute(missing)
                self._keys[slots[missing]] = keys[missing]
                self._values[slots[missing]] = values[missing]
        return values
