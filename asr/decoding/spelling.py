"""Spelled letters in a word language model: text hardly has them, people say them in names and codes.

After a letter, a spelling goes on with a fixed probability, with any letter or number as likely as any
other; and every word may be followed by a first letter a little more often than text has it. Both are
linear interpolations (Jelinek and Mercer 1980), made once in the tables of n-grams. The second changes
unigrams alone, so that after some contexts probabilities sum to one within its small share only.
"""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase

import numpy as np

from asr.decoding.ngram import NGramModel, Order, sort_orders
from asr.decoding.prune import renormalize

_WORDS = "ai"  # letters that are words too: they go on a spelling only after another letter
_NUMBERS = (
    *("oh zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()),
    *("fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy".split()),
    *("eighty ninety hundred double triple dot dash".split()),
)
_NUMBERS_SHARE = 0.2  # of what follows a letter in a spelling
_FIRST_SHARE = 0.005  # of all words: first letters of spellings


def with_spelling(model: NGramModel, weight: float) -> NGramModel:
    """The model in which a letter is followed by more of a spelling with probability `weight`, 0 to 1.

    A model of less than two letters, or without bigrams, comes back as it is.
    """
    letters = [model.ids[letter] for letter in ascii_lowercase if letter in model.ids]
    if len(letters) < 2 or len(model.counts) < 2 or not weight:
        return model
    numbers = [model.ids[word] for word in _NUMBERS if word in model.ids]
    following = np.zeros(len(model.words))
    following[numbers] = _NUMBERS_SHARE / max(len(numbers), 1)
    following[letters] = (1 - following.sum()) / len(letters)
    orders = model.orders
    unigrams = (1 - _FIRST_SHARE) * np.exp(orders[0].log_probs.astype(np.float64))
    unigrams[letters] += _FIRST_SHARE / len(letters)
    orders[0] = Order(
        orders[0].contexts, orders[0].words, np.log(unigrams).astype(np.float32), orders[0].back_offs
    )
    model = NGramModel(model.words, orders)
    plain = [i for i in letters if model.words[i] not in _WORDS]
    model = _mixed(model, 2, plain, following, weight)
    if len(model.counts) > 2:
        bigrams = model.orders[1]
        as_words = [i for i in letters if model.words[i] in _WORDS]
        is_context = np.isin(bigrams.words, as_words) & np.isin(bigrams.contexts, plain)
        model = _mixed(model, 3, np.flatnonzero(is_context).tolist(), following, weight)
    for n in range(3, len(model.counts) + 1):  # longer contexts lean on those that have changed
        ends_in_letter = np.isin(model.orders[n - 2].words, letters)
        model = renormalize(model, n, np.flatnonzero(ends_in_letter))
    return model


def _mixed(
    model: NGramModel, n: int, contexts: Sequence[int], following: np.ndarray, weight: float
) -> NGramModel:
    """Interpolate what follows some n-grams of order n - 1 with a distribution over words.

    contexts: indices in that order. The words that the distribution has become n-grams of order n; those
    that the model had, and its back-off weights, lose the factor 1 - weight.
    """
    orders = model.orders
    order, below = orders[n - 1], orders[n - 2]
    less = np.float32(np.log1p(-weight))
    back_offs = below.back_offs.copy()
    back_offs[contexts] += less
    words = np.flatnonzero(following)
    pairs = np.stack(np.meshgrid(contexts, words, indexing="ij"), -1).reshape(-1, 2).astype(np.int32)
    before, _ = model.score(_states(model, n, pairs[:, 0]), pairs[:, 1])
    log_probs = np.logaddexp(before + less, np.log(weight * following[pairs[:, 1]])).astype(np.float32)
    keys, new_keys = (
        c.astype(np.int64) * len(model.words) + w for c, w in ((order.contexts, order.words), pairs.T)
    )
    is_mixed = np.isin(order.contexts, contexts)
    is_known = np.isin(new_keys, keys)
    mixed = order.log_probs + np.where(is_mixed, less, np.float32(0))
    mixed[np.searchsorted(keys, new_keys[is_known])] = log_probs[is_known]
    orders[n - 2] = Order(below.contexts, below.words, below.log_probs, back_offs)
    orders[n - 1] = Order(
        np.concatenate([order.contexts, pairs[~is_known, 0]]),
        np.concatenate([order.words, pairs[~is_known, 1]]),
        np.concatenate([mixed, log_probs[~is_known]]),
        np.concatenate([order.back_offs, np.zeros((~is_known).sum(), np.float32)]),
    )
    return NGramModel(model.words, sort_orders(orders))


def _states(model: NGramModel, n: int, contexts: np.ndarray) -> np.ndarray:
    """The states after n-grams of order n - 1, by their indices in it."""
    columns = []
    for order in reversed(model.orders[: n - 1]):
        columns.append(order.words[contexts])
        contexts = order.contexts[contexts]
    states = np.zeros(len(contexts), np.int64)
    for words in reversed(columns):
        _, states = model.score(states, words)
    return states
