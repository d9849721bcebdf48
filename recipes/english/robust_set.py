"""Make a test set of bad conditions from a development manifest.

    python recipes/english/robust_set.py dev.jsonl data/robust --noise noise-list.jsonl
    asr evaluate data/robust/robust.jsonl

The same utterances are heard in every condition, so that error rates can be compared. A row's corpus is its
condition: `asr evaluate` prints a row for each. What is done to an utterance follows from its id alone. The
noises and room responses are those that are kept out of training.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import SAMPLE_RATE, read_audio
from asr.errors import AsrError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.training.surroundings import (
    TELEPHONE_BAND,
    TELEPHONE_RATE,
    add_noise,
    at_rate,
    held_out,
    held_out_noises,
    in_room,
    read_responses,
    simulate_room,
    through_codec,
    through_opus,
    through_telephone,
)

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]

CORPUS = "librispeech/dev-clean"
CLIPPED = 0.05  # share of the samples that overdriven recordings lose


def conditions(noises: Sequence[Path], responses: Sequence[Path]) -> Mapping[str, Change]:
    """What each condition makes of samples."""

    def noisy(ratio_db: float) -> Change:
        def change(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
            noise = read_audio(noises[int(random.integers(len(noises)))]).astype(np.float64)
            return add_noise(samples, noise, ratio_db, random)

        return change

    def recorded_room(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return in_room(samples, read_audio(responses[int(random.integers(len(responses)))]))

    def simulated_room(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return in_room(samples, simulate_room(random, (0.5, 0.5), (-3.0, 3.0)))

    def clipped(samples: np.ndarray, _: np.random.Generator) -> np.ndarray:
        limit = max(float(np.quantile(np.abs(samples), 1 - CLIPPED)), 1e-6)
        return np.clip(samples, -limit, limit) * (0.99 / limit)

    return {
        "clean": lambda samples, _: samples,
        **{f"noise {ratio} dB": noisy(ratio) for ratio in (20, 10, 5, 0)},
        "telephone": lambda samples, _: through_telephone(samples, TELEPHONE_BAND),
        "mobile telephone (AMR)": lambda samples, _: through_codec(
            samples, "libopencore_amrnb", ".amr", 7_950, sample_rate=TELEPHONE_RATE
        ),
        "recorded rooms": recorded_room,
        "simulated rooms, 0.5 s": simulated_room,
        "Opus 12 kb/s": lambda samples, _: through_opus(samples, 12_000, "voip"),
        "MP3 32 kb/s": lambda samples, _: through_codec(samples, "libmp3lame", ".mp3", 32_000),
        "30 dB quieter": lambda samples, _: samples * 10 ** (-30 / 20),
        "clipped": clipped,
        "11 kHz": lambda samples, _: at_rate(samples, 11_025),
    }


def choose(utterances: list[Utterance], n_utterances: int) -> list[Utterance]:
    """So many of them, at equal steps through the sorted ids and so through the speakers; 0: all."""
    ordered = sorted(utterances, key=lambda utterance: utterance.id)
    if not n_utterances or n_utterances >= len(ordered):
        return ordered
    return [ordered[i * len(ordered) // n_utterances] for i in range(n_utterances)]


def make(utterance: Utterance, name: str, change: Change, folder: Path) -> Utterance:
    """The utterance in one condition, written unless it is there."""
    key = hashlib.sha256(f"{name} {utterance.id}".encode()).digest()
    audio = folder / f"{key.hex()[:20]}.flac"
    if not audio.exists():
        samples = read_audio(utterance.audio).astype(np.float64)
        changed = change(samples, np.random.default_rng(list(key)))
        changed = changed * min(1.0, 0.99 / max(float(np.abs(changed).max()), 1e-9))
        temporary = audio.with_suffix(".part")
        soundfile.write(temporary, changed, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        os.replace(temporary, audio)
    return dataclasses.replace(utterance, id=f"{utterance.id}#{name}", audio=audio, corpus=name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path, help="for the recordings and their manifest, robust.jsonl")
    parser.add_argument("--noise", type=Path, required=True, metavar="LIST", help="noises and room responses")
    parser.add_argument("--corpus", default=CORPUS, help=f"rows of the manifest to take (default: {CORPUS})")
    parser.add_argument(
        "--utterances", type=int, default=150, metavar="N", help="so many of them; 0: all (default: 150)"
    )
    args = parser.parse_args(arguments)
    try:
        chosen = choose(read_manifest(args.manifest, corpus=args.corpus), args.utterances)
        noises = held_out_noises(args.noise)
        responses = held_out(read_responses(args.noise))
        args.folder.mkdir(parents=True, exist_ok=True)
        rows = [
            make(utterance, name, change, args.folder)
            for name, change in conditions(noises, responses).items()
            for utterance in chosen
        ]
        write_manifest(args.folder / "robust.jsonl", rows)
    except (AsrError, OSError) as error:
        print(f"robust_set: error: {error}", file=sys.stderr)
        return 1
    print(f"{args.folder / 'robust.jsonl'}: {len(rows)} recordings")
    return 0


if __name__ == "__main__":
    sys.exit(main())
