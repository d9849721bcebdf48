"""Sound files of every common format, and ways to damage them, each the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile

# name -> encoder, sampling rate, channels
SEEDS = {
    "pcm.wav": ("pcm_s16le", 16_000, "mono"),
    "float.wav": ("pcm_f32le", 48_000, "stereo"),
    "adpcm.wav": ("adpcm_ima_wav", 16_000, "mono"),
    "a.flac": ("flac", 16_000, "mono"),
    "mp3.mkv": ("libmp3lame", 16_000, "mono"),
    "a.mp3": ("libmp3lame", 44_100, "stereo"),
    "vorbis.ogg": ("vorbis", 44_100, "stereo"),
    "opus.opus": ("libopus", 48_000, "mono"),
    "opus.webm": ("libopus", 48_000, "mono"),
    "aac.m4a": ("aac", 44_100, "stereo"),
    "alac.m4a": ("alac", 16_000, "mono"),
    "pcm71.mov": ("pcm_s16le", 16_000, "7.1"),
    "aac71.m4a": ("aac", 16_000, "7.1"),
    "a.aac": ("aac", 16_000, "mono"),
    "a.aiff": ("pcm_s16be", 16_000, "mono"),
    "a.caf": ("pcm_s16le", 16_000, "mono"),
    "a.au": ("pcm_mulaw", 8_000, "mono"),
    "a.wma": ("wmav2", 22_050, "mono"),
    "a.ac3": ("ac3", 48_000, "stereo"),
    "mp3.flv": ("libmp3lame", 22_050, "mono"),
    "mp2.ts": ("mp2", 16_000, "mono"),
    "pcm.avi": ("pcm_s16le", 16_000, "mono"),
}


def write_sound(path: Path, samples: np.ndarray, codec: str, rate: int, layout: str = "mono") -> Path:
    """Mono samples, the same in all channels, as the file's ending and the encoder have it."""
    if codec == "vorbis":  # FFmpeg as PyAV brings it cannot write it well
        channels = np.repeat(samples[:, None], av.AudioLayout(layout).nb_channels, axis=1)
        soundfile.write(path, channels, rate, format="OGG", subtype="VORBIS")
        return path
    with av.open(str(path), "w") as container:
        track: Any = container.add_stream(codec, rate=rate)
        track.layout = layout
        if codec not in ("flac", "alac") and not codec.startswith("pcm"):
            track.bit_rate = 64_000 * track.layout.nb_channels
        resampler = av.AudioResampler(track.format, layout, rate, track.frame_size or 1000)
        channels = np.repeat(samples[None].astype(np.float32), track.layout.nb_channels, axis=0)
        # Packed: of planar sound with eight channels PyAV loses count.
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(channels.T.reshape(1, -1)), format="flt", layout=layout
        )
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(track.encode(part))
        container.mux(track.encode(None))
    return path


def write_seeds(folder: Path, seconds: float = 0.5) -> list[Path]:
    """One short recording in all formats of SEEDS."""
    paths = []
    for name, (codec, rate, layout) in SEEDS.items():
        time = np.arange(round(seconds * rate)) / rate
        sound = 0.3 * np.sin(2 * np.pi * 300 * time) * (1 + np.sin(2 * np.pi * 4 * time))
        paths.append(write_sound(folder / name, sound, codec, rate, layout))
    return paths


def mutated(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The content of a file, damaged in one or two of many ways."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        if rng.random() < 0.05:
            content = _spliced(content, others, rng)
        else:
            content = rng.choice(_DAMAGES)(content, rng)
    return content or b"\0"


def _place(content: bytes, rng: random.Random) -> int:
    """Anywhere, and every other time in the header."""
    n = len(content) if rng.random() < 0.5 else min(len(content), rng.choice((48, 128, 1024)))
    return rng.randrange(max(1, n))


def _flipped(content: bytes, rng: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(rng.choice((1, 2, 8, 100))):
        if result:
            result[_place(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(result)


def _overwritten(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    n = rng.choice((1, 2, 4, 64, 512))
    new = rng.choice((b"\0" * n, b"\xff" * n, b"\x7f" + b"\xff" * (n - 1), rng.randbytes(n)))
    return content[:at] + new + content[at + n :]


def _truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def _cut_out(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:start] + content[end:]


def _repeated(content: bytes, rng: random.Random) -> bytes:
    start, end = sorted((_place(content, rng), _place(content, rng)))
    return content[:end] + content[start:end] * rng.choice((1, 3, 20)) + content[end:]


def _inserted(content: bytes, rng: random.Random) -> bytes:
    at = _place(content, rng)
    return content[:at] + rng.randbytes(rng.choice((1, 3, 100, 5000))) + content[at:]


def _shuffled(content: bytes, rng: random.Random) -> bytes:
    size = rng.choice((64, 188, 512))
    parts = [content[i : i + size] for i in range(size, len(content), size)]
    rng.shuffle(parts)
    return content[:size] + b"".join(parts)


def _spliced(content: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return content[: _place(content, rng)] + other[_place(other, rng) :]


_DAMAGES: list[Callable[[bytes, random.Random], bytes]] = [
    *(_flipped, _flipped, _overwritten, _overwritten, _overwritten, _truncated),
    *(_cut_out, _repeated, _inserted, _shuffled),
]
