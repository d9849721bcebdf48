"""What a model of one direction does with sound as it arrives: words, latencies, load, and what noise gives.

    python bench/live.py speech dev.jsonl --every 37 --corpus librispeech/dev-clean [--second-pass]
    python bench/live.py noise noises.jsonl --seconds 3600 [--second-pass]

`speech` runs recordings of a manifest through the path of `asr listen --simulate --fast` and prints the
word error rate of the final texts with the report; `noise` repeats recordings in which nobody speaks, or
makes silence (`--silence`), for so long, and prints how many words came out and how memory grew. Both
print JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr import pretrained
from asr.audio import SAMPLE_RATE, read_audio
from asr.evaluation import Counts, count_words
from asr.manifest import read_manifest
from asr.recognizer import Recognizer
from asr.simulation import Report, closing_silence, simulate
from asr.streaming import Stream
from asr.text import normalize
from asr.transcript import Final, Partial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-m", "--model", default=pretrained.STREAMING)
    kinds = parser.add_subparsers(dest="kind", required=True)
    speech = kinds.add_parser("speech")
    speech.add_argument("manifest", type=Path)
    speech.add_argument("--corpus", help="only this one of the manifest")
    speech.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth of its utterances")
    noise = kinds.add_parser("noise")
    noise.add_argument("manifest", type=Path, nargs="?", help="noises; none with --silence")
    noise.add_argument("--silence", action="store_true")
    noise.add_argument("--name", default="", help="only recordings with this in their path")
    noise.add_argument("--seconds", type=float, default=3600)
    for kind in (speech, noise):
        kind.add_argument("--second-pass", action="store_true", help="by the bidirectional model, at the end")
    args = parser.parse_args()
    recognizer = Recognizer.load(args.model, threads=1)
    second_pass = recognizer.beside("english", threads=1) if args.second_pass else None
    stream = Stream(recognizer, second_pass=second_pass)
    hear = hear_speech if args.kind == "speech" else hear_noise
    print(json.dumps(hear(stream, args)))


def hear_speech(stream: Stream, args: argparse.Namespace) -> dict[str, object]:
    silence = closing_silence(stream.config.endpoint)
    report = Report()
    counts = Counts()
    chosen = read_manifest(args.manifest, corpus=args.corpus)[:: args.every]
    for utterance in chosen:
        texts: list[str] = []

        def keep(events: list[Partial | Final], texts: list[str] = texts) -> None:
            texts += [event.segment.text for event in events if isinstance(event, Final)]

        blocks = [read_audio(utterance.audio)]
        simulate(stream, blocks, report, keep, silence=silence, in_real_time=False)
        counts.add(count_words(normalize(utterance.text), normalize(" ".join(texts))))
    return {"recordings": len(chosen), "word_error_rate": round(counts.rate, 4), **report.values()}


def hear_noise(stream: Stream, args: argparse.Namespace) -> dict[str, object]:
    n_left = int(args.seconds * SAMPLE_RATE)
    n_words = n_finals = 0
    memory = []
    began = time.process_time()
    for block in _sounds(args):
        for event in stream.feed(block[:n_left]):
            if isinstance(event, Final):
                n_finals += 1
                n_words += len(event.segment.words)
        n_left -= len(block)
        memory.append(_resident_megabytes())
        if n_left <= 0:
            break
    return {
        "seconds": args.seconds,
        "words": n_words,
        "finals": n_finals,
        "cpu_share": round((time.process_time() - began) / args.seconds, 4),
        "megabytes_after_a_minute": memory[min(60, len(memory) - 1)],
        "megabytes_at_the_end": memory[-1],
        "megabytes_peak": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _sounds(args: argparse.Namespace) -> Iterator[np.ndarray]:
    """Blocks of a second, without end."""
    if args.silence:
        yield from itertools.repeat(np.zeros(SAMPLE_RATE, np.float32))
    paths = [n.audio for n in read_manifest(args.manifest) if args.name in str(n.audio)]
    for path in itertools.cycle(paths):
        samples = read_audio(path)
        for start in range(0, len(samples), SAMPLE_RATE):
            yield samples[start : start + SAMPLE_RATE]


def _resident_megabytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * resource.getpagesize() / 1e6)


if __name__ == "__main__":
    main()
