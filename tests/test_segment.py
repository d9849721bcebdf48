"""Cutting long recordings, telling sound from possible speech, and the end of an utterance."""

import numpy as np
import pytest

from asr.segment import ENDPOINT_MODES, GRID, CutConfig, EndpointConfig, cut, loudness, may_hold_speech

SECOND = 16_000


def blocks_of(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def proper_parts(samples: np.ndarray, size: int) -> list[np.ndarray]:
    """The samples of each piece without its context."""
    return [
        piece.samples[piece.first * GRID : None if piece.last is None else piece.last * GRID]
        for piece in cut(blocks_of(samples, size))
    ]


@pytest.mark.parametrize("size", [700, 16_000, 400_000])
@pytest.mark.parametrize("seconds", [0.005, 3, 21, 75.3])
def test_the_pieces_without_context_are_the_recording(seconds: float, size: int) -> None:
    samples = np.random.default_rng(1).normal(0, 0.1, int(seconds * SECOND)).astype(np.float32)
    np.testing.assert_array_equal(np.concatenate(proper_parts(samples, size)), samples)


def test_pieces_are_the_same_for_any_block_size() -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, 60 * SECOND).astype(np.float32)
    lengths = [[len(part) for part in proper_parts(samples, size)] for size in (1_000, 99_999)]
    assert lengths[0] == lengths[1]


def test_a_cut_comes_where_it_is_quietest() -> None:
    samples = np.random.default_rng(3).normal(0, 0.1, 30 * SECOND).astype(np.float32)
    samples[int(13.5 * SECOND) : int(14.1 * SECOND)] *= 0.01
    first = proper_parts(samples, SECOND)[0]
    assert 13.5 < len(first) / SECOND < 14.1


def test_no_piece_is_longer_than_allowed_with_its_context() -> None:
    config = CutConfig()
    samples = np.random.default_rng(4).normal(0, 0.1, 100 * SECOND).astype(np.float32)
    for piece in cut(blocks_of(samples, 7_777), config):
        assert len(piece.samples) <= (config.longest + 2 * config.context) * SECOND


def test_an_empty_recording_has_no_pieces() -> None:
    assert list(cut([])) == []


def test_loudness_is_in_decibels_of_full_scale() -> None:
    tone = np.sqrt(2) * 0.1 * np.sin(np.arange(SECOND) * 0.3)
    assert np.median(loudness(tone, 0.3)) == pytest.approx(-20, abs=0.2)


@pytest.mark.parametrize("level", [0.0, 1e-5, 0.01, 0.3])
def test_silence_and_steady_noise_cannot_be_speech(level: float) -> None:
    noise = np.random.default_rng(5).normal(0, 1, 10 * SECOND).astype(np.float32)
    assert not may_hold_speech(level * noise)


def test_a_level_that_moves_like_syllables_may_be_speech() -> None:
    time = np.arange(3 * SECOND) / SECOND
    syllables = 0.05 * (1 + np.sin(2 * np.pi * 4 * time)) * np.sin(2 * np.pi * 300 * time)
    assert may_hold_speech(syllables.astype(np.float32))


def syllables_of(seconds: float) -> np.ndarray:
    time = np.arange(int(seconds * SECOND)) / SECOND
    return 0.05 * (1 + np.sin(2 * np.pi * 4 * time)) * np.sin(2 * np.pi * 700 * time)


@pytest.mark.parametrize("quieter_by", [1, 10])
@pytest.mark.parametrize("offset", [0.0, 0.1, -0.5])
@pytest.mark.parametrize("hum", [0, 50, 60, 120])
def test_neither_an_offset_nor_hum_hides_speech(offset: float, hum: int, quieter_by: float) -> None:
    speech = syllables_of(5) / quieter_by
    tone = 0.3 * np.sin(2 * np.pi * hum * np.arange(len(speech)) / SECOND)
    assert may_hold_speech((speech + offset + tone).astype(np.float32))


@pytest.mark.parametrize("noise", [0.0, 1 / 32768, 0.001])
def test_an_offset_and_hum_alone_are_no_speech(noise: float) -> None:
    time = np.arange(10 * SECOND) / SECOND
    hum = 0.1 + sum(0.1 / n * np.sin(2 * np.pi * 50 * n * time) for n in (1, 2, 3))
    hiss = noise * np.random.default_rng(6).normal(size=len(time))
    assert not may_hold_speech((hum + hiss).astype(np.float32))


def test_a_cut_comes_where_it_is_quietest_also_with_an_offset() -> None:
    samples = np.random.default_rng(3).normal(0, 0.02, 30 * SECOND).astype(np.float32)
    samples[int(13.5 * SECOND) : int(14.1 * SECOND)] *= 0.01
    first = proper_parts(samples + np.float32(0.2), SECOND)[0]
    assert 13.5 < len(first) / SECOND < 14.1


def test_a_pause_ends_an_utterance_sooner_after_a_word() -> None:
    rules = EndpointConfig()
    assert not rules.has_paused(2.3, after_words=False) and rules.has_paused(2.4, after_words=False)
    assert not rules.has_paused(1.1, after_words=True) and rules.has_paused(1.2, after_words=True)


def test_an_utterance_has_a_longest_length() -> None:
    assert not EndpointConfig().is_too_long(19.9) and EndpointConfig().is_too_long(20.0)


def test_the_modes_are_in_the_order_of_their_names() -> None:
    modes = [ENDPOINT_MODES[name] for name in ("short", "default", "long", "very-long")]
    for rule in ("rule1_min_trailing_silence", "rule2_min_trailing_silence"):
        values = [getattr(mode, rule) for mode in modes]
        assert values == sorted(set(values))
