"""Closed grammars: the phrases that may be said, and nothing else.

A file has one phrase a line (# begins a comment), or it is written in a part of the Java Speech Grammar
Format (JSGF 1.0): rules, alternatives, groups, optional parts, repetition (+ and *), quoted words and
references to rules of the same file. Weights and tags are read and left out of account.

Rules become a finite automaton: Thompson 1968 (from expressions), Rabin and Scott 1959 (deterministic).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np

from asr.decoding.ngram import END, SPECIAL_WORDS, UNKNOWN
from asr.errors import GrammarError
from asr.files import open_text, readable
from asr.labels import spelled_words

MAX_PHRASES = 100_000  # of rules without repetition, for each to be told as an alternative
_MAX_ITEMS = 500_000  # that the rules may have when all references are written out
_MAX_STEPS = 500_000  # in making an automaton of them
_MAX_WORD, _MAX_PHRASE = 60, 1000  # letters, words
_MAX_GROUPS = 300  # parentheses inside parentheses
_MAX_DEPTH = 600  # of groups and rules inside one another

Phrase = tuple[str, ...]
Arcs = Mapping[int, Mapping[str, int]]  # state -> word -> the state that follows


@dataclass(frozen=True, eq=False)
class Grammar:
    """A deterministic automaton of words: state 0 is the first; in `final` ones a phrase is complete."""

    arcs: Arcs
    final: frozenset[int]

    @classmethod
    def of(cls, phrases: Iterable[Sequence[str]]) -> Grammar:
        """The tree of certain phrases."""
        arcs: dict[int, dict[str, int]] = {0: {}}
        final = set()
        for phrase in phrases:
            state = 0
            for word in phrase:
                following = arcs[state].setdefault(word, len(arcs))
                arcs.setdefault(following, {})
                state = following
            final.add(state)
        return cls(arcs, frozenset(final))

    @cached_property
    def words(self) -> list[str]:
        """All words, sorted."""
        return sorted({word for following in self.arcs.values() for word in following})

    def phrases(self, most: int) -> list[Phrase] | None:
        """What may be said; None if that is without end, or too much to be listed.

        most: phrases.
        """
        counts: dict[int, int] = {}  # of phrases from each state on
        waiting, inside = [0], set()
        while waiting:  # depth first, with a stack of its own: automata may be long
            state = waiting[-1]
            new = [after for after in self.arcs[state].values() if after not in counts]
            if new and state not in inside:
                inside.add(state)
                if not inside.isdisjoint(new):
                    return None  # it repeats
                waiting += new
                continue
            waiting.pop()
            inside.discard(state)
            counts[state] = (state in self.final) + sum(counts[after] for after in self.arcs[state].values())
            if counts[state] > most:
                return None
        found: list[Phrase] = []
        stack: list[tuple[int, Phrase]] = [(0, ())]
        n_words = 0
        while stack:
            state, said = stack.pop()
            n_words += len(said)
            if n_words > 4 * _MAX_STEPS:
                return None
            if state in self.final:
                found.append(said)
            stack += [(after, (*said, word)) for word, after in reversed(list(self.arcs[state].items()))]
        return found


def read(path: str | Path) -> Grammar:
    """The grammar of a file; GrammarError names the file and the line that is wrong."""
    with readable(Path(path), "grammar", GrammarError), open_text(path) as file:
        text = file.read()
    if text.lstrip().lower().startswith("#jsgf"):
        grammar = _Jsgf(str(path), text).grammar()
        phrases = grammar.phrases(MAX_PHRASES)
        if phrases is not None:  # a tree of its own for each: so alternatives can be told
            grammar = Grammar.of(phrases)
    else:
        grammar = Grammar.of(filter(None, _listed(str(path), text)))
    if not grammar.words:
        raise GrammarError(f"{path}: a grammar without phrases")
    return grammar


def _listed(source: str, text: str) -> Iterator[Phrase]:
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.partition("#")[0].split()
        if len(parts) > _MAX_PHRASE:
            raise GrammarError(f"{source}:{number}: a phrase has {_MAX_PHRASE} words at most")
        yield tuple(word for part in parts for word in _words(part, source, number))


def _words(text: str, source: str, number: int) -> list[str]:
    """The words that a grammar writes as one: lower case, parted at hyphens."""
    words = spelled_words(text)
    if words is None:
        raise GrammarError(
            f"{source}:{number}: {text[:40]!r}: a word is made of the letters a to z and ';"
            " write numbers as words"
        )
    if max(map(len, words), default=0) > _MAX_WORD:
        raise GrammarError(f"{source}:{number}: {text[:40]!r}...: a word has {_MAX_WORD} letters at most")
    return words


@dataclass(frozen=True)
class _Reference:
    rule: str
    line: int


@dataclass(frozen=True)
class _Choice:
    """Alternatives, each a sequence; how often one of them may be said."""

    options: tuple[tuple[_Item, ...], ...]
    may_lack: bool = False
    repeats: bool = False


_Item = str | _Reference | _Choice
# What is between quotes or braces is one token, and so is a weight; a comment is none.
_TOKEN = re.compile(
    r"/\*(?:[^*]|\*(?!/))*\*/|//[^\n]*|(?P<open>/\*)"
    r"|(?P<token><[^<>\s]+>|/\s*[\d.]+(?:[eE][+-]?\d+)?\s*/"
    r'|"(?:[^"\\\n]|\\.)*"|\{(?:[^{}\\]|\\.)*\}'
    r'|[|()\[\];=*+/{}"<>]|(?:[^\s|()\[\];=*+/{}"<>\\]|\\.)+|\\)'
)
_CLOSERS = {"(": ")", "[": "]"}


class _Jsgf:
    """A parser by recursive descent, of a bounded depth; the automaton is made when all rules are read."""

    def __init__(self, source: str, text: str) -> None:
        self._source = source
        self._tokens: list[tuple[str, int]] = []
        line, end = 1, 0
        for match in _TOKEN.finditer(text):
            line += text.count("\n", end, match.start())
            end = match.start()
            if match["open"]:
                raise GrammarError(f"{source}:{line}: the comment that begins here has no end")
            if match["token"]:
                self._tokens.append((match["token"], line))
        self._at = 0
        self._depth = 0

    def _error(self, problem: str, line: int | None = None) -> GrammarError:
        return GrammarError(f"{self._source}:{self._line if line is None else line}: {problem}")

    @property
    def _line(self) -> int:
        return self._tokens[min(self._at, len(self._tokens) - 1)][1]

    @property
    def _next(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _take(self, expected: str = "") -> str:
        token = self._next
        if not token or (expected and token != expected):
            raise self._error(f"expected {expected or 'more'!r}, got {token[:40] or 'the end of the file'!r}")
        self._at += 1
        return token

    def grammar(self) -> Grammar:
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
            name, line = self._next, self._line
            if not name.startswith("<") or len(name) < 3:
                raise self._error(f"expected a rule like 'public <name> = ...;', got {name[:40]!r}")
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
        for rule in public:
            self._check(rule, rules)
        return _deterministic(_Automaton(rules, public), self._source, public[0].line)

    def _choice(self) -> _Choice:
        options: list[tuple[_Item, ...]] = []
        self._depth += 1
        if self._depth > _MAX_GROUPS:
            raise self._error(f"parentheses more than {_MAX_GROUPS} deep")
        while True:
            items: list[_Item] = []
            if self._next.startswith("/") and len(self._next) > 1:
                self._take()  # how likely an alternative is: all that are allowed are alike
            is_empty = True
            while self._next not in {"|", ")", "]", ";", ""}:
                items += self._items()
                is_empty = False
            if is_empty:
                raise self._error(f"nothing before {self._next or 'the end of the file'!r}")
            options.append(tuple(items))
            if self._next != "|":
                self._depth -= 1
                return _Choice(tuple(options))
            self._take()

    def _items(self) -> list[_Item]:
        """A group, a reference, or the words of one token, and what follows it: + or *, tags."""
        line = self._line
        token = self._take()
        found: list[_Item]
        if token in _CLOSERS:
            inner = self._choice()
            self._take(_CLOSERS[token])
            found = [_Choice(inner.options, may_lack=token == "[")]
        elif token == "<NULL>":
            found = []
        elif token == "<VOID>":
            raise self._error("<VOID> is not supported: leave out what cannot be said", line)
        elif token.startswith("<") and len(token) > 2:
            found = [_Reference(token, line)]
        elif token.startswith('"') and len(token) > 1:
            spoken = re.sub(r"\\(.)", r"\1", token[1:-1])
            found = [word for part in spoken.split() for word in _words(part, self._source, line)]
        elif token[0] in '*+/{}"<>=\\':
            raise self._error(f"{token[:40]!r} is not expected here", line)
        else:
            found = [*_words(re.sub(r"\\(.)", r"\1", token), self._source, line)]
        if self._next in {"+", "*"}:
            found = [_Choice((tuple(found),), may_lack=self._take() == "*", repeats=True)]
        while self._next.startswith("{") and len(self._next) > 1:
            self._take()  # a tag, for programs
        return found

    def _check(self, rule: _Reference, rules: Mapping[str, _Choice]) -> None:
        """Refuse references without a rule, rules inside themselves, and rules that stand for too much."""
        sizes: dict[str, int] = {}  # of each rule, with all that it refers to
        depths: dict[str, int] = {}
        waiting = [rule]
        inside: set[str] = set()
        while waiting:  # with a stack of its own: rules may be a long chain
            reference = waiting[-1]
            name = reference.rule
            if name not in rules:
                raise self._error(f"there is no rule {name}", reference.line)
            needed = list(_references(rules[name]))
            new = [each for each in needed if each.rule not in sizes]
            if new and name not in inside:
                inside.add(name)
                for each in new:
                    if each.rule in inside:
                        raise self._error(
                            f"{each.rule} refers to itself: that would never end; + and * repeat", each.line
                        )
                waiting += new
                continue
            waiting.pop()
            inside.discard(name)
            sizes[name] = _size(rules[name], sizes)
            if sizes[name] > _MAX_ITEMS:
                raise self._error(
                    f"{name} stands for more than {_MAX_ITEMS} words when its rules are written out",
                    reference.line,
                )
            depths[name] = _depth(rules[name], depths)
            if depths[name] > _MAX_DEPTH:
                raise self._error(f"{name}: rules inside rules, more than {_MAX_DEPTH} deep", reference.line)


def _parts(choice: _Choice) -> Iterator[str | _Reference]:
    """The words and references in a choice, also inside its groups."""
    for option in choice.options:
        for item in option:
            if isinstance(item, _Choice):
                yield from _parts(item)
            else:
                yield item


def _references(choice: _Choice) -> Iterator[_Reference]:
    return (item for item in _parts(choice) if isinstance(item, _Reference))


def _size(choice: _Choice, sizes: Mapping[str, int]) -> int:
    return sum(1 if isinstance(item, str) else 1 + sizes[item.rule] for item in _parts(choice))


def _depth(choice: _Choice, depths: Mapping[str, int]) -> int:
    """How many groups and references are inside one another."""
    deepest = 0
    for option in choice.options:
        for item in option:
            if isinstance(item, _Choice):
                deepest = max(deepest, _depth(item, depths))
            elif isinstance(item, _Reference):
                deepest = max(deepest, 1 + depths[item.rule])
    return 1 + deepest


class _Automaton:
    """A nondeterministic one: of each state, what words lead where, and where one may go without any."""

    def __init__(self, rules: Mapping[str, _Choice], public: Iterable[_Reference]) -> None:
        self._rules = rules
        self.by_word: list[list[tuple[str, int]]] = []
        self.freely: list[list[int]] = []
        self.start, self.end = self._state(), self._state()
        for rule in public:
            self._add(rule, self.start, self.end)

    def _state(self) -> int:
        self.by_word.append([])
        self.freely.append([])
        return len(self.freely) - 1

    def _add(self, item: _Item, start: int, end: int) -> None:
        """Let an item lead from one state to another."""
        if isinstance(item, str):
            self.by_word[start].append((item, end))
        elif isinstance(item, _Reference):
            self._add(self._rules[item.rule], start, end)
        else:
            if item.repeats or item.may_lack:
                first, last = self._state(), self._state()
                self.freely[start].append(first)
                self.freely[last].append(end)
                if item.repeats:
                    self.freely[last].append(first)
                if item.may_lack:
                    self.freely[start].append(end)
                start, end = first, last
            for option in item.options:
                states = [start, *(self._state() for _ in option[1:]), end]
                if not option:
                    self.freely[start].append(end)
                for part, (before, after) in zip(option, pairwise(states), strict=bool(option)):
                    self._add(part, before, after)

    def reached(self, states: Iterable[int]) -> frozenset[int]:
        """The states, and those that no word is needed for."""
        found = set(states)
        waiting = list(found)
        while waiting:
            new = [state for state in self.freely[waiting.pop()] if state not in found]
            found.update(new)
            waiting += new
        return frozenset(found)


def _deterministic(automaton: _Automaton, source: str, line: int) -> Grammar:
    """A grammar by sets of states, only of those that words lead out of."""
    sets: dict[frozenset[int], int] = {}
    arcs: dict[int, dict[str, int]] = {}
    final = set()
    n_steps = 0

    def number(states: Iterable[int]) -> int:
        nonlocal n_steps
        everything = automaton.reached(states)
        n_steps += len(everything)
        if n_steps > _MAX_STEPS:
            raise GrammarError(f"{source}:{line}: the rules allow too much at once; make them simpler")
        kept = frozenset(s for s in everything if automaton.by_word[s] or s == automaton.end)
        if kept not in sets:
            sets[kept] = len(sets)
            waiting.append(kept)
        return sets[kept]

    waiting: list[frozenset[int]] = []
    number([automaton.start])
    while waiting:
        states = waiting.pop()
        here = sets[states]
        if automaton.end in states:
            final.add(here)
        following: dict[str, list[int]] = {}
        for state in sorted(states):
            for word, after in automaton.by_word[state]:
                following.setdefault(word, []).append(after)
        arcs[here] = {word: number(after) for word, after in following.items()}
    return Grammar(arcs, frozenset(final))


class GrammarModel:
    """A language model of certain phrases: log-probability 0 for what they allow, -inf for all else.

    States are those of the grammar; only where a phrase is complete may the sentence end, or before
    anything was said.
    """

    start = 0

    def __init__(self, grammar: Grammar) -> None:
        self.words = (*SPECIAL_WORDS, *grammar.words)
        arcs = {
            (state, self.ids[word]): after
            for state, following in grammar.arcs.items()
            for word, after in following.items()
        }
        arcs |= {(state, END): 0 for state in (self.start, *grammar.final)}
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
