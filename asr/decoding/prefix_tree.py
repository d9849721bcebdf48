"""The lexicon as a prefix tree: which label may come next inside a word, and which words end where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from asr.labels import BLANK

MAX_LABELS = 64  # children of a node are the bits of one integer


@dataclass(frozen=True)
class Pronunciations:
    """Label sequences of words, sorted: labels (n, longest) uint8 padded with the blank; words (n,) ids."""

    labels: np.ndarray
    words: np.ndarray

    @classmethod
    def of(cls, entries: Iterable[tuple[Sequence[int], int]]) -> Pronunciations:
        """From (label ids, word id) pairs in any order."""
        entries = sorted((tuple(int(label) for label in labels), word) for labels, word in entries)
        longest = max((len(labels) for labels, _ in entries), default=0)
        table = np.full((len(entries), longest), BLANK, np.uint8)
        for row, (labels, _) in zip(table, entries, strict=True):
            row[: len(labels)] = labels
        return cls(table, np.array([word for _, word in entries], np.int32))

    def of_word(self, word: int) -> list[list[int]]:
        """The label sequences of one word."""
        return [row[row != BLANK].tolist() for row in self.labels[self.words == word]]

    def of_words(self, words: Iterable[int]) -> dict[int, list[list[int]]]:
        """The label sequences of several words, of those that have any."""
        found: dict[int, list[list[int]]] = {}
        for i in np.flatnonzero(np.isin(self.words, list(words))):
            row = self.labels[i]
            found.setdefault(int(self.words[i]), []).append(row[row != BLANK].tolist())
        return found

    def joined(self, other: Pronunciations) -> Pronunciations:
        """Both together."""
        longest = max(self.labels.shape[1], other.labels.shape[1])
        labels = np.concatenate(
            [np.pad(table, ((0, 0), (0, longest - table.shape[1]))) for table in (self.labels, other.labels)]
        )
        order = np.lexsort(labels.T[::-1])
        return Pronunciations(labels[order], np.concatenate([self.words, other.words])[order])


class PrefixTree:
    """Nodes in order of depth, the children of a node side by side in order of their labels.

    Nodes 0..n_labels-1 are all roots, one for each label that may have been heard last before a word
    begins: the CTC rule for repeated labels needs to know it.

    labels: (nodes,) uint8, the label on the way into each node (a root's is the label heard last).
    branches: (nodes, 2) integers, side by side since they are looked up together: the bits of the children,
    bit k set when there is one by label k, and the child by the lowest label; the others follow it.
    parents: (nodes,); a root's is itself.
    words: word ids, those of node i at first_word[i]:first_word[i + 1].
    level_ends: of each depth, the node after its last; the roots' first.
    row_words: word ids in alphabetical order of their labels: those of node i and of all nodes below it
    are at first_row[i]:end_row[i].
    """

    def __init__(self, pronunciations: Pronunciations, n_labels: int) -> None:
        if n_labels > MAX_LABELS:
            raise ValueError(f"{n_labels} labels: a prefix tree holds {MAX_LABELS} at most")
        self.n_labels = n_labels
        table, lengths = pronunciations.labels, (pronunciations.labels != BLANK).sum(1)
        shared = _shared_prefixes(table)  # labels in common with the row above
        node = np.zeros(len(table), np.int64)  # that each row has come to
        self.labels = np.arange(n_labels, dtype=np.uint8)
        self.parents = np.arange(n_labels)
        self.level_ends = [n_labels]
        self.row_words = pronunciations.words
        first_rows, end_rows = [np.zeros(n_labels, np.int64)], [np.full(n_labels, len(table))]
        active = np.arange(len(table))  # rows that go on at this depth
        for depth in range(table.shape[1]):
            active = active[lengths[active] > depth]
            is_new = shared[active] <= depth
            new = active[is_new]
            parents = node[new]
            node[active] = found = len(self.labels) - 1 + np.cumsum(is_new)
            first_rows.append(new)
            end_rows.append(active[np.append(np.flatnonzero(np.diff(found)), -1)] + 1)
            self.labels = np.concatenate([self.labels, table[new, depth]])
            self.parents = np.concatenate([self.parents, parents])
            self.level_ends.append(len(self.labels))
        self.first_row, self.end_row = np.concatenate(first_rows), np.concatenate(end_rows)
        self.branches = np.zeros((len(self.labels), 2), np.int64)
        children, first_child = self.branches.T
        if len(inner_parents := self.parents[n_labels:]):
            bits = np.int64(1) << self.labels[n_labels:].astype(np.int64)
            firsts = np.flatnonzero(np.diff(inner_parents, prepend=-1))
            children[inner_parents[firsts]] = np.bitwise_or.reduceat(bits, firsts)
        n_children = np.bitwise_count(children.view(np.uint64)).astype(np.int64)
        children[:n_labels] = children[0]
        first_child[:] = n_labels + np.cumsum(n_children) - n_children
        first_child[:n_labels] = n_labels
        by_node = np.argsort(node, kind="stable")
        self.words = pronunciations.words[by_node]
        self.first_word = np.searchsorted(node[by_node], np.arange(len(self.labels) + 1))

    def __len__(self) -> int:
        return len(self.labels)

    def best_below(self, scores: np.ndarray) -> np.ndarray:
        """(nodes,) float32: the highest of the words' scores at a node or anywhere below it."""
        best = np.full(len(self), -np.inf, np.float32)
        n_words = np.diff(self.first_word)
        np.maximum.at(best, np.repeat(np.arange(len(self)), n_words), scores[self.words])
        for first, end in reversed(list(pairwise(self.level_ends))):
            np.maximum.at(best, self.parents[first:end], best[first:end])
        best[: self.n_labels] = best[: self.n_labels].max()
        return best

    def pronunciation(self, node: int) -> list[int]:
        """Label ids on the way from the root to a node."""
        labels: list[int] = []
        while node >= self.n_labels:
            labels.append(int(self.labels[node]))
            node = int(self.parents[node])
        return labels[::-1]


def _shared_prefixes(table: np.ndarray) -> np.ndarray:
    """(rows,) leading labels that each row has in common with the row above; -1 for the first."""
    same = table[1:] == table[:-1]
    shared = np.where(same.all(1), table.shape[1], same.argmin(1)) if len(table) > 1 else np.zeros(0, int)
    return np.concatenate([[-1], shared])
