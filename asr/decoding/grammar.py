"""Closed grammars: the phrases that may be said, and nothing else.

A file has one phrase a line (# begins a comment), or it is written in a part of the Java Speech Grammar
Format (JSGF 1.0): rules, alternatives, groups, optional parts and references to rules of the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

import numpy as np

from asr.decoding.ngram import END, SPECIAL_WORDS, UNKNOWN
from asr.errors import GrammarError
from asr.labels import spelled_words

MAX_PHRASES = 100_000  # that the rules of a grammar may stand for

Phrase = tuple[str, ...]


def read(path: str | Path) -> tuple[Phrase, ...]:
    """The phrases of a file, each once; GrammarError names the file and the line that is wrong."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GrammarError(f"{path}: {getattr(error, 'strerror', None) or 'is not a text file'}") from None
    is_jsgf = text.lstrip().startswith("#JSGF")
    phrases = _Jsgf(str(path), text).phrases() if is_jsgf else _listed(str(path), text)
    spoken = tuple(dict.fromkeys(phrase for phrase in phrases if phrase))
    if not spoken:
        raise GrammarError(f"{path}: a grammar without phrases")
    return spoken


def _listed(source: str, text: str) -> Iterator[Phrase]:
    for number, line in enumerate(text.splitlines(), start=1):
        yield tuple(word for part in line.partition("#")[0].split() for word in _words(part, source, number))


def _words(text: str, source: str, number: int) -> list[str]:
    """The words that a grammar writes as one: lower case, parted at hyphens."""
    words = spelled_words(text)
    if words is None:
        raise GrammarError(
            f"{source}:{number}: {text[:40]!r}: a word is made of the letters a to z and ';"
            " write numbers as words"
        )
    return words


@dataclass(frozen=True)
class _Reference:
    rule: str
    line: int


@dataclass(frozen=True)
class _Choice:
    options: tuple[tuple[_Item, ...], ...]


_Item = str | _Reference | _Choice
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_TOKEN = re.compile(r"<[^<>\s]+>|[|()\[\];=*+/{}\"<>]|[^\s|()\[\];=*+/{}\"<>]+")
_CLOSERS = {"(": ")", "[": "]"}


