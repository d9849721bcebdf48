"""Augmentation of log-mel frames, item by item, from a generator that the caller seeds.

Speed perturbation (Ko et al. 2015) resamples the waveform; here the same change, time and frequency
scaled together, is made on the log-mel picture, for any factor and at no cost. Vocal-tract-length
perturbation (Jaitly and Hinton 2013) scales the frequencies alone. A room is a decaying tail on the power
of each band, the model of late reverberation of Lebart et al. (2001). Masks are SpecAugment's (Park et al.
2019). Surroundings come in the order of a real recording: room, microphone, noise, telephone, level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

TOP_HERTZ = 8000.0  # the upper edge of the last mel band
FRAMES_PER_SECOND = 100


@dataclass(frozen=True)
class AugmentConfig:
    speed: float = 0.1  # largest relative change of speed, up or down
    vocal_tract: float = 0.08  # largest further relative change of the frequencies
    room: float = 0.0  # share of utterances that are heard in a room
    min_rt60: float = 0.15  # seconds in which a room's sound falls by 60 dB, the shortest
    max_rt60: float = 1.0  # and the longest
    min_direct_db: float = -6.0  # ratio of direct sound to the room's, the least favourable
    max_direct_db: float = 10.0  # and the most
    microphone_db: float = 0.0  # standard deviation of each of a microphone's three smooth curves
    noise: float = 0.4  # share of utterances that get noise, when the data has any
    babble: float = 0.0  # share of these whose noise is other utterances
    least_noise_db: float = 30.0  # ratio of speech to noise, the most favourable
    most_noise_db: float = 5.0  # and the least
    telephone: float = 0.0  # share of utterances of the narrow band of a telephone or a low sample rate
    gain_db: float = 12.0  # largest change of level, up or down
    quiet_db: float = 0.0  # largest further attenuation
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
    voices: Callable[[int], np.ndarray] | None = None,
    n_voices: int = 0,
) -> Tensor:
    """(frames, mels) raw log-mel -> another speaker, speed, level and surroundings of the same words.

    strength: 0..1 scales warps, masks and how often surroundings change; floor: the power that was added
    before the logarithm. noises: (frames, mels) raw log-mel each, one of which is mixed in now and then.
    voices: raw log-mel of the utterance of a number below n_voices, for babble.
    Masked places become NaN, for the caller to replace by the mean once normalised.
    """
    speed = 1 + strength * config.speed * random.uniform(-1, 1)
    warp = speed * (1 + strength * config.vocal_tract * random.uniform(-1, 1))
    frames = _warp(frames, speed, warp)
    if config.room and random.uniform() < strength * config.room:
        rt60 = np.exp(random.uniform(np.log(config.min_rt60), np.log(config.max_rt60)))
        frames = _in_room(frames, random, rt60, random.uniform(config.min_direct_db, config.max_direct_db))
    if config.microphone_db:
        frames = frames + _microphone(frames.shape[1], random, strength * config.microphone_db)
    n_voices = n_voices if config.babble else 0
    if (len(noises) or n_voices) and random.uniform() < strength * config.noise:
        if voices and n_voices and (not len(noises) or random.uniform() < config.babble):
            noise = _babble(random, len(frames), voices, n_voices)
        else:
            noise = _as_tensor(noises[int(random.integers(len(noises)))])
        frames = _mix(frames, noise, random.uniform(config.most_noise_db, config.least_noise_db))
    if config.telephone and random.uniform() < strength * config.telephone:
        frames = _through_telephone(frames, random, floor)
    gain_db = strength * config.gain_db * random.uniform(-1, 1)
    if config.quiet_db:
        gain_db -= strength * config.quiet_db * random.uniform()
    frames = (frames + gain_db * float(np.log(10) / 10)).clamp(min=float(np.log(floor)))
    n_frames, n_mels = frames.shape
    for _ in range(config.frequency_masks):
        width = int(strength * random.integers(0, config.frequency_mask_bands + 1))
        start = int(random.integers(0, n_mels - width + 1))
        frames[:, start : start + width] = torch.nan
    seconds = n_frames / FRAMES_PER_SECOND
    longest = int(FRAMES_PER_SECOND * min(config.time_mask_seconds, config.time_mask_fraction * seconds))
    for _ in range(int(np.ceil(strength * config.time_masks_per_second * seconds))):
        width = int(random.integers(0, longest + 1))
        start = int(random.integers(0, n_frames - width + 1))
        frames[start : start + width] = torch.nan
    return frames


def _as_tensor(frames: np.ndarray) -> Tensor:
    return torch.from_numpy(frames.astype(np.float32))


def _in_room(frames: Tensor, random: np.random.Generator, rt60: float, direct_db: float) -> Tensor:
    """Add the late reverberation of a room, without a change of the whole power.

    Every band's power is smeared forward in time by an exponential tail that falls by 60 dB in rt60
    seconds, longer in low bands and shorter in high ones. The sum of many reflections fluctuates: in a band
    as wide as one bin of the transform its power has an exponential distribution, in wider ones a narrower
    gamma distribution.
    direct_db: the power of direct sound over that of the tail, for steady sound.
    """
    n_frames, n_mels = frames.shape
    power = frames.exp()
    centres = _band_hertz(n_mels)
    # Air and furniture take high frequencies first: half an octave of decay over the whole range.
    slope = random.uniform(0.0, 0.4)
    decay_seconds = rt60 * (1000.0 / centres.clip(125, TOP_HERTZ)) ** (slope / 3)
    n_tail = min(n_frames, max(2, int(FRAMES_PER_SECOND * float(decay_seconds.max()) * 0.7)))  # to -42 dB
    time = np.arange(n_tail)[:, None] / FRAMES_PER_SECOND
    tail = 10 ** (-6 * time / decay_seconds[None])
    tail[0] *= 0.5  # the frame of the direct sound holds the earliest reflections only
    tail *= 10 ** (-direct_db / 10) / tail.sum(0)
    kernel = torch.from_numpy(tail[::-1].T.copy()).float()[:, None]  # (mels, 1, n_tail)
    late = F.conv1d(F.pad(power.T[None], (n_tail - 1, 0)), kernel, groups=n_mels)[0].T
    freedom = (np.gradient(centres) * 2 / 62.5).clip(1.0)  # band width in half-overlapping bins of 40 Hz
    fluctuation = random.gamma(freedom, 1 / freedom, (n_frames, n_mels))
    heard = power + late * _as_tensor(fluctuation)
    return (heard * (power.mean() / heard.mean())).log()


def _microphone(n_mels: int, random: np.random.Generator, deviation_db: float) -> Tensor:
    """(mels,) natural logs of the power response of a microphone: a tilt, a bow and a wave over the bands."""
    position = np.arange(n_mels) / (n_mels - 1)
    curves = np.cos(np.pi * np.outer([1, 2, 3], position))
    response = (random.normal(0, deviation_db, 3) / [1, 1.5, 2]) @ curves
    return _as_tensor(response * np.log(10) / 10)


def _babble(
    random: np.random.Generator, n_frames: int, voices: Callable[[int], np.ndarray], n_voices: int
) -> Tensor:
    """The powers of two to six other utterances, (n_frames, mels), as people in the background."""
    total: Tensor | None = None
    for _ in range(int(random.integers(2, 7))):
        voice = _as_tensor(voices(int(random.integers(n_voices))))
        if not len(voice) or not bool(voice.isfinite().all()):
            continue
        voice = voice.roll(int(random.integers(len(voice))), 0)
        voice = voice.repeat(-(-n_frames // len(voice)), 1)[:n_frames]
        voice = voice - voice.exp().mean().log()  # all as loud as each other
        total = voice if total is None else torch.logaddexp(total, voice)
    return total if total is not None else torch.zeros(n_frames, 1)


def _mix(frames: Tensor, noise: Tensor, ratio_db: float) -> Tensor:
    """Add the powers of noise, repeated as needed, so that frames are ratio_db louder on average."""
    repeated = noise.repeat(-(-len(frames) // len(noise)), 1)[: len(frames)]
    difference = frames.exp().mean().log() - repeated.exp().mean().log()
    return torch.logaddexp(frames, repeated + difference - ratio_db * float(np.log(10) / 10))


def _through_telephone(frames: Tensor, random: np.random.Generator, floor: float) -> Tensor:
    """Lose what lies outside a narrow band, and get the noise of eight bits in two of three cases.

    The upper edge is that of a telephone (3.1 to 3.8 kHz) or, in a third of the cases, of sound at 11 or
    12 kHz (4.5 to 6 kHz). Above half of its sample rate nothing is left but the floor.
    """
    n_mels = frames.shape[1]
    centres = _band_hertz(n_mels)
    is_telephone = random.uniform() < 2 / 3
    upper = random.uniform(3100, 3800) if is_telephone else random.uniform(4500, 6000)
    lower = random.uniform(150, 400) if is_telephone else random.uniform(20, 150)
    octaves_below = np.log2(lower / centres).clip(0)
    octaves_above = np.log2(centres / upper).clip(0)
    loss_db = octaves_below * random.uniform(12, 60) + octaves_above * random.uniform(60, 400)
    heard = frames - _as_tensor(loss_db * np.log(10) / 10)
    if is_telephone and random.uniform() < 2 / 3:
        # Companding keeps rounding noise about 38 dB below the signal, frame by frame, flat up to 4 kHz.
        noise_db = random.uniform(-40, -25)
        shape = np.gradient(centres) * (centres < 4000)
        share = _as_tensor(np.log(np.maximum(shape / shape.sum(), 1e-12)))
        noise = heard.exp().sum(1, keepdim=True).log() + noise_db * float(np.log(10) / 10) + share
        heard = torch.logaddexp(heard, noise)
    heard[:, centres > (4000 if is_telephone else upper * 1.1)] = -torch.inf
    return heard.clamp(min=float(np.log(floor)))


def _band_hertz(n_mels: int) -> np.ndarray:
    """(mels,) centres of the bands, which are equal steps in mel (O'Shaughnessy 1987)."""
    bands = np.arange(n_mels) + 1.0
    return np.asarray(700 * (10 ** (bands / (n_mels + 1) * _mel(TOP_HERTZ) / 2595) - 1))


def _warp(frames: Tensor, speed: float, warp: float) -> Tensor:
    """Play faster by `speed` and scale all frequencies by `warp`, by bilinear interpolation."""
    n_frames, n_mels = frames.shape
    n_new = max(1, round(n_frames / speed))
    frames = F.interpolate(frames.T[None], size=n_new, mode="linear", align_corners=False)[0].T
    # Band m of the result shows what band position(m) showed.
    hertz = torch.from_numpy(_band_hertz(n_mels)).float()
    position = 2595 * torch.log10(1 + hertz / warp / 700) / _mel(TOP_HERTZ) * (n_mels + 1) - 1
    position = position.clamp(0, n_mels - 1)
    lower = position.floor().long().clamp(max=n_mels - 2)
    weight = (position - lower)[None]
    return frames[:, lower] * (1 - weight) + frames[:, lower + 1] * weight


def _mel(hertz: float) -> float:
    return 2595 * float(np.log10(1 + hertz / 700))
