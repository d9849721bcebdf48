"""Manifests from recordings that have their texts beside them or in a table."""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from asr.audio import find_audio, read_duration
from asr.errors import AsrError, ManifestError
from asr.manifest import Utterance

DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass
class Preparation:
    """What was found in a folder or table, and one line for each recording that cannot be used."""

    utterances: list[Utterance] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


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
    has a header with the columns audio (relative to the table) and text, and perhaps id and speaker.
    speakers_from_folders: a recording's folder is named for who speaks in it.
    """
    source = Path(source)
    if source.is_dir():
        rows = list(_folder_rows(source, speakers_from_folders))
    elif source.suffix.lower() in DELIMITERS:
        rows = list(_table_rows(source, speakers_from_folders))
    else:
        raise ManifestError(f"{source}: neither a folder nor a .csv or .tsv table")
    found = Preparation()
    for n_done, (id, audio, text, speaker) in enumerate(rows, start=1):
        try:
            if text is None:
                text = _text_beside(audio)
            found.utterances.append(Utterance(id, audio, text, seconds_of(audio), speaker, corpus))
        except AsrError as error:
            found.failures.append(str(error))
        if on_progress:
            on_progress(n_done, len(rows))
    return found


Row = tuple[str, Path, str | None, str]  # id, audio, text (None: in the .txt beside it), speaker


def _folder_rows(folder: Path, speakers_from_folders: bool) -> Iterator[Row]:
    for audio in find_audio(folder, recursive=True):
        speaker = audio.parent.name if speakers_from_folders else ""
        yield audio.relative_to(folder).with_suffix("").as_posix(), audio, None, speaker


def _text_beside(audio: Path) -> str:
    path = audio.with_suffix(".txt")
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except FileNotFoundError:
        raise ManifestError(f"{audio}: no {path.name} beside it says what is spoken") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _table_rows(table: Path, speakers_from_folders: bool) -> Iterator[Row]:
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=DELIMITERS[table.suffix.lower()])
            missing = {"audio", "text"} - set(reader.fieldnames or ())
            if missing:
                names = " and no ".join(sorted(missing))
                raise ManifestError(f"{table}: its first line names no column {names}")
            for row in reader:
                if not row["audio"] or row["text"] is None:
                    raise ManifestError(f"{table}:{reader.line_num}: needs audio and text")
                audio = table.parent / row["audio"]
                speaker = row.get("speaker") or (audio.parent.name if speakers_from_folders else "")
                yield row.get("id") or row["audio"], audio, row["text"], speaker
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: {getattr(error, 'strerror', None) or error}") from None


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
