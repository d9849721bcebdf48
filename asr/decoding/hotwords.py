"""Hot words: words and phrases that a user expects, also ones that no lexicon or text has ever seen."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UsageError
from asr.files import open_text, readable
from asr.text import normalize

DEFAULT_BOOST = 5.0
MAX_BOOST = 100.0  # either way; more would put the word everywhere or nowhere
MAX_WORDS = 20  # of a phrase
MAX_LETTERS = 60  # of a word

logger = logging.getLogger(__name__)

# Names such as AT&T, TCP/IP, R2 or GPT4, whose letters are said one by one.
_INITIALS = re.compile(
    r"(?<!\w)(?=\w*[\d&/])(?<![A-Z])(?:[A-Z]{1,3}(?![A-Z])|\d+|(?<=[A-Z])[&/](?=[A-Z]))+(?!\w)"
)
_INITIALS_PART = re.compile(r"[A-Z]|\d+|&")


@dataclass(frozen=True)
class HotWord:
    """A word or phrase, lower case and blank-separated, and the score that it gains (natural log)."""

    text: str
    boost: float


def parse(text: str, default_boost: float = DEFAULT_BOOST) -> list[HotWord]:
    """Hot words of a list like "anneke, new york, AT&T, kubernetes:8", as they are said.

    What cannot be said is left out with a warning. UsageError when nothing is left, or for a boost that is
    no number from -MAX_BOOST to MAX_BOOST.
    """
    return _parse_all(((entry, "hot words") for entry in text.split(",")), default_boost, "hot words")


def read(path: str | Path, default_boost: float = DEFAULT_BOOST) -> list[HotWord]:
    """Hot words of a file, one a line, with or without ":BOOST"; # begins a comment. As parse()."""
    with readable(Path(path), "list of hot words", UsageError), open_text(path) as file:
        lines = file.read().splitlines()
    entries = ((line.partition("#")[0], f"{path}:{number}") for number, line in enumerate(lines, start=1))
    return _parse_all(entries, default_boost, str(path))


def _parse_all(entries: Iterable[tuple[str, str]], default_boost: float, source: str) -> list[HotWord]:
    """entries: each with its place."""
    found: list[HotWord] = []
    problem = "there are none"
    for entry, place in entries:
        if not entry.strip():
            continue
        text, colon, number = entry.partition(":")
        boost = _boost(number, entry, place) if colon else default_boost
        spoken = normalize(_INITIALS.sub(_spelled, text))
        words = spoken.split()
        if not words:
            problem = "a hot word needs something that can be said, such as letters"
        elif len(words) > MAX_WORDS:
            problem = f"a hot word has {MAX_WORDS} words at most"
        elif max(map(len, words)) > MAX_LETTERS:
            problem = f"a word has {MAX_LETTERS} letters at most"
        else:
            found.append(HotWord(spoken, boost))
            continue
        problem = f"{_shortened(entry)}: {problem}"
        logger.warning("%s: %s; left out", place, problem)
    if not found:
        raise UsageError(f"{source}: {problem}")
    return found


def _boost(number: str, entry: str, place: str) -> float:
    try:
        boost = float(number)
    except ValueError:
        raise UsageError(f"{place}: {_shortened(entry)}: the boost is no number") from None
    if not abs(boost) <= MAX_BOOST:
        raise UsageError(f"{place}: {_shortened(entry)}: a boost is from -{MAX_BOOST:g} to {MAX_BOOST:g}")
    return boost


def _spelled(match: re.Match[str]) -> str:
    return " ".join(_INITIALS_PART.findall(match[0]))


def _shortened(entry: str) -> str:
    entry = entry.strip()
    return repr(entry if len(entry) <= 60 else f"{entry[:57]}...")
