"""Relative-entropy pruning of back-off models (Stolcke 1998): smaller for the least loss of perplexity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asr.decoding.ngram import BEGIN, END, NGramModel, Order

_CHUNK = 1 << 18  # n-grams scored at once: bounds the memory


def prune(model: NGramModel, threshold: float) -> NGramModel:
    """The model without the n-grams whose loss raises the perplexity by less than the threshold, relatively.

    Orders are pruned from the highest down; an n-gram that is the context of another one stays. Back-off
    weights are made anew so that probabilities still sum to one. Unigrams all stay.
    """
    for n in range(len(model.counts), 1, -1):
        model = _prune_order(model, n, threshold)
    for n in range(2, len(model.counts) + 1):  # each order leans on those below
        model = renormalize(model, n)
    return model


def renormalize(model: NGramModel, n: int, contexts: np.ndarray | None = None) -> NGramModel:
    """The model with back-off weights by which probabilities after the contexts of order n sum to one.

    contexts: indices of n-grams of order n - 1; all if left out.
    """
    orders = model.orders
    order, below = orders[n - 1], orders[n - 2]
    chosen = np.full(len(below), contexts is None)
    if contexts is not None:
        chosen[contexts] = True
    left, left_lower = _left_over(order, np.exp(_lower_log_probs(model, order, n)), len(below))
    weights = np.where(chosen, np.float32(0), below.back_offs)
    sound = (np.bincount(order.contexts, minlength=len(below)) > 0) & (left > 1e-9) & (left_lower > 1e-9)
    sound &= chosen
    weights[sound] = np.log(left[sound] / left_lower[sound])
    orders[n - 2] = Order(below.contexts, below.words, below.log_probs, weights)
    return NGramModel(model.words, orders)


def _left_over(order: Order, lower: np.ndarray, n_contexts: int) -> tuple[np.ndarray, np.ndarray]:
    """(contexts,) probability of the words without an n-gram, by this order and by the order below."""
    explicit = np.exp(order.log_probs.astype(float))
    return (
        1 - np.bincount(order.contexts, explicit, n_contexts),
        1 - np.bincount(order.contexts, lower, n_contexts),
    )


def _prune_order(model: NGramModel, n: int, threshold: float) -> NGramModel:
    orders = model.orders
    order, contexts = orders[n - 1], orders[n - 2]
    explicit = np.exp(order.log_probs.astype(float))
    lower = np.exp(_lower_log_probs(model, order, n))
    left, left_lower = _left_over(order, lower, len(contexts))
    at = order.contexts
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = np.log(left / left_lower)
        without = np.log((left[at] + explicit) / (left_lower[at] + lower))  # the back-off weight then
        loss = explicit * (np.log(lower) + without - np.log(explicit)) + left[at] * (without - weight[at])
    increase = np.expm1(-np.exp(_context_log_probs(orders[: n - 1]))[at] * loss)
    kept = ~(increase < threshold)  # what cannot be computed stays
    if n < len(orders):
        kept[orders[n].contexts] = True
        index = np.cumsum(kept) - 1
        above = orders[n]
        renamed = index[above.contexts].astype(np.int32)
        orders[n] = Order(renamed, above.words, above.log_probs, above.back_offs)
    orders[n - 1] = order.take(np.flatnonzero(kept))
    return renormalize(NGramModel(model.words, orders), n)


def _lower_log_probs(model: NGramModel, order: Order, n: int) -> np.ndarray:
    """(n-grams of order n,) log-probability of the last word after the context without its oldest word."""
    first = 1 + sum(model.counts[: n - 2])
    suffixes = model.suffixes(first + order.contexts)
    parts = [
        model.score(suffixes[i : i + _CHUNK], order.words[i : i + _CHUNK])[0]
        for i in range(0, len(order), _CHUNK)
    ]
    return np.concatenate(parts).astype(float) if parts else np.zeros(0)


def _context_log_probs(orders: Sequence[Order]) -> np.ndarray:
    """(n-grams of the last order,) log-probability of meeting each in running text."""
    unigrams = orders[0].log_probs.astype(float)
    unigrams[BEGIN] = unigrams[END]  # sentences begin as often as they end
    total = unigrams
    for order in orders[1:]:
        total = total[order.contexts] + order.log_probs
    return total
