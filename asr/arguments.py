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
    """A time in seconds, 0 or more; also as minutes:seconds or hours:minutes:seconds."""
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
        *larger, value = map(float, text.split(":"))
    except ValueError:
        larger, value = [], math.nan
    if larger:  # 1:14, 1:02:03.5
        well_formed = len(larger) <= 2 and all(unit.is_integer() for unit in larger)
        well_formed &= all(0 <= unit < 60 for unit in (*larger[1:], value)) and larger[0] >= 0
        value = sum(unit * 60.0**power for power, unit in enumerate([value, *reversed(larger)]))
        value = value if well_formed else math.nan
    if not lowest <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a time in seconds, {wanted}")
    return value
