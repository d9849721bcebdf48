"""Waveforms as rooms, noises, telephones and codecs give them.

Training makes most of this anew in every epoch in the log-mel picture (augment.py); these functions make
the real thing, for test sets and for copies of recordings.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soxr

from asr.audio import SAMPLE_RATE, read_audio
from asr.errors import ManifestError

REVERBERATION = (0.15, 0.8)  # seconds in which a simulated room's sound falls by 60 dB
DIRECT_DB = (-3.0, 12.0)  # direct sound over the room's, simulated
TELEPHONE_RATE = 8_000  # Hz
TELEPHONE_BAND = (300.0, 3400.0)  # Hz
HELD_OUT = 4  # every fourth noise and room response is kept for measuring


def simulate_room(
    random: np.random.Generator,
    decay: tuple[float, float] = REVERBERATION,
    direct_db: tuple[float, float] = DIRECT_DB,
) -> np.ndarray:
    """An impulse response of direct sound and decaying noise, after Polack (1988), 1-D at 16 kHz.

    decay: seconds in which the sound falls by 60 dB, from and to; direct_db: direct sound over the room's.
    """
    seconds = random.uniform(*decay)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / seconds)
    tail[: round(0.002 * SAMPLE_RATE)] = 0.0  # the nearest wall
    tail *= 10 ** (-random.uniform(*direct_db) / 20) / np.sqrt((tail**2).sum())
    tail[0] = 1.0
    return tail


def in_room(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """As heard in a room, of the same length and power; words stay where they are in time."""
    response = response[int(np.abs(response).argmax()) :]  # the direct sound arrives without delay
    n = len(samples) + len(response) - 1
    size = 1 << (n - 1).bit_length()
    heard = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    power = (heard**2).mean()
    return heard * np.sqrt((samples**2).mean() / power) if power > 0 else heard


def add_noise(
    samples: np.ndarray, noise: np.ndarray, ratio_db: float, random: np.random.Generator
) -> np.ndarray:
    """Samples with noise, from a random place on and repeated as needed, ratio_db below them in power."""
    start = int(random.integers(len(noise)))
    repeated = np.resize(np.roll(noise, -start), len(samples))
    power, noise_power = (samples**2).mean(), (repeated**2).mean()
    if not noise_power:
        return samples
    return samples + repeated * np.sqrt(power / noise_power) * 10 ** (-ratio_db / 20)


def band_pass(samples: np.ndarray, sample_rate: int, lowest: float, highest: float) -> np.ndarray:
    """Frequencies between two edges in Hz, with edges of 100 Hz; the others are gone."""
    size = 1 << (len(samples) - 1).bit_length()
    hertz = np.fft.rfftfreq(size, 1 / sample_rate)
    gain = np.clip((hertz - lowest + 100) / 100, 0, 1) * np.clip((highest + 100 - hertz) / 100, 0, 1)
    return np.fft.irfft(np.fft.rfft(samples, size) * gain, size)[: len(samples)]


def through_codec(
    samples: np.ndarray,
    codec: str,
    suffix: str,
    bit_rate: int,
    *,
    sample_rate: int = SAMPLE_RATE,
    options: Mapping[str, str] | None = None,
) -> np.ndarray:
    """Encoded by one of FFmpeg's encoders and decoded again, of the same length.

    suffix: of a file that holds the codec; sample_rate: the codec's, in Hz.
    """
    given = soxr.resample(samples, SAMPLE_RATE, sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"speech{suffix}")
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(
                codec, rate=sample_rate, layout="mono", options=dict(options or {})
            )
            stream.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray(given[None].astype(np.float32), "flt", "mono")
            frame.sample_rate = sample_rate
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        return _to_length(read_audio(path), len(samples))


def through_opus(samples: np.ndarray, bit_rate: int, application: str) -> np.ndarray:
    """Through Opus; application: voip (SILK at low rates) or lowdelay (CELT)."""
    return through_codec(samples, "libopus", ".opus", bit_rate, options={"application": application})


def through_telephone(samples: np.ndarray, band: tuple[float, float] | None = None) -> np.ndarray:
    """Half the bandwidth, in the eight bits of G.711 mu-law, and back; band: its edges in Hz, if any."""
    narrow = soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE)
    if band:
        narrow = band_pass(narrow, TELEPHONE_RATE, *band)
    narrow = np.clip(narrow, -1, 1)
    compressed = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    expanded = np.round(compressed * 127) / 127
    narrow = np.sign(expanded) * (256 ** np.abs(expanded) - 1) / 255
    return _to_length(soxr.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE), len(samples))


def at_rate(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """As recorded at a lower sample rate, in Hz."""
    narrow = soxr.resample(samples, SAMPLE_RATE, sample_rate)
    return _to_length(soxr.resample(narrow, sample_rate, SAMPLE_RATE), len(samples))


def _to_length(samples: np.ndarray, n_samples: int) -> np.ndarray:
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def read_noises(path: Path, kinds: Sequence[str]) -> list[Path]:
    """The recordings of these kinds in a list of JSON lines with audio and kind."""
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [path.parent / entry["audio"] for entry in entries if entry["kind"] in kinds]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path}: not a list of noises with audio and kind ({error})") from None
    if not found:
        names = {"rir": "room responses (kind rir)"}
        raise ManifestError(f"{path}: holds no {names.get(kinds[0], ' or '.join(kinds))}")
    return found


def read_responses(path: Path) -> list[Path]:
    """The recorded room responses of a list of noises."""
    return read_noises(path, ["rir"])


def held_out_noises(path: Path) -> list[Path]:
    """The noises of a list that no training hears: those among held_out() of noises and music together.

    Every fourth of the noises alone would be others, which training does hear.
    """
    kept = held_out(read_noises(path, ["noise", "music"]))
    noises = set(read_noises(path, ["noise"]))
    found = [recording for recording in kept if recording in noises]
    if not found:
        raise ManifestError(f"{path}: holds too few noises to keep one for measuring")
    return found


def held_out(recordings: Sequence[Path]) -> list[Path]:
    """Every fourth of them in the order of their names: never for training, only for measuring."""
    return sorted(recordings)[::HELD_OUT]
