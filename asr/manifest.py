"""Manifests: one utterance a line, as JSON."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.errors import ManifestError
from asr.text import ZERO_BYTE, read_lines


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it. duration: seconds; audio: resolved against the manifest."""

    id: str
    audio: Path
    text: str
    duration: float
    speaker: str = ""
    corpus: str = ""


def read_manifest(
    path: str | Path,
    *,
    corpus: str | None = None,
    limit: int | None = None,
    failures: list[str] | None = None,
) -> list[Utterance]:
    """The utterances of a manifest; relative audio paths are relative to the manifest's folder.

    corpus: only its rows; limit: only the first so many.
    failures: gets one line for each row that cannot be used; if left out, the first one is an error.
    Raises ManifestError, also when no row can be used.
    """
    path = Path(path)
    utterances = []
    n_failures = 0
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            utterances.append(_utterance(line, path.parent))
        except (ValueError, OverflowError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            failure = f"{path}:{number}: not an utterance ({reason}); needs audio, text and duration"
            if failures is None:
                raise ManifestError(failure) from None
            failures.append(failure)
            n_failures += 1
    if not utterances:
        which = "that can be used" if n_failures else ""
        raise ManifestError(f"{path}: holds no utterances {which}".rstrip())
    if corpus:
        utterances = [utterance for utterance in utterances if utterance.corpus == corpus]
        if not utterances:
            raise ManifestError(f"{path}: no rows of corpus {corpus}")
    return utterances[:limit]


def _utterance(line: str, folder: Path) -> Utterance:
    """What a row says; ValueError, OverflowError or RecursionError when it cannot be used."""
    if "\0" in line:
        raise ValueError(ZERO_BYTE)
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("not a JSON object")
    missing = [key for key in ("audio", "text", "duration") if key not in entry]
    if missing:
        raise ValueError(f"no {' and no '.join(missing)}")
    audio, text, duration = entry["audio"], entry["text"], entry["duration"]
    for key, value in (("audio", audio), ("text", text)):
        if not isinstance(value, str):
            raise ValueError(f"{key} is {_shown(value)}, which is no text")
    text.encode()  # half of a surrogate pair could not be written anywhere
    os.fsencode(audio)
    if not audio or "\0" in audio:
        raise ValueError(f"audio is {_shown(audio)}, which is no path")
    if isinstance(duration, bool) or not isinstance(duration, int | float | str):
        raise ValueError(f"duration is {_shown(duration)}, which is no number")
    if not 0 <= float(duration) < math.inf:
        raise ValueError(f"duration is {_shown(duration)}, not 0 or more seconds")
    return Utterance(
        id=_name(entry, "id") or audio,
        audio=folder / audio,
        text=text,
        duration=float(duration),
        speaker=_name(entry, "speaker"),
        corpus=_name(entry, "corpus"),
    )


def _name(entry: Mapping[str, Any], key: str) -> str:
    """A text or a number as text; empty if there is none."""
    value = entry.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{key} is {_shown(value)}, which is no text")
    str(value).encode()
    return str(value)


def _shown(value: Any) -> str:
    return json.dumps(value)[:40]


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest; paths of audio below its folder are relative, so the folder can be moved."""
    from asr.files import write_text  # only those who write pay for its imports

    path = Path(path)
    folder = path.parent.resolve()
    lines = []
    for utterance in utterances:
        audio = utterance.audio.resolve()
        inside = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
        row = {**asdict(utterance), "audio": inside.as_posix(), "duration": round(utterance.duration, 3)}
        lines.append(json.dumps({key: value for key, value in row.items() if value != "" or key == "text"}))

    write_text(Path(path), "".join(f"{line}\n" for line in lines), overwrite=True)
