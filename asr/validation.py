"""What is wrong with a manifest and its recordings, before hours of training find out."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from asr.audio import SAMPLE_RATE, open_audio
from asr.errors import AsrError
from asr.labels import Labels, frames_needed
from asr.manifest import Utterance
from asr.text import normalize

FRAMES_PER_SECOND = 25  # of the model's output
CLIPPED_LEVEL = 0.999  # of full scale
MOST_CLIPPED = 0.001  # share of the samples
SILENCE_DB = -60.0  # root mean square, relative to full scale
DURATION_TOLERANCE = 0.1  # seconds between the manifest and the recording
HISTOGRAM_EDGES = (0, 1, 2, 5, 10, 15, 20, 30)  # seconds

# Every kind of finding -> its severity. Errors make an utterance useless or harmful for training.
SEVERITIES = {
    "unusable row": "error",
    "unreadable audio": "error",
    "empty text": "error",
    "audio too short for its text": "error",
    "silence": "error",
    "duplicate id": "error",
    "duplicate audio": "warning",
    "duplicate content": "warning",
    "unknown characters": "warning",
    "clipping": "warning",
    "wrong duration": "warning",
    "other sample rate": "note",
}


@dataclass(frozen=True)
class Finding:
    kind: str  # a key of SEVERITIES
    utterance: str  # id; for a row that is none, the manifest's path
    detail: str

    @property
    def severity(self) -> str:
        return SEVERITIES[self.kind]


@dataclass
class Validation:
    """All findings about a manifest; durations: seconds of the recordings that could be read."""

    n_utterances: int
    findings: list[Finding] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings by kind, the severest kinds first, without kinds that were not found."""
        grouped = {kind: [f for f in self.findings if f.kind == kind] for kind in SEVERITIES}
        return {kind: found for kind, found in grouped.items() if found}

    def histogram(self) -> list[tuple[str, int, float]]:
        """(range, recordings, seconds) for ranges of duration."""
        rows = []
        for low, high in zip(HISTOGRAM_EDGES, (*HISTOGRAM_EDGES[1:], float("inf")), strict=True):
            inside = [duration for duration in self.durations if low <= duration < high]
            name = f"{low}-{high:g} s" if high < float("inf") else f"over {low} s"
            rows.append((name, len(inside), sum(inside)))
        return rows


@dataclass(frozen=True)
class _Sound:
    sample_rate: int
    seconds: float
    level_db: float
    clipped: float  # share of the samples
    digest: str


def validate(
    utterances: Iterable[Utterance], on_progress: Callable[[int], None] | None = None
) -> Validation:
    """Look at every text and listen to every recording; on_progress gets the number that is done."""
    utterances = list(utterances)
    result = Validation(len(utterances))
    seen: dict[tuple[str, str], str] = {}  # (kind of duplicate, what is compared) -> the first id with it
    for n_done, utterance in enumerate(utterances, start=1):
        keys = {"duplicate id": utterance.id, "duplicate audio": str(utterance.audio.resolve())}
        found = list(_text_findings(utterance))
        try:
            sound = _listen(utterance)
        except AsrError as error:
            found.append(("unreadable audio", str(error)))
        else:
            keys["duplicate content"] = sound.digest
            result.durations.append(sound.seconds)
            found += _sound_findings(utterance, sound)
        for key in keys.items():
            if key in seen:
                found.append((key[0], f"the same as {seen[key]}"))
            seen.setdefault(key, utterance.id)
        result.findings += [Finding(kind, utterance.id, detail) for kind, detail in found]
        if on_progress:
            on_progress(n_done)
    return result


def _text_findings(utterance: Utterance) -> Iterator[tuple[str, str]]:
    if not normalize(utterance.text):
        yield "empty text", repr(utterance.text)
    unknown = unknown_characters(utterance.text)
    if unknown:
        yield "unknown characters", unknown


def _sound_findings(utterance: Utterance, sound: _Sound) -> Iterator[tuple[str, str]]:
    label = Labels.of_kind("characters").encode(normalize(utterance.text))
    needed = frames_needed(label) / FRAMES_PER_SECOND
    if needed > sound.seconds:
        yield "audio too short for its text", f"{sound.seconds:.2f} s, needs {needed:.2f} s"
    if sound.level_db < SILENCE_DB:
        yield "silence", f"{sound.level_db:.0f} dB"
    if sound.clipped > MOST_CLIPPED:
        yield "clipping", f"{100 * sound.clipped:.1f} % of the samples"
    if abs(sound.seconds - utterance.duration) > DURATION_TOLERANCE:
        yield "wrong duration", f"{sound.seconds:.2f} s, not {utterance.duration:.2f} s"
    if sound.sample_rate != SAMPLE_RATE:
        yield "other sample rate", f"{sound.sample_rate} Hz"


def unknown_characters(text: str) -> str:
    """Letters, digits and symbols that normalisation drops, so that a spoken word has no label."""
    spoken = {c for c in text if unicodedata.category(c)[0] in "LNS"}
    return " ".join(sorted(c for c in spoken if normalize(f"a{c}a") == "aa"))


def _listen(utterance: Utterance) -> _Sound:
    n_samples, n_clipped, power = 0, 0, 0.0
    digest = hashlib.sha256()
    with open_audio(utterance.audio) as reader:
        for block in reader:
            n_samples += len(block)
            n_clipped += int((np.abs(block) >= CLIPPED_LEVEL).sum())
            power += float((block.astype(np.float64) ** 2).sum())
            digest.update(block.tobytes())
        rate = reader.sample_rate
    level_db = 10 * float(np.log10(max(power / n_samples, 1e-20)))
    return _Sound(rate, n_samples / SAMPLE_RATE, level_db, n_clipped / n_samples, digest.hexdigest())
