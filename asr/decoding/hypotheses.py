"""The hypotheses of one or more searches, as columns of arrays: taken, merged and pruned together.

Searches side by side have a lane each. Hypotheses of a lane follow one another, and so do the lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

_HASH_FACTOR = np.int64(0x5851F42D4C957F2D)  # of a linear congruential generator (Knuth, MMIX)
# Of the 64 bits of a key: the lane's, so that there are 32 at most, and at the end those of the text;
# between them, those of the place.
_LANE_BITS = np.uint64(5)
_TEXT_BITS = np.uint64(24)


@dataclass(frozen=True)
class Hypotheses:
    """Probability of ending in a blank and in a label, by a factor common to the lane; look-ahead in both, a
    logarithm; and ids, (9, n) integers whose rows have names below."""

    blank: np.ndarray
    label: np.ndarray
    ahead: np.ndarray
    ids: np.ndarray

    @property
    def texts(self) -> np.ndarray:
        """Hashes of the words so far."""
        return self.ids[0]

    @property
    def states(self) -> np.ndarray:
        """Of the language model."""
        return self.ids[1]

    @property
    def last_words(self) -> np.ndarray:
        """Those of the states."""
        return self.ids[2]

    @property
    def nodes(self) -> np.ndarray:
        """Of the prefix tree."""
        return self.ids[3]

    @property
    def branches(self) -> np.ndarray:
        """(2, n) what PrefixTree.branches has of the nodes."""
        return self.ids[4:6]

    @property
    def labels(self) -> np.ndarray:
        """The last labels, those of the nodes."""
        return self.ids[6]

    @property
    def history(self) -> np.ndarray:
        """The last words' places in the history of the searches."""
        return self.ids[7]

    @property
    def lanes(self) -> np.ndarray:
        """Of which search each is, in order."""
        return self.ids[8]

    @property
    def total(self) -> np.ndarray:
        """Probability of each hypothesis, however it ends."""
        return self.blank + self.label

    def __len__(self) -> int:
        return len(self.blank)

    def take(self, columns: np.ndarray | slice) -> Hypotheses:
        return Hypotheses(self.blank[columns], self.label[columns], self.ahead[columns], self.ids[:, columns])

    @staticmethod
    def joined(parts: Sequence[Hypotheses]) -> Hypotheses:
        return Hypotheses(
            np.concatenate([part.blank for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.ahead for part in parts]),
            np.concatenate([part.ids for part in parts], axis=1),
        )


def text_after(texts: np.ndarray, words: np.ndarray) -> np.ndarray:
    """(n,) hashes of texts with a word more each."""
    return (texts + words + 1) * _HASH_FACTOR


def lane_starts(lanes: np.ndarray, n_lanes: int) -> np.ndarray:
    """(n_lanes + 1,) where each lane begins, and the end of all."""
    if n_lanes == 1:
        return np.array([0, len(lanes)])
    return lanes.searchsorted(np.arange(n_lanes + 1))


def index_of(lanes: np.ndarray, n_lanes: int) -> np.ndarray | slice:
    """What makes of an array (lanes, ...) one that goes with hypotheses of these lanes; a single lane is left
    to broadcasting, which is faster."""
    return slice(None) if n_lanes == 1 else lanes


def merged(
    candidates: Hypotheses, n_nodes: int, n_lanes: int, threshold: float, beam_size: int
) -> tuple[Hypotheses, np.ndarray, np.ndarray]:
    """The best hypotheses of each lane in relation to the best of them, of each the likeliest
    candidate, whose history it takes, and (lanes,) the best ones' probabilities.

    threshold: a probability; what is less likely than it, in relation to the best, is dropped.
    """
    # One sort for all: hypotheses of one place share their upper bits, and those of the same words all.
    places = (candidates.states * n_nodes + candidates.nodes) * _HASH_FACTOR
    texts = candidates.texts.view(np.uint64) >> (np.uint64(64) - _TEXT_BITS - _LANE_BITS)
    keys = (places.view(np.uint64) ^ texts) >> _LANE_BITS
    if n_lanes > 1:
        keys |= candidates.lanes.view(np.uint64) << (np.uint64(64) - _LANE_BITS)
    order = keys.argsort()
    keys = keys[order]
    firsts = _starts(keys)
    blank = np.add.reduceat(candidates.blank[order], firsts)
    label = np.add.reduceat(candidates.label[order], firsts)
    total = blank + label
    lanes = candidates.lanes[order[firsts]]
    best = np.maximum.reduceat(total, lane_starts(lanes, n_lanes)[:-1])
    kept = (total > (best * threshold)[index_of(lanes, n_lanes)]).nonzero()[0]
    groups = _starts(keys[firsts[kept]] >> _TEXT_BITS)
    if len(groups) < len(kept):
        scores = total[kept]
        kept = kept[scores == np.maximum.reduceat(scores, groups).repeat(_sizes(groups, len(kept)))]
    if len(kept) > beam_size:
        starts = lane_starts(lanes[kept], n_lanes)
        kept = np.concatenate(
            [_likeliest(kept[start:end], total, beam_size) for start, end in _pairs(starts)]
        )
    # Sorting leaves those of one key in any order: of equally likely ones the first is taken.
    alone = candidates.total[order]
    likeliest = np.maximum.reduceat(alone, firsts).repeat(_sizes(firsts, len(order)))
    chosen = np.minimum.reduceat(np.where(alone == likeliest, order, len(order)), firsts)[kept]
    ids = candidates.ids.take(chosen, axis=1)
    factors = best[index_of(ids[-1], n_lanes)]
    survivors = Hypotheses(blank[kept] / factors, label[kept] / factors, candidates.ahead[chosen], ids)
    return survivors, chosen, best


def _likeliest(rows: np.ndarray, total: np.ndarray, n: int) -> np.ndarray:
    return rows if len(rows) <= n else rows[total[rows].argpartition(-n)[-n:]]


def _pairs(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    ends = starts.tolist()
    return zip(ends, ends[1:], strict=False)


def _starts(ordered: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    differs = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=differs[1:])
    return differs.nonzero()[0]


def _sizes(starts: np.ndarray, end: int) -> np.ndarray:
    """Of what begins there and goes on to the next or to the end."""
    sizes = np.empty_like(starts)
    np.subtract(starts[1:], starts[:-1], out=sizes[:-1])
    sizes[-1] = end - starts[-1]
    return sizes
