"""N-gram models counted from text, with interpolated modified Kneser-Ney smoothing.

All n-grams of one order are counted by one sort of integers, so that tens of millions of words take a
minute or two, and about 40 bytes of memory a word.

Sources: Chen and Goodman 1998 (modified Kneser-Ney smoothing, interpolated), Heafield et al. 2013 (its
count pruning, and the discounts of texts that are too small to estimate them).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.decoding.ngram import BEGIN, END, SPECIAL_WORDS, UNKNOWN, NGramModel, Order

_NO_WORD = -100.0  # log-probability of <s>, which follows nothing
_FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # of n-grams seen once, twice, more often


@dataclass(frozen=True)
class Text:
    """Sentences as word ids: tokens (n,) int32, each sentence between BEGIN and END; words: the spellings."""

    tokens: np.ndarray
    words: tuple[str, ...]

    @classmethod
    def of(cls, sentences: Iterable[str], n_words: int | None = None) -> Text:
        """Blank-separated sentences. n_words: keep the most frequent words; all others become <unk>."""
        ids: dict[str, int] = {}
        heard = array("i")
        for sentence in sentences:
            heard.append(BEGIN)
            heard.extend([ids.setdefault(word, len(ids) + 3) for word in sentence.split()])
            heard.append(END)
        tokens = np.array(heard, np.int32)
        counts = np.bincount(tokens, minlength=len(ids) + 3)
        words = sorted(ids, key=lambda word: (-counts[ids[word]], word))[:n_words]
        new_ids = np.full(len(ids) + 3, UNKNOWN, np.int32)
        new_ids[[BEGIN, END]] = BEGIN, END
        new_ids[[ids[word] for word in words]] = np.arange(3, len(words) + 3)
        return cls(new_ids[tokens], (*SPECIAL_WORDS, *words))

    @property
    def n_sentences(self) -> int:
        return int((self.tokens == BEGIN).sum())

    def part(self, is_chosen: np.ndarray) -> Text:
        """The chosen sentences, (n_sentences,) booleans; the words stay the same."""
        return Text(self.tokens[is_chosen[np.cumsum(self.tokens == BEGIN) - 1]], self.words)

    def sentences(self) -> list[list[str]]:
        """The words of each sentence."""
        bounds = np.flatnonzero(self.tokens == BEGIN)[1:]
        return [[self.words[i] for i in part[1:-1]] for part in np.split(self.tokens, bounds)]


def count_ngrams(text: Text, order: int = 3, count_prune: Sequence[int] = ()) -> NGramModel:
    """The model of a text that has at least one sentence.

    count_prune: for each order, n-grams seen so often or less are dropped (the last number counts for all
    higher orders); words are all kept. N-grams with <unk> are dropped too.
    """
    counted = _count(text, order)
    kept = _kept(counted, text, count_prune)
    below: np.ndarray | None = None
    probabilities, weights = [], []
    for grams, is_kept in zip(counted, kept, strict=True):
        found, left = _smoothed(grams, is_kept, below, len(text.words))
        probabilities.append(found)
        weights.append(left)
        below = found
    orders: list[Order] = []
    index = np.zeros(1, np.int64)
    for n, (grams, is_kept) in enumerate(zip(counted, kept, strict=True)):
        chosen = np.flatnonzero(is_kept)
        with np.errstate(divide="ignore"):
            log_probs = np.log(probabilities[n][chosen])
            back_offs = np.log(np.maximum(weights[n + 1], 1e-30)) if n + 1 < order else np.zeros(len(is_kept))
        if n == 0:
            log_probs[BEGIN] = _NO_WORD
        orders.append(
            Order(
                index[grams.contexts[chosen]].astype(np.int32),
                grams.words[chosen].astype(np.int32),
                log_probs.astype(np.float32),
                back_offs[chosen].astype(np.float32),
            )
        )
        index = np.cumsum(is_kept) - 1
    return NGramModel(text.words, orders)


@dataclass(frozen=True)
class _Grams:
    """The n-grams of one order, sorted: contexts and suffixes are indices into the order below.

    seen: how often each is in the text; counts: the same for the highest order and at the beginning of
    sentences, elsewhere the number of different words before it.
    """

    contexts: np.ndarray
    words: np.ndarray
    suffixes: np.ndarray
    seen: np.ndarray
    counts: np.ndarray


def _count(text: Text, order: int) -> list[_Grams]:
    tokens, n_words = text.tokens, len(text.words)
    ids = np.arange(n_words)
    zeros = np.zeros(n_words, np.int32)
    seen = np.bincount(tokens, minlength=n_words)
    found = [_Grams(zeros, ids, zeros, seen, np.where(ids == BEGIN, 0, seen))]
    begins = ids == BEGIN  # which n-grams begin a sentence
    here = tokens  # the n-gram that begins with each token; -1 where a sentence ends too early
    for n in range(2, order + 1):
        at = np.flatnonzero((here[: len(tokens) - n + 1] >= 0) & (tokens[n - 2 : len(tokens) - 1] != END))
        keys = here[at].astype(np.int64) * n_words + tokens[at + n - 1]
        distinct, first, inverse, seen = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        del keys
        contexts, words = np.divmod(distinct, n_words)
        suffixes = here[at[first] + 1]
        below = found[-1]
        n_before = np.bincount(suffixes, minlength=len(below.seen))
        is_raw = begins if n > 2 else np.zeros(n_words, bool)
        counts = np.where(is_raw, below.seen, n_before)
        found[-1] = _Grams(below.contexts, below.words, below.suffixes, below.seen, counts)
        found.append(_Grams(contexts, words, suffixes, seen, seen))
        begins = begins[contexts]
        here = np.full(len(tokens), -1, np.int32)
        here[at] = inverse
    return found


def _kept(counted: Sequence[_Grams], text: Text, count_prune: Sequence[int]) -> list[np.ndarray]:
    """Which n-grams stay: the contexts of what stays do."""
    has_unknown = np.arange(len(text.words)) == UNKNOWN
    kept = [np.ones(len(text.words), bool)]
    for n, grams in enumerate(counted[1:], start=1):
        has_unknown = has_unknown[grams.contexts] | (grams.words == UNKNOWN)
        least = count_prune[min(n, len(count_prune) - 1)] if count_prune else 0
        kept.append(~has_unknown & (grams.seen > least))
    for n in range(len(counted) - 1, 0, -1):
        kept[n - 1][counted[n].contexts[kept[n]]] = True
    return kept


def _smoothed(
    grams: _Grams, is_kept: np.ndarray, below: np.ndarray | None, n_words: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n-grams,) probabilities, and (contexts,) the weights of the order below.

    below: the probabilities of that order; None for words, below which all are as likely.
    """
    counts = grams.counts.astype(float)
    is_counted = np.ones(len(counts), bool)
    if below is None:
        is_counted[[UNKNOWN, BEGIN]] = False
    discounts = _discounts(counts[is_counted])[np.minimum(grams.counts, 3)]
    lost = np.where(is_kept, discounts, counts)
    n_contexts = 1 if below is None else len(below)
    totals = np.bincount(grams.contexts, counts, n_contexts)
    weights = np.bincount(grams.contexts, lost, n_contexts) / np.maximum(totals, 1)
    weights[totals == 0] = 1.0
    lower = 1 / (n_words - 1) if below is None else below[grams.suffixes]  # all words but <s>
    own = (counts - lost) / np.maximum(totals, 1)[grams.contexts]
    return own + weights[grams.contexts] * lower, weights


def _discounts(counts: np.ndarray) -> np.ndarray:
    """What n-grams seen 0, 1, 2, and 3 times or more lose."""
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5).astype(int), minlength=6)[1:5].astype(float)
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        if all(0 <= discount <= k for k, discount in enumerate(found, start=1)):
            return np.array((0.0, *found))
    return np.array((0.0, *_FALLBACK_DISCOUNTS))
