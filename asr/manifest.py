"""Manifests: one utterance a line, as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from asr.errors import ManifestError


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
    path: str | Path, *, corpus: str | None = None, limit: int | None = None
) -> list[Utterance]:
    """The utterances of a manifest; relative audio paths are relative to the manifest's folder.

    corpus: only its rows; limit: only the first so many.
    """
    path = Path(path)
    utterances = []
    try:
        # Not splitlines(): JSON may hold U+2028 and its like, which that takes for line ends.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            utterance = Utterance(
                id=str(entry.get("id", entry["audio"])),
                audio=path.parent / entry["audio"],
                text=str(entry["text"]),
                duration=float(entry["duration"]),
                speaker=str(entry.get("speaker", "")),
                corpus=str(entry.get("corpus", "")),
            )
            if not 0 <= utterance.duration < math.inf:
                raise ValueError(f"duration {utterance.duration}")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(
                f"{path}:{number}: not an utterance ({type(error).__name__}: {error}); "
                "needs audio, text and duration"
            ) from None
        utterances.append(utterance)
    if not utterances:
        raise ManifestError(f"{path}: holds no utterances")
    if corpus:
        utterances = [utterance for utterance in utterances if utterance.corpus == corpus]
        if not utterances:
            raise ManifestError(f"{path}: no rows of corpus {corpus}")
    return utterances[:limit]


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest; paths of audio below its folder are relative, so the folder can be moved."""
    from asr.files import write_atomically  # only those who write pay for its imports

    path = Path(path)
    folder = path.parent.resolve()
    lines = []
    for utterance in utterances:
        audio = utterance.audio.resolve()
        inside = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
        row = {**asdict(utterance), "audio": inside.as_posix(), "duration": round(utterance.duration, 3)}
        lines.append(json.dumps({key: value for key, value in row.items() if value != "" or key == "text"}))

    def write(file: str) -> None:
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    write_atomically(path, write)
