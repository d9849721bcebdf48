"""Augmentation of log-mel frames, item by item, from a generator that the caller seeds.

Speed perturbation (Ko et al. 2015) resamples the waveform; here the same change, time and frequency
scaled together, is made on the log-mel picture, for any factor and at no cost. Vocal-tract-length
perturbation (Jaitly and Hinton 2013) scales the frequencies alone. Masks are SpecAugment's (Park et
al. 2019).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentConfig:
    speed: float = 0.1  # largest relative change of speed, up or down
    vocal_tract: float = 0.08  # largest further relative change of the frequencies
    noise: float = 0.4  # share of utterances that get noise, when the data has any
    least_noise_db: float = 30.0  # ratio of speech to noise, the most favourable
    most_noise_db: float = 5.0  # and the least
    gain_db: float = 12.0  # largest change of level, up or down
    frequency_masks: int = 2
    frequency_mask_bands: int = 27  # largest width of one mask, in mel bands
    time_masks_per_second: float = 1.0
    time_mask_seconds: float = 0.4  # largest length of one mask
    time_mask_fraction: float = 0.05  # nor longer than this part of the utterance
    warm_up_updates: int = 800  # masks and warps reach full strength after twice this many updates


def augment(
    frames: Tensor,
    random: np.random.Generator,
    config: AugmentConfig,
    strength: float,
    floor: float,
    noises: Sequence[np.ndarray] = (),
) -> Tensor:
    """(frames, mels) raw log-mel -> another speaker, speed, level and surroundings of the same words.

    strength: 0..1 scales warps and masks; floor: the power that was added before the logarithm.
    noises: (frames, mels) raw log-mel each, one of which is mixed in now and then.
    Masked places become NaN, for the caller to replace by the mean once normalised.
    """
    speed = 1 + strength * config.speed * random.uniform(-1, 1)
    warp = speed * (1 + strength * config.vocal_tract * random.uniform(-1, 1))
    frames = _warp(frames, speed, warp)
    if len(noises) and random.uniform() < strength * config.noise:
        noise = torch.from_numpy(noises[int(random.integers(len(noises)))].astype(np.float32))
        frames = _mix(frames, noise, random.uniform(config.most_noise_db, config.least_noise_db))
    gain_db = strength * config.gain_db * random.uniform(-1, 1)
    frames = (frames + gain_db * float(np.log(10) / 10)).clamp(min=float(np.log(floor)))
    n_frames, n_mels = frames.shape
    for _ in range(config.frequency_masks):
        width = int(strength * random.integers(0, config.frequency_mask_bands + 1))
        start = int(random.integers(0, n_mels - width + 1))
        frames[:, start : start + width] = torch.nan
    seconds = n_frames / 100
    longest = int(100 * min(config.time_mask_seconds, config.time_mask_fraction * seconds))
    for _ in range(int(np.ceil(strength * config.time_masks_per_second * seconds))):
        width = int(random.integers(0, longest + 1))
        start = int(random.integers(0, n_frames - width + 1))
        frames[start : start + width] = torch.nan
    return frames


def _mix(frames: Tensor, noise: Tensor, ratio_db: float) -> Tensor:
    """Add the powers of noise, repeated as needed, so that frames are ratio_db louder on average."""
    repeated = noise.repeat(-(-len(frames) // len(noise)), 1)[: len(frames)]
    difference = frames.exp().mean().log() - repeated.exp().mean().log()
    return torch.logaddexp(frames, repeated + difference - ratio_db * float(np.log(10) / 10))


def _warp(frames: Tensor, speed: float, warp: float) -> Tensor:
    """Play faster by `speed` and scale all frequencies by `warp`, by bilinear interpolation."""
    n_frames, n_mels = frames.shape
    n_new = max(1, round(n_frames / speed))
    frames = F.interpolate(frames.T[None], size=n_new, mode="linear", align_corners=False)[0].T
    # Band m of the result shows what band position(m) showed; bands are equal steps in mel (O'Shaughnessy).
    top = _mel(8000.0)
    bands = torch.arange(n_mels) + 1.0
    hertz = 700 * (torch.pow(10, bands / (n_mels + 1) * top / 2595) - 1)
    position = 2595 * torch.log10(1 + hertz / warp / 700) / top * (n_mels + 1) - 1
    position = position.clamp(0, n_mels - 1)
    lower = position.floor().long().clamp(max=n_mels - 2)
    weight = (position - lower)[None]
    return frames[:, lower] * (1 - weight) + frames[:, lower + 1] * weight


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))
