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

from asr.decoding.graph import BeamConfig
from asr.labels import BLANK

_LONGEST_RUN = 32  # blanks, so that what labels weigh in it stays in the range of a number


class Block(NamedTuple):
    """Consecutive frames of utterances side by side, and the run of certain blanks before each.

    probabilities: (frames, utterances, labels) in relation to the likeliest label; scores: their logarithms.
    tried: (frames, utterances, k) the labels that may follow, in order; tried_scores: theirs.
    held, carried: (frames, utterances, labels) as above; has_run: (frames, utterances) whether there is one.
    """

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

    block: the frames, (n, 1, ...), and the runs before them.
    held, carried: (1, labels) as above, of the run after the last frame, if it ends_in_run.
    factor: the logarithm of what all of these leave out.
    best_path_score: that of the likeliest label of every frame.
    n_blanks: in the last run, if it may go on.
    """

    block: Block
    held: np.ndarray
    carried: np.ndarray
    ends_in_run: bool
    factor: float
    best_path_score: float
    n_blanks: int

    def __len__(self) -> int:
        return len(self.block.scores)

    @classmethod
    def of(
        cls, log_probs: np.ndarray, bias: np.ndarray, config: BeamConfig, n_blanks: int = 0
    ) -> Frames:
        """Of (frames, labels) natural log posteriors. bias: (labels,) what is subtracted from them.

        n_blanks: in a run that goes on.
        """
        n_tried, certain_blank = config.label_beam, config.certain_blank
        scores = np.float32(config.acoustic_scale) * (log_probs.astype(np.float32) - bias)
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
        columns = probabilities[looked_at], scores, tried, scores[np.arange(len(scores))[:, None], tried]
        n = len(looked_at)
        block = Block(*(c[:, None] for c in (*columns, held[:n], carried[:n], np.array(has_run[:n], bool))))
        last = held[n : n + 1], carried[n : n + 1], has_run[n]
        return cls(block, *last, factor, best_path_score, n_blanks)

    def blocks(self, n: int) -> Iterator[Block]:
        """Blocks of n frames each. At the end come one to n of silence, after which all is as it was."""
        rows = zip(self.block, self._silence(n - len(self) % n), strict=True)
        whole = Block(*(np.concatenate(columns) for columns in rows))
        for first in range(0, len(whole.scores), n):
            yield Block(*(column[first : first + n] for column in whole))

    def _silence(self, n: int) -> Block:
        """n frames that leave everything as it is after the last run, which comes before them."""
        probabilities = np.zeros((n, 1, self.held.shape[1]))
        probabilities[..., BLANK] = 1
        with np.errstate(divide="ignore"):
            scores = np.log(probabilities).astype(np.float32)
        n_tried = self.block.tried.shape[-1]
        tried = np.broadcast_to(np.arange(1, n_tried + 1), (n, 1, n_tried))
        held, carried = np.ones_like(probabilities), np.zeros_like(probabilities)
        has_run = np.zeros((n, 1), bool)
        held[0], carried[0], has_run[0] = self.held, self.carried, self.ends_in_run
        return Block(probabilities, scores, tried, scores[..., 1 : n_tried + 1], held, carried, has_run)