class _Jsgf:
    """A parser by recursive descent; it expands the rules when it has read them all."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        text = _COMMENT.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)  # lines stay where they are
        self._tokens = [
            (token[0], number)
            for number, line in enumerate(text.splitlines(), start=1)
            for token in _TOKEN.finditer(line)
        ]
        self._at = 0

    def _error(self, problem: str, line: int | None = None) -> GrammarError:
        if line is None:
            line = self._tokens[min(self._at, len(self._tokens) - 1)][1]
        return GrammarError(f"{self._source}:{line}: {problem}")

    @property
    def _next(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._next
        if not token or (expected and token != expected):
            raise self._error(f"expected {expected or 'more'!r}, got {token or 'the end of the file'!r}")
        self._at += 1
        return token

    def phrases(self) -> list[Phrase]:
        """All that the public rules stand for."""
        while self._take() != ";":  # the header: #JSGF V1.0 and perhaps encoding and language
            pass
        rules: dict[str, _Choice] = {}
        public: list[_Reference] = []
        while self._next:
            keyword = self._next
            if keyword == "grammar":
                while self._take() != ";":
                    pass
                continue
            if keyword == "import":
                raise self._error("import is not supported: put all rules into one file")
            if keyword == "public":
                self._take()
            name, line = self._next, self._tokens[min(self._at, len(self._tokens) - 1)][1]
            if not name.startswith("<") or len(name) < 3:
                raise self._error(f"expected a rule like 'public <name> = ...;', got {name!r}")
            if name in rules:
                raise self._error(f"the rule {name} is there twice")
            self._take()
            self._take("=")
            rules[name] = self._choice()
            self._take(";")
            if keyword == "public":
                public.append(_Reference(name, line))
        if not public:
            raise self._error("no public rule: one must begin with 'public <name> ='")
        return [phrase for rule in public for phrase in self._expand(rule, rules, ())]

    def _choice(self) -> _Choice:
        options: list[tuple[_Item, ...]] = []
        while True:
            items: list[_Item] = []
            while self._next not in {"|", ")", "]", ";", ""}:
                items += self._items()
            if not items:
                raise self._error(f"nothing before {self._next or 'the end of the file'!r}")
            options.append(tuple(items))
            if self._next != "|":
                return _Choice(tuple(options))
            self._take()

    def _items(self) -> list[_Item]:
        """A group, a reference, or the words of one token."""
        line = self._tokens[self._at][1]
        token = self._take()
        if token in _CLOSERS:
            inner = self._choice()
            self._take(_CLOSERS[token])
            return [_Choice((*inner.options, ())) if token == "[" else inner]
        if token.startswith("<") and len(token) > 2:
            return [_Reference(token, line)]
        if token in set('*+/{}"<>='):
            raise self._error(
                f"{token!r} is not supported; there are words, <rules>, |, ( ) and [ ]", line
            )
        return [*_words(token, self._source, line)]

    def _expand(self, item: _Item, rules: dict[str, _Choice], inside: tuple[str, ...]) -> list[Phrase]:
        """What an item of a rule stands for. inside: the rules that lead to it."""
        if isinstance(item, str):
            return [(item,)]
        if isinstance(item, _Reference):
            if item.rule in inside:
                raise self._error(f"{item.rule} refers to itself: that would never end", item.line)
            if item.rule not in rules:
                raise self._error(f"there is no rule {item.rule}", item.line)
            return self._expand(rules[item.rule], rules, (*inside, item.rule))
        found: list[Phrase] = []
        for option in item.options:
            parts = [self._expand(part, rules, inside) for part in option]
            if len(found) + np.prod([float(len(part)) for part in parts]) > MAX_PHRASES:
                raise self._error(f"{inside[-1]} stands for more than {MAX_PHRASES} phrases", 1)
            found += [tuple(word for part in choice for word in part) for choice in product(*parts)]
        return found


class GrammarModel:
    """A language model of certain phrases: log-probability 0 for what they allow, -inf for all else.

    States are the nodes of a tree of the phrases; only where a phrase is complete may the sentence end, or
    before anything was said.
    """

    start = 0

    def __init__(self, phrases: Iterable[Sequence[str]]) -> None:
        phrases = list(phrases)
        self.words = (*SPECIAL_WORDS, *sorted({word for phrase in phrases for word in phrase}))
        arcs: dict[tuple[int, int], int] = {(self.start, END): 0}
        n_nodes = 1
        for phrase in phrases:
            node = self.start
            for word in phrase:
                arc = (node, self.ids[word])
                if arc not in arcs:
                    arcs[arc], n_nodes = n_nodes, n_nodes + 1
                node = arcs[arc]
            arcs[node, END] = 0
        keys = np.array([node * len(self.words) + word for node, word in arcs])
        order = np.argsort(keys)
        self._keys, self._targets = keys[order], np.array(list(arcs.values()))[order]

    @cached_property
    def ids(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @property
    def unigrams(self) -> np.ndarray:
        """(words,) log-probabilities without any context."""
        allowed = np.zeros(len(self.words), np.float32)
        allowed[UNKNOWN] = -np.inf
        return allowed

    def last_words(self, states: np.ndarray) -> np.ndarray:
        return np.full(len(states), -1)  # its states say all that there is to know

    def score(self, states: np.ndarray, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) log-probabilities of words after states, 0 or -inf, and (n,) the states that follow."""
        keys = np.asarray(states) * len(self.words) + words
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        is_allowed = self._keys[at] == keys
        log_probs = np.where(is_allowed, 0.0, -np.inf).astype(np.float32)
        return log_probs, np.where(is_allowed, self._targets[at], 0)
