"""What a search reads of an utterance's frames, made for all of them at once.

Frames in which a blank is all but certain bring no new label, so hypotheses only weigh differently after
them. A run of them is one linear map: the probability of ending in a blank and in a label becomes

    blank' = blank + label * carried[label],    label' = label * held[label],

in relation to the probability of the blanks of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asr.labels import BLANK

_LONGEST_RUN = 32  # blanks, so that what labels weigh in it stays in the range of a number


class Block(NamedTuple):
    """Consecutive frames of utterances side by side, (frames, utterances, ...): what Frames has of each, and
    of the run before it."""

    probabilities: np.ndarray
    scores: np.ndarray
    tried: np.ndarray
    tried_scores: np.ndarray
    held: np.ndarray
    carried: np.ndarray
    has_run: np.ndarray

    @staticmethod
    def beside(blocks: Sequence[Block]) -> Block:
        """As many frames of each."""
        return Block(*(np.concatenate(columns, axis=1) for columns in zip(*blocks, strict=True)))


@dataclass
class Frames:
    """n frames that may bring a label, and the runs of certain blanks before each and after the last.

    probabilities: (n, labels) in relation to the likeliest label; scores: (n, labels) their logarithms.
    tried: (n, k) the labels that may follow, in order; tried_scores: theirs.
    held, carried: (n + 1, labels) as above; has_run: (n + 1,) whether there is a run.
    factor: the logarithm of what all of these leave out.
    best_path_score: that of the likeliest label of every frame.
    n_blanks: in the last run, if it may go on.
    """

    probabilities: np.ndarray
    scores: np.ndarray
    tried: np.ndarray
    tried_scores: np.ndarray
    held: np.ndarray
    carried: np.ndarray
    has_run: np.ndarray
    factor: float = 0.0
    best_path_score: float = 0.0
    n_blanks: int = 0

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def of(
        cls, log_probs: np.ndarray, bias: np.ndarray, n_tried: int, certain_blank: float, n_blanks: int = 0
    ) -> Frames:
        """Of (frames, labels) natural log posteriors. bias: (labels,) what is subtracted from them.

        certain_blank: the least posterior of a certain one. n_blanks: in a run that goes on.
        """
        scores = log_probs.astype(np.float32) - bias
        best = scores.max(-1)
        scores -= best[:, None]
        probabilities = np.exp(scores.astype(np.float64))
        held, carried = np.ones((len(scores) + 1, len(bias))), np.zeros((len(scores) + 1, len(bias)))
        looked_at: list[int] = []
        has_run = [False]
        factor = best_path_score = float(best.sum(dtype=np.float64))
        is_certain = log_probs[:, BLANK] >= np.log(certain_blank)
        for i, certain in enumerate(is_certain.tolist()):
            if certain and n_blanks < _LONGEST_RUN:
                n_blanks += 1
                has_run[-1] = True
                factor += float(scores[i, BLANK])
                run = len(looked_at)
                carried[run] += held[run]
                held[run] *= probabilities[i] / probabilities[i, BLANK]
            else:
                n_blanks = 0
                looked_at.append(i)
                has_run.append(False)
        scores = scores[looked_at]
        n_tried = min(n_tried, len(bias) - 1)
        tried = np.sort(np.argpartition(-scores[:, 1:], n_tried - 1)[:, :n_tried] + 1)
        n = len(looked_at) + 1
        return cls(
            probabilities[looked_at],
            scores,
            tried,
            scores[np.arange(len(scores))[:, None], tried],
            held[:n],
            carried[:n],
            np.array(has_run),
            factor,
            best_path_score,
            n_blanks,
        )

    def block(self) -> Block:
        """All frames, and the runs but for the last."""
        n = len(self)
        at_frames = self.probabilities, self.scores, self.tried, self.tried_scores
        columns = *at_frames, self.held[:n], self.carried[:n], self.has_run[:n]
        return Block(*(column[:, None] for column in columns))

    def blocks(self, n: int) -> Iterator[Block]:
        """Blocks of n frames each. At the end come one to n of silence, after which all is as it was."""
        n_added = n - len(self) % n
        silence = np.zeros((n_added, self.scores.shape[1]))
        silence[:, BLANK] = 1
        with np.errstate(divide="ignore"):
            scores = np.concatenate([self.scores, np.log(silence).astype(np.float32)])
        tried = np.arange(1, self.tried.shape[1] + 1)
        longer = Frames(
            np.concatenate([self.probabilities, silence]),
            scores,
            np.concatenate([self.tried, np.tile(tried, (n_added, 1))]),
            np.concatenate([self.tried_scores, np.full((n_added, len(tried)), np.float32(-np.inf))]),
            np.concatenate([self.held, np.ones_like(silence)]),
            np.concatenate([self.carried, np.zeros_like(silence)]),
            np.concatenate([self.has_run, np.zeros(n_added, bool)]),
        )
        block = longer.block()
        for first in range(0, len(longer), n):
            yield Block(*(column[first : first + n] for column in block))
