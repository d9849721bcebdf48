"""Write copies of recordings as other rooms, microphones and telephones would give them, and their manifest.

    python recipes/english/augment_audio.py train.jsonl data/augmented --responses noise.jsonl

Each copy is a FLAC file that went through, each with its own probability: a room (a recorded impulse
response, or a simulated one where there are none), a change of level, and a low-rate Opus or telephone
codec. What happens to a recording follows from the seed and its id alone, and what is there already is not
made again. Noise, speed and masks are not made here: the training loop adds them anew in every epoch.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE, read_audio
from asr.errors import AsrError, ManifestError
from asr.manifest import Utterance, read_manifest, write_manifest

GAIN_DB = 12.0  # largest change of level, up or down
REVERBERATION = (0.15, 0.8)  # seconds in which a simulated room's sound falls by 60 dB
DIRECT_DB = (-3.0, 12.0)  # direct sound over the room's, simulated
OPUS_RATES = (12_000, 16_000, 24_000)  # bits per second
TELEPHONE_RATE = 8_000  # Hz
PEAK = 0.99  # louder copies are scaled down rather than clipped


def simulate_room(random: np.random.Generator) -> np.ndarray:
    """An impulse response of direct sound and decaying noise, after Polack (1988), 1-D at 16 kHz."""
    decay = random.uniform(*REVERBERATION)
    time = np.arange(round(decay * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / decay)  # -60 dB after `decay` seconds
    tail[: round(0.002 * SAMPLE_RATE)] = 0.0  # the nearest wall
    tail *= 10 ** (-random.uniform(*DIRECT_DB) / 20) / np.sqrt((tail**2).sum())
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


def through_opus(samples: np.ndarray, bit_rate: int, application: str) -> np.ndarray:
    """Encoded at a bit rate and decoded again; application: voip (SILK at low rates) or lowdelay (CELT)."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.opus")
        with av.open(str(path), "w") as container:
            options = {"application": application}
            stream = container.add_stream("libopus", rate=SAMPLE_RATE, layout="mono", options=options)
            stream.bit_rate = bit_rate
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "flt", "mono")
            frame.sample_rate = SAMPLE_RATE
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
        return _to_length(read_audio(path), len(samples))


def through_telephone(samples: np.ndarray) -> np.ndarray:
    """Half the bandwidth, in the eight bits of G.711 mu-law, and back."""
    narrow = np.clip(soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE), -1, 1)
    compressed = np.sign(narrow) * np.log1p(255 * np.abs(narrow)) / np.log(256)
    expanded = np.round(compressed * 127) / 127
    narrow = np.sign(expanded) * (256 ** np.abs(expanded) - 1) / 255
    return _to_length(soxr.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE), len(samples))


def _to_length(samples: np.ndarray, n_samples: int) -> np.ndarray:
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


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


def read_responses(path: Path) -> list[Path]:
    """The recorded room responses of a list: JSON lines with audio and kind, the kind being rir."""
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        found = [path.parent / entry["audio"] for entry in entries if entry["kind"] == "rir"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path}: not a list of noises with audio and kind ({error})") from None
    if not found:
        raise ManifestError(f"{path}: holds no room responses (kind rir)")
    return found


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
        responses = read_responses(args.responses) if args.responses else []
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
