"""Spoken numbers -> digits: the inverse of what asr.text does when it spells them."""

from __future__ import annotations

from collections.abc import Iterable

_DIGITS = {
    word: value for value, word in enumerate("zero one two three four five six seven eight nine".split())
}
_TEENS = {
    word: value
    for value, word in enumerate(
        "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split(), start=10
    )
}
_TENS = {
    word: 10 * value
    for value, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), start=2)
}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IRREGULAR_ORDINALS = {
    "first": "one",
    "second": "two",
    "third": "three",
    "fifth": "five",
    "eighth": "eight",
    "ninth": "nine",
    "twelfth": "twelve",
}
_REGULAR = [*_DIGITS, *_TEENS, "hundred", *_SCALES]
_ORDINALS = (
    {f"{word}th": word for word in _REGULAR}
    | {f"{word.removesuffix('y')}ieth": word for word in _TENS}
    | _IRREGULAR_ORDINALS
)
_DECADES = {f"{word.removesuffix('y')}ies": value for word, value in _TENS.items()} | {"hundreds": 0}
_OH = {"oh", "o"}  # how a zero is read within a row of digits
# Without May and March: "may first" and "march second" are usually verbs.
_MONTHS = set("january february april june july august september october november december".split())
_HALVES = {"a m": "am", "p m": "pm"}

Read = tuple[str, int]  # what is written, and how many words it stands for


def to_digits(words: Iterable[str], *, least: int = 0) -> list[Read]:
    """Each word or spoken number as it is written, with the number of words that it stands for.

    Cardinals ("one hundred and five" -> 105), ordinals (21st), decimals (3.14), rows of three digits
    and more (007), years from 1100 to 2099 (1984, 1905, 1980s), times (7:30 pm), percentages (5%) and
    negative numbers (-5). What is as often no number stays a word: "one" alone, "first" to "ninth"
    where no month is near, "a second". Small numbers that belong together are written alike ("one or
    two"). least: whole numbers of one word below it stay words.
    """
    words = list(words)
    read: list[Read] = []
    start = 0
    while start < len(words):
        found = (
            _time(words, start)
            or _digit_row(words, start)
            or _year(words, start)
            or _date(words, start)
            or _phone_row(words, start)
            or _words_alike(words, start)
            or _number(words, start)
            or (words[start], 1)
        )
        if found[1] == 1 and found[0].isdigit() and int(found[0]) < least:
            found = (words[start], 1)
        read.append(found)
        start += found[1]
    return read


def _below_hundred(words: list[str], start: int) -> tuple[int, int] | None:
    """(value, end) of the number from 0 to 99 that begins at start."""
    word = words[start] if start < len(words) else ""
    if word in _DIGITS or word in _TEENS:
        return (_DIGITS | _TEENS)[word], start + 1
    if word not in _TENS:
        return None
    unit = _DIGITS.get(words[start + 1], 0) if start + 1 < len(words) else 0
    return _TENS[word] + unit, start + (2 if unit else 1)


def _hundreds(words: list[str], start: int) -> tuple[int, int] | None:
    """(value, end) of the number below a thousand, or like "twelve hundred", that begins at start."""
    following = words[start + 1] if start + 1 < len(words) else ""
    if words[start : start + 1] == ["a"] and (following == "hundred" or following in _SCALES):
        found: tuple[int, int] | None = (1, start + 1)
    else:
        found = _below_hundred(words, start)
    if found is None or found[0] == 0 or words[found[1] : found[1] + 1] != ["hundred"]:
        return found
    value, end = 100 * found[0], found[1] + 1
    rest = _below_hundred(words, end + (words[end : end + 1] == ["and"]))
    if rest is None or rest[0] == 0 or words[rest[1] : rest[1] + 1] == ["hundred"]:
        return value, end
    return value + rest[0], rest[1]


