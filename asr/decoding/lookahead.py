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
from asr.decoding.ranges import joined_ranges

_DEPTH = 2  # labels of a word for which bigrams are looked at; deeper, unigrams tell as much
_LEAST = 1e-12  # probability: what rounding leaves of less is noise
_MOST_WORDS = 4096  # last words whose sums are kept


class LookAhead(Protocol):
    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """(n,) weighted scores of nodes after words, -1 for no context; 0 at the tree's roots."""


class UnigramLookAhead:
    """The best score of the words below a node, without any context."""

    def __init__(self, tree: PrefixTree, alone: np.ndarray) -> None:
        """alone: (words,) weighted scores without context."""
        self._best = tree.best_below(alone)
        self._best[: tree.n_labels] = 0

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        return self._best[nodes]


class BigramLookAhead:
    """The logarithm of the summed probabilities of the words below a node, after the last word.

    A sum is that of all unigrams below, times the last word's back-off weight, put right by the bigrams
    below. It is made for the nodes near the root when a last word is first met; from there on down the
    share that unigrams have in it is used.
    """

    def __init__(
        self, tree: PrefixTree, lm: NGramModel, alone: np.ndarray, lm_weight: float, word_score: float
    ) -> None:
        """alone: (words,) weighted scores without context, lm_weight * log p + word_score for most."""
        self._lm, self._n_roots = lm, tree.n_labels
        self._lm_weight, self._word_score = lm_weight, word_score
        self._probabilities = np.exp((alone.astype(np.float64) - word_score) / lm_weight)
        running = np.concatenate([[0.0], np.cumsum(self._probabilities[tree.row_words])])
        below = running[tree.end_row] - running[tree.first_row]
        ends = tree.level_ends
        n_shallow = int(ends[min(_DEPTH, len(ends) - 1)])
        self._below = below[:n_shallow]
        # Every node's last ancestor near the root, and how much less likely it is by unigrams.
        self._ancestors = np.arange(len(tree))
        for first, end in pairwise(ends):
            if first >= n_shallow:
                self._ancestors[first:end] = self._ancestors[tree.parents[first:end]]
        share = below / np.maximum(below[self._ancestors], 1e-300)
        self._less = (lm_weight * np.log(np.maximum(share, _LEAST))).astype(np.float32)
        # The nodes near the root that each row is below, one for each depth; a root where there is none.
        self._shallow = np.zeros((len(tree.row_words), _DEPTH), np.int64)
        for depth, (first, end) in enumerate(pairwise(ends[: _DEPTH + 1])):
            for node in range(first, end):
                self._shallow[tree.first_row[node] : tree.end_row[node], depth] = node
        self._rows = np.argsort(tree.row_words, kind="stable")  # of each word
        self._first = np.searchsorted(tree.row_words[self._rows], np.arange(len(alone) + 1))
        self._places = np.full(len(lm.words) + 1, -1)  # in the table; the last is that of no context
        self._n_places = 0
        # Memory that has not been written to is not taken.
        self._table = np.zeros((_MOST_WORDS, n_shallow), np.float32)
        self._lock = threading.Lock()  # searches may share it

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        with self._lock:
            places = self._places[last_words]
            if len(places) and places.min() < 0:
                self._meet(last_words)
                places = self._places[last_words]
            return self._table[places, self._ancestors[nodes]] + self._less[nodes]

    def _meet(self, last_words: np.ndarray) -> None:
        """Make the sums after these words."""
        new = np.unique(last_words[self._places[last_words] < 0])
        if self._n_places + len(new) > len(self._table):
            self._places[:] = -1
            self._n_places = 0
            new = np.unique(last_words)
            if len(new) > len(self._table):
                self._table = np.zeros((len(new), self._table.shape[1]), np.float32)
        sums = self._sums(new)
        scores = self._lm_weight * np.log(np.maximum(sums, _LEAST)) + self._word_score
        scores[:, : self._n_roots] = 0
        end = self._n_places + len(new)
        self._table[self._n_places : end] = scores
        self._places[new] = np.arange(self._n_places, end)
        self._n_places = end

    def _sums(self, last_words: np.ndarray) -> np.ndarray:
        """(n, nodes near the root) summed probabilities after words, -1 for no context."""
        has_context = last_words >= 0
        words = last_words[has_context]
        back_off = np.ones(len(last_words))
        back_off[has_context] = np.exp(self._lm.unigram_back_offs[words])
        counts, following, log_probs = self._lm.bigrams(words)
        places = np.repeat(np.flatnonzero(has_context), counts)
        gains = np.exp(log_probs.astype(np.float64)) - back_off[places] * self._probabilities[following]
        # Once for every pronunciation of the following word.
        first = self._first[following]
        n_rows = self._first[following + 1] - first
        nodes = self._shallow[self._rows[joined_ranges(first, n_rows)]]
        bins = np.repeat(places, n_rows)[:, None] * len(self._below) + nodes
        size = len(last_words) * len(self._below)
        gained = np.bincount(bins.ravel(), np.repeat(gains, n_rows * _DEPTH), size)
        return back_off[:, None] * self._below + gained.reshape(len(last_words), -1)
