"""What words a place inside the prefix tree still allows, in the language model's eyes, before any has ended.

A search that waits for a word's end to ask the language model carries many beginnings that lead nowhere.
Look-ahead factors the model into every step: a hypothesis is scored with the probability that the next
word is one of those below its node, which the word's own probability replaces at its end.

Sources: Ortmanns et al. 1996 (bigram look-ahead near the root of a prefix tree), Allauzen et al. 2009 (sums
of probabilities instead of the best).
"""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import Protocol

import numpy as np

from asr.decoding.ngram import NGramModel
from asr.decoding.prefix_tree import PrefixTree
from asr.decoding.ranges import distinct, joined_ranges

_DEPTH = 2  # labels of a word for which bigrams are looked at; deeper, unigrams tell as much
_LEAST = 1e-12  # probability: what rounding leaves of less is noise
_FEWEST_BIGRAMS = 16  # after a word; fewer change too little to be looked at
_MOST_WORDS = 2048  # last words whose sums are kept


class LookAhead(Protocol):
    without_context: np.ndarray  # (nodes,) weighted scores after no word; 0 at the tree's roots

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """(n,) weighted scores of nodes other than roots after words, -1 for no context."""


class UnigramLookAhead:
    """The best score of the words below a node, without any context."""

    def __init__(self, tree: PrefixTree, alone: np.ndarray) -> None:
        """alone: (words,) weighted scores without context."""
        self.without_context = tree.best_below(alone)
        self.without_context[: tree.n_labels] = 0

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        return self.without_context[nodes]


