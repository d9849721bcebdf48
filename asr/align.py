"""Where each word sits and how sure we are: the only place that makes times and confidences.

CTC marks a label by a spike somewhere inside its sound, so a word begins a little before its first
spike and ends a little after its last; how much is a property of 40 ms frames seen from both sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import torch
from torch import Tensor

from asr.labels import BLANK, SPACE_SYMBOL, Labels
from asr.transcript import Word

FRAME_SECONDS = 0.04
_BEFORE_FIRST_SPIKE = 0.06  # seconds
_AFTER_LAST_SPIKE = 0.10  # seconds


@dataclass(frozen=True)
class Span:
    """One label of a path: it is the likeliest in frames [start, end); probability: at its peak."""

    label: int
    start: int
    end: int
    probability: float


def best_spans(log_probs: Tensor) -> list[Span]:
    """(frames, labels) -> the labels of the best path, without blanks, in order of time."""
    if not len(log_probs):
        return []
    values, path = log_probs.max(-1)
    labels, counts = torch.unique_consecutive(path, return_counts=True)
    spans = []
    start = 0
    for label, count in zip(labels.tolist(), counts.tolist(), strict=True):
        if label != BLANK:
            probability = float(values[start : start + count].max().exp())
            spans.append(Span(label, start, start + count, probability))
        start += count
    return spans


def words(spans: Sequence[Span], labels: Labels, offset: float = 0.0) -> tuple[Word, ...]:
    """Words of a path of characters. offset: seconds of frame 0 in the recording.

    A word's probability is the geometric mean of its characters' peak posteriors. Words never overlap.
    """
    space = labels.symbols.index(SPACE_SYMBOL)
    runs = groupby(spans, key=lambda span: span.label == space)
    groups = [list(run) for is_space, run in runs if not is_space]
    found: list[Word] = []
    last_spike = 0.0  # end of the word before, without what is added to it
    for group in groups:
        first_spike = offset + group[0].start * FRAME_SECONDS
        start = max(0.0, first_spike - _BEFORE_FIRST_SPIKE)
        if found and start < found[-1].end:  # two words that touch meet between their spikes
            start = max(last_spike, min(found[-1].end, start))
            found[-1] = replace(found[-1], end=start)
        last_spike = offset + group[-1].end * FRAME_SECONDS
        text = "".join(labels.symbols[span.label] for span in group)
        mean = sum(math.log(max(span.probability, 1e-10)) for span in group) / len(group)
        found.append(Word(text, start, last_spike + _AFTER_LAST_SPIKE, math.exp(mean)))
    return tuple(found)
