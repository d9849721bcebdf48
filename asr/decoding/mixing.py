"""Two n-gram models as one: linear interpolation, its weight found with text that neither was made from.

Sources: Jelinek and Mercer 1980 (interpolation, its weight by expectation maximisation), Stolcke 2002
(interpolation once, in the tables of a back-off model).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.decoding.ngram import END, UNKNOWN, NGramModel, Order
from asr.decoding.prune import renormalize

_CHUNK = 1 << 18  # n-grams scored at once: bounds the memory
_ROUNDS = 30  # of expectation maximisation


def interpolate(one: NGramModel, other: NGramModel, share: float) -> NGramModel:
    """The model that gives every n-gram of either one (1 - share) and share of their probabilities.

    Its words are those of `one`, in their order, and then what `other` has besides. Where neither has an
    n-gram it backs off, with weights by which probabilities sum to one. share: above 0, below 1.
    """
    words = (*one.words, *(word for word in other.words if word not in one.ids))
    parts = [_Part(one, words), _Part(other, words)]
    shares = np.log([1 - share, share])
    keys: list[np.ndarray] = []  # of the n-grams of each order
    for n in range(1, max(len(one.counts), len(other.counts)) + 1):
        own = [part.keys(n) for part in parts]
        keys.append(np.union1d(*own))
        for part, mine in zip(parts, own, strict=True):
            part.place(keys[-1], mine)
    orders: list[Order] = []
    for n, found in enumerate(keys):
        contexts, last_words = np.divmod(found, len(words)) if n else (np.zeros_like(found), found)
        is_context = np.zeros(len(found), bool)
        if n + 1 < len(keys):
            is_context[keys[n + 1] // len(words)] = True
        scores = [part.score(n, contexts, last_words, is_context) for part in parts]
        log_probs = np.logaddexp(scores[0] + shares[0], scores[1] + shares[1]).astype(np.float32)
        back_offs = np.zeros(len(found), np.float32)
        orders.append(Order(contexts.astype(np.int32), last_words.astype(np.int32), log_probs, back_offs))
    mixed = NGramModel(words, orders)
    for n in range(2, len(orders) + 1):  # each order leans on those below
        mixed = renormalize(mixed, n)
    return mixed


class _Part:
    """One of the models, by the numbers that words and n-grams have in the mixture."""

    def __init__(self, model: NGramModel, words: Sequence[str]) -> None:
        self._model, self._n_words, self._orders = model, len(words), model.orders
        index = {word: i for i, word in enumerate(words)}
        self._ids = np.array([index[word] for word in model.words])  # in the mixture
        self._own = np.full(len(words), -1)  # in the model
        self._own[self._ids] = np.arange(len(model.words))
        self._places: list[np.ndarray] = []  # of each order: where this model's n-grams are in the mixture
        self._states = np.zeros(1, np.int64)  # of the model, after n-grams of the order below

    def keys(self, n: int) -> np.ndarray:
        """(n-grams,) of one order; place() has had those of the order below."""
        if n > len(self._orders):
            return np.zeros(0, np.int64)
        if n == 1:
            return self._ids.astype(np.int64)
        order = self._orders[n - 1]
        return self._places[-1][order.contexts].astype(np.int64) * self._n_words + self._ids[order.words]

    def place(self, keys: np.ndarray, own: np.ndarray) -> None:
        """Find this model's n-grams of the next order among the mixture's, which are sorted."""
        self._places.append(np.searchsorted(keys, own))

    def score(self, n: int, contexts: np.ndarray, words: np.ndarray, is_context: np.ndarray) -> np.ndarray:
        """(n-grams,) log-probabilities of those that follow n words; -inf for words that the model lacks.

        is_context: those after which states are needed.
        """
        log_probs = np.full(len(words), -np.inf)
        states = np.zeros(len(words), np.int64)
        is_done = self._own[words] < 0
        if n < len(self._orders):  # what the model has needs no search
            places = self._places[n]
            log_probs[places] = self._orders[n].log_probs
            states[places], is_known = self._model.states_of(n)
            is_done[places] = is_known | ~is_context[places]
        rest = np.flatnonzero(~is_done)
        for first in range(0, len(rest), _CHUNK):
            here = rest[first : first + _CHUNK]
            log_probs[here], states[here] = self._model.score(
                self._states[contexts[here]], self._own[words[here]]
            )
        self._states = states
        return log_probs


def token_log_probs(model: NGramModel, sentences: Sequence[Sequence[str]]) -> np.ndarray:
    """(n,) log-probability of every word and of every end of the sentences, a sentence after another; -inf
    for words that the model lacks."""
    lengths = np.array([len(sentence) + 1 for sentence in sentences])
    ids = np.full((len(sentences), lengths.max(initial=1)), UNKNOWN)
    for row, sentence in zip(ids, sentences, strict=True):
        row[: len(sentence) + 1] = [*(model.ids.get(word, -1) for word in sentence), END]
    log_probs = np.full(ids.shape, -np.inf)
    states = np.full(len(ids), model.start)
    for column in range(ids.shape[1]):
        rows = np.flatnonzero(lengths > column)
        words = ids[rows, column]
        found, states[rows] = model.score(states[rows], np.where(words < 0, UNKNOWN, words))
        log_probs[rows, column] = np.where(words < 0, -np.inf, found)
    return log_probs[np.arange(ids.shape[1]) < lengths[:, None]]


def best_share(one: np.ndarray, other: np.ndarray) -> float:
    """The second model's share that makes tokens likeliest, by their log-probabilities in either model."""
    known = np.isfinite(one) | np.isfinite(other)
    first, second = np.exp(one[known]), np.exp(other[known])
    share = 0.5
    if len(first):
        for _ in range(_ROUNDS):
            mine = share * second
            share = float((mine / ((1 - share) * first + mine)).mean())
    return share
