"""What words a place inside the prefix tree still allows, in the language model's eyes, before any has ended.

A search that waits for a word's end to ask the language model carries many beginnings that lead nowhere.
Look-ahead factors the model into every step: a hypothesis is scored with the probability that the next
word is one of those below its node, which the word's own probability replaces at its end.

Sources: Ortmanns et al. 1996 (bigram look-ahead in a prefix tree), Allauzen et al. 2009 (sums of
probabilities, over intervals of labels).
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from asr.decoding.memo import Memo
from asr.decoding.ngram import NGramModel
from asr.decoding.prefix_tree import PrefixTree

_LEAST = 1e-12  # probability: what rounding leaves of less is noise
_MEMO_BITS = 19


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
    below: words lie in the order of the tree, so that both are differences of running sums. The bigrams of
    a last word are laid out when it is first met, and sums are remembered.
    """

    def __init__(
        self, tree: PrefixTree, lm: NGramModel, alone: np.ndarray, lm_weight: float, word_score: float
    ) -> None:
        """alone: (words,) weighted scores without context, lm_weight * log p + word_score for most."""
        self._tree, self._lm = tree, lm
        self._lm_weight, self._word_score = lm_weight, word_score
        self._probabilities = np.exp((alone.astype(np.float64) - word_score) / lm_weight)
        running = np.concatenate([[0.0], np.cumsum(self._probabilities[tree.row_words])])
        self._below = running[tree.end_row] - running[tree.first_row]
        # The rows of each word, for laying out bigrams.
        self._rows = np.argsort(tree.row_words, kind="stable")
        self._first = np.searchsorted(tree.row_words[self._rows], np.arange(len(alone) + 1))
        # Bigrams of the last words met so far, in the order of (place of the last word, row).
        self._place = np.full(len(lm.words), -1)
        self._n_places = 0
        self._n_keys = 0
        self._keys = np.zeros(1024, np.int64)
        self._bigrams = np.zeros(1025)  # running sums of probabilities, from 0 on
        self._unigrams = np.zeros(1025)
        self._memo = Memo(_MEMO_BITS, np.float32)

    def __call__(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        keys = (last_words + 1) * len(self._tree) + nodes
        return self._memo.get(keys, lambda rows: self._compute(last_words[rows], nodes[rows]))

    def _compute(self, last_words: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        total = self._below[nodes]
        with_context = (last_words >= 0).nonzero()[0]
        last_words, inner = last_words[with_context], nodes[with_context]
        self._lay_out(last_words)
        first_keys = self._place[last_words] * len(self._rows)
        keys = self._keys[: self._n_keys]
        starts = keys.searchsorted(first_keys + self._tree.first_row[inner])
        ends = keys.searchsorted(first_keys + self._tree.end_row[inner])
        bigrams = self._bigrams[ends] - self._bigrams[starts]
        unigrams = self._unigrams[ends] - self._unigrams[starts]
        back_off = np.exp(self._lm.unigram_back_offs[last_words])
        total[with_context] = bigrams + back_off * np.maximum(total[with_context] - unigrams, 0)
        scores = self._lm_weight * np.log(np.maximum(total, _LEAST)) + self._word_score
        return np.where(nodes < self._tree.n_labels, 0, scores)

    def _lay_out(self, last_words: np.ndarray) -> None:
        """Make the bigrams of these words ready for search."""
        new = last_words[self._place[last_words] < 0]
        if not len(new):
            return
        new = np.unique(new)
        self._place[new] = self._n_places + np.arange(len(new))
        counts, words, log_probs = self._lm.bigrams(new)
        places = np.repeat(self._place[new], counts)
        n_rows = self._first[words + 1] - self._first[words]
        nth = np.arange(n_rows.sum()) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
        keys = np.repeat(places, n_rows) * len(self._rows)
        keys += self._rows[np.repeat(self._first[words], n_rows) + nth]
        order = np.argsort(keys)
        start, end = self._n_keys, self._n_keys + len(keys)
        if end > len(self._keys):
            room = max(end, 2 * len(self._keys))
            self._keys.resize(room, refcheck=False)
            self._bigrams.resize(room + 1, refcheck=False)
            self._unigrams.resize(room + 1, refcheck=False)
        self._keys[start:end] = keys[order]
        for sums, values in (
            (self._bigrams, np.exp(log_probs.astype(np.float64))),
            (self._unigrams, self._probabilities[words]),
        ):
            sums[start + 1 : end + 1] = sums[start] + np.cumsum(np.repeat(values, n_rows)[order])
        self._n_keys = end
        self._n_places += len(new)
