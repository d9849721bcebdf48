"""Manifests: one utterance a line, as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
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