def _cardinal(words: list[str], start: int) -> tuple[int, int] | None:
    """(value, end) of the whole number that begins at start."""
    total, end, ceiling = 0, start, 10**15
    while True:
        joined = end > start and words[end : end + 1] == ["and"]  # "two thousand and ten"
        found = _hundreds(words, end + joined)
        if found is None or (total and found[0] == 0) or (joined and found[0] >= 100):
            break
        scale = _SCALES.get(words[found[1]], 1) if found[1] < len(words) else 1
        if scale >= ceiling or (scale == 1 and found[0] >= ceiling) or (joined and scale > 1):
            break
        total, end, ceiling = total + found[0] * scale, found[1] + (scale > 1), scale
        if scale == 1:
            break
    return (total, end) if end > start else None


def _ordinal(words: list[str], start: int) -> tuple[int, int] | None:
    """(value, end) of the ordinal number that begins at start."""
    cardinal = _cardinal(words, start)
    ends = {start} if cardinal is None else {cardinal[1], cardinal[1] + 1}  # + 1: "... and first"
    for last in sorted(ends):
        if last < len(words) and words[last] in _ORDINALS:
            spelled = [*words[start:last], _ORDINALS[words[last]]]
            whole = _cardinal(spelled, 0)
            if whole and whole[1] == len(spelled):
                return whole[0], last + 1
    return None


def _with_suffix(value: int) -> str:
    if value % 100 in {11, 12, 13}:
        return f"{value}th"
    return f"{value}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(value % 10, 'th') }"


def _number(words: list[str], start: int) -> Read | None:
    """A cardinal with what may follow it (decimals, percent, million), or an ordinal."""
    ordinal = _ordinal(words, start)
    if ordinal:
        value, end = ordinal
        return (_with_suffix(value), end - start) if value >= 10 else None
    is_negative = words[start] in {"minus", "negative"}
    first = start + is_negative
    cardinal = _cardinal(words, first)
    if cardinal is None:
        return None
    value, end = cardinal
    digits = str(value)
    is_plain = end == first + 1 and words[first] == "one" and not is_negative
    decimals = _decimals(words, end)
    if decimals:
        digits, end = f"{digits}.{decimals}", end + 1 + len(decimals)
        if end < len(words) and words[end] in _SCALES:  # "two point five million"
            digits, end = f"{digits} {words[end]}", end + 1
    elif words[end - 1] in _SCALES and value % 10**6 == 0 and value:
        scale = _SCALES[words[end - 1]]
        digits = f"{value // scale} {words[end - 1]}"
    if words[end : end + 1] == ["percent"]:
        digits, end = f"{digits}%", end + 1
    elif words[end : end + 2] == ["per", "cent"]:
        digits, end = f"{digits}%", end + 2
    elif is_plain and not decimals:
        return None
    return ("-" if is_negative else "") + digits, end - start


def _decimals(words: list[str], start: int) -> str:
    """The digits after "point" at start, else nothing."""
    if start >= len(words) or words[start] != "point":
        return ""
    return _row(words, start + 1)


def _row(words: list[str], start: int) -> str:
    """The digits that are read one by one from start on."""
    row = ""
    for word in words[start:]:
        if word not in _DIGITS and word not in _OH:
            break
        row += str(_DIGITS.get(word, 0))
    return row


def _digit_row(words: list[str], start: int) -> Read | None:
    """Three digits or more, read one by one: a telephone number, a code."""
    row = _row(words, start)
    if not row.strip("0") and words[start] in _OH:  # "oh oh oh" is an exclamation
        return None
    while row and words[start + len(row) - 1] in _OH:  # "one two oh" may go on with an exclamation
        row = row[:-1]
    after = start + len(row)
    goes_on = after < len(words) and words[after] in {"point", "hundred", *_SCALES}
    return None if len(row) < 3 or goes_on else (row, len(row))


