"""Log-mel frames: right numbers, and the same ones however the samples arrive."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from asr.features import FeatureConfig, LogMel


@pytest.fixture(scope="module")
def front_end() -> LogMel:
    front_end = LogMel()
    front_end.mean.copy_(torch.linspace(-8, -4, 80))
    front_end.deviation.copy_(torch.linspace(1, 3, 80))
    return front_end


def noise(n_samples: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n_samples, generator=torch.Generator().manual_seed(seed)) * 0.1


def sine(hertz: float, seconds: float = 0.5) -> torch.Tensor:
    return 0.5 * torch.sin(2 * math.pi * hertz * torch.arange(int(16_000 * seconds)) / 16_000)


@pytest.mark.parametrize("seed", range(6))
def test_streamed_frames_equal_whole_ones_for_any_block_sizes(front_end: LogMel, seed: int) -> None:
    random = np.random.default_rng(seed)
    samples = noise(int(random.integers(0, 20_000)), seed)
    largest = int(random.choice([1, 7, 160, 513, 5000])) if len(samples) < 3000 else 5000
    stream = front_end.stream()
    blocks, position = [], 0
    while position < len(samples):
        size = int(random.integers(0, largest + 1))
        blocks.append(stream.feed(samples[position : position + size]))
        position += size
    streamed = torch.cat([torch.zeros(0, 80), *blocks])
    torch.testing.assert_close(streamed, front_end(samples), atol=1e-5, rtol=0)


def test_samples_fed_one_by_one_give_the_frames_of_the_whole(front_end: LogMel) -> None:
    samples = noise(1200)
    stream = front_end.stream()
    streamed = torch.cat([stream.feed(sample[None]) for sample in samples])
    torch.testing.assert_close(streamed, front_end(samples), atol=1e-5, rtol=0)


def test_a_stream_remembers_less_than_one_window(front_end: LogMel) -> None:
    stream = front_end.stream()
    for _ in range(5):
        stream.feed(noise(4321))
        assert len(stream._pending) < 512


@pytest.mark.parametrize("n_samples", [0, 1, 80, 511, 512, 671, 672, 16_000])
def test_the_number_of_frames_is_foreseen(front_end: LogMel, n_samples: int) -> None:
    assert len(front_end(noise(n_samples))) == front_end.n_frames(n_samples)


def test_less_than_one_window_gives_no_frames(front_end: LogMel) -> None:
    assert front_end(noise(511)).shape == (0, 80)
    assert front_end(torch.zeros(3, 80)).shape == (3, 0, 80)


def test_a_batch_of_samples_gives_the_frames_of_each(front_end: LogMel) -> None:
    first, second = noise(4000, 1), noise(4000, 2)
    both = front_end(torch.stack([first, second]))
    torch.testing.assert_close(both, torch.stack([front_end(first), front_end(second)]))


@pytest.mark.parametrize("hertz", [300, 1000, 3000, 7000])
def test_the_energy_of_a_sine_lands_in_the_band_of_its_frequency(hertz: float) -> None:
    def mel(f: float) -> float:
        return 2595 * math.log10(1 + f / 700)

    step = (mel(8000) - mel(20)) / 81
    expected = (mel(hertz) - mel(20)) / step - 1
    assert abs(int(LogMel().raw(sine(hertz))[10].argmax()) - expected) <= 1


def test_ten_decibels_more_add_ln_10(front_end: LogMel) -> None:
    quiet, loud = front_end.raw(sine(1000)), front_end.raw(sine(1000) * 10**0.5)
    band = int(quiet[5].argmax())
    torch.testing.assert_close(loud[:, band] - quiet[:, band], torch.full((47,), math.log(10)))


def test_digital_silence_is_the_logarithm_of_the_floor() -> None:
    assert torch.equal(
        LogMel().raw(torch.zeros(1000)).unique(), torch.tensor(FeatureConfig().floor).log()[None]
    )


def test_normalisation_uses_the_stored_mean_and_deviation(front_end: LogMel) -> None:
    raw = front_end.raw(noise(2000))
    expected = (raw - front_end.mean) / front_end.deviation
    torch.testing.assert_close(front_end(noise(2000)), expected)


def test_numbers_agree_with_librosa() -> None:
    from librosa.filters import mel

    # Its transform compiles for seconds at its first call, so that is written out: 400 samples of a
    # periodic Hann window in the middle of 512.
    samples = noise(8000)
    filters = mel(sr=16_000, n_fft=512, n_mels=80, fmin=20, htk=True, norm=None)
    window = np.pad(np.hanning(401)[:-1], 56)
    spectrum = np.fft.rfft(samples.unfold(0, 512, 160).numpy() * window)
    expected = np.log(np.abs(spectrum) ** 2 @ filters.T + FeatureConfig().floor)
    np.testing.assert_allclose(LogMel().raw(samples).numpy(), expected, atol=2e-3)
