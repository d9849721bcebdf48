"""Two texts, one of them heard -> the words that they share, in runs that stand together.

An edit distance that counts words alone is the same whether a sentence that was said three times and
written once is found in one take or scattered over all of them. Here every gap inside costs something too
(Gotoh 1982).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence

import jiwer
import numpy as np

# A word that only one of the texts has costs one, so a wrong one two. What a run of the former costs beside
# that, except at the ends: the error of the recognition is no gap. A new take mostly begins after a pause.
_WRONG = 2
_GAP = 5
_GAP_AT_PAUSE = 3
_MOST_CELLS = 10_000_000  # words times words that are compared at once, a byte each
_ANCHOR_WORDS = 6  # in a row, found once in either text, at which longer texts are parted
_PAIR, _ONLY_WRITTEN, _ONLY_HEARD = range(3)


def matches(
    written: Sequence[str], heard: Sequence[str], pauses: Sequence[bool] = ()
) -> list[tuple[int, int, int]]:
    """(place in written, place in heard, number) of runs of words that both have, in order.

    pauses: whether there is one before each word heard; if left out, there are none.
    """
    gaps = np.full(len(heard) + 1, _GAP, np.int32)
    gaps[:-1][np.array(pauses, bool)] = _GAP_AT_PAUSE
    runs: list[tuple[int, int, int]] = []
    for i, j in _pairs(written, heard, gaps, (True, True)):
        if runs and (runs[-1][0] + runs[-1][2], runs[-1][1] + runs[-1][2]) == (i, j):
            runs[-1] = (*runs[-1][:2], runs[-1][2] + 1)
        else:
            runs.append((i, j, 1))
    return runs


def _pairs(
    written: Sequence[str], heard: Sequence[str], gaps: np.ndarray, free: tuple[bool, bool]
) -> Iterator[tuple[int, int]]:
    """Places of equal words.

    gaps: (heard + 1,) what a gap before each word heard costs; free: whether one costs nothing at the
    beginning, and at the end.
    """
    if len(written) * len(heard) <= _MOST_CELLS:
        yield from _best_pairs(written, heard, gaps, free)
        return
    anchors = _anchors(written, heard)
    if not anchors:
        yield from _any_pairs(written, heard)
        return
    i, j = anchors[len(anchors) // 2]
    yield from _pairs(written[:i], heard[:j], gaps[: j + 1], (free[0], False))
    for a, b in _pairs(written[i:], heard[j:], gaps[j:], (False, free[1])):
        yield i + a, j + b


def _anchors(written: Sequence[str], heard: Sequence[str]) -> list[tuple[int, int]]:
    """Where phrases begin that either text has once, and in the same order in both."""

    def places(words: Sequence[str]) -> dict[tuple[str, ...], int]:
        phrases = [tuple(words[i : i + _ANCHOR_WORDS]) for i in range(len(words) - _ANCHOR_WORDS + 1)]
        counts = Counter(phrases)
        return {phrase: i for i, phrase in enumerate(phrases) if counts[phrase] == 1}

    of_heard = places(heard)
    found = [(i, of_heard[phrase]) for phrase, i in places(written).items() if phrase in of_heard]
    # Of those whose order differs, the longest rising series is kept.
    tails: list[int] = []  # of the best series of each length, the last index in found
    heard_at: list[int] = []  # where that is heard
    before = [-1] * len(found)
    for n, (_, j) in enumerate(found):
        length = bisect_left(heard_at, j)
        before[n] = tails[length - 1] if length else -1
        tails[length : length + 1] = [n]
        heard_at[length : length + 1] = [j]
    series = []
    n = tails[-1] if tails else -1
    while n >= 0:
        series.append(found[n])
        n = before[n]
    return [(i, j) for i, j in series[::-1] if i and j]


def _any_pairs(written: Sequence[str], heard: Sequence[str]) -> Iterator[tuple[int, int]]:
    """By the edit distance alone, which needs little memory."""
    for chunk in jiwer.process_words(" ".join(written), " ".join(heard)).alignments[0]:
        if chunk.type == "equal":
            yield from zip(
                range(chunk.ref_start_idx, chunk.ref_end_idx),
                range(chunk.hyp_start_idx, chunk.hyp_end_idx),
                strict=True,
            )


def _best_pairs(
    written: Sequence[str], heard: Sequence[str], gaps: np.ndarray, free: tuple[bool, bool]
) -> list[tuple[int, int]]:
    """By the cheapest of all ways through both texts, in memory that grows with their product."""
    n, m = len(written), len(heard)
    ids: dict[str, int] = {}
    written_ids = [ids.setdefault(word, len(ids)) for word in written]
    heard_ids = np.array([ids.setdefault(word, len(ids)) for word in heard], np.int32)
    columns = np.arange(m + 1, dtype=np.int32)
    opened = gaps.copy()  # what it costs to begin a run of written words, before each word heard
    if free[0]:
        opened[0] = 0
    if free[1]:
        opened[-1] = 0
    far = 4 * (n + m + _GAP)  # more than any way costs
    # The costs of the best ways to each place of a row, by what they end with.
    pair = np.full(m + 1, far, np.int32)
    only_written = pair.copy()
    only_heard = columns + (0 if free[0] else int(gaps[0]))
    pair[0] = 0
    # What each of the three comes from: two bits each.
    steps = np.zeros((n + 1, m + 1), np.uint8)
    steps[0] = _ONLY_HEARD << 4
    for i, word in enumerate(written_ids, start=1):
        rows = np.stack([pair, only_written, only_heard])
        from_pair = rows.argmin(0)
        pair = np.full(m + 1, far, np.int32)
        pair[1:] = rows.min(0)[:-1] + _WRONG * (heard_ids != word)
        rows[[_PAIR, _ONLY_HEARD]] += opened
        from_written = rows.argmin(0)
        only_written = rows.min(0) + 1
        begun = np.minimum(pair, only_written) + (0 if i == n and free[1] else gaps)
        only_heard = np.full(m + 1, far, np.int32)
        only_heard[1:] = np.minimum.accumulate(begun - columns)[:-1] + columns[1:]
        from_heard = np.where(only_written < pair, _ONLY_WRITTEN, _PAIR)
        from_heard[only_heard < begun] = _ONLY_HEARD
        steps[i] = from_written << 2
        steps[i, 1:] |= from_pair[:-1].astype(np.uint8)
        steps[i, 1:] |= (from_heard[:-1] << 4).astype(np.uint8)
    pairs: list[tuple[int, int]] = []
    i, j = n, m
    kind = int(np.argmin([pair[m], only_written[m], only_heard[m]]))
    while i or j:
        came_from = steps[i, j] >> 2 * kind & 3
        if kind != _ONLY_HEARD:
            i -= 1
        if kind != _ONLY_WRITTEN:
            j -= 1
        if kind == _PAIR and written_ids[i] == heard_ids[j]:
            pairs.append((i, j))
        kind = int(came_from)
    return pairs[::-1]
