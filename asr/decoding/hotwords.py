"""Hot words: words and phrases that a user expects, also ones that no lexicon or text has ever seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from asr.errors import UsageError
from asr.labels import spelled_words

DEFAULT_BOOST = 5.0


@dataclass(frozen=True)
class HotWord:
    """A word or phrase, lower case and blank-separated, and the score that it gains (natural log)."""

    text: str
    boost: float


def parse(text: str, default_boost: float = DEFAULT_BOOST) -> list[HotWord]:
    """Hot words of a list like "anneke, new york, kubernetes:8"; UsageError says which one is wrong."""
    return _parse_all(text.split(","), default_boost, "hot words")


def read(path: str | Path, default_boost: float = DEFAULT_BOOST) -> list[HotWord]:
    """Hot words of a file, one a line, with or without ":BOOST"; # begins a comment."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    return _parse_all((line.partition("#")[0] for line in lines), default_boost, str(path))


def _parse_all(entries: Iterable[str], default_boost: float, source: str) -> list[HotWord]:
    found = [_parse(entry, default_boost, source) for entry in entries if entry.strip()]
    if not found:
        raise UsageError(f"{source}: there are none")
    return found


def _parse(entry: str, default_boost: float, source: str) -> HotWord:
    text, colon, number = entry.partition(":")
    words = spelled_words(text)
    try:
        boost = float(number) if colon else default_boost
    except ValueError:
        raise UsageError(f"{source}: {entry.strip()!r}: the boost is no number") from None
    if not words:
        raise UsageError(f"{source}: {entry.strip()!r}: a hot word is made of the letters a to z and '")
    return HotWord(" ".join(words), boost)
