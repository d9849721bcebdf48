"""How well the words of a given text are placed: MANIFEST MINUTES [CORPUS].

Recordings of the manifest are joined, half a second of silence between them, and `asr align`'s algorithm
places their joined texts. The first word of each recording should begin where its sound does: at the first
10 ms that are less than 30 dB below the loudest 10 ms of the recording. Prints JSON.
"""

import json
import sys
from itertools import cycle

import numpy as np

from asr.alignment import align_text
from asr.audio import SAMPLE_RATE, read_audio
from asr.manifest import read_manifest
from asr.recognizer import Recognizer
from asr.text import normalize

FRAME = SAMPLE_RATE // 100
BELOW_LOUDEST_DB = 30


def onset(samples: np.ndarray) -> float:
    """Seconds from the beginning of a recording to its first sound."""
    power = np.square(samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)).mean(1)
    return float((power > power.max() * 10 ** (-BELOW_LOUDEST_DB / 10)).argmax()) / 100


def main() -> None:
    manifest, minutes, *corpus = sys.argv[1:]
    blocks: list[np.ndarray] = []
    text: list[str] = []
    true: dict[int, float] = {}  # place of a first word in the text -> seconds
    n_samples = 0
    for utterance in cycle(read_manifest(manifest, corpus=corpus[0] if corpus else None)):
        if n_samples >= float(minutes) * 60 * SAMPLE_RATE:
            break
        samples = read_audio(utterance.audio)
        true[len(text)] = n_samples / SAMPLE_RATE + onset(samples)
        text += normalize(utterance.text).split()
        blocks += [samples, np.zeros(SAMPLE_RATE // 2, np.float32)]
        n_samples += len(samples) + SAMPLE_RATE // 2
    recognizer = Recognizer.load("english")
    alignment = align_text(recognizer, blocks, " ".join(text))
    found = [word for segment in alignment.transcript.segments for word in segment.words]
    missing = [word for segment in alignment.missing for word in segment.words]
    # A missing word has the time of the gap that it is missing from, so this is the order of the text.
    in_order = sorted(
        [(word.start, 1, i) for i, word in enumerate(found)] + [(w.start, 0, -1) for w in missing]
    )
    starts = {at: found[i].start for at, (_, _, i) in enumerate(in_order) if i >= 0}
    errors = np.array([start - true[at] for at, start in starts.items() if at in true])
    print(
        json.dumps(
            {
                "minutes": round(n_samples / SAMPLE_RATE / 60, 1),
                "words": len(text),
                "words_found": len(found),
                "words_missing": len(missing),
                "starts_compared": len(errors),
                "median_error_ms": round(1000 * float(np.median(np.abs(errors)))),
                "median_bias_ms": round(1000 * float(np.median(errors))),
                "share_within_100_ms": round(float((np.abs(errors) < 0.1).mean()), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
