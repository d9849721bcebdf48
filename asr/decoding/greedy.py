"""The best path: the likeliest label of every frame, repeats merged, blanks dropped (Graves 2006)."""

from __future__ import annotations

import numpy as np

from asr import align
from asr.labels import BLANK, Labels
from asr.transcript import Alternative, Word


def best_path(log_probs: np.ndarray) -> list[int]:
    """(frames, labels) -> label ids."""
    path = log_probs.argmax(-1)
    is_new = np.diff(path, prepend=BLANK) != 0
    return path[is_new & (path != BLANK)].tolist()


class GreedyDecoder:
    """Words as the likeliest characters spell them."""

    output = "characters"
    may_retract = False
    alternatives: tuple[Alternative, ...] = ()

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self.begin()

    def begin(self, offset: float = 0.0) -> None:
        self._offset = offset
        self._blocks: list[np.ndarray] = []

    def step(self, log_probs: np.ndarray) -> None:
        self._blocks.append(log_probs)

    def partial(self) -> tuple[Word, ...]:
        if not self._blocks:
            return ()
        self._blocks = [np.concatenate(self._blocks)]
        spans = align.best_spans(self._blocks[0])
        return align.words(align.spelled(spans, self._labels), self._offset)

    def agreement(self, n_words: int) -> list[float]:
        return [1.0] * n_words

    def end(self) -> tuple[Word, ...]:
        return self.partial()