class BigramLookAhead:
    """The logarithm of the summed probabilities of the words below a node, after the last word.

    A sum is that of all unigrams below, times the last word's back-off weight, put right by the bigrams
    below. It is made for the nodes near the root when a last word is first met, unless that has few bigrams;
    from there on down the share that unigrams have in it is used.
    """

    def __init__(
        self, tree: PrefixTree, lm: NGramModel, alone: np.ndarray, lm_weight: float, word_score: float
    ) -> None:
        """alone: (words,) weighted scores without context, lm_weight * log p + word_score for most."""
        self._lm = lm
        self._lm_weight, self._word_score = lm_weight, word_score
        self._probabilities = np.exp((alone.astype(np.float64) - word_score) / lm_weight)
        running = np.concatenate([[0.0], np.cumsum(self._probabilities[tree.row_words])])
        below = running[tree.end_row] - running[tree.first_row]
        ends = tree.level_ends
        n_shallow = ends[min(_DEPTH, len(ends) - 1)]
        self._below = below[:n_shallow]
        # Every node's last ancestor near the root, and how much less likely it is by unigrams.
        self._ancestors = np.arange(len(tree), dtype=np.int32)
        for first, end in pairwise(ends):
            if first >= n_shallow:
                self._ancestors[first:end] = self._ancestors[tree.parents[first:end]]
        share = below / np.maximum(below[self._ancestors], 1e-300)
        self._less = (lm_weight * np.log(np.maximum(share, _LEAST))).astype(np.float32)
        self.without_context = (lm_weight * np.log(np.maximum(below, _LEAST)) + word_score).astype(np.float32)
        self.without_context[: tree.n_labels] = 0
        # Of each level near the root, the deepest first: where each parent's children begin, and the parents.
        self._levels = []
        for first, end in reversed(list(pairwise(ends[1 : _DEPTH + 1]))):
            parents, starts = np.unique(tree.parents[first:end], return_index=True)
            self._levels.append((slice(first, end), starts, parents))
        # The deepest node near the root that each row is below.
        deepest = np.zeros(len(tree.row_words), np.int32)
        for first, end in pairwise(ends[: _DEPTH + 1]):
            n_rows = tree.end_row[first:end] - tree.first_row[first:end]
            deepest[joined_ranges(tree.first_row[first:end], n_rows)] = np.arange(first, end).repeat(n_rows)
        # That of a word's last row (a root where it has none), and apart from it those of its other rows.
        last_row = np.zeros(len(alone), np.int32)
        last_row[tree.row_words] = np.arange(len(deepest))
        self._deepest = np.zeros(len(alone), np.int32)
        self._deepest[tree.row_words] = deepest[last_row[tree.row_words]]
        others = np.flatnonzero(last_row[tree.row_words] != np.arange(len(deepest)))
        others = others[tree.row_words[others].argsort()]
        self._others = deepest[others]
        n_others = np.bincount(tree.row_words[others], minlength=len(alone))
        self._n_others = n_others.astype(np.int32)
        self._first_other = (n_others.cumsum() - n_others).astype(np.int32)
        # Memory that has not been written to is not taken.
        self._table = np.zeros((_MOST_WORDS, n_shallow), np.float32)
        self._table[0] = self.without_context[:n_shallow]
        # Of each last word, and at the end of no context: where its row begins in the table, -1 for not yet
        # made; words of few bigrams share the first, and what is added to it.
        has_few = np.append(lm.n_bigrams(np.arange(len(lm.words))) < _FEWEST_BIGRAMS, True)
        self._starts = np.where(has_few, 0, -1).astype(np.int32)
        self._added = np.where(has_few, lm_weight * np.append(lm.unigram_back_offs, 0), 0).astype(np.float32)
        self._met = np.zeros(_MOST_WORDS, np.int32)  # the last word of each row but the first
        self._n_rows = 1
        self.lock = threading.Lock()  # searches may share it

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        with self.lock:
            starts = self._starts[last_words]
            if len(starts) and starts.min() < 0:
                self.meet(last_words)
                starts = self._starts[last_words]
            sums = self._table.ravel().take(starts + self._ancestors[nodes])
        return sums + (self._less[nodes] + self._added[last_words])

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the compiled search reads while it holds the lock, by the names that it has there."""
        return {
            "table": self._table,
            "less": self._less,
            "added": self._added,
            "starts": self._starts,
            "ancestors": self._ancestors,
        }

    def meet(self, last_words: np.ndarray) -> None:
        """Make the sums after these words."""
        new = distinct(last_words[self._starts[last_words] < 0])
        if self._n_rows + len(new) > len(self._table):
            self._forget()
            new = distinct(last_words[self._starts[last_words] < 0])
            if (too_few := self._n_rows + len(new) - len(self._table)) > 0:
                self._table = np.pad(self._table, ((0, too_few), (0, 0)))
                self._met = np.pad(self._met, (0, too_few))
        scores = np.log(np.maximum(self._sums(new), _LEAST).astype(np.float32))
        end = self._n_rows + len(new)
        self._table[self._n_rows : end] = self._lm_weight * scores + self._word_score
        self._met[self._n_rows : end] = new
        self._starts[new] = np.arange(self._n_rows, end) * self._table.shape[1]
        self._n_rows = end

    def _forget(self) -> None:
        """Make room: keep the words with the most bigrams, whose sums take the longest."""
        met = self._met[1 : self._n_rows]
        n_kept = len(self._table) // 4
        kept = np.sort(np.argsort(-self._lm.n_bigrams(met), kind="stable")[:n_kept])
        self._n_rows = len(kept) + 1
        self._table[1 : self._n_rows] = self._table[kept + 1]
        self._starts[met] = -1
        self._starts[met[kept]] = np.arange(1, self._n_rows) * self._table.shape[1]
        self._met[1 : self._n_rows] = met[kept]

    def _sums(self, last_words: np.ndarray) -> np.ndarray:
        """(n, nodes near the root) summed probabilities after words."""
        back_offs = np.exp(self._lm.unigram_back_offs[last_words].astype(np.float64))
        counts, following, log_probs = self._lm.bigrams(last_words)
        rows = np.arange(len(last_words)).repeat(counts)
        gains = np.exp(log_probs.astype(np.float64)) - back_offs[rows] * self._probabilities[following]
        # Once for every pronunciation of the following word.
        n_shallow = len(self._below)
        n_others = self._n_others[following]
        others = self._others[joined_ranges(self._first_other[following], n_others)]
        bins = np.concatenate(
            [rows * n_shallow + self._deepest[following], rows.repeat(n_others) * n_shallow + others]
        )
        weights = np.concatenate([gains, gains.repeat(n_others)])
        gained = np.bincount(bins, weights, len(last_words) * n_shallow).reshape(-1, n_shallow)
        for level, starts, parents in self._levels:
            gained[:, parents] += np.add.reduceat(gained[:, level], starts, axis=1)
        return back_offs[:, None] * self._below + gained
