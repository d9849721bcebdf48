"""Reads damaged files of all formats and tells what became of them: python tests/soak/fuzz_decode.py

Every file must give sound or an AudioError, soon, in little memory, and leave the process that reads
it alive. Ends with 1 if one does not; the file is kept and named.
"""

from __future__ import annotations

import argparse
import logging
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from damage import mutated, write_seeds  # noqa: E402

from asr.audio import SAMPLE_RATE, open_audio  # noqa: E402
from asr.errors import AudioError  # noqa: E402

MOST_SECONDS = 60.0  # for a file, the patience with one that gives no sound included
MOST_SOUND = 4 * 3600.0  # seconds out of some 100 kB
MOST_MEMORY = 600  # MiB of this process


def read(path: Path) -> tuple[str, float]:
    """What became of a file, and the seconds of sound in it."""
    n_samples = 0
    try:
        with open_audio(path) as audio:
            for block in audio.heard():
                n_samples += len(block)
        if audio.error is None:
            return "whole", n_samples / SAMPLE_RATE
        message = str(audio.error)
    except AudioError as error:
        message = str(error)
    except Exception as error:
        return f"unexpected {type(error).__name__}: {error}", n_samples / SAMPLE_RATE
    if "decoder crashed" in message or "decoder ended" in message:
        return "decoder crashed", n_samples / SAMPLE_RATE
    if "gave no sound" in message:
        return "decoder hung", n_samples / SAMPLE_RATE
    return "heard in part" if n_samples else "refused", n_samples / SAMPLE_RATE


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=30.0, help="stop after so many (default: 30)")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    rng = random.Random(args.seed)
    kept = Path(tempfile.mkdtemp(prefix="fuzz-decode-"))
    counts: Counter[str] = Counter()
    slowest, most_sound, n_bad = 0.0, 0.0, 0
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        seeds = write_seeds(folder)
        contents = [seed.read_bytes() for seed in seeds]
        for number in range(args.files):
            if time.monotonic() - begin > 60 * args.minutes:
                print(f"stopped after {args.minutes:g} minutes")
                break
            place = rng.randrange(len(seeds))
            path = folder / f"{number:05d}-{seeds[place].name}"
            path.write_bytes(mutated(contents[place], contents, rng))
            start = time.monotonic()
            what, sound = read(path)
            seconds = time.monotonic() - start
            kind = what if not what.startswith("unexpected") else "unexpected"
            counts[kind] += 1
            slowest, most_sound = max(slowest, seconds), max(most_sound, sound)
            if kind in ("unexpected", "decoder crashed", "decoder hung"):
                shutil.copy(path, kept)
                print(f"{kept / path.name}: {what}")
            if kind == "unexpected" or seconds > MOST_SECONDS or sound > MOST_SOUND:
                n_bad += 1
            path.unlink()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{sum(counts.values())} files in {time.monotonic() - begin:.0f} s:")
    for kind, count in counts.most_common():
        print(f"{count:6d} {kind}")
    print(f"longest {slowest:.1f} s a file, most {most_sound:.0f} s of sound, {memory} MiB in this process")
    if not any(kept.iterdir()):
        kept.rmdir()
    return 1 if n_bad or memory > MOST_MEMORY else 0


if __name__ == "__main__":
    sys.exit(main())
