"""Utterances with their log-mel frames and label ids, read once and kept in memory.

Frames are stored raw (not normalised) as float16 in one array that is memory-mapped from the cache
folder, so a resumed run starts in seconds and the operating system decides what stays in memory.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from asr.audio import read_audio
from asr.errors import AsrError
from asr.features import FeatureConfig, LogMel
from asr.files import remove_leftovers, write_atomically
from asr.labels import Labels, Lexicon, frames_needed, targets
from asr.manifest import Utterance
from asr.model import output_lengths
from asr.training.augment import AugmentConfig
from asr.training.config import DataConfig
from asr.training.loss import names_of

NO_SOUND = "without sound that can be read"
_UNREADABLE = -1  # for the length of what has none, in the cache
_MOST_NAMED = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Dataset:
    """Utterances in the order of `utterances`; labels[name][i] is None where not pronounceable."""

    utterances: list[Utterance]
    frames: list[np.ndarray]  # (frames, mels) float16 each, raw
    labels: dict[str, list[list[int] | None]]

    def __len__(self) -> int:
        return len(self.utterances)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The utterances at these positions, in this order."""
        return Dataset(
            [self.utterances[i] for i in indices],
            [self.frames[i] for i in indices],
            {name: [labels[i] for i in indices] for name, labels in self.labels.items()},
        )

    def joined(self, other: Dataset) -> Dataset:
        """The items of both, these first."""
        return Dataset(
            self.utterances + other.utterances,
            self.frames + other.frames,
            {name: labels + other.labels[name] for name, labels in self.labels.items()},
        )

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of every mel band over all frames, (mels,) each."""
        total, squares, n_frames = 0.0, 0.0, 0
        for frames in self.frames:
            wide = frames.astype(np.float64)
            total, squares = total + wide.sum(0), squares + (wide**2).sum(0)
            n_frames += len(frames)
        mean = np.asarray(total / n_frames)
        deviation = np.sqrt(np.maximum(np.asarray(squares / n_frames) - mean**2, 1e-4))
        return mean.astype(np.float32), deviation.astype(np.float32)


def why_unusable(
    utterance: Utterance,
    n_frames: int,
    labels: Iterable[list[int] | None],
    data: DataConfig,
    speed: float = AugmentConfig.speed,
) -> str:
    """Why CTC cannot learn it, as a user is told; empty if it can.

    speed: the largest relative change that augmentation makes.
    """
    n_words = len(utterance.text.split())
    if n_frames == 0:
        return NO_SOUND
    if utterance.duration > data.max_seconds:
        return f"longer than data.max_seconds ({data.max_seconds:g} s)"
    if n_words > 3 and n_words > data.max_words_per_second * utterance.duration:
        return f"more than data.max_words_per_second ({data.max_words_per_second:g})"
    fastest = 1.15 + max(0.0, speed - 0.1)  # 0.05 more, for rounding
    n_outputs = int(output_lengths(torch.tensor(n_frames)) / fastest)
    known = [target for target in labels if target is not None]
    if not known:
        return "no word pronounced in data.lexicon"
    if not all(known):
        return "no text"
    if any(frames_needed(target) > n_outputs for target in known):
        return "sound too short for its text"
    return ""


def summary(left_out: Mapping[str, Sequence[Utterance]]) -> str:
    """What was left out, by reason: counts and the first names."""
    return "; ".join(
        f"{len(utterances)} {reason} ({names_of([u.id for u in utterances])})"
        for reason, utterances in left_out.items()
    )


def build(
    utterances: Sequence[Utterance],
    labels: dict[str, Labels],
    lexicon: Lexicon | None,
    features: FeatureConfig,
    cache: Path,
    on_progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Read every utterance once; later calls with the same, unchanged audio read the cache.

    What cannot be read has no frames, and a warning names it.
    """
    lengths, flat = _cached_frames(utterances, features, cache, on_progress)
    lengths = np.maximum(lengths, 0)
    ends = np.cumsum(lengths)
    frames = [flat[end - n : end] for end, n in zip(ends, lengths, strict=True)]
    return Dataset(
        list(utterances),
        frames,
        {
            name: [targets(kind, utterance.text, lexicon) for utterance in utterances]
            for name, kind in labels.items()
        },
    )


