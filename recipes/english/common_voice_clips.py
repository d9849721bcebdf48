"""Extract Common Voice's clips without texts from Git repositories that hold some.

    git clone --bare https://github.com/korliu/whisper whisper.git
    python recipes/english/common_voice_clips.py whisper.git data/cv --known train.jsonl dev.jsonl

A clip that has a text in any of a repository's tables is left out: others may measure with it. So is a clip
that a known manifest has. The others become FLAC files at 16 kHz with a manifest, OUTPUT/clips.jsonl, whose
texts are empty. OUTPUT/texts-elsewhere.txt lists the texts of the tables, which pseudo_labels.py gives to no
clip. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from asr.audio import SAMPLE_RATE
from asr.errors import AsrError, AudioError
from asr.manifest import Utterance, read_manifest, write_manifest
from asr.text import normalize

CORPUS = "commonvoice_untranscribed"
SECONDS = (0.8, 20.0)  # shorter clips hold no sentence, longer ones something else beside it
QUIETEST = 0.002  # largest sample of a clip that was recorded at all

_CLIP = re.compile(r"common_voice_en_\d+")


class Repository:
    """The files of a Git repository's HEAD, without a work tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            listed = subprocess.run(
                ["git", "-C", str(folder), "ls-tree", "-r", "-z", "--format=%(objectname) %(path)", "HEAD"],
                capture_output=True,
                check=True,
            )
        except subprocess.CalledProcessError as error:
            why = error.stderr.decode(errors="replace").strip().split("\n")[-1]
            raise AudioError(f"{folder}: not a Git repository with files ({why})") from None
        rows = (row.split(" ", 1) for row in listed.stdout.decode(errors="replace").split("\0") if row)
        self.objects = {path: name for name, path in rows}

    @contextmanager
    def reader(self) -> Iterator[_Reader]:
        """Reads files, by one process for them all."""
        # A partial clone would otherwise ask its origin for what it lacks.
        environment = {**os.environ, "GIT_NO_LAZY_FETCH": "1"}
        command = ["git", "-C", str(self.folder), "cat-file", "--batch"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            yield _Reader(process, self.objects)


class _Reader:
    def __init__(self, process: subprocess.Popen[bytes], objects: dict[str, str]) -> None:
        assert process.stdin and process.stdout
        self._questions, self._answers, self._objects = process.stdin, process.stdout, objects

    def __call__(self, path: str) -> bytes | None:
        """The file's contents, or None if the repository lists it and does not have it."""
        self._questions.write(f"{self._objects[path]}\n".encode())
        self._questions.flush()
        head = self._answers.readline().split()
        if len(head) != 3:
            return None
        contents = self._answers.read(int(head[2]))
        self._answers.read(1)
        return contents


def texts_of(table: bytes) -> dict[str, str]:
    """The texts of a tab-separated table by the name of their clips; {} if it is no such table.

    A text without a clip, as in a table of reports, has its own name.
    """
    rows = csv.DictReader(io.StringIO(table.decode(errors="replace")), delimiter="\t", quoting=csv.QUOTE_NONE)
    if "sentence" not in (rows.fieldnames or []):
        return {}
    found = {}
    for row in rows:
        text, clip = row["sentence"] or "", _CLIP.search(row.get("path") or "")
        if text.strip():
            found[clip[0] if clip else text] = text
    return found


def to_samples(clip: bytes) -> np.ndarray:
    """Samples at 16 kHz, 1-D; ValueError if it holds no sentence."""
    frames, rate = soundfile.read(io.BytesIO(clip), always_2d=True)
    seconds = len(frames) / rate
    if not SECONDS[0] <= seconds <= SECONDS[1]:
        raise ValueError(f"lasts {seconds:.1f} s")
    samples = soxr.resample(frames.mean(axis=1), rate, SAMPLE_RATE)
    peak = np.abs(samples).max()
    if peak < QUIETEST:
        raise ValueError("holds no sound")
    return samples * min(1.0, 0.99 / peak)


def extract(
    repository: Repository, output: Path, known: set[str], found: dict[str, Utterance], texts: set[str]
) -> dict[str, int]:
    """Write a repository's clips without texts, add them to found, and count what was left out and why.

    known: names of clips that have been used elsewhere; texts: gets the normalised texts of the tables.
    """
    counts = {"with a text": 0, "known": 0, "not in the repository": 0, "no sentence": 0}
    with repository.reader() as read:
        with_text: set[str] = set()
        for path in repository.objects:
            if path.endswith((".tsv", ".csv")) and (table := read(path)) is not None:
                named = texts_of(table)
                with_text |= named.keys()
                texts |= {normalize(text) for text in named.values()}
        for path in sorted(repository.objects):
            match = _CLIP.fullmatch(Path(path).stem)
            if not match or not path.endswith(".mp3") or match[0] in found:
                continue
            name = match[0]
            if name in with_text or name in known:
                counts["with a text" if name in with_text else "known"] += 1
                continue
            audio = output / "clips" / f"{name}.flac"
            if not audio.exists():
                clip = read(path)
                if clip is None:
                    counts["not in the repository"] += 1
                    continue
                try:
                    samples = to_samples(clip)
                except (ValueError, RuntimeError):
                    counts["no sentence"] += 1
                    continue
                temporary = audio.with_suffix(".part")
                soundfile.write(temporary, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
                os.replace(temporary, audio)
            duration = soundfile.info(audio).duration
            found[name] = Utterance(f"{CORPUS}-{name}", audio, "", duration, f"{CORPUS}-{name}", CORPUS)
    return counts


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("repositories", type=Path, nargs="+", metavar="REPOSITORY", help="folder of Git's")
    parser.add_argument("output", type=Path, help="folder for the clips and their manifest, clips.jsonl")
    parser.add_argument(
        "--known", type=Path, nargs="+", default=[], metavar="MANIFEST", help="whose clips are left out"
    )
    args = parser.parse_args(arguments)
    found: dict[str, Utterance] = {}
    texts: set[str] = set()
    try:
        known = {
            match[0]
            for path in args.known
            for utterance in read_manifest(path)
            if (match := _CLIP.search(utterance.id))
        }
        (args.output / "clips").mkdir(parents=True, exist_ok=True)
        for folder in args.repositories:
            before = len(found)
            counts = extract(Repository(folder), args.output, known, found, texts)
            left_out = ", ".join(f"{count} {why}" for why, count in counts.items())
            print(f"{folder}: {len(found) - before} clips; left out: {left_out}", flush=True)
        write_manifest(args.output / "clips.jsonl", found.values())
        lines = [f"{text}\n" for text in sorted(texts - {""})]
        (args.output / "texts-elsewhere.txt").write_text("".join(lines), encoding="utf-8")
    except (AsrError, OSError) as error:
        print(f"common_voice_clips: error: {error}", file=sys.stderr)
        return 1
    hours = sum(utterance.duration for utterance in found.values()) / 3600
    print(f"{args.output / 'clips.jsonl'}: {len(found)} clips, {hours:.2f} hours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
