"""One normalisation of English text, for training labels, the language model and scoring alike.

Normalised text holds a-z, the apostrophe inside words, and single spaces: the spelling of LibriSpeech
transcripts in lower case.
"""

from __future__ import annotations

import re
import unicodedata

_LIGATURES = str.maketrans(
    {"æ": "ae", "Æ": "ae", "œ": "oe", "Œ": "oe", "ß": "ss", "ø": "o", "Ø": "o", "ł": "l", "Ł": "l"}
    | {"þ": "th", "Þ": "th", "đ": "d", "Đ": "d", "ð": "d", "Ð": "d", "ı": "i"}
)
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
# Read books write these with a full stop; LibriSpeech spells them as they are read.
_ABBREVIATIONS = {
    "mr": "mister",
    "mrs": "missus",
    "dr": "doctor",
    "messrs": "messieurs",
    "etc": "et cetera",
}
_ABBREVIATION = re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+|(?:st|nd|rd|th)\b)?", re.IGNORECASE)
_DECADE = re.compile(r"(?<![\w.,])'?(\d\d)?([1-9]0|00)'?s\b", re.IGNORECASE)  # 1980s, 1900's, '80s
_LONGEST_NUMBER = 15  # digits; a longer one is read digit by digit, as telephone numbers are
_SYMBOLS = {"&": " and ", "%": " percent ", "+": " plus ", "@": " at "}


def normalize(text: str) -> str:
    """The words of a text as they are spoken: lower case, a-z and apostrophes, single spaces.

    Digits become words without "and" ("215" -> "two hundred fifteen"), hyphens and dashes become
    spaces, accents are folded; all other characters are dropped.
    """
    text = text.translate(_APOSTROPHES).translate(_LIGATURES)
    text = _ABBREVIATION.sub(lambda match: f"{_ABBREVIATIONS[match[1].lower()]} ", text)
    for symbol, spoken in _SYMBOLS.items():
        text = text.replace(symbol, spoken)
    if any(character.isdigit() for character in text):
        text = _DECADE.sub(lambda match: f" {_spell_decade(match)} ", text)
        text = _NUMBER.sub(lambda match: f" {_spell_number(match[0])} ", text)
    text = unicodedata.normalize("NFKD", text).lower()
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"(?<=[a-z])\.(?=[a-z]\b)", " ", text)  # initials: "u.s.a." is read letter by letter
    text = re.sub(r"[.](?!\s|$)|[-‐‑‒–—/_:;,!?()\[\]…]", " ", text)
    text = re.sub(r"[^a-z' ]", "", re.sub(r"\s", " ", text))
    words = (word.strip("'") if not _keeps_apostrophe(word) else word for word in text.split())
    return " ".join(word for word in words if word)


def _keeps_apostrophe(word: str) -> bool:
    """Whether the apostrophe at an edge belongs to the word ('tis, o') rather than quoting it."""
    return word in {"'tis", "'twas", "'em", "o'", "'cause", "'til", "'bout"}


def _spell_decade(decade: re.Match[str]) -> str:
    """ "1980s" -> "nineteen eighties", "1900s" -> "nineteen hundreds", "2000s" -> "two thousands"."""
    from num2words import num2words

    century, year = int(decade[1] or 0), int(decade[2])
    if century == 0 and year == 0:
        return decade[0]
    if year == 0:
        spoken = (
            f"{num2words(century // 10)} thousand" if century % 10 == 0 else f"{num2words(century)} hundred"
        )
        return f"{spoken}s"
    first = f"{num2words(century)} " if century else ""
    tens = num2words(year)
    return first + (f"{tens[:-1]}ies" if tens.endswith("y") else f"{tens}s")


def _spell_number(number: str) -> str:
    from num2words import num2words  # only texts with digits pay for the import

    plain = number.replace(",", "").lower()
    if len(plain) > _LONGEST_NUMBER:
        spoken = " ".join(num2words(int(digit)) for digit in plain if digit.isdigit())
    elif plain[-2:] in {"st", "nd", "rd", "th"}:
        spoken = num2words(int(plain[:-2]), to="ordinal")
    elif plain.isdigit() and len(plain) == 4 and 1100 <= int(plain) <= 1999 and "," not in number:
        spoken = num2words(int(plain), to="year")
    else:
        spoken = num2words(float(plain) if "." in plain else int(plain))
    return re.sub(r"\band\b", " ", spoken.replace("-", " ").replace(",", " "))
