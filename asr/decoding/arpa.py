"""ARPA files, the text form in which all n-gram toolkits write language models."""

from __future__ import annotations

import lzma
import zlib
from array import array
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import TextIO

import numpy as np

from asr.decoding.ngram import SPECIAL_WORDS, WORD_BITS, NGramModel, Order, sort_orders
from asr.errors import LanguageModelError
from asr.files import open_text, readable

_LN_10 = float(np.log(10.0))
_MAX_ORDER = 20
_MAX_WORDS = 1 << WORD_BITS
_MAX_LINE = 10_000  # characters
_MAX_HEADER = 1000  # lines before the one that says that it is an ARPA file
_MAX_BACK_OFF = 1000.0  # a decimal logarithm
_DATA = "\\data\\"
_KENLM = b"mmap lm http://kheafield.com"  # how KenLM's own files begin


def is_arpa(path: str | Path) -> bool:
    """Whether a file is in the ARPA form, by what it holds; LanguageModelError for a binary of KenLM."""
    path = Path(path)
    if not path.is_file():
        return ".arpa" in path.suffixes  # a pipe cannot be read twice
    try:
        with open(path, "rb") as binary:
            if binary.read(len(_KENLM)) == _KENLM:
                raise LanguageModelError(
                    f"{path}: a binary file of KenLM; give the ARPA file that it was made from"
                )
        with open_text(path) as file:
            lines = (file.readline(_MAX_LINE) for _ in range(_MAX_HEADER))
            return any(line.strip() == _DATA for line in lines)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
        return False  # whoever reads it as a text says what is wrong


def read_arpa(path: str | Path) -> NGramModel:
    """The model in an ARPA file, plain, gzip, bzip2 or xz; words in any case become lower case.

    LanguageModelError names the line that is wrong. Words follow their unigram probability, the likeliest
    first, so that frequent words have small ids.
    """
    path = Path(path)
    with readable(path, "ARPA file", LanguageModelError), open_text(path) as file:
        return _Reader(path, file).read()


class _Reader:
    def __init__(self, path: Path, file: TextIO) -> None:
        self._path, self._file = path, file
        self._number = 0  # of the line read last

    def _error(self, number: int, problem: str) -> LanguageModelError:
        return LanguageModelError(f"{self._path}:{number}: {problem}")

    def _next_line(self) -> tuple[int, str]:
        while line := self._file.readline(_MAX_LINE + 1):
            self._number += 1
            if len(line) > _MAX_LINE:
                raise self._error(self._number, f"a line of more than {_MAX_LINE} characters")
            if line := line.strip():
                return self._number, line
        raise self._error(self._number, "the ARPA file ends too early")

    def read(self) -> NGramModel:
        number, line = self._next_line()
        while line != _DATA:
            if number > _MAX_HEADER:
                raise self._error(number, "no \\data\\ line: this is no ARPA file")
            number, line = self._next_line()
        counts: list[int] = []
        number, line = self._next_line()
        while line.startswith("ngram"):
            named, _, size = line.removeprefix("ngram").partition("=")
            size = size.strip()
            is_number = size.isascii() and size.isdigit() and len(size) < 15
            if named.strip() != str(len(counts) + 1) or not is_number:
                raise self._error(number, f"expected 'ngram {len(counts) + 1}=COUNT', got {line[:60]!r}")
            counts.append(int(size))
            if len(counts) > _MAX_ORDER:
                raise self._error(number, f"n-grams of more than {_MAX_ORDER} words")
            if counts[0] > _MAX_WORDS:
                raise self._error(number, f"more than {_MAX_WORDS} words")
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
                log_prob = float(parts[0])
            except ValueError:
                raise self._error(number, f"not a number in {line[:60]!r}") from None
            if not (isfinite(log_prob) and log_prob <= 0):
                raise self._error(number, f"{parts[0]} is no logarithm of a probability, which is 0 or less")
            if not abs(back_off) <= _MAX_BACK_OFF:
                raise self._error(number, f"{parts[n + 1]} is no logarithm of a back-off weight")
            yield number, log_prob * _LN_10, parts[1 : n + 1], back_off * _LN_10

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
        # What the header promises is no reason to take memory.
        order_contexts, words, numbers = array("i"), array("i"), array("q")
        log_probs, back_offs = array("f"), array("f")
        for i, (number, log_prob, spelled, back_off) in enumerate(self._entries(n, count)):
            try:
                ngram = tuple([ids[word.lower()] for word in spelled])
            except KeyError as error:
                raise self._error(number, f"the word {error} has no unigram") from None
            context = contexts.get(ngram[:-1])
            if context is None:
                raise self._error(number, f"the context of {' '.join(spelled)!r} is not in the file")
            order_contexts.append(context)
            words.append(ngram[-1])
            numbers.append(number)
            log_probs.append(log_prob)
            back_offs.append(back_off)
            if not last:
                index[ngram] = i
        keys = np.array(order_contexts, np.int64) << WORD_BITS | np.array(words, np.int64)
        _, firsts = np.unique(keys, return_index=True)
        if len(firsts) < len(keys):
            second = np.setdiff1d(np.arange(len(keys)), firsts)[0]
            raise self._error(numbers[second], f"this n-gram of order {n} is there twice")
        found = Order(
            np.array(order_contexts, np.int32),
            np.array(words, np.int32),
            np.array(log_probs, np.float32),
            np.array(back_offs, np.float32),
        )
        return found, index
