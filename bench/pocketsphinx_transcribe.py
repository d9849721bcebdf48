"""The text of WAV files by PocketSphinx and the English model in its package: OUTPUT_DIR FILE...

Runs where pocketsphinx is installed, and needs nothing of asr. Writes OUTPUT_DIR/NAME.txt for each file of
16 kHz mono 16-bit samples.
"""

import sys
import wave
from pathlib import Path

from pocketsphinx import Decoder


def main() -> None:
    folder, *paths = map(Path, sys.argv[1:])
    decoder = Decoder(loglevel="ERROR")  # all else as it comes
    for path in paths:
        with wave.open(str(path)) as file:
            samples = file.readframes(file.getnframes())
        decoder.start_utt()
        decoder.process_raw(samples, full_utt=True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        (folder / f"{path.stem}.txt").write_text(hypothesis.hypstr if hypothesis else "", encoding="utf-8")


if __name__ == "__main__":
    main()
