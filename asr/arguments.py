"""Values of command-line options: text -> number, or the reason why it is none."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError


def count(text: str) -> int:
    """A whole number, 1 or more."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def seconds(text: str) -> float:
    """A time in seconds, 0 or more."""
    return _seconds(text, "0 or more", lowest=0.0)


def positive_seconds(text: str) -> float:
    """A time in seconds, more than 0."""
    return _seconds(text, "more than 0", lowest=math.ulp(0.0))


def probability(text: str) -> float:
    """0 or more, and less than 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{text!r} is not a probability, 0 or more and less than 1")
    return value


def _seconds(text: str, wanted: str, *, lowest: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a time in seconds, {wanted}")
    return value
