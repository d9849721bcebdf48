"""Text <-> label ids. Id 0 is the CTC blank; the others are characters or phones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ManifestError, UsageError
from asr.files import open_text, readable
from asr.text import normalize

BLANK = 0
BLANK_SYMBOL = "<blank>"
SPACE_SYMBOL = "|"

CHARACTERS = (BLANK_SYMBOL, SPACE_SYMBOL, "'", *"abcdefghijklmnopqrstuvwxyz")

# The 39 phones of the CMU Pronouncing Dictionary, without stress marks.
PHONES = (
    BLANK_SYMBOL,
    *"AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W".split(),
    *"Y Z ZH".split(),
)

KINDS: Mapping[str, tuple[str, ...]] = {"characters": CHARACTERS, "phones": PHONES}


@dataclass(frozen=True)
class Labels:
    """The symbols of one output layer, in the order of its units; symbols[0] is the blank."""

    kind: str
    symbols: tuple[str, ...]

    @classmethod
    def of_kind(cls, kind: str) -> Labels:
        """The labels called "characters" or "phones"; UsageError for any other name."""
        if kind not in KINDS:
            raise UsageError(f"labels '{kind}': unknown; choose from {', '.join(KINDS)}")
        return cls(kind, KINDS[kind])

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, units: Iterable[str]) -> list[int]:
        """Ids of symbols (for characters: of a string whose spaces become the space symbol)."""
        index = {symbol: i for i, symbol in enumerate(self.symbols)}
        if self.kind == "characters":
            units = (SPACE_SYMBOL if unit == " " else unit for unit in units)
        return [index[unit] for unit in units]

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of label ids without blanks: words for characters, "HH AH" for phones."""
        units = [self.symbols[i] for i in ids if i != BLANK]
        if self.kind == "characters":
            return " ".join("".join(units).replace(SPACE_SYMBOL, " ").split())
        return " ".join(units)


class Lexicon:
    """Words and their pronunciations: word -> one or more tuples of phones, the likeliest first."""

    def __init__(self, pronunciations: Mapping[str, Sequence[tuple[str, ...]]]) -> None:
        self.pronunciations = dict(pronunciations)

    def __contains__(self, word: str) -> bool:
        return word in self.pronunciations

    def __len__(self) -> int:
        return len(self.pronunciations)

    @classmethod
    def load(cls, path: str | Path) -> Lexicon:
        """Read `word<TAB>PHONE PHONE ...` lines, plain or .xz; repeated words are variants."""
        path = Path(path)
        if not path.is_file():
            raise ManifestError(f"{path}: lexicon not found; recipes/english/lexicon.py builds one")
        pronunciations: dict[str, list[tuple[str, ...]]] = {}
        known = set(PHONES[1:])
        with readable(path, "lexicon", ManifestError), open_text(path) as file:
            for number, line in enumerate(file, start=1):
                word, tab, phones = line.rstrip("\n").partition("\t")
                units = tuple(phones.split())
                if not tab or not units or not known.issuperset(units):
                    raise ManifestError(f"{path}:{number}: not 'word<TAB>PHONES': {line.strip()[:60]!r}")
                pronunciations.setdefault(word, []).append(units)
        if not pronunciations:
            raise ManifestError(f"{path}: holds no pronunciations")
        return cls(pronunciations)

    def phones(self, text: str) -> list[str] | None:
        """Phones of normalised text by each word's first pronunciation; None when a word is missing."""
        units: list[str] = []
        for word in text.split():
            variants = self.pronunciations.get(word)
            if variants is None:
                return None
            units.extend(variants[0])
        return units


def spelled_words(text: str) -> list[str] | None:
    """The words of a list of words: lower case, parted at hyphens; None if one cannot be spelled."""
    words = text.lower().replace("-", " ").split()
    letters = set(CHARACTERS) - {BLANK_SYMBOL, SPACE_SYMBOL}
    return words if letters.issuperset("".join(words)) else None


def read_cmudict(path: str | Path) -> dict[str, list[str]]:
    """The CMU Pronouncing Dictionary, plain or .xz: word -> blank-separated phones without stress.

    Variants come after the first pronunciation, in the order of the file; entries that are no word of a-z
    and apostrophes are left out.
    """
    pronunciations: dict[str, list[str]] = {}
    with open_text(path) as file:
        for line in file:
            word, *phones = line.split("#")[0].split() or [""]
            word = re.sub(r"\(\d+\)$", "", word).lower()
            spoken = " ".join(re.sub(r"\d", "", phone) for phone in phones)
            if re.fullmatch(r"[a-z']+", word) and spoken not in pronunciations.setdefault(word, []):
                pronunciations[word].append(spoken)
    return pronunciations


def frames_needed(target: Sequence[int]) -> int:
    """The fewest output frames that CTC can write a target in: one a label, and a blank between repeats."""
    return len(target) + sum(a == b for a, b in zip(target, target[1:], strict=False))


def targets(labels: Labels, text: str, lexicon: Lexicon | None) -> list[int] | None:
    """Label ids of a transcript; None when its pronunciation is not known. text: not yet normalised."""
    words = normalize(text)
    if labels.kind == "characters":
        return labels.encode(words)
    if lexicon is None:
        raise UsageError("phone labels need a lexicon: set data.lexicon in the configuration")
    units = lexicon.phones(words)
    return None if units is None else labels.encode(units)
