"""A long recording of a manifest's recordings one after the other: MANIFEST OUTPUT SECONDS [CORPUS].

Half a second of silence lies between them; they begin again when there are no more. OUTPUT: .flac or .wav.
"""

import sys
from itertools import cycle

import numpy as np

from asr.audio import SAMPLE_RATE, open_audio, write_audio
from asr.manifest import read_manifest


def main() -> None:
    manifest, output, seconds, *corpus = sys.argv[1:]
    utterances = read_manifest(manifest, corpus=corpus[0] if corpus else None)
    left = round(float(seconds) * SAMPLE_RATE)
    with write_audio(output) as append:
        for utterance in cycle(utterances):
            with open_audio(utterance.audio) as blocks:
                for block in [*blocks, np.zeros(SAMPLE_RATE // 2, np.float32)]:
                    append(block[:left])
                    left -= len(block[:left])
            if not left:
                return


if __name__ == "__main__":
    main()
