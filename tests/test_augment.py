"""Augmentation: other frames of the same words, within bounds, and the same for the same seed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from asr.training.augment import (
    AugmentConfig,
    _band_hertz,
    _in_room,
    _mix,
    _through_telephone,
    _warp,
    augment,
)

FLOOR = 1e-6
NOTHING = AugmentConfig(
    speed=0, vocal_tract=0, noise=0, gain_db=0, frequency_masks=0, time_masks_per_second=0
)


def frames(n_frames: int = 300) -> Tensor:
    """Smooth log-mel frames, well above the floor."""
    t, m = torch.arange(n_frames)[:, None] / 30, torch.arange(80)[None] / 10
    return -4 + 2 * torch.sin(t + m) + torch.cos(2 * m)


def augmented(config: AugmentConfig, seed: int = 0, strength: float = 1.0, **more: Any) -> Tensor:
    return augment(frames(), np.random.default_rng(seed), config, strength, FLOOR, **more)


def changed(**values: Any) -> AugmentConfig:
    return dataclasses.replace(NOTHING, **values)


def test_no_strength_leaves_the_frames_alone() -> None:
    torch.testing.assert_close(
        augmented(AugmentConfig(), strength=0.0), frames(), atol=1e-3, rtol=0
    )


def test_the_frames_given_are_not_written_to() -> None:
    given = frames()
    augment(given, np.random.default_rng(0), AugmentConfig(), 1.0, FLOOR)
    assert torch.equal(given, frames())


def test_the_same_seed_gives_the_same_frames() -> None:
    first, second, other = (augmented(AugmentConfig(), seed) for seed in (5, 5, 6))
    assert torch.equal(first.nan_to_num(0), second.nan_to_num(0))
    assert first.shape != other.shape or not torch.equal(first, other)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_faster_speech_is_shorter(speed: float) -> None:
    assert len(_warp(frames(300), speed, 1.0)) == round(300 / speed)


def test_speeds_are_drawn_from_the_whole_range_and_not_beyond() -> None:
    lengths = [len(augmented(changed(speed=0.1), seed)) for seed in range(200)]
    assert 300 / 1.1 - 1 <= min(lengths) < 277 and 328 < max(lengths) <= 300 / 0.9 + 1


def test_speed_and_frequency_change_together() -> None:
    def mel(band: float) -> float:
        return 700 * (10 ** ((band + 1) / 81 * 2595 * math.log10(1 + 8000 / 700) / 2595) - 1)

    picture = torch.zeros(100, 80)
    picture[:, 30] = 1.0
    raised = _warp(picture, 1.0, 1.2)
    assert mel(int(raised[50].argmax())) == pytest.approx(1.2 * mel(30), rel=0.04)


@pytest.mark.parametrize("n_frames", [1, 2, 3])
def test_very_short_utterances_survive(n_frames: int) -> None:
    for seed in range(20):
        result = augment(
            frames(n_frames), np.random.default_rng(seed), AugmentConfig(), 1.0, FLOOR
        )
        assert len(result) >= 1 and result.shape[1] == 80


def test_gain_is_exact_in_decibels_far_above_the_floor() -> None:
    random = np.random.default_rng(3)
    random.uniform(size=2)  # speed and vocal tract
    gain_db = 12 * random.uniform(-1, 1)
    difference = augmented(changed(gain_db=12), seed=3) - frames()
    expected = torch.full_like(difference, gain_db * math.log(10) / 10)
    torch.testing.assert_close(difference, expected, atol=1e-4, rtol=0)


def test_nothing_falls_below_the_floor() -> None:
    for seed in range(20):
        quiet = augment(
            frames() - 9, np.random.default_rng(seed), changed(gain_db=30), 1.0, FLOOR
        )
        assert quiet.min() >= math.log(FLOOR) - 1e-5


def test_frequency_masks_are_few_and_narrow() -> None:
    widths = []
    for seed in range(100):
        masked = augmented(changed(frequency_masks=1, frequency_mask_bands=27), seed).isnan()
        assert torch.equal(masked.any(0), masked.all(0))  # whole bands
        bands = masked[0].nonzero().flatten()
        widths.append(len(bands))
        assert len(bands) == 0 or bands[-1] - bands[0] + 1 == len(bands)  # side by side
    assert max(widths) <= 27 and max(widths) > 20 and min(widths) < 5


def test_time_masks_are_as_many_and_as_short_as_configured() -> None:
    config = changed(time_masks_per_second=1.0, time_mask_seconds=0.4, time_mask_fraction=0.05)
    n_masked = []
    for seed in range(100):
        masked = augmented(config, seed).isnan()
        assert torch.equal(masked.any(1), masked.all(1))  # whole frames
        n_masked.append(int(masked[:, 0].sum()))
    assert max(n_masked) <= 3 * 15 and 15 < np.mean(n_masked) < 30


def test_half_the_strength_masks_half_the_bands() -> None:
    config = changed(frequency_masks=1, frequency_mask_bands=60)
    n_bands = [int(augmented(config, s, strength=0.5).isnan()[0].sum()) for s in range(100)]
    assert 20 < max(n_bands) <= 30


def test_noise_is_mixed_in_at_the_ratio_that_is_asked_for() -> None:
    speech, noise = frames(), torch.randn(37, 80, generator=torch.Generator().manual_seed(1))
    for ratio_db in (0.0, 10.0):
        added = (_mix(speech, noise, ratio_db).exp() - speech.exp()).clamp(min=1e-12)
        ratio = 10 * math.log10(speech.exp().mean() / added.mean())
        assert ratio == pytest.approx(ratio_db, abs=0.05)


def test_noise_reaches_the_share_of_utterances_that_is_asked_for() -> None:
    noises = [np.zeros((50, 80), np.float16)]
    results = [augmented(changed(noise=0.4), seed, noises=noises) for seed in range(200)]
    n_noisy = sum(not torch.allclose(result, frames(), atol=1e-3) for result in results)
    assert 55 < n_noisy < 105


def click() -> Tensor:
    """One loud frame in 200 at the floor."""
    picture = torch.full((200, 80), math.log(FLOOR))
    picture[20] = 0.0
    return picture


def test_a_room_rings_after_a_sound_and_never_before_it() -> None:
    for seed in range(10):
        heard = _in_room(click(), np.random.default_rng(seed), rt60=0.5, direct_db=0.0)
        assert (heard[:20] < math.log(FLOOR) + 3).all()
        assert (heard[21:30].mean(0) > math.log(FLOOR) + 4).all()


def test_the_sound_of_a_room_falls_by_60_db_in_the_time_that_is_asked_for() -> None:
    decays = []
    for seed in range(40):
        heard = _in_room(click(), np.random.default_rng(seed), rt60=0.6, direct_db=0.0)
        middle = heard[:, 30:50].exp().mean(1).log() * 10 / math.log(10)
        decays.append(float(middle[25] - middle[45]) / 20 * 100)  # decibels a second
    assert np.mean(decays) == pytest.approx(60 / 0.6, rel=0.15)


def test_a_room_leaves_the_whole_power_as_it_was() -> None:
    heard = _in_room(frames(), np.random.default_rng(0), rt60=0.5, direct_db=3.0)
    assert float(heard.exp().mean()) == pytest.approx(float(frames().exp().mean()), rel=1e-3)


def test_a_telephone_carries_speech_up_to_4_khz_and_nothing_above() -> None:
    hertz = _band_hertz(80)
    kept = set()
    for seed in range(30):
        heard = _through_telephone(frames(), np.random.default_rng(seed), FLOOR)
        silent = (heard <= math.log(FLOOR) + 1e-4).all(0).numpy()
        kept.add(bool(silent[hertz > 4100].all()))
        assert silent[hertz > 6700].all()
        inside = torch.from_numpy((hertz > 500) & (hertz < 2900))
        # Rounding noise only adds; it is far below what speech has there.
        torch.testing.assert_close(heard[:, inside].mean(), frames()[:, inside].mean(), atol=0.4, rtol=0)
    assert kept == {True, False}  # telephones, and low sample rates that reach higher


def test_a_microphone_colours_every_frame_alike() -> None:
    difference = augmented(changed(microphone_db=4.0)) - frames()
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), atol=1e-4, rtol=0)
    assert 0.3 < float(difference[0].std()) < 6


def test_babble_is_made_of_other_utterances_at_the_ratio_that_is_asked_for() -> None:
    voices = [np.full((50, 80), level, np.float16) for level in (-3.0, 0.0, 2.0)]
    config = changed(noise=1.0, babble=1.0, least_noise_db=10.0, most_noise_db=10.0)
    noisy = augmented(config, voices=voices.__getitem__, n_voices=len(voices))
    added = noisy.exp() - frames().exp()
    assert 10 * math.log10(frames().exp().mean() / added.mean()) == pytest.approx(10, abs=0.1)


def test_quiet_recordings_are_as_quiet_as_is_asked_for() -> None:
    levels = [float((augmented(changed(quiet_db=20), seed) - frames()).mean()) for seed in range(100)]
    decibels = np.array(levels) * 10 / math.log(10)
    assert decibels.max() <= 0 and -20 < decibels.min() < -17
