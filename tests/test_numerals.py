"""Spoken numbers written with digits, and what must stay a word."""

from __future__ import annotations

import pytest

from asr import text
from asr.numerals import to_digits


def written(spoken: str) -> str:
    return " ".join(token for token, _ in to_digits(spoken.split()))


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("zero", "0"),
        ("twenty five", "25"),
        ("one hundred and five", "105"),
        ("a hundred and one", "101"),
        ("twelve hundred", "1200"),
        ("two thousand and ten", "2010"),
        ("five thousand six hundred and seven people", "5607 people"),
        ("three hundred thousand", "300000"),
        ("five million", "5 million"),
        ("two point five million", "2.5 million"),
        ("one million one hundred", "1000100"),
        ("one hundred two hundred", "100 200"),
        ("forty two and six", "42 and 6"),
        ("a man and a hundred women", "a man and 100 women"),
        ("minus five", "-5"),
    ],
)
def test_cardinals(spoken: str, expected: str) -> None:
    assert written(spoken) == expected


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("twenty first", "21st"),
        ("the twelfth night", "the 12th night"),
        ("one hundred and third", "103rd"),
        ("one hundred thirteenth", "113th"),
        ("the two hundredth time", "the 200th time"),
        ("the thirtieth", "the 30th"),
        ("june third", "june 3rd"),
        ("the second of may", "the 2nd of may"),
    ],
)
def test_ordinals(spoken: str, expected: str) -> None:
    assert written(spoken) == expected


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("three point one four", "3.14"),
        ("zero point oh five", "0.05"),
        ("five percent", "5%"),
        ("one percent", "1%"),
        ("ninety nine point nine per cent", "99.9%"),
    ],
)
def test_decimals_and_percentages(spoken: str, expected: str) -> None:
    assert written(spoken) == expected


@pytest.mark.parametrize(
    ("spoken", "expected"),
    [
        ("in nineteen eighty four", "in 1984"),
        ("nineteen oh five", "1905"),
        ("twenty twenty six", "2026"),
        ("eighteen hundred", "1800"),
        ("the nineteen eighties", "the 1980s"),
        ("seven thirty p m", "7:30 pm"),
        ("seven oh five pm", "7:05 pm"),
        ("ten o'clock", "10 o'clock"),
        ("at seven thirty", "at 7:30"),
        ("one two three four", "1234"),
        ("call five five five oh one two", "call 555012"),
        ("oh seven seven five", "0775"),
        ("eight hundred five five five one two one two", "8005551212"),
        ("nine hundred one two three", "900123"),
    ],
)
def test_years_times_and_rows_of_digits(spoken: str, expected: str) -> None:
    assert written(spoken) == expected


@pytest.mark.parametrize(
    "words",
    [
        "no one",
        "one of them",
        "one or two",
        "two or one",
        "between one and two",
        "oh oh oh",
        "the first one",
        "a second later",
        "first second third",
        "you may first",
        "oh dear",
        "a point",
        "a man",
        "thousand islands",
        "negative space",
        "i am",
        "",
    ],
)
def test_words_that_are_hardly_numbers_stay_words(words: str) -> None:
    assert written(words) == words


@pytest.mark.parametrize("value", [*range(2, 130), 1000, 1066, 2001, 12_345, 700_000, 999_999, 1_234_567])
def test_digits_are_what_normalisation_spells(value: int) -> None:
    spelled = text.normalize(f"{value:,}")
    assert written(spelled) == str(value)


def test_each_number_says_how_many_words_it_stands_for() -> None:
    words = "at seven thirty he paid one hundred and five dollars".split()
    assert [n_words for _, n_words in to_digits(words)] == [1, 2, 1, 1, 4, 1]


def test_numbers_below_a_limit_stay_words() -> None:
    words = "nine of ten and twenty five".split()
    assert [token for token, _ in to_digits(words, least=10)] == ["nine", "of", "10", "and", "25"]
