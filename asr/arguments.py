"""Values of command-line options: text -> number, or the reason why it is none."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable

from asr.decoding.limits import LIMITS

_LARGEST_COUNT = 1_000_000_000
_LONGEST = 10_000_000  # seconds, 115 days


def count(text: str) -> int:
    """A whole number, 1 or more."""
    return whole(1, _LARGEST_COUNT)(text)


def whole(smallest: int, largest: int) -> Callable[[str], int]:
    """The type of an option that is a whole number from smallest to largest."""

    def value_of(text: str) -> int:
        value = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
        if not smallest <= value <= largest:
            reach = f"{smallest} or more" if largest == _LARGEST_COUNT else f"{smallest} to {largest}"
            raise ArgumentTypeError(f"{_shown(text)} is not a whole number, {reach}")
        return value

    return value_of


def number(smallest: float, largest: float) -> Callable[[str], float]:
    """The type of an option that is a number from smallest to largest."""

    def value_of(text: str) -> float:
        value = _float(text)
        if not smallest <= value <= largest:
            raise ArgumentTypeError(f"{_shown(text)} is not a number, {smallest:g} to {largest:g}")
        return value

    return value_of


def whole_setting(name: str) -> Callable[[str], int]:
    """The type of an option that is a whole number among a search's LIMITS."""
    smallest, largest = LIMITS[name]
    return whole(int(smallest), int(largest))


def setting(name: str) -> Callable[[str], float]:
    """The type of an option that is a number among a search's LIMITS."""
    return number(*LIMITS[name])


def seconds(text: str) -> float:
    """A time in seconds, 0 or more; also as minutes:seconds or hours:minutes:seconds."""
    return _seconds(text, "0 or more", smallest=0.0)


def positive_seconds(text: str) -> float:
    """A time in seconds, more than 0."""
    return _seconds(text, "more than 0", smallest=math.ulp(0.0))


def probability(text: str) -> float:
    """0 or more, and less than 1."""
    value = _float(text)
    if not 0 <= value < 1:
        raise ArgumentTypeError(f"{_shown(text)} is not a probability, 0 or more and less than 1")
    return value


def share(text: str) -> float:
    """A part of a whole: more than 0 and less than 1."""
    value = _float(text)
    if not 0 < value < 1:
        raise ArgumentTypeError(f"{_shown(text)} is not a number between 0 and 1")
    return value


def _seconds(text: str, wanted: str, *, smallest: float) -> float:
    *larger, last = map(_float, text.split(":"))
    value = last
    if larger:  # 1:14, 1:02:03.5
        well_formed = len(larger) <= 2 and all(unit.is_integer() for unit in larger)
        well_formed &= all(0 <= unit < 60 for unit in (*larger[1:], last)) and larger[0] >= 0
        value = sum(unit * 60.0**power for power, unit in enumerate([last, *reversed(larger)]))
        value = value if well_formed else math.nan
    if not smallest <= value < math.inf:
        raise ArgumentTypeError(f"{_shown(text)} is not a time in seconds, {wanted}")
    if value > _LONGEST:
        raise ArgumentTypeError(f"{_shown(text)} is more than {_LONGEST} seconds")
    return value


def _float(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}...")
