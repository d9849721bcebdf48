"""The words that two texts share, in runs that stand together."""

from __future__ import annotations

import numpy as np
import pytest

from asr import matching
from asr.matching import matches

LOOK = "look a little closer while our guide lets the light of his lamp fall upon the wall".split()
ROOM = "the room was empty when he entered".split()


def test_a_sentence_said_more_than_once_is_found_in_one_take() -> None:
    for heard in (LOOK * 3, [*ROOM, *LOOK, *ROOM, *LOOK]):
        ((first, place, n),) = matches(LOOK, heard)
        assert (first, n) == (0, len(LOOK)) and heard[place : place + n] == LOOK


def test_a_take_with_errors_is_still_one_take() -> None:
    bad = " ".join(LOOK).replace("our guide", "for god").split()
    runs = matches(ROOM + LOOK, [*ROOM, *bad, "wait"])
    assert runs == [(0, 0, 12), (14, 14, len(LOOK) - 7)]


def test_a_gap_lies_at_a_pause_where_either_would_do() -> None:
    heard = [*LOOK, *LOOK, *LOOK]
    pauses = [i in (len(LOOK), 2 * len(LOOK)) for i in range(len(heard))]
    wrong = heard.copy()
    wrong[6] = wrong[len(LOOK) + 5] = wrong[len(LOOK) + 7] = "uh"  # the start of one, the end of the other
    runs = matches(LOOK * 2, wrong, pauses)
    assert all(first in (place, place + len(LOOK), place - len(LOOK)) for first, place, _ in runs)
    assert sum(n for _, _, n in runs) >= 2 * len(LOOK) - 2


def test_texts_of_nothing_share_nothing() -> None:
    assert matches([], []) == matches([], ROOM) == matches(ROOM, []) == matches(ROOM, ["x"] * 9) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("most_cells", [10_000_000, 2_000])
def test_nothing_is_lost_where_one_of_the_texts_has_more(
    seed: int, most_cells: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passages that only one of them has, any number of them: all others are found, each in its place."""
    monkeypatch.setattr(matching, "_MOST_CELLS", most_cells)  # longer ones are parted first
    random = np.random.default_rng(seed)
    written: list[str] = []
    heard: list[str] = []
    true: set[tuple[int, int]] = set()
    for passage in range(9):
        words = [str(word) for word in random.integers(0, 40, int(random.integers(8, 25)))]
        kind = random.integers(0, 4)
        if kind == 0:
            written += [f"written{passage}{word}" for word in words]
        elif kind == 1:
            heard += [f"heard{passage}{word}" for word in words]
        else:
            true |= {(len(written) + i, len(heard) + i) for i in range(len(words))}
            written, heard = written + words, heard + words
    found = {(i + n, j + n) for i, j, length in matches(written, heard) for n in range(length)}
    assert found == true


@pytest.mark.parametrize("seed", range(5))
def test_the_way_is_the_cheapest_of_all(seed: int) -> None:
    """As many equal words as the plain edit distance has, or fewer gaps inside."""
    random = np.random.default_rng(seed)
    written, heard = (list(map(str, random.integers(0, 4, n))) for n in (12, 15))
    gaps = np.full(len(heard) + 1, matching._GAP, np.int32)
    pairs = matching._best_pairs(written, heard, gaps, (True, True))
    assert all(written[i] == heard[j] for i, j in pairs)
    assert pairs == sorted(pairs) and len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)

    def cost(pairs: list[tuple[int, int]]) -> int:
        """Of the equal words: what lies between two of them is replaced, and a difference is one gap."""
        total = 0
        places = [(-1, -1), *pairs, (len(written), len(heard))]
        for (i, j), (k, m) in zip(places, places[1:], strict=False):
            n, more = min(k - i, m - j) - 1, abs((k - i) - (m - j))
            at_the_end = i < 0 or k == len(written)
            total += matching._WRONG * n + more + (matching._GAP if more and not at_the_end else 0)
        return total

    others = [list(zip(*path, strict=True)) for path in _common_subsequences(written, heard)]
    assert cost(pairs) <= min(cost(other) for other in others)


def _common_subsequences(a: list[str], b: list[str]) -> list[tuple[list[int], list[int]]]:
    """Some at random: what a search for the cheapest must not be beaten by."""
    random = np.random.default_rng(1)
    found: list[tuple[list[int], list[int]]] = [([], [])]
    for _ in range(300):
        i, j = 0, 0
        left: list[int] = []
        right: list[int] = []
        while i < len(a) and j < len(b):
            if a[i] == b[j] and random.random() < 0.9:
                left.append(i)
                right.append(j)
                i, j = i + 1, j + 1
            elif random.random() < 0.3:
                i, j = i + 1, j + 1
            elif random.random() < 0.5:
                i += 1
            else:
                j += 1
        found.append((left, right))
    return found


def test_long_texts_without_a_phrase_in_common_are_compared_in_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(matching, "_MOST_CELLS", 10)
    assert matches(["a", "b", "c", "d"], ["a", "b", "x", "d"]) == [(0, 0, 2), (3, 3, 1)]
