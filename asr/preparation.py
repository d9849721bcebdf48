"""Manifests from recordings that have their texts beside them or in a table."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr.audio import find_audio, read_duration
from asr.errors import AsrError, ManifestError
from asr.manifest import Utterance
from asr.text import ZERO_BYTE, read_lines, read_text

DELIMITERS = {".csv": ",", ".tsv": "\t"}
# What a column may be called: by us, by Common Voice, by DeepSpeech.
_COLUMNS = {
    "audio": ("audio", "path", "wav_filename"),
    "text": ("text", "sentence", "transcript"),
    "id": ("id",),
    "speaker": ("speaker", "client_id"),
}
_QUOTES_HELP = {",": "; a text with commas stands in quotes"}
_HALF_QUOTED = "a quotation mark without its other half"
_LONGEST_ROW = 100  # lines that a text in quotes is followed for


@dataclass
class Preparation:
    """What was found in a folder or table, and one line for each recording that cannot be used.

    sources: the recordings and texts that this was found in, whether they can be used or not.
    """

    utterances: list[Utterance] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)


def seconds_of(audio: Path) -> float:
    """Duration of a recording, as much as can be heard of it. AudioError if it is unreadable or damaged."""
    return read_duration(audio)


def prepare(
    source: str | Path,
    *,
    corpus: str = "",
    speakers_from_folders: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Preparation:
    """The utterances of a folder or of a CSV or TSV table; recordings that fail are left out and named.

    A folder, searched with its subfolders, has a .txt of the same name beside every recording. A table
    has a header with the columns audio (relative to the table) and text, and perhaps id and speaker, or
    with those of Common Voice or DeepSpeech. A row is a line: a field in quotes may not go on in the next.
    speakers_from_folders: a recording's folder is named for who speaks in it.
    """
    source = Path(source)
    rows: list[_Row | ManifestError]
    if source.is_dir():
        rows = list(_folder_rows(source, speakers_from_folders))
    elif source.suffix.lower() in DELIMITERS:
        rows = list(_table_rows(source, speakers_from_folders))
    else:
        raise ManifestError(f"{source}: neither a folder nor a .csv or .tsv table")
    found = Preparation()
    for n_done, row in enumerate(rows, start=1):
        try:
            if isinstance(row, ManifestError):
                raise row
            found.sources.append(row.audio)
            if (text := row.text) is None:
                found.sources.append(row.audio.with_suffix(".txt"))
                text = text_beside(row.audio)
            seconds = seconds_of(row.audio)
            found.utterances.append(Utterance(row.id, row.audio, text, seconds, row.speaker, corpus))
        except AsrError as error:
            place = row.place if isinstance(row, _Row) else ""
            found.failures.append(f"{place}{error}")
        if on_progress:
            on_progress(n_done, len(rows))
    return found


@dataclass(frozen=True)
class _Row:
    """A recording; text None: in the .txt beside it; place: "TABLE:LINE: ", or empty."""

    id: str
    audio: Path
    text: str | None
    speaker: str
    place: str = ""


def _folder_rows(folder: Path, speakers_from_folders: bool) -> Iterator[_Row]:
    for audio in find_audio(folder, recursive=True):
        speaker = audio.parent.name if speakers_from_folders else ""
        yield _Row(audio.relative_to(folder).with_suffix("").as_posix(), audio, None, speaker)


def text_beside(audio: Path) -> str:
    """What the .txt of the same name says; ManifestError if there is none or it is no text."""
    path = audio.with_suffix(".txt")
    if not path.exists():
        raise ManifestError(f"{audio}: no {path.name} beside it says what is spoken")
    return " ".join(read_text(path).split())


def _table_rows(table: Path, speakers_from_folders: bool) -> Iterator[_Row | ManifestError]:
    """Every row, or why it cannot be used; ManifestError when that is so of the whole table."""
    delimiter = DELIMITERS[table.suffix.lower()]
    lines = read_lines(table)
    first = next((i for i, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ManifestError(f"{table}: is empty")
    try:
        names = [name.strip().lower() for name in _fields(lines[first], delimiter)]
    except ValueError as error:
        raise ManifestError(f"{table}:{first + 1}: {error}") from None
    columns = _columns(names, str(table))
    i = first + 1
    while i < len(lines):
        place, last = f"{table}:{i + 1}: ", i
        try:
            fields = _fields(lines[i], delimiter, len(names))
        except ValueError as error:
            last = _end_of_field(lines, i, len(names)) if str(error) == _HALF_QUOTED else i
            reason = "a text in quotes goes on in the next line" if last > i else error
            yield ManifestError(f"{place}{reason}")
        else:
            row = {key: fields[index].strip() for key, index in columns.items()}
            if row["audio"]:
                audio = _beside(table, row["audio"])
                speaker = row.get("speaker") or (audio.parent.name if speakers_from_folders else "")
                yield _Row(row.get("id") or row["audio"], audio, row["text"], speaker, place)
            elif any(fields):
                yield ManifestError(f"{place}needs audio and text")
        i = last + 1


def _columns(names: Sequence[str], table: str) -> dict[str, int]:
    """Where a row has what; ManifestError says which columns there are instead."""
    columns: dict[str, int] = {}
    for key, aliases in _COLUMNS.items():
        alias = next((alias for alias in aliases if alias in names), None)
        if alias is None:
            continue
        if names.count(alias) > 1:
            raise ManifestError(f"{table}: its first line names the column {alias} twice")
        columns[key] = names.index(alias)
    missing = [f"{key} ({', '.join(_COLUMNS[key][1:])})" for key in ("audio", "text") if key not in columns]
    if missing:
        found = ", ".join(name or "a nameless one" for name in names)
        raise ManifestError(
            f"{table}: its first line names no column {' and no '.join(missing)}; it has: {found[:200]}"
        )
    return columns


def _fields(line: str, delimiter: str, n_columns: int | None = None) -> list[str]:
    """The fields of a line; ValueError if it is no row, or not one of so many columns. Blank: all empty."""
    if "\0" in line:
        raise ValueError(ZERO_BYTE)
    if n_columns and not line.strip():
        return [""] * n_columns
    if delimiter == "\t":
        fields = line.split("\t")  # quotation marks are part of the text
    else:
        try:
            fields = next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
        except csv.Error as error:
            raise ValueError(_HALF_QUOTED if "unexpected end" in str(error) else error) from None
    if n_columns and len(fields) != n_columns:
        raise ValueError(f"has {len(fields)} columns, not {n_columns}{_QUOTES_HELP.get(delimiter, '')}")
    return fields


def _end_of_field(lines: Sequence[str], start: int, n_columns: int) -> int:
    """The last line of a row whose quotes hold line ends; `start` if its quotes are a mistake."""

    def is_row(text: str) -> bool:
        try:
            return len(next(csv.reader([text], strict=True, skipinitialspace=True))) == n_columns
        except (csv.Error, StopIteration):
            return False

    for end in range(start + 1, min(start + _LONGEST_ROW, len(lines))):
        if is_row(lines[end]):
            break
        if is_row(" ".join(lines[start : end + 1])):
            return end
    return start


def _beside(table: Path, audio: str) -> Path:
    """Where a recording lies: relative to the table, or to its folder clips, as Common Voice has it."""
    path, clip = table.parent / audio, table.parent / "clips" / audio
    return clip if not path.exists() and clip.exists() else path


def split(utterances: list[Utterance], share: float) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation utterances, no speaker in both; by utterance where all is one speaker.

    share: part of the duration for validation, 0..1. Who is in it follows from the names alone, so a
    corpus that grows keeps most of its split.
    """
    by_speaker = len({utterance.speaker for utterance in utterances}) > 1
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        groups[utterance.speaker if by_speaker else utterance.id].append(utterance)
    names = sorted(groups, key=lambda name: hashlib.sha256(name.encode()).digest())
    wanted = share * sum(utterance.duration for utterance in utterances)
    chosen: set[str] = set()
    seconds = 0.0
    for name in names[:-1]:  # never all of them
        if seconds >= wanted:
            break
        chosen.add(name)
        seconds += sum(utterance.duration for utterance in groups[name])
    is_chosen = [(u.speaker if by_speaker else u.id) in chosen for u in utterances]
    training = [u for u, held_out in zip(utterances, is_chosen, strict=True) if not held_out]
    return training, [u for u, held_out in zip(utterances, is_chosen, strict=True) if held_out]
