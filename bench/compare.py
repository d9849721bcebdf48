"""asr beside PocketSphinx on the same recordings: word error rate, speed, start-up, memory.

    python bench/compare.py MANIFEST [--corpus NAME] [--limit N] [--runs N] [--json]

MANIFEST has JSON lines with audio, text and duration. Every recording becomes a WAV file first, so that both
read the same; each system transcribes all of them in one process. PocketSphinx is installed from PyPI, model
included, into a virtual environment that is thrown away. Texts are normalised as asr's training labels are.
Start-up is a process that transcribes the one recording whose length is nearest to ten seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.benchmark import Cost, machine, median_process, run_process
from asr.manifest import Utterance, read_manifest

POCKETSPHINX = "pocketsphinx==5.1.1"


@dataclass(frozen=True)
class System:
    """command: what writes texts/NAME.txt for each WAV file whose path is appended to it."""

    name: str
    command: list[str]
    texts: Path


def asr(folder: Path) -> System:
    texts = folder / "asr"
    return System("asr", [sys.executable, "-m", "asr", "transcribe", "-q", "-o", str(texts)], texts)


def pocketsphinx(folder: Path) -> System:
    environment, texts = folder / "environment", folder / "pocketsphinx"
    venv.create(environment, with_pip=True)
    python = str(environment / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", POCKETSPHINX], check=True, stdout=sys.stderr)
    texts.mkdir()
    program = Path(__file__).with_name("pocketsphinx_transcribe.py")
    return System(POCKETSPHINX.replace("==", " "), [python, str(program), str(texts)], texts)


def convert(utterances: Sequence[Utterance], folder: Path) -> list[str]:
    """The recordings as 16-bit WAV files in a folder, in this order."""
    from asr.audio import open_audio, write_audio

    paths = []
    for i, utterance in enumerate(utterances):
        path = folder / f"{i:05}.wav"
        with open_audio(utterance.audio) as blocks, write_audio(path) as append:
            for block in blocks:
                append(block)
        paths.append(str(path))
    return paths


def row(system: System, utterances: Sequence[Utterance], start_up: Cost, whole: Cost) -> dict[str, Any]:
    """The figures of one system. start_up, whole: what one recording and all of them took."""
    from asr.evaluation import count_words, sum_counts
    from asr.text import normalize

    counts = []
    for i, utterance in enumerate(utterances):
        heard = (system.texts / f"{i:05}.txt").read_text(encoding="utf-8")
        counts.append(count_words(normalize(utterance.text), normalize(heard)))
    seconds = sum(utterance.duration for utterance in utterances)
    return {
        "system": system.name,
        "word error rate, %": round(100 * sum_counts(counts).rate, 1),
        "x real time": round(seconds / whole.seconds, 1),
        "x real time of CPU": round(seconds / whole.cpu_seconds, 1),
        "start to text, s": round(start_up.seconds, 2),
        "the same, CPU s": round(start_up.cpu_seconds, 2),
        "peak MB": round(whole.peak_megabytes or 0),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare asr with PocketSphinx.")
    parser.add_argument("manifest", metavar="MANIFEST")
    parser.add_argument("--corpus", metavar="NAME", help="only the rows of this corpus")
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="rows (default: 100)")
    parser.add_argument("--runs", type=int, default=10, metavar="N", help="for start-up (default: 10)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    args = parser.parse_args()
    utterances = read_manifest(args.manifest, corpus=args.corpus, limit=args.limit)
    nearest = min(range(len(utterances)), key=lambda i: abs(utterances[i].duration - 10))
    with tempfile.TemporaryDirectory(prefix="asr-bench-") as name:
        folder = Path(name)
        # In a process of its own: run_process() measures memory beside a small one only.
        with ProcessPoolExecutor(1) as pool:
            recordings = pool.submit(convert, utterances, folder).result()
        systems = [asr(folder), pocketsphinx(folder)]
        costs = []
        for system in systems:
            start_up = median_process([*system.command, recordings[nearest]], args.runs)
            costs.append((start_up, run_process([*system.command, *recordings])))
        rows = [row(system, utterances, *cost) for system, cost in zip(systems, costs, strict=True)]
    result = {
        "machine": machine(),
        "recordings": len(utterances),
        "audio_seconds": round(sum(utterance.duration for utterance in utterances), 1),
        "first_text_of_seconds": utterances[nearest].duration,
        "runs": args.runs,
        "systems": rows,
    }
    print(json.dumps(result) if args.json else table(result))


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    processor, cores = result["machine"]["processor"], result["machine"]["cores"]
    names, *lines = [list(result["systems"][0]), *(list(row.values()) for row in result["systems"])]
    return "\n".join(
        [
            f"{result['recordings']} recordings, {result['audio_seconds']} s; start-up with one of"
            f" {result['first_text_of_seconds']} s, median of {result['runs']}; {processor}, {cores} cores",
            "",
            f"| {' | '.join(names)} |",
            f"| --- |{' --: |' * (len(names) - 1)}",
            *(f"| {' | '.join(map(str, line))} |" for line in lines),
        ]
    )


if __name__ == "__main__":
    main()
