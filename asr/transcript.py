"""What a recognition gives: words with times and confidences, in segments. Plain values, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

# That any word of a segment is right: takes nearly all words found in noise, and 1 of 10,000 spoken ones.
MIN_CONFIDENCE = 0.75


@dataclass(frozen=True)
class Word:
    """One recognised word. start, end: seconds from the beginning of the recording; probability: 0..1.

    characters: its letters in the same form, where they have been asked for.
    """

    text: str
    start: float
    end: float
    probability: float
    characters: tuple[Word, ...] = ()

    def shifted(self, seconds: float) -> Word:
        """The same word so much later."""
        characters = tuple(character.shifted(seconds) for character in self.characters)
        return replace(
            self, start=self.start + seconds, end=self.end + seconds, characters=characters
        )


def are_believable(words: Sequence[Word], min_confidence: float, *, least: float = 0.0) -> bool:
    """Whether at least one of the words is right with this probability, 0 to 1.

    Else they were found in a sneeze or a bark. The words count as independent of one another.
    least: the probability that a word needs to count.
    """
    likely = [word.probability for word in words if word.probability >= least]
    return 1 - math.prod(1 - probability for probability in likely) >= min_confidence


@dataclass(frozen=True)
class Alternative:
    """Another text of a segment. score: natural logarithm, acoustics and language model together."""

    text: str
    score: float


@dataclass(frozen=True)
class Segment:
    """Words between two pauses. channel is None unless the channels were transcribed apart.

    alternatives: if asked for, the likeliest texts, the segment's own first.
    """

    start: float
    end: float
    words: tuple[Word, ...]
    channel: int | None = None
    alternatives: tuple[Alternative, ...] = ()

    @classmethod
    def of(cls, words: tuple[Word, ...]) -> Segment:
        """The segment that these words fill; there is at least one."""
        return cls(words[0].start, words[-1].end, words)

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)

    def shifted(self, seconds: float) -> Segment:
        """The same segment so much later."""
        words = tuple(word.shifted(seconds) for word in self.words)
        return replace(self, start=self.start + seconds, end=self.end + seconds, words=words)


@dataclass(frozen=True)
class Partial:
    """What a stream has heard of an utterance that goes on; both empty when it came to nothing.

    Words move from tentative to committed and never back. A committed word stays as it is; only a
    second pass replaces it, in the Final.
    """

    committed: tuple[Word, ...]
    tentative: tuple[Word, ...]

    @property
    def words(self) -> tuple[Word, ...]:
        return self.committed + self.tentative

    @property
    def text(self) -> str:
        return " ".join(word.text for word in self.words)


@dataclass(frozen=True)
class Final:
    """An utterance that has ended, with at least one word. Times count from the stream's beginning.

    first_pass: the words that a second pass has replaced; None without one.
    """

    segment: Segment
    first_pass: tuple[Word, ...] | None = None


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
