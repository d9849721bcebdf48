"""Normalised text: what is read aloud, in a-z, apostrophes and single spaces."""

from __future__ import annotations

import re

import pytest

from asr.text import normalize

READ_ALOUD = {
    "Hello, World!": "hello world",
    "  tabs\tand\nlines  ": "tabs and lines",
    "well-known—and…so on": "well known and so on",
    "It’s o‘clock": "it's o'clock",
    "'quoted' and ''twice''": "quoted and twice",
    "'Tis the dogs'": "'tis the dogs",
    "naïve Café Œuvre Straße": "naive cafe oeuvre strasse",
    "Mr. and MRS. Dr. Who, etc.": "mister and missus doctor who et cetera",
    "the U.S.A. is, e.g., big": "the u s a is e g big",
    "R&D at 50%": "r and d at fifty percent",
    "215 men": "two hundred fifteen men",
    "1,234,567": "one million two hundred thirty four thousand five hundred sixty seven",
    "in 1905": "in nineteen oh five",
    "1,905 men": "one thousand nine hundred five men",
    "the 21st, 2nd and 100th": "the twenty first second and one hundredth",
    "3.25": "three point two five",
    "It is 5.": "it is five",
    "at 10:30": "at ten thirty",
    "at 10am, 5km in 3D": "at ten am five km in three d",
    "B4": "b four",
    "1.5th": "one point five th",
    "!?": "",
    "": "",
}


@pytest.mark.parametrize("written", READ_ALOUD)
def test_text_becomes_the_words_that_are_read_aloud(written: str) -> None:
    assert normalize(written) == READ_ALOUD[written]


@pytest.mark.parametrize("written", READ_ALOUD)
def test_normalised_text_stays_as_it_is(written: str) -> None:
    assert normalize(normalize(written)) == normalize(written)


def test_a_number_too_long_for_a_name_is_read_digit_by_digit() -> None:
    assert normalize("9" * 5000) == " ".join(["nine"] * 5000)


def test_any_character_gives_only_letters_apostrophes_and_single_spaces() -> None:
    for first in range(0, 0x3000, 64):
        text = "".join(f"a{chr(code)}b " for code in range(first, first + 64))
        assert re.fullmatch(r"[a-z']+( [a-z']+)*", normalize(text)), first


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("the 1980s.", "the nineteen eighties"),
        ("1900s", "nineteen hundreds"),
        ("2000s", "two thousands"),
        ("2010s", "twenty tens"),
        ("1980's", "nineteen eighties"),
        ("the '80s", "the eighties"),
        ("in her 20s", "in her twenties"),
        ("1970-80s", "nineteen seventy eighties"),
        ("1980 s", "nineteen eighty s"),
    ],
)
def test_decades_are_spelled_as_they_are_read(written: str, spoken: str) -> None:
    assert normalize(written) == spoken
