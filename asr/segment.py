"""Where speech pauses: cut points in a long recording, and whether there is any speech at all.

A recording is cut into pieces of 10 to 20 seconds where it is quietest. Each piece is heard with two
seconds of its neighbours on either side, whose outputs are then dropped, so the outputs of all pieces
join into one sequence as if the recording had been heard whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

SAMPLE_RATE = 16_000
GRID = 640  # samples of one output frame: cuts lie on this grid so that output frames of pieces join
_HOP = 160  # samples between two measurements of loudness
_AUDIBLE_OFFSET = 0.003  # a mean that is louder than the pauses of a recording, as bad hardware adds


@dataclass(frozen=True)
class CutConfig:
    shortest: float = 10.0  # seconds before a cut may come
    longest: float = 20.0  # seconds; training heard nothing longer
    context: float = 2.0  # seconds of the neighbours that are heard with a piece
    smoothing: float = 0.3  # seconds over which loudness is averaged


@dataclass(frozen=True)
class Piece:
    """samples: float32 at 16 kHz, context included; the piece proper is output frames [first, last)."""

    samples: np.ndarray
    first: int
    last: int | None  # None: to the end of the recording

    @property
    def proper(self) -> np.ndarray:
        """The samples without the context."""
        return self.samples[self.first * GRID : None if self.last is None else self.last * GRID]


def cut(blocks: Iterable[np.ndarray], config: CutConfig = CutConfig()) -> Iterator[Piece]:
    """Pieces of a recording that comes as blocks of samples; holds little more than one piece."""
    shortest, longest, context = (
        int(seconds * SAMPLE_RATE) // GRID * GRID
        for seconds in (config.shortest, config.longest, config.context)
    )
    buffer = np.zeros(0, np.float32)
    start = 0  # of the next piece, in the buffer; before it lies context
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        while len(buffer) - start >= longest + context:
            end = start + _quietest(buffer[start : start + longest], shortest, config.smoothing)
            yield Piece(buffer[: end + context], start // GRID, end // GRID)
            begin = max(0, end - context)
            buffer, start = buffer[begin:].copy(), end - begin
    if len(buffer) > start:
        yield Piece(buffer, start // GRID, None)


def loudness(samples: np.ndarray, smoothing: float) -> np.ndarray:
    """Mean power in decibels around each 10 ms, averaged over `smoothing` seconds."""
    n = len(samples) // _HOP
    power = np.square(samples[: n * _HOP].reshape(n, _HOP)).mean(1)
    window = np.hanning(max(3, round(smoothing * SAMPLE_RATE / _HOP)) + 2)[1:-1]
    smooth = np.convolve(power, window / window.sum(), mode="same")
    return 10 * np.log10(smooth + 1e-10)


def _quietest(samples: np.ndarray, shortest: int, smoothing: float) -> int:
    """Position of the quietest moment after `shortest` samples, on the grid of output frames."""
    offset = samples.mean()
    level = loudness(samples - offset if abs(offset) > _AUDIBLE_OFFSET else samples, smoothing)
    first = shortest // _HOP
    return (first + int(level[first:].argmin())) * _HOP // GRID * GRID


def may_hold_speech(samples: np.ndarray, *, floor_db: float = -75.0, movement_db: float = 4.0) -> bool:
    """False for what cannot be speech: too quiet everywhere, or of a steady level like noise.

    Syllables move the level of speech by far more than movement_db (between its 5th and 95th
    percentile), a fan or hiss by less. No word is shorter than 0.1 seconds; below 0.3 seconds the level
    says too little, and all that is loud enough passes. An offset or hum that drowns the movement is
    filtered out before a recording is given up.
    """
    if len(samples) < SAMPLE_RATE // 10:
        return False
    level = loudness(samples, 0.05)
    if np.percentile(level, 95) < floor_db:
        return False
    if len(level) < 30 or _moves(level, movement_db):
        return True
    level = loudness(_without_low_tones(samples), 0.05)
    return float(np.percentile(level, 95)) >= floor_db and _moves(level, movement_db)


def _moves(level: np.ndarray, movement_db: float) -> bool:
    low, high = np.percentile(level, [5, 95])
    return float(high - low) >= movement_db


def _without_low_tones(samples: np.ndarray) -> np.ndarray:
    """The samples above some 300 Hz, 70 dB below which no offset and no hum is left; shorter by 50 ms."""
    n_taps = _HOP * 5 + 1
    time = np.arange(n_taps) - n_taps // 2
    low_pass = np.blackman(n_taps) * np.sinc(2 * 300 / SAMPLE_RATE * time)
    taps = -low_pass / low_pass.sum()
    taps[n_taps // 2] += 1
    size = 1 << (len(samples) + n_taps).bit_length()  # other sizes may take a hundred times as long
    filtered = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(taps, size), size)
    return filtered[n_taps - 1 : len(samples)]


@dataclass(frozen=True)
class EndpointConfig:
    """When an utterance of a stream ends; the rules and their defaults are those of Kaldi's online
    decoders. The utterance's length also bounds what a stream keeps in memory.
    """

    rule1_min_trailing_silence: float = 2.4  # seconds without speech, when there was no word at all
    rule2_min_trailing_silence: float = 1.2  # seconds since the last word
    rule3_min_utterance_length: float = 20.0  # seconds; training heard nothing longer

    def has_paused(self, silence: float, *, after_words: bool) -> bool:
        """Whether so many seconds of silence end the utterance."""
        if after_words:
            return silence >= self.rule2_min_trailing_silence
        return silence >= self.rule1_min_trailing_silence

    def is_too_long(self, seconds: float) -> bool:
        """Whether the utterance ends although the speaker goes on."""
        return seconds >= self.rule3_min_utterance_length


ENDPOINT_MODES: Mapping[str, EndpointConfig] = {
    "default": EndpointConfig(),
    "short": EndpointConfig(rule1_min_trailing_silence=1.6, rule2_min_trailing_silence=0.6),
    "long": EndpointConfig(rule1_min_trailing_silence=3.6, rule2_min_trailing_silence=2.0),
    "very-long": EndpointConfig(
        rule1_min_trailing_silence=6.0,
        rule2_min_trailing_silence=4.0,
        rule3_min_utterance_length=30.0,
    ),
}