def _phone_row(words: list[str], start: int) -> Read | None:
    """ "eight hundred five five five" -> 800555, where three digits or more follow, read one by one."""
    if words[start] not in _DIGITS or words[start + 1 : start + 2] != ["hundred"]:
        return None
    row = _digit_row(words, start + 2) if start + 2 < len(words) else None
    return (f"{_DIGITS[words[start]]}00{row[0]}", 2 + row[1]) if row else None


def _words_alike(words: list[str], start: int) -> Read | None:
    """A digit that is joined to "one", which stays a word: "one or two", "between one and two"."""
    if words[start] not in _DIGITS or _below_hundred(words, start) != (_DIGITS[words[start]], start + 1):
        return None
    for place in (start - 2, start + 2):
        between = words[min(place, start) + 1 : max(place, start)]
        if 0 <= place < len(words) and words[place] in _DIGITS and "one" in (words[place], words[start]):
            last = max(place, start)
            is_single = last + 1 == len(words) or words[last + 1] not in {
                "point",
                "percent",
                "hundred",
                *_SCALES,
            }
            if is_single and between in (["or"], ["and"], ["to"]):
                return words[start], 1
    return None


def _year(words: list[str], start: int) -> Read | None:
    """A year of two halves, from 1100 to 2099, or a decade."""
    century = (_TEENS | {"twenty": 20}).get(words[start], 0)
    if century <= 10 or start + 1 >= len(words):
        return None
    second = words[start + 1]
    if second in _DECADES:
        return f"{100 * century + _DECADES[second]}s", 2
    if second in _OH and start + 2 < len(words) and words[start + 2] in _DIGITS:
        return f"{100 * century + _DIGITS[words[start + 2]]}", 3
    rest = _below_hundred(words, start + 1)
    if rest is None or rest[0] < 10 or _scale_follows(words, rest[1]):
        return None
    if _ordinal(words, start + 1):  # "twenty ninth" is not reached, "twenty thirty first" is
        return None
    return f"{100 * century + rest[0]}", rest[1] - start


def _scale_follows(words: list[str], end: int) -> bool:
    return end < len(words) and (words[end] == "hundred" or words[end] in _SCALES)


def _time(words: list[str], start: int) -> Read | None:
    """A time of the day: "seven thirty p m", "ten o'clock", and after "at" also "seven thirty"."""
    hour = _below_hundred(words, start)
    if hour is None or not 1 <= hour[0] <= 23:
        return None
    minutes, end = "", hour[1]
    if words[end : end + 1] and words[end] in _OH and end + 1 < len(words) and words[end + 1] in _DIGITS:
        minutes, end = f":0{_DIGITS[words[end + 1]]}", end + 2
    elif (rest := _below_hundred(words, end)) and 10 <= rest[0] <= 59:
        minutes, end = f":{rest[0]}", rest[1]
    if hour[0] <= 12:
        if not minutes and words[end : end + 1] == ["o'clock"]:
            return f"{hour[0]} o'clock", end + 1 - start
        half = _HALVES.get(" ".join(words[end : end + 2]))
        if half:
            return f"{hour[0]}{minutes} {half}", end + 2 - start
        if end < len(words) and words[end] in {"am", "pm"} and (minutes or words[end] == "pm"):
            return f"{hour[0]}{minutes} {words[end]}", end + 1 - start
    if minutes and start and words[start - 1] == "at":
        return f"{hour[0]}{minutes}", end - start
    return None


def _date(words: list[str], start: int) -> Read | None:
    """An ordinal of one word beside a month: "june third", "the third of june"."""
    ordinal = _ordinal(words, start)
    if ordinal is None or ordinal[0] > 31:
        return None
    end = ordinal[1]
    after = words[end : end + 2]
    follows = start > 0 and words[start - 1] in _MONTHS
    precedes = len(after) == 2 and after[0] == "of" and after[1] in _MONTHS | {"may", "march"}
    return (_with_suffix(ordinal[0]), end - start) if follows or precedes else None
