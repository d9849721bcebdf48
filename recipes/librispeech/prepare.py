"""Write the manifest of one or several parts of LibriSpeech; the FLAC files stay where they are.

    python recipes/librispeech/prepare.py train-clean-5 -o data/librispeech/train-clean-5.jsonl

Several parts go into one manifest, each under its own name as the corpus (librispeech/PART).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from asr.errors import AsrError, ManifestError
from asr.manifest import Utterance, write_manifest
from asr.preparation import Preparation, seconds_of


def prepare(folder: Path) -> Preparation:
    """The utterances of a part: FOLDER/SPEAKER/CHAPTER/*.flac, with the texts in *.trans.txt."""
    found = Preparation()
    transcripts = sorted(folder.glob("*/*/*.trans.txt"))
    if not transcripts:
        raise ManifestError(f"{folder}: no SPEAKER/CHAPTER/*.trans.txt there; is it a part of LibriSpeech?")
    for transcript in transcripts:
        speaker, corpus = transcript.parent.parent.name, f"librispeech/{folder.name}"
        for line in transcript.read_text(encoding="utf-8").splitlines():
            id, _, text = line.partition(" ")
            audio = transcript.parent / f"{id}.flac"
            try:
                seconds = seconds_of(audio)
                found.utterances.append(Utterance(id, audio, text.lower(), seconds, speaker, corpus))
            except AsrError as error:
                found.failures.append(str(error))
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="+", metavar="PART", help="dev-clean, train-clean-100, ...")
    parser.add_argument("--folder", type=Path, default=Path("data/librispeech"), help="that of download.py")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MANIFEST")
    args = parser.parse_args(arguments)
    utterances: list[Utterance] = []
    failures: list[str] = []
    try:
        for part in args.parts:
            found = prepare(args.folder / "LibriSpeech" / part)
            utterances += found.utterances
            failures += found.failures
        if utterances:
            write_manifest(args.output, utterances)
    except (AsrError, OSError) as error:
        print(f"prepare: error: {error}", file=sys.stderr)
        return 1
    for failure in failures:
        print(f"prepare: error: {failure}", file=sys.stderr)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    print(f"{args.output}: {len(utterances)} utterances, {hours:.2f} h")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
