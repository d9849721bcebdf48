"""Words -> phones for words that no dictionary has, by a joint n-gram model of letters and phones.

Source: Bisani and Ney 2008 (joint-sequence models for grapheme-to-phoneme conversion).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from asr import pretrained
from asr.decoding import language
from asr.decoding.ngram import END, SPECIAL_WORDS, UNKNOWN, NGramModel
from asr.decoding.ranges import joined_ranges
from asr.errors import LanguageModelError

NOTHING = "_"  # the phones of silent letters
SAYABLE = r"[a-z']{1,60}"  # a normalised word that can be pronounced; no English word is as long
_BEAM = 30  # partial pronunciations kept at each letter
_THRESHOLD = 6.0  # those this much worse than the best are dropped (natural logarithms)
_WORDS_AT_ONCE = 1000  # bounds the memory
_HASH_FACTOR = np.int64(0x5851F42D4C957F2D)  # of a linear congruential generator (Knuth, MMIX)


def pair_name(letters: str, phones: tuple[str, ...]) -> str:
    """How a pair is written in the n-gram model: "ph:F", "e:_", "x:K+S"."""
    return f"{letters}:{'+'.join(phones) or NOTHING}".lower()


class Pronouncer:
    """A model whose n-grams are of pairs: some letters and the phones that they stand for."""

    def __init__(self, model: NGramModel) -> None:
        self._model = model
        choices: dict[str, list[int]] = {}  # letters -> ids of their pairs
        self._units: list[tuple[str, ...]] = [() for _ in model.words]  # of each pair
        for i, name in enumerate(model.words):
            if name in SPECIAL_WORDS:
                continue
            letters, colon, phones = name.partition(":")
            if not colon:
                raise LanguageModelError(f"{name!r} is not a pair of letters and phones")
            self._units[i] = () if phones == NOTHING else tuple(phones.upper().split("+"))
            choices.setdefault(letters, []).append(i)
        self._longest = max(map(len, choices))
        # Row k of the table: the pairs from _firsts[k] to _firsts[k + 1]. The first is that of no letters.
        self._rows = {letters: row for row, letters in enumerate(choices, start=1)}
        self._pairs = np.array([UNKNOWN, *(pair for pairs in choices.values() for pair in pairs)])
        self._firsts = np.cumsum([0, 1, *map(len, choices.values())])
        # Phones as numbers from 1, padded with 0: (pairs, phones).
        numbers = {phone: i for i, phone in enumerate(sorted({p for u in self._units for p in u}), start=1)}
        self._phones = np.zeros((len(self._units), max(map(len, self._units))), np.int64)
        for row, units in zip(self._phones, self._units, strict=True):
            row[: len(units)] = [numbers[phone] for phone in units]

    @classmethod
    def load(cls, path: str | Path) -> Pronouncer:
        """Read what recipes/english/pronouncer.py made; LanguageModelError when it is something else."""
        return cls(language.load(path).lm)

    def pronounce(self, word: str, n_best: int = 1) -> list[tuple[str, ...]]:
        """The likeliest pronunciations of a normalised word, the best first; letters it lacks are silent."""
        return self.pronounce_all([word], n_best)[0]

    def pronounce_all(self, words: Sequence[str], n_best: int = 1) -> list[list[tuple[str, ...]]]:
        """pronounce() of many words, which takes far less time than one after another."""
        found: list[list[tuple[str, ...]]] = []
        for first in range(0, len(words), _WORDS_AT_ONCE):
            found += _Search(self, words[first : first + _WORDS_AT_ONCE]).run(n_best)
        return found


class _Search:
    """A beam search for the pronunciations of several words, letter by letter.

    A partial pronunciation is a column: which word, the model's state, a hash of its phones, its place in
    the history, and its score.
    """

    def __init__(self, pronouncer: Pronouncer, words: Sequence[str]) -> None:
        self._pronouncer, self._words = pronouncer, words
        self._lengths = np.array([len(word) for word in words])
        self._longest = int(self._lengths.max(initial=0))
        longest_pair = pronouncer._longest
        # Of each word, letter and number of letters from there: a row of the pairs; -1 for none.
        self._rows = np.full((longest_pair, len(words), self._longest), -1)
        for row, word in enumerate(words):
            for i in range(len(word)):
                for n in range(1, min(longest_pair, len(word) - i) + 1):
                    self._rows[n - 1, row, i] = pronouncer._rows.get(word[i : i + n], 0 if n == 1 else -1)
        self._history: list[np.ndarray] = [np.zeros((2, 1), np.int64)]  # previous entries, and pairs
        self._n_entries = 1
        none = np.zeros((4, 0), np.int64)
        self._ids = [[none] for _ in range(self._longest + 1)]  # after each letter
        self._scores = [[np.zeros(0)] for _ in range(self._longest + 1)]

    def run(self, n_best: int) -> list[list[tuple[str, ...]]]:
        start = np.zeros((4, len(self._words)), np.int64)
        start[0], start[1] = np.arange(len(self._words)), self._pronouncer._model.start
        self._ids[0].append(start)
        self._scores[0].append(np.zeros(len(self._words)))
        found: list[list[tuple[str, ...]]] = [[] for _ in self._words]
        for i in range(self._longest + 1):
            ids, scores = self._merged(i)
            is_over = self._lengths[ids[0]] == i
            self._finish(ids[:, is_over], scores[is_over], n_best, found)
            ids, scores = ids[:, ~is_over], scores[~is_over]
            for n in range(1, len(self._rows) + 1):
                if i + n <= self._longest:
                    self._extend(i, n, ids, scores)
        return found

    def _merged(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The best partial pronunciations of i letters of each word, of those of one state and the same
        phones the best."""
        ids, scores = np.concatenate(self._ids[i], axis=1), np.concatenate(self._scores[i])
        best = np.full(len(self._words), -np.inf)
        np.maximum.at(best, ids[0], scores)
        near = np.flatnonzero(scores > best[ids[0]] - _THRESHOLD)
        near = near[np.argsort(-scores[near])]
        keys = ((ids[2, near] + ids[1, near]) * _HASH_FACTOR + ids[0, near]) * _HASH_FACTOR
        near = near[np.unique(keys, return_index=True)[1]]
        ids, scores = ids[:, near], scores[near]
        order = np.lexsort((-scores, ids[0]))
        ids, scores = ids[:, order], scores[order]
        firsts = np.searchsorted(ids[0], ids[0])
        kept = np.arange(len(scores)) - firsts < _BEAM
        return ids[:, kept], scores[kept]

    def _extend(self, i: int, n: int, ids: np.ndarray, scores: np.ndarray) -> None:
        """By the pairs of the n letters from the i-th on."""
        pronouncer = self._pronouncer
        rows = self._rows[n - 1, ids[0], i]
        going_on = np.flatnonzero(rows >= 0)
        firsts = pronouncer._firsts[rows[going_on]]
        counts = pronouncer._firsts[rows[going_on] + 1] - firsts
        before = going_on.repeat(counts)
        pairs = pronouncer._pairs[joined_ranges(firsts, counts)]
        gains, states = pronouncer._model.score(ids[1, before], pairs)
        new = np.empty((4, len(pairs)), np.int64)
        new[0], new[1], new[2] = ids[0, before], states, ids[2, before]
        for phones in pronouncer._phones[pairs].T:
            new[2] = np.where(phones, (new[2] + phones) * _HASH_FACTOR, new[2])
        new[3] = self._n_entries + np.arange(len(pairs))
        self._history.append(np.stack([ids[3, before], pairs]))
        self._n_entries += len(pairs)
        self._ids[i + n].append(new)
        self._scores[i + n].append(scores[before] + gains)

    def _finish(
        self, ids: np.ndarray, scores: np.ndarray, n_best: int, found: list[list[tuple[str, ...]]]
    ) -> None:
        """Add the pronunciations of the words that are over to those found."""
        if not len(scores):
            return
        ends, _ = self._pronouncer._model.score(ids[1], np.full(len(scores), END))
        history = self._joined_history()
        for column in np.argsort(-(scores + ends), kind="stable"):
            heard = found[ids[0, column]]
            if len(heard) == n_best:
                continue
            phones: list[str] = []
            entry = int(ids[3, column])
            while entry:
                entry, pair = history[:, entry].tolist()
                phones[:0] = self._pronouncer._units[pair]
            if phones and tuple(phones) not in heard:
                heard.append(tuple(phones))

    def _joined_history(self) -> np.ndarray:
        if len(self._history) > 1:
            self._history = [np.concatenate(self._history, axis=1)]
        return self._history[0]


@cache
def shipped() -> Pronouncer:
    """The one that comes with the package, read when it is first needed."""
    return Pronouncer.load(pretrained.PRONOUNCER_FILE)
