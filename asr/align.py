"""Where each word sits and how sure we are: the only place that makes times and confidences.

CTC marks a label by a spike early in its sound. Against where the level of 243 utterances of LibriSpeech's
dev-clean passes -30 dB, the frame of the first spike begins 23 ms early and that of the last spike ends 71 ms
early: so a word begins with its first spike and ends a little after its last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from asr.decoding.kernel import kernel
from asr.labels import BLANK, SPACE_SYMBOL, Labels
from asr.transcript import Word

FRAME_SECONDS = 0.04
_AFTER_LAST_SPIKE = 0.07  # seconds
# Natural logarithms. A label where there is nothing like it costs about 8.
_OTHER_SOUND_COST = 2.5  # a frame of sound between words that none of them has
_LEFT_OUT_COST = 3.0  # a label of a word that is left out
_LEFT_OUT_WORD_COST = 6.0  # a word, whatever its length: those of two labels are often swallowed
_GAP_COST = 5.0  # that there is such sound: less than leaving out a word of one label
_PAUSE, _OTHER_SOUND = -2, -1


@dataclass(frozen=True)
class Span:
    """One label of a path, which holds it in frames [start, end); probability: at its peak."""

    label: int
    start: int
    end: int
    probability: float


@dataclass(frozen=True)
class Calibration:
    """What makes a probability of the mean posterior of a word's labels: a logistic function of it, fitted
    to how often words were right (Platt 1999)."""

    offset: float
    slope: float

    def __call__(self, mean_posterior: float) -> float:
        return 1 / (1 + math.exp(-self.offset - self.slope * mean_posterior))


def best_spans(log_probs: np.ndarray) -> list[Span]:
    """(frames, labels) -> the labels of the likeliest path, without blanks, in order of time."""
    return _spans(log_probs, log_probs.argmax(-1))


def forced_spans(log_probs: np.ndarray, labels: Sequence[int], first: int = 0) -> list[Span]:
    """(frames, labels) -> the given labels, in this order, where they fit best (Viterbi).

    first: the number of the first frame. ValueError when there are fewer frames than the labels need.
    """
    n_repeats = sum(a == b for a, b in zip(labels, labels[1:], strict=False))
    if len(labels) + n_repeats > len(log_probs):
        raise ValueError(f"{len(labels)} labels do not fit in {len(log_probs)} frames")
    states = np.full(2 * len(labels) + 1, BLANK)  # labels with blanks around them
    states[1::2] = labels
    path = _compiled_path(log_probs, states)
    if path is None:
        path = _path(log_probs, states)
    return _spans(log_probs, states[path], path, first)


def _compiled_path(log_probs: np.ndarray, states: np.ndarray) -> np.ndarray | None:
    """What _path() finds; None where nothing is compiled, or not for these numbers."""
    library = kernel()
    if library is None or log_probs.dtype != np.float32 or not len(log_probs):
        return None
    log_probs = np.ascontiguousarray(log_probs)
    path, scores = np.empty(len(log_probs), np.int64), np.empty(2 * len(states))
    steps = np.empty((len(log_probs), len(states)), np.uint8)
    library.align(
        log_probs.ctypes.data,
        *log_probs.shape,
        states.ctypes.data,
        len(states),
        path.ctypes.data,
        scores.ctypes.data,
        steps.ctypes.data,
    )
    return path


def _path(log_probs: np.ndarray, states: np.ndarray) -> np.ndarray:
    """(frames,) the likeliest way through states, labels with blanks around them, as their indices."""
    # From a label straight to the next one, past the blank between them, unless they are the same.
    skipping = np.full(len(states), -np.inf)
    skipping[3::2][states[3::2] != states[1:-2:2]] = 0.0
    emitted = log_probs[:, states]
    scores = np.full((len(emitted), 2 + len(states)), -np.inf)  # of the best way to each, from the third on
    scores[:1, 2:4] = emitted[:1, :2]
    for before, after, frame in zip(scores, scores[1:], emitted[1:], strict=False):
        best = np.maximum(np.maximum(before[2:], before[1:-1]), before[:-2] + skipping)
        np.add(best, frame, out=after[2:])
    state = len(states) - 1
    if len(emitted) and state and scores[-1, -2] >= scores[-1, -1]:
        state -= 1
    path = np.full(len(emitted), state)
    for t in range(len(emitted) - 1, 0, -1):
        stay, step, skip = scores[t - 1, [state + 2, state + 1, state]]
        skip += skipping[state]
        if max(step, skip) > stay:
            state -= 1 if step >= skip else 2
        path[t - 1] = state
    return path


def optional_spans(
    log_probs: np.ndarray,
    words: Sequence[Sequence[Sequence[int]]],
    pauses: Sequence[int] = (BLANK,),
    free_edges: tuple[bool, bool] = (True, True),
) -> list[list[Span]]:
    """(frames, labels) -> the spans of each word, in this order, where they fit best (Viterbi); empty for a
    word that is not there.

    words: of each the label sequences that it may have; the best one is taken. pauses: labels that may stand
    between words. Any other sound between words, and any word left out, costs more than a poor fit; that
    there is other sound at all costs too, so that words stand together.
    free_edges: whether it does not before the first word, and after the last.
    """
    if not len(log_probs) or not words:
        return [[] for _ in words]
    chain = _Chain(words, free_edges)
    n_states = len(chain.labels)
    pause = log_probs[:, list(pauses)].max(-1)
    emitted = np.column_stack([log_probs, pause, np.maximum(pause, log_probs.max(-1) - _OTHER_SOUND_COST)])
    # Of each state, of each with the cost of beginning a gap, and of where no way comes from.
    score = np.full(2 * n_states + 1, -np.inf)
    score[chain.firsts] = emitted[0, chain.labels[chain.firsts]] - chain.first_costs
    steps = np.zeros((len(log_probs), n_states), np.uint8)  # which way in was the best
    jumps = np.zeros((len(log_probs), *chain.boundaries.shape), np.int32)  # where leaving out words began
    for t, frame in enumerate(emitted):
        if t:
            np.subtract(score[:n_states], _GAP_COST, out=score[n_states:-1])
            ways = score[chain.ways]
            steps[t] = ways.argmax(0)
            score[:n_states] = ways.max(0) + frame[chain.labels]
        at_boundaries = score[chain.boundaries] + chain.costs
        best = np.maximum.accumulate(at_boundaries, axis=1)
        numbers = np.where(at_boundaries == best, np.arange(best.shape[1]), 0)
        jumps[t] = np.maximum.accumulate(numbers, axis=1)
        score[chain.boundaries] = best - chain.costs
    path = np.empty(len(log_probs), int)
    state = chain.lasts[int(score[chain.lasts].argmax())]
    for t in range(len(log_probs) - 1, -1, -1):
        kind, boundary = chain.boundary_of[state]
        if boundary >= 0:
            state = chain.boundaries[kind, jumps[t, kind, boundary]]
        path[t] = state
        state = chain.ways[steps[t, state], state] % n_states
    found: list[list[Span]] = [[] for _ in words]
    labels = np.where(chain.labels < 0, BLANK, chain.labels)
    for span in _spans(log_probs, labels[path], path):
        found[chain.word_of[path[span.start]]].append(span)
    return found


class _Chain:
    """The states of words one after another, with a boundary before, between and after them.

    A boundary is two states: one for a pause, one for other sound, which costs when it begins.
    labels: (states,) of each; those of boundaries are the last two columns of what is emitted.
    ways: (ways, states) the states that lead to each, plus the number of states where a gap begins; -1 where
    there are no more.
    boundaries: (2, boundaries) their states; boundary_of: (states, 2) the place of each there, or -1.
    costs: (boundaries,) of leaving out all words before each.
    firsts, lasts: states that a path may begin and end with; first_costs: what it costs to begin there.
    """

    def __init__(self, words: Sequence[Sequence[Sequence[int]]], free_edges: tuple[bool, bool]) -> None:
        labels: list[int] = []
        ways: list[list[int]] = []
        gaps: list[list[int]] = []  # states that lead to each by beginning a gap
        boundaries: list[tuple[int, int]] = []
        word_of: list[int] = []
        costs = [0.0]
        firsts: list[int] = []

        def add(label: int, sources: Sequence[int], gap_sources: Sequence[int] = ()) -> int:
            labels.append(label)
            ways.append([len(ways), *sources])
            gaps.append([*gap_sources])
            word_of.append(len(boundaries) - 1)
            return len(labels) - 1

        def add_boundary(ends: Sequence[int], *, free: bool) -> tuple[int, int]:
            pause = add(_PAUSE, ends)
            sources = [pause, *ends]
            boundaries.append((pause, add(_OTHER_SOUND, *((sources,) if free else ((), sources)))))
            return boundaries[-1]

        ends: list[int] = []  # last states of the word before
        for variants in words:
            before = ends
            boundary = add_boundary(before, free=free_edges[0] and not boundaries)
            ends = []
            for variant in variants:
                near = [end for end in before if labels[end] != variant[0]]
                state = add(variant[0], [*boundary, *near])
                if len(boundaries) == 1:
                    firsts.append(state)
                for last, label in zip(variant, variant[1:], strict=False):
                    blank = add(BLANK, [state])
                    state = add(label, [blank, *([state] if last != label else [])])
                ends.append(state)
            costs.append(costs[-1] + _LEFT_OUT_WORD_COST + _LEFT_OUT_COST * min(map(len, variants)))
        add_boundary(ends, free=free_edges[1])
        self.labels = np.array(labels)
        all_ways = [
            [*plain, *(state + len(ways) for state in begun)]
            for plain, begun in zip(ways, gaps, strict=True)
        ]
        self.ways = np.full((max(map(len, all_ways)), len(all_ways)), -1)
        for state, sources in enumerate(all_ways):
            self.ways[: len(sources), state] = sources
        self.boundaries = np.array(boundaries).T
        self.boundary_of = np.full((len(labels), 2), -1)
        for kind, states in enumerate(self.boundaries):
            self.boundary_of[states, 0] = kind
            self.boundary_of[states, 1] = np.arange(len(states))
        self.word_of = np.array(word_of)
        self.costs = np.array(costs)
        self.firsts = np.array([*boundaries[0], *firsts])
        self.first_costs = np.zeros(len(self.firsts))
        self.first_costs[1] = 0.0 if free_edges[0] else _GAP_COST
        self.lasts = np.array([*boundaries[-1], *ends])


def _spans(
    log_probs: np.ndarray, labels: np.ndarray, states: np.ndarray | None = None, first: int = 0
) -> list[Span]:
    """Runs of equal states (labels, if left out) of a path, without the blanks. first: as above."""
    if not len(labels):
        return []
    states = labels if states is None else states
    starts = np.concatenate([[0], np.flatnonzero(np.diff(states)) + 1])
    peaks = np.exp(np.maximum.reduceat(log_probs[np.arange(len(labels)), labels], starts))
    edges = [*starts.tolist(), len(labels)]
    return [
        Span(label, first + start, first + end, peak)
        for label, start, end, peak in zip(
            labels[starts].tolist(), edges, edges[1:], peaks.tolist(), strict=False
        )
        if label != BLANK
    ]


def spelled(spans: Sequence[Span], labels: Labels) -> list[tuple[str, list[Span]]]:
    """The words that a path of characters spells, each with its spans."""
    space = labels.symbols.index(SPACE_SYMBOL)
    runs = groupby(spans, key=lambda span: span.label == space)
    groups = [list(run) for is_space, run in runs if not is_space]
    return [("".join(labels.symbols[span.label] for span in group), group) for group in groups]


def words(
    found: Iterable[tuple[str, Sequence[Span]]],
    offset: float = 0.0,
    probability: Callable[[float], float] = float,
) -> tuple[Word, ...]:
    """Words, each from its text and its spans. offset: seconds of frame 0 in the recording.

    probability: of a word whose labels have this mean posterior, each taken at its peak; without
    calibration, that mean itself. Words never overlap.
    """
    found = list(found)
    starts = [offset + spans[0].start * FRAME_SECONDS for _, spans in found]
    placed: list[Word] = []
    for (text, spans), start, next_start in zip(found, starts, [*starts[1:], math.inf], strict=False):
        end = offset + spans[-1].end * FRAME_SECONDS + _AFTER_LAST_SPIKE
        mean = sum(span.probability for span in spans) / len(spans)
        placed.append(Word(text, start, min(end, next_start), probability(mean)))
    return tuple(placed)
