"""One normalisation of English text, for training labels, the language model and scoring alike; text files.

Normalised text holds a-z, the apostrophe inside words, and single spaces: the spelling of LibriSpeech
transcripts in lower case.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from asr.errors import AsrError, ManifestError

# UTF-32 comes first: its mark begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
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


def read_text(path: str | Path, error: type[AsrError] = ManifestError) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte-order mark; its lines end with "\\n".

    Raises the error, in one line, for what cannot be read or is no text.
    """
    lines = read_lines(path, error)
    for number, line in enumerate(lines, start=1):
        if "\0" in line:
            raise error(f"{path}:{number}: {ZERO_BYTE}")
    return "\n".join(lines)


ZERO_BYTE = "holds a zero byte, as damaged files and UTF-16 without a byte-order mark do; save it as UTF-8"


def read_lines(path: str | Path, error: type[AsrError] = ManifestError) -> list[str]:
    """The lines of such a file without their ends, so that one with zero bytes costs only itself.

    Only line feeds and carriage returns end a line: JSON may hold U+2028 and its like.
    """
    try:
        data = Path(path).read_bytes()
    except (OSError, ValueError) as problem:  # ValueError: a zero byte in the path
        raise error(f"{path}: {getattr(problem, 'strerror', None) or problem}") from None
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as problem:
        if encoding != "utf-8":
            raise error(f"{path}: begins as {encoding.upper()} but is not whole; save it as UTF-8") from None
        number = data.count(b"\n", 0, problem.start) + 1
        raise error(
            f"{path}:{number}: is not a text file in UTF-8 (byte 0x{data[problem.start]:02x}); save it as"
            " UTF-8, or convert it with iconv -f WINDOWS-1252 -t UTF-8"
        ) from None
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return [line.lstrip("\ufeff") for line in lines]  # files that were joined have a mark in the middle
