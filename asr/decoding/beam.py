"""CTC prefix beam search through a lexicon with an n-gram language model, frame by frame.

A hypothesis is a place in the prefix tree of the lexicon and a state of the language model. It keeps two
probabilities, of ending in a blank and of ending in its last label, because the CTC rule for repeated
labels treats them differently. Of hypotheses that meet in the same place and state, those of the same
words are added up, and the likeliest words go on, for the future treats them all alike. A recurrent
language model sees the words that have lived for some frames, many at once, and corrects their hypotheses'
scores.

Sources: Graves et al. 2006 and Hannun et al. 2014 (prefix search with a language model), Ortmanns et al.
1996 (look-ahead), Miao et al. 2015 (division by the labels' prior probabilities).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asr.decoding.compiled import new_lanes
from asr.decoding.frames import Block, Frames
from asr.decoding.graph import Graph
from asr.decoding.lanes import Hypothesis

_N_LANES = 6  # utterances searched side by side; more take memory and no less time


class Found(NamedTuple):
    """What a search found: the likeliest word sequences, the best first, and the score of the likeliest
    labels, allowed by the graph or not."""

    hypotheses: list[Hypothesis]
    best_path_score: float


class BeamSearch:
    """One search: step() with consecutive frames, best() at any time, end() for the result."""

    def __init__(self, graph: Graph, log_priors: np.ndarray | None = None) -> None:
        """log_priors: (labels,) natural logs, subtracted with the configured weight."""
        self._config = graph.config
        self._bias = _bias(graph, log_priors)
        self._lanes = new_lanes(graph)
        self._lanes.begin(0)
        self._n_blanks = 0
        self._best_path_score = 0.0

    @np.errstate(divide="ignore")  # the logarithm of probability 0
    def step(self, log_probs: np.ndarray) -> None:
        """Advance over (frames, labels) natural log posteriors."""
        frames = Frames.of(log_probs, self._bias, self._config, self._n_blanks)
        self._n_blanks = frames.n_blanks
        self._best_path_score += frames.best_path_score
        self._lanes.weigh(frames.factor)
        self._lanes.go_on(frames.block)
        if frames.ends_in_run:
            self._lanes.stay(frames.held, frames.carried)

    def best(self) -> Hypothesis:
        """The likeliest words so far; a word that has only begun is not among them."""
        return self._lanes.best()

    def agreement(self, n_words: int) -> list[float]:
        """Of each of the last n words of best(), the share of all probability whose hypotheses have the same
        words up to it.

        A hypothesis that is still inside a word does not have it. Older words than the last few count as
        agreed on.
        """
        return self._lanes.agreement(n_words)

    @np.errstate(divide="ignore")
    def end(self, n_best: int = 1) -> Found:
        """The search is then over."""
        self._lanes.rescore()
        return Found(self._lanes.end(0, n_best), self._best_path_score)


@np.errstate(divide="ignore")
def search_all(
    graph: Graph,
    utterances: Sequence[np.ndarray],
    log_priors: np.ndarray | None = None,
    n_best: int = 1,
) -> list[Found]:
    """What a search of each utterance, (frames, labels) natural log posteriors, finds.

    They are searched side by side, yet each as it would be alone: another begins in the place of one that is
    over when the recurrent model sees the words of all.
    """
    bias = _bias(graph, log_priors)
    found: dict[int, Found] = {}
    lanes = new_lanes(graph)
    under_way: list[tuple[int, float, deque[Block]]] = []  # utterance, its best path's score, what is to come
    waiting = deque(enumerate(utterances))
    while waiting or under_way:
        while waiting and len(under_way) < _N_LANES:
            number, log_probs = waiting.popleft()
            frames = Frames.of(log_probs, bias, graph.config)
            under_way.append((number, frames.best_path_score, deque(frames.blocks(lanes.period))))
            lanes.begin(number)
            lanes.weigh(frames.factor)
        lanes.go_on(Block.beside([blocks.popleft() for _, _, blocks in under_way]))
        if over := [lane for lane, (_, _, blocks) in enumerate(under_way) if not blocks]:
            for lane in over:
                number, best_path_score, _ = under_way[lane]
                found[number] = Found(lanes.end(lane, n_best), best_path_score)
            lanes.drop(over)
            under_way = [each for each in under_way if each[2]]
    return [found[number] for number in range(len(utterances))]


def _bias(graph: Graph, log_priors: np.ndarray | None) -> np.ndarray:
    """(labels,) what is subtracted from the labels' log-probabilities."""
    if log_priors is None:
        return np.zeros(graph.tree.n_labels, np.float32)
    return (graph.config.prior_weight * log_priors).astype(np.float32)
