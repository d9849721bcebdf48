"""What a recognition gives: words with times and confidences, in segments. Plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One recognised word. start, end: seconds from the beginning of the recording; probability: 0..1."""

    text: str
    start: float
    end: float
    probability: float


@dataclass(frozen=True)
class Segment:
    """Words between two pauses. channel is None unless the channels were transcribed apart."""

    start: float
    end: float
    words: tuple[Word, ...]
    channel: int | None = None

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Transcript:
    """All segments of one recording in order of time. duration: seconds of audio that were heard."""

    segments: tuple[Segment, ...]
    duration: float

    @property
    def text(self) -> str:
        return " ".join(segment.text for segment in self.segments if segment.words)

    @property
    def words(self) -> tuple[Word, ...]:
        return tuple(word for segment in self.segments for word in segment.words)