def build_noise(
    recordings: Sequence[Utterance],
    labels: dict[str, Labels],
    features: FeatureConfig,
    cache: Path,
    *,
    seconds: float = 5.0,
    on_progress: Callable[[int, int], None] | None = None,
) -> Dataset:
    """Pieces of recordings in which nobody speaks, and of white noise and silence: no labels.

    Trained with empty targets, they teach a model that not every sound is a word.
    """
    whole = build(recordings, {}, None, features, cache, on_progress)
    front_end = LogMel(features)
    n_frames = front_end.n_frames(int(seconds * features.sample_rate))
    pieces, sources = [], []
    for recording, frames in zip(whole.utterances, whole.frames, strict=True):
        for start in range(0, len(frames) - n_frames + 1, n_frames):
            pieces.append(frames[start : start + n_frames])
            sources.append(recording)
    white = torch.randn(
        int(seconds * features.sample_rate), generator=torch.Generator().manual_seed(1)
    )
    for level_db in (-200, -70, -60, -50, -40, -30, -20):
        samples = white * 10 ** (level_db / 20)
        pieces.append(front_end.raw(samples).numpy().astype(np.float16))
        sources.append(Utterance(f"white-noise{level_db}dB", Path(), "", seconds))
    utterances = [
        dataclasses.replace(source, id=f"{source.id}#{i}", text="", duration=seconds)
        for i, source in enumerate(sources)
    ]
    return Dataset(utterances, pieces, {name: [[] for _ in pieces] for name in labels})


def save_array(path: Path, array: np.ndarray) -> None:
    """Write a .npy file that is either there as a whole or not at all."""

    def write(temporary: str) -> None:
        with open(temporary, "wb") as stream:
            np.save(stream, array)

    remove_leftovers(path)
    write_atomically(path, write)


def _cached_frames(
    utterances: Sequence[Utterance],
    features: FeatureConfig,
    cache: Path,
    on_progress: Callable[[int, int], None] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of each utterance, and the memory-mapped (all frames, mels) array."""
    identity = [
        dataclasses.asdict(features),
        [(u.id, str(u.audio), u.duration, *_file_version(u.audio)) for u in utterances],
    ]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    cache.mkdir(parents=True, exist_ok=True)
    lengths_file, frames_file = cache / f"{key}.lengths.npy", cache / f"{key}.frames.npy"
    if lengths_file.exists() and frames_file.exists():
        lengths = np.load(lengths_file)
        # What could not be read is tried again: its file may be unchanged, and a permission or a disk mended.
        unread = [utterances[int(i)] for i in np.flatnonzero(lengths == _UNREADABLE)]
        tried = _read_block((unread, features))
        if all(isinstance(piece, str) for piece in tried):
            _warn_of(tried)
            return lengths, np.load(frames_file, mmap_mode="r")
    pieces = _read_all(utterances, features, on_progress)
    _warn_of(pieces)
    lengths = np.array([_UNREADABLE if isinstance(piece, str) else len(piece) for piece in pieces])
    empty = np.empty((0, features.n_mels), np.float16)
    # The lengths are written last: a cache that was interrupted has none and is made again.
    save_array(frames_file, np.concatenate([empty, *(p for p in pieces if not isinstance(p, str))]))
    save_array(lengths_file, lengths)
    return lengths, np.load(frames_file, mmap_mode="r")


def _warn_of(pieces: Iterable[np.ndarray | str]) -> None:
    """Name what could not be read, in the one of several processes that speaks."""
    faults = [piece for piece in pieces if isinstance(piece, str)]
    if os.environ.get("RANK", "0") != "0":
        return
    for fault in faults[:_MOST_NAMED]:
        logger.warning("left out: %s", fault)
    if len(faults) > _MOST_NAMED:
        logger.warning("left out: %d more; asr data validate names them", len(faults) - _MOST_NAMED)


def _file_version(path: Path) -> tuple[int, int]:
    """What changes when a file is written again; zeros when there is none, which reading it reports."""
    try:
        status = path.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _read_all(
    utterances: Sequence[Utterance],
    features: FeatureConfig,
    on_progress: Callable[[int, int], None] | None,
) -> list[np.ndarray | str]:
    block = 64
    jobs = [(utterances[i : i + block], features) for i in range(0, len(utterances), block)]
    pieces: list[np.ndarray | str] = []
    if len(jobs) == 1:
        return _read_block(jobs[0])
    # Spawned, not forked: torch's threads do not survive a fork.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), spawn, torch.set_num_threads, (1,)) as pool:
        for read in pool.map(_read_block, jobs):
            pieces.extend(read)
            if on_progress:
                on_progress(len(pieces), len(utterances))
    return pieces


def _read_block(job: tuple[Sequence[Utterance], FeatureConfig]) -> list[np.ndarray | str]:
    """The frames of each utterance, or what is wrong with its file."""
    utterances, features = job
    front_end = LogMel(features)
    pieces: list[np.ndarray | str] = []
    for utterance in utterances:
        try:
            samples = read_audio(utterance.audio)
        except AsrError as error:
            pieces.append(f"utterance {utterance.id}: {error}")
            continue
        with torch.inference_mode():
            pieces.append(front_end.raw(torch.from_numpy(samples)).numpy().astype(np.float16))
    return pieces
