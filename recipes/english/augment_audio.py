"""Write copies of recordings as other rooms, microphones and telephones would give them, and their manifest.

    python recipes/english/augment_audio.py train.jsonl data/augmented --responses noise.jsonl

Each copy is a FLAC file that went through, each with its own probability: a room (a recorded impulse
response, or a simulated one where there are none), a change of level, and a low-rate Opus or telephone
codec. Every fourth recorded room is left out, for robust_set.py measures with it. What happens to a
recording follows from the seed and its id alone, and what is there already is not made again. Noise, speed
and masks are not made here: the training loop adds them anew in every epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import SAMPLE_RATE, read_audio
from asr.errors import AsrError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.training.surroundings import (
    held_out,
    in_room,
    read_responses,
    simulate_room,
    through_opus,
    through_telephone,
)

GAIN_DB = 12.0  # largest change of level, up or down
OPUS_RATES = (12_000, 16_000, 24_000)  # bits per second
PEAK = 0.99  # louder copies are scaled down rather than clipped


def augment(
    samples: np.ndarray,
    random: np.random.Generator,
    responses: Sequence[Path],
    *,
    room: float,
    codec: float,
) -> np.ndarray:
    """Samples of the same length; room, codec: the probabilities of each."""
    changed = samples.astype(np.float64)
    if random.uniform() < room:
        recorded = responses[int(random.integers(len(responses)))] if responses else None
        changed = in_room(changed, read_audio(recorded) if recorded else simulate_room(random))
    changed *= 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)
    changed *= min(1.0, PEAK / max(float(np.abs(changed).max()), 1e-9))
    if random.uniform() < codec:
        kind = str(random.choice(["voip", "lowdelay", "telephone"]))
        if kind == "telephone":
            changed = through_telephone(changed)
        else:
            changed = through_opus(changed, int(random.choice(OPUS_RATES)), kind)
    return np.clip(changed, -1, 1)


def copy(
    utterance: Utterance, number: int, folder: Path, seed: int, responses: Sequence[Path], **chances: float
) -> Utterance:
    """An augmented copy of a recording, written to the folder unless it is there."""
    key = hashlib.sha256(f"{seed} {number} {utterance.id}".encode()).digest()
    audio = folder / f"{key.hex()[:20]}.flac"
    if not audio.exists():
        random = np.random.default_rng(list(key))
        changed = augment(read_audio(utterance.audio), random, responses, **chances)
        temporary = audio.with_suffix(".part")
        soundfile.write(temporary, changed, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        os.replace(temporary, audio)
    return dataclasses.replace(utterance, id=f"{utterance.id}#augmented{number}", audio=audio)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("folder", type=Path, help="for the copies; their manifest is FOLDER/manifest.jsonl")
    parser.add_argument("--responses", type=Path, metavar="LIST", help="recorded rooms (default: simulated)")
    parser.add_argument("--copies", type=int, default=1, metavar="N", help="of each recording (default: 1)")
    parser.add_argument("--room", type=float, default=0.5, metavar="P", help="probability (default: 0.5)")
    parser.add_argument("--codec", type=float, default=0.5, metavar="P", help="probability (default: 0.5)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args(arguments)
    copies: list[Utterance] = []
    status = 0
    try:
        utterances = read_manifest(args.manifest)
        recorded = read_responses(args.responses) if args.responses else []
        kept_for_measuring = set(held_out(recorded)) if len(recorded) > 1 else set()
        responses = [response for response in recorded if response not in kept_for_measuring]
        args.folder.mkdir(parents=True, exist_ok=True)
        for utterance in utterances:
            for number in range(1, args.copies + 1):
                chances = {"room": args.room, "codec": args.codec}
                try:
                    copies.append(copy(utterance, number, args.folder, args.seed, responses, **chances))
                except AsrError as error:
                    print(f"augment_audio: error: {error}", file=sys.stderr)
                    status = 1
        write_manifest(args.folder / "manifest.jsonl", copies)
    except (AsrError, OSError) as error:
        print(f"augment_audio: error: {error}", file=sys.stderr)
        return 1
    print(f"{args.folder / 'manifest.jsonl'}: {len(copies)} copies")
    return status


if __name__ == "__main__":
    sys.exit(main())
