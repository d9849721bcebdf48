"""ARPA files, the text form in which all n-gram toolkits write language models."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from asr.decoding.ngram import SPECIAL_WORDS, NGramModel, Order, sort_orders
from asr.errors import LanguageModelError
from asr.files import readable

_LN_10 = float(np.log(10.0))
_OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_arpa(path: str | Path) -> NGramModel:
    """The model in an ARPA file, plain, .gz, .bz2 or .xz; words in any case become lower case.

    LanguageModelError names the line that is wrong. Words follow their unigram probability, the likeliest
    first, so that frequent words have small ids.
    """
    path = Path(path)
    with (
        readable(path, "ARPA file", LanguageModelError),
        _OPENERS.get(path.suffix, open)(path, "rt", encoding="utf-8") as file,
    ):
        return _Reader(path, file).read()


class _Reader:
    def __init__(self, path: Path, file: IO[str]) -> None:
        self._path = path
        self._lines: Iterator[tuple[int, str]] = enumerate(file, start=1)

    def _error(self, number: int, problem: str) -> LanguageModelError:
        return LanguageModelError(f"{self._path}:{number}: {problem}")

    def _next_line(self) -> tuple[int, str]:
        number = 0
        for number, line in self._lines:
            if line := line.strip():
                return number, line
        raise self._error(number, "the ARPA file ends too early")

    def read(self) -> NGramModel:
        number, line = self._next_line()
        while line != "\\data\\":
            if number > 1000:
                raise self._error(number, "no \\data\\ line: this is no ARPA file")
            number, line = self._next_line()
        counts: list[int] = []
        number, line = self._next_line()
        while line.startswith("ngram"):
            named, _, size = line.removeprefix("ngram").partition("=")
            if named.strip() != str(len(counts) + 1) or not size.strip().isdigit():
                raise self._error(number, f"expected 'ngram {len(counts) + 1}=COUNT', got {line[:60]!r}")
            counts.append(int(size))
            number, line = self._next_line()
        if not counts:
            raise self._error(number, "no n-gram counts after \\data\\")
        orders: list[Order] = []
        index: dict[tuple[int, ...], int] = {}
        for n, count in enumerate(counts, start=1):
            if line != f"\\{n}-grams:":
                raise self._error(number, f"expected \\{n}-grams:, got {line[:60]!r}")
            if n == 1:
                words, unigrams = self._read_unigrams(count)
                ids = {word: i for i, word in enumerate(words)}
                index = {(i,): i for i in range(len(words))}
                orders.append(unigrams)
            else:
                order, index = self._read_order(n, count, ids, index, last=n == len(counts))
                orders.append(order)
            number, line = self._next_line()
        if line != "\\end\\":
            raise self._error(number, f"expected \\end\\, got {line[:60]!r}")
        return NGramModel(words, sort_orders(orders))

    def _entries(self, n: int, count: int) -> Iterator[tuple[int, float, list[str], float]]:
        """Line number, log-probability, words and back-off weight of each n-gram."""
        for _ in range(count):
            number, line = self._next_line()
            parts = line.split()
            if len(parts) not in (n + 1, n + 2):
                raise self._error(number, f"not an n-gram of order {n}: {line[:60]!r}")
            try:
                back_off = float(parts[n + 1]) if len(parts) == n + 2 else 0.0
                yield number, float(parts[0]) * _LN_10, parts[1 : n + 1], back_off * _LN_10
            except ValueError:
                raise self._error(number, f"not a number in {line[:60]!r}") from None

    def _read_unigrams(self, count: int) -> tuple[list[str], Order]:
        found: dict[str, tuple[float, float]] = {}
        for number, log_prob, (word,), back_off in self._entries(1, count):
            if word.lower() in found:
                raise self._error(number, f"the word {word!r} is there twice, perhaps in another case")
            found[word.lower()] = (log_prob, back_off)
        for word in SPECIAL_WORDS:
            found.setdefault(word, (-100.0, 0.0))
        plain = sorted(found.keys() - set(SPECIAL_WORDS), key=lambda word: (-found[word][0], word))
        words = [*SPECIAL_WORDS, *plain]
        log_probs, back_offs = np.array([found[word] for word in words], np.float32).T
        zeros = np.zeros(len(words), np.int32)
        return words, Order(zeros, np.arange(len(words), dtype=np.int32), log_probs, back_offs)

    def _read_order(
        self,
        n: int,
        count: int,
        ids: dict[str, int],
        contexts: dict[tuple[int, ...], int],
        *,
        last: bool,
    ) -> tuple[Order, dict[tuple[int, ...], int]]:
        index: dict[tuple[int, ...], int] = {}
        rows = np.empty((2, count), np.int32)
        values = np.empty((2, count), np.float32)
        for i, (number, log_prob, spelled, back_off) in enumerate(self._entries(n, count)):
            try:
                ngram = tuple([ids[word.lower()] for word in spelled])
            except KeyError as error:
                raise self._error(number, f"the word {error} has no unigram") from None
            context = contexts.get(ngram[:-1])
            if context is None:
                raise self._error(number, f"the context of {' '.join(spelled)!r} is not in the file")
            rows[:, i] = context, ngram[-1]
            values[:, i] = log_prob, back_off
            if not last:
                index[ngram] = i
        return Order(rows[0], rows[1], values[0], values[1]), index
