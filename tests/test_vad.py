"""Telling speech from silence and noise."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from asr.audio import read_audio
from asr.vad import CHUNK, SpeechDetector
from tests.conftest import SENTENCE

STEP = 5 * CHUNK


def steps_with_speech(samples: np.ndarray) -> list[bool]:
    detector = SpeechDetector()
    return [detector.feed(samples[i : i + STEP]) for i in range(0, len(samples) - STEP + 1, STEP)]


def test_a_sentence_is_speech_and_the_silence_around_it_is_not() -> None:
    found = steps_with_speech(np.pad(read_audio(SENTENCE), 32_000))
    assert not any(found[:12]) and not any(found[-9:])
    assert sum(found) >= 10  # of the 14 steps that the recording is long


@pytest.mark.parametrize("level", [0.0, 1e-4, 0.01, 0.3])
def test_noise_is_not_speech(level: float) -> None:
    noise = np.random.default_rng(1).normal(0, level, 160_000).astype(np.float32)
    assert not any(steps_with_speech(noise))


def test_a_tone_is_not_speech() -> None:
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(80_000) / 16_000)
    assert not any(steps_with_speech(tone.astype(np.float32)))


def test_a_reset_forgets_what_was_heard() -> None:
    speech, detector = read_audio(SENTENCE), SpeechDetector()
    blocks = [speech[i : i + STEP] for i in range(0, 12 * STEP, STEP)]
    first = [detector.feed(block) for block in blocks]
    detector.reset()
    assert [detector.feed(block) for block in blocks] == first


def test_speech_is_found_however_the_samples_are_divided() -> None:
    speech = read_audio(SENTENCE)
    sizes = np.random.default_rng(1).integers(0, 2_000, 200)
    edges = np.minimum(np.cumsum(sizes), len(speech) // CHUNK * CHUNK)
    one, other = SpeechDetector(), SpeechDetector()
    n_before = 0
    for part in np.split(speech, edges)[:-1]:
        n_after = n_before + len(part)
        chunks = speech[n_before // CHUNK * CHUNK : n_after // CHUNK * CHUNK]
        assert one.feed(part) == other.feed(chunks)
        n_before = n_after


def test_no_samples_hold_no_speech() -> None:
    assert not SpeechDetector().feed(np.zeros(0, np.float32))


def test_it_needs_no_torch() -> None:
    code = (
        "import sys; from asr.vad import CHUNK, SpeechDetector; import numpy;"
        " SpeechDetector().feed(numpy.zeros(CHUNK, numpy.float32)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
