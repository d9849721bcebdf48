"""Back-off n-gram language models: probabilities of words after words.

All n-grams are arcs of one tree, numbered order by order and within an order by (context, word): the
unigrams come first, and arc `a` leads to node `a + 1`, node 0 being the empty context. So an arc is found
by one binary search over sorted integers, for many words at once, and a model is a handful of arrays.

Sources: Katz 1987 and Kneser and Ney 1995 (back-off), Stolcke 1998 (relative-entropy pruning).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from asr.decoding.ranges import joined_ranges

UNKNOWN, BEGIN, END = 0, 1, 2  # word ids
SPECIAL_WORDS = ("<unk>", "<s>", "</s>")
WORD_BITS = 24  # of a key
_WORD_MASK = (1 << WORD_BITS) - 1
_MAX_LOG_PROB = 0.1  # a little above 0, for probabilities are kept roughly
_MAX_BACK_OFF = 2500.0  # a logarithm
_BLOCK = 16  # keys, two lines of a processor's cache
_MANY = 4096  # keys whose blocks would take much memory


@dataclass(frozen=True)
class Order:
    """The n-grams of one order: the n-gram of the order below that is the context, and the last word.

    contexts: (n,) indices into the order below (all 0 for unigrams, whose index is the word's id).
    log_probs, back_offs: (n,) float32, natural logarithms.
    """

    contexts: np.ndarray
    words: np.ndarray
    log_probs: np.ndarray
    back_offs: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    def take(self, indices: np.ndarray) -> Order:
        return Order(
            self.contexts[indices], self.words[indices], self.log_probs[indices], self.back_offs[indices]
        )


class NGramModel:
    """A language model whose state is a node: the longest context of the words so far that it knows."""

    def __init__(self, words: Sequence[str], orders: Sequence[Order]) -> None:
        """orders: sorted by (context, word), as sort_orders() gives them; words: spelling of each id."""
        self.words = tuple(words)
        self.counts = tuple(map(len, orders))  # n-grams of each order
        firsts = self._first_nodes
        n_keys = sum(self.counts[1:])
        # Blocks of sorted keys, padded with what is no key; made in place, for new memory takes time.
        self._blocks = np.empty((n_keys // _BLOCK + 1, _BLOCK), np.int64)
        self._blocks[-1] = np.iinfo(np.int64).max
        self._keys = self._blocks.reshape(-1)[:n_keys]
        for first, end, order in zip(firsts, firsts[1:], orders[1:], strict=False):
            keys = self._keys[end - firsts[1] :][: len(order)]
            keys[:] = order.contexts
            keys += first
            keys <<= WORD_BITS
            keys += order.words
        self._first_keys = self._blocks[:, 0].copy()  # of each block
        self._log_probs = np.concatenate([order.log_probs for order in orders])
        self._back_offs = np.concatenate([[np.float32(0)], *(order.back_offs for order in orders[:-1])])
        # A node without arcs and without a back-off weight says no more than its suffix does.
        self._is_context = np.append(self._back_offs != 0, False)  # those of the highest order are none
        for first, order in zip(firsts, orders[1:], strict=False):
            self._is_context[first + order.contexts] = True
        # Of each node one more than its suffix, 0 if that has not been asked for: most never are.
        self._suffixes = np.zeros(len(self._back_offs), np.int32)
        self._suffixes[: firsts[1]] = 1
        contexts = orders[1].contexts if len(orders) > 1 else np.zeros(0, np.int32)
        n_bigrams = np.bincount(contexts, minlength=self.counts[0])
        self._first_bigrams = np.concatenate([[0], n_bigrams.cumsum()])

    def check(self) -> None:
        """Raise ValueError when arrays that a file gave are none of a model."""
        if self.counts[0] > 1 << WORD_BITS or sum(self.counts) >= 1 << 31:
            raise ValueError("too many words or n-grams")
        if len(self._keys) and (self._keys[1:] <= self._keys[:-1]).any():
            raise ValueError("n-grams out of order, or there twice")
        if ((self._keys & _WORD_MASK) >= self.counts[0]).any():
            raise ValueError("n-grams of words that there are none of")
        # One sum for all: what is not finite makes it so.
        if not (
            np.isfinite(self._log_probs.sum(dtype=float)) and np.isfinite(self._back_offs.sum(dtype=float))
        ):
            raise ValueError("probabilities that are no numbers")
        if (
            self._log_probs.max(initial=0) > _MAX_LOG_PROB
            or abs(self._back_offs).max(initial=0) > _MAX_BACK_OFF
        ):
            raise ValueError("probabilities above one")

    @property
    def _first_nodes(self) -> np.ndarray:
        """Node of each order's first n-gram, and the number of all nodes."""
        return np.cumsum([1, *self.counts])

    @property
    def orders(self) -> list[Order]:
        """The n-grams as __init__ took them, made anew from the arrays that score() needs."""
        firsts = self._first_nodes
        unigrams = np.arange(self.counts[0], dtype=np.int32)
        found = [Order(np.zeros_like(unigrams), unigrams, self.unigrams, self._back_offs[1 : firsts[1]])]
        for n in range(2, len(self.counts) + 1):
            keys = self._keys[firsts[n - 1] - firsts[1] : firsts[n] - firsts[1]]
            is_highest = n == len(self.counts)
            found.append(
                Order(
                    contexts=((keys >> WORD_BITS) - firsts[n - 2]).astype(np.int32),
                    words=(keys & _WORD_MASK).astype(np.int32),
                    log_probs=self._log_probs[firsts[n - 1] - 1 : firsts[n] - 1],
                    back_offs=np.zeros(len(keys), np.float32)
                    if is_highest
                    else self._back_offs[firsts[n - 1] : firsts[n]],
                )
            )
        return found

    def suffixes(self, nodes: np.ndarray) -> np.ndarray:
        """(n,) each context without its oldest word, as far as it is known."""
        found = self._suffixes[nodes]
        if not found.all():
            new = nodes[found == 0]
            self._suffixes[new] = self._find_suffixes(new) + 1
            found = self._suffixes[nodes]
        return found - 1

    def _find_suffixes(self, nodes: np.ndarray) -> np.ndarray:
        """suffixes() of contexts of two words or more."""
        keys = self._keys[nodes - 1 - self.counts[0]]
        words = keys & _WORD_MASK
        shorter = self.suffixes(keys >> WORD_BITS)
        arcs = self._find(shorter, words)
        while (waiting := np.flatnonzero(arcs < 0)).size:
            shorter[waiting] = self.suffixes(shorter[waiting])
            arcs[waiting] = self._find(shorter[waiting], words[waiting])
        return arcs + 1

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """What the compiled search reads, by the names that it has there."""
        return {
            "keys": self._blocks,
            "first_keys": self._first_keys,
            "log_probs": self._log_probs,
            "back_offs": self._back_offs,
            "is_context": self._is_context,
            "suffixes": self._suffixes,
        }

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def start(self) -> int:
        """The state at the beginning of a sentence."""
        return BEGIN + 1 if self._is_context[BEGIN + 1 : BEGIN + 2].any() else 0

    @property
    def unigrams(self) -> np.ndarray:
        """(words,) log-probabilities without any context."""
        return self._log_probs[: self.counts[0]]

    @property
    def unigram_back_offs(self) -> np.ndarray:
        """(words,) logarithms of the back-off weights after each word."""
        return self._back_offs[1 : 1 + self.counts[0]]

    def states_of(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(n-grams,) the nodes of the n-grams of n + 1 words, and whether each is the state after them."""
        first = int(self._first_nodes[n])
        is_context = self._is_context[first : first + self.counts[n]]
        found = np.zeros(self.counts[n], bool)
        found[: len(is_context)] = is_context
        return np.arange(first, first + self.counts[n]), found

    def last_words(self, states: np.ndarray) -> np.ndarray:
        """(n,) the last word of each state's context; -1 where that is empty."""
        longer = states > self.counts[0]
        keys = self._keys[np.where(longer, states - 1 - self.counts[0], 0)] if len(self._keys) else 0
        return np.where(longer, keys & _WORD_MASK, states - 1)

    def n_bigrams(self, last_words: np.ndarray) -> np.ndarray:
        """(n,) how many bigrams begin with each word."""
        return self._first_bigrams[last_words + 1] - self._first_bigrams[last_words]

    def bigrams(self, last_words: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How many bigrams begin with each of (n,) words; their second words and log-probabilities."""
        firsts = self._first_bigrams[last_words]
        counts = self.n_bigrams(last_words)
        at = joined_ranges(firsts, counts)
        words = self._keys[at] & _WORD_MASK
        return counts, words, self._log_probs[self.counts[0] + at]

    def _find(self, nodes: np.ndarray, words: np.ndarray) -> np.ndarray:
        """(n,) the arcs of words out of context nodes; -1 where there is none."""
        arcs = np.where(nodes > 0, -1, words)
        rows, found = self._longer(nodes, words)
        arcs[rows] = found
        return arcs

    def _longer(self, nodes: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where in the flattened (..., n) there are arcs of the words out of the nodes, and these arcs; those
        out of the empty context are left out."""
        inner = nodes.ravel().nonzero()[0]
        keys = ((nodes.astype(np.int64) << WORD_BITS) + words).ravel()[inner]
        if len(keys) > _MANY:
            at = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
            rows = (self._keys[at] == keys).nonzero()[0]
            at = at[rows]
        else:  # in two steps, for a search in all keys waits for the memory again and again
            blocks = self._first_keys.searchsorted(keys, "right") - 1
            rows, columns = (self._blocks.take(blocks, axis=0) == keys[:, None]).nonzero()
            at = blocks[rows] * _BLOCK + columns
        return inner[rows], self.counts[0] + at

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) natural log-probabilities of words after states, and (n,) the states that follow."""
        states, words = np.asarray(states), np.asarray(words)
        n, n_longer = len(states), len(self.counts) - 1
        # Row k: the context without its k oldest words, as far as it is known; the last one would be empty.
        contexts = np.empty((n_longer, n), np.int64)
        contexts[:1] = states
        for row in range(1, n_longer):
            contexts[row] = self.suffixes(contexts[row - 1])
        rows, found = self._longer(contexts, words)
        # Of several arcs for a word that of the longest context counts, which is written last.
        rows, found = rows[::-1], found[::-1]
        columns = rows % max(n, 1)
        arcs, used = words.astype(np.int64), np.arange(n_longer * n, (n_longer + 1) * n)
        arcs[columns], used[columns] = found, rows
        weights = np.zeros((n_longer + 1, n), np.float32)  # of the contexts longer than that of a row
        self._back_offs[contexts].cumsum(0, out=weights[1:])
        log_probs = weights.ravel()[used] + self._log_probs[arcs]
        following = self._is_context.take(found + 1, mode="clip").nonzero()[0]
        states = self._is_context.take(words + 1, mode="clip") * (words + 1)
        states[columns[following]] = found[following] + 1
        return log_probs, states

    def score_sentence(self, words: Sequence[str]) -> list[float]:
        """Natural log-probability of each word and of the sentence's end; words it lacks are <unk>."""
        state = np.array([self.start])
        scores = []
        for word in [*(self.ids.get(word, UNKNOWN) for word in words), END]:
            score, state = self.score(state, np.array([word]))
            scores.append(float(score[0]))
        return scores


def sort_orders(orders: Sequence[Order]) -> list[Order]:
    """The same n-grams sorted by (context, word). Unigrams must already lie in the order of word ids."""
    ordered = [orders[0]]
    new_index = np.arange(len(orders[0]))
    for order in orders[1:]:
        contexts = new_index[order.contexts]
        by_context = np.lexsort((order.words, contexts))
        new_index = np.empty_like(by_context)
        new_index[by_context] = np.arange(len(by_context))
        renamed = Order(contexts, order.words, order.log_probs, order.back_offs)
        ordered.append(renamed.take(by_context))
    return ordered
