"""Label recordings without texts by a model, and keep the labels that can be trusted.

    python recipes/english/pseudo_labels.py data/cv/clips.jsonl prompts/*.txt -m english \\
        --output data/cv/labelled.jsonl --exclude dev.jsonl data/cv/texts-elsewhere.txt

Prompts are texts that speakers may have been asked to read, one a line. A recording whose hypothesis is close
to exactly one of them gets its text (source "prompt"). Any other keeps its hypothesis if the model is sure of
it (source "sure"), or is left out. No recording whose label is or may be an excluded text is kept.

What was heard is kept in OUTPUT.heard as it comes. A run that was stopped, or that has other prompts or
another confidence, continues from there; another model hears everything anew.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from heapq import nlargest
from pathlib import Path
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein  # jiwer brings it

from asr import pretrained
from asr.audio import read_audio
from asr.errors import AsrError, ManifestError
from asr.files import write_atomically
from asr.manifest import Utterance, read_manifest
from asr.recognizer import Pending, Recognizer
from asr.text import normalize

CONFIDENCE = 0.9  # mean probability of the words from which on a hypothesis is a label
FEWEST_WORDS = 3  # of a hypothesis that is a label
# Letters in which a hypothesis may differ from its prompt, and must differ more from every other: a share of
# the prompt's letters.
NEAR, APART = 0.35, 0.2
MOST_COMMON = 2000  # prompts that have a word or pair of words: more say little
CANDIDATES = 20  # prompts whose letters are compared
MOST_WAITING = 64  # recordings whose search is under way


class Heard(NamedTuple):
    """What a model heard in a recording; probabilities: of its words."""

    text: str
    probabilities: tuple[float, ...]

    @property
    def confidence(self) -> float:
        return sum(self.probabilities) / max(1, len(self.probabilities))


class Label(NamedTuple):
    text: str
    source: str  # prompt or sure


class Prompts:
    """Finds the texts that are nearest to another by their letters."""

    def __init__(self, texts: Iterable[str]) -> None:
        """texts: normalised."""
        self.texts = sorted({text for text in texts if text})
        places = defaultdict(list)
        for place, text in enumerate(self.texts):
            for gram in _grams(text):
                places[gram].append(place)
        self._places = {gram: found for gram, found in places.items() if len(found) <= MOST_COMMON}

    def nearest(self, text: str, n: int = 2) -> list[tuple[float, str]]:
        """The n nearest texts among those that share rare words with it, nearest first.

        Each with the letters that differ, as a share of its own.
        """
        shared: defaultdict[int, float] = defaultdict(float)
        for gram in _grams(text):
            found = self._places.get(gram, [])
            for place in found:
                shared[place] += math.log(len(self.texts) / len(found)) + 1
        near = []
        for place in nlargest(CANDIDATES, shared, key=shared.__getitem__):
            prompt = self.texts[place]
            near.append((Levenshtein.distance(text, prompt) / len(prompt), prompt))
        return sorted(near)[:n]

    def match(self, text: str) -> str | None:
        """The only text that it is close to, if there is one."""
        found = self.nearest(text)
        if not found or found[0][0] > NEAR:
            return None
        return found[0][1] if len(found) == 1 or found[1][0] >= found[0][0] + APART else None


def _grams(text: str) -> set[str]:
    words = text.split()
    return {*words, *(f"{first} {second}" for first, second in zip(words, words[1:], strict=False))}


def label(heard: Heard, prompts: Prompts, excluded: Prompts, confidence: float) -> Label | str:
    """A recording's label, or why it has none."""
    text = heard.text
    if not text:
        return "nothing heard"
    forbidden = excluded.nearest(text, 1)
    if forbidden and forbidden[0][0] <= NEAR:
        return "near an excluded text"
    if prompt := prompts.match(text):
        return Label(prompt, "prompt")
    if len(heard.probabilities) < FEWEST_WORDS:
        return "too short"
    return Label(text, "sure") if heard.confidence >= confidence else "unsure"


def hear(
    recognizer: Recognizer, model: str, utterances: Sequence[Utterance], kept: Path, n_processes: int
) -> dict[str, Heard]:
    """What the model hears in each recording, by its id; what the kept file has already is not heard again.

    model: a name for its contents; the kept file is begun anew for another.
    """
    found: dict[str, Heard] = {}
    lines = kept.read_text(encoding="utf-8").split("\n") if kept.exists() else []
    complete = lines[:-1]  # the last may have been cut off
    if complete and json.loads(complete[0]) == {"model": model}:
        for line in complete[1:]:
            row = json.loads(line)
            found[row["id"]] = Heard(row["text"], tuple(row["probabilities"]))
    else:
        complete = [json.dumps({"model": model})]
    kept.write_text("".join(f"{line}\n" for line in complete), encoding="utf-8")
    missing = [utterance for utterance in utterances if utterance.id not in found]
    waiting: deque[tuple[str, Pending]] = deque()
    with recognizer.in_processes(n_processes) as together, open(kept, "a", encoding="utf-8") as file:

        def finish(most_waiting: int) -> None:
            while waiting and (len(waiting) > most_waiting or waiting[0][1].done()):
                name, pending = waiting.popleft()
                words = pending.result().words
                probabilities = tuple(round(word.probability, 3) for word in words)
                heard = Heard(normalize(" ".join(word.text for word in words)), probabilities)
                row = {"id": name, "text": heard.text, "probabilities": probabilities}
                file.write(f"{json.dumps(row)}\n")
                file.flush()
                found[name] = heard
                if len(found) % 500 == 0:
                    print(f"{len(found)} of {len(utterances)} heard", file=sys.stderr, flush=True)

        for utterance in missing:
            try:
                samples = read_audio(utterance.audio)
            except AsrError as error:
                print(f"pseudo_labels: left out: {error}", file=sys.stderr)
                continue
            waiting.append((utterance.id, together.begin([samples])))
            finish(MOST_WAITING)
        finish(0)
    return found


def read_texts(path: Path) -> list[str]:
    """The normalised texts of a manifest (.jsonl) or of a file with one a line."""
    if path.suffix == ".jsonl":
        return [normalize(utterance.text) for utterance in read_manifest(path)]
    try:
        return [normalize(line) for line in path.read_text(encoding="utf-8").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def write_labelled(path: Path, rows: Sequence[tuple[Utterance, Label, Heard]]) -> None:
    """A manifest with the labels' sources and confidences beside them."""
    folder = path.parent.resolve()
    lines = []
    for utterance, chosen, heard in rows:
        audio = utterance.audio.resolve()
        row: dict[str, Any] = {
            "id": utterance.id,
            "audio": (audio.relative_to(folder) if audio.is_relative_to(folder) else audio).as_posix(),
            "text": chosen.text,
            "speaker": utterance.speaker,
            "corpus": utterance.corpus,
            "duration": utterance.duration,
            "source": chosen.source,
            "confidence": round(heard.confidence, 3),
        }
        if chosen.text != heard.text:
            row["heard"] = heard.text
        lines.append(json.dumps(row))

    def write(file: str) -> None:
        Path(file).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    write_atomically(path, write)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("manifest", type=Path, help="of the recordings; its texts are not looked at")
    parser.add_argument("prompts", type=Path, nargs="*", metavar="PROMPTS", help="files with a text a line")
    parser.add_argument("-m", "--model", default="english", help="name or file (default: english)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the labelled manifest")
    parser.add_argument(
        "--exclude", type=Path, nargs="+", default=[], metavar="FILE", help="texts that no label may have"
    )
    parser.add_argument(
        "--confidence",
        type=float,
        default=CONFIDENCE,
        metavar="P",
        help=f"mean probability of the words that a hypothesis needs (default: {CONFIDENCE})",
    )
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="to search in (default: 1)")
    parser.add_argument("--threads", type=int, metavar="N", help="of the network (default: every core)")
    args = parser.parse_args(arguments)
    try:
        utterances = read_manifest(args.manifest)
        prompts = Prompts(text for path in args.prompts for text in read_texts(path))
        excluded = Prompts(text for path in args.exclude for text in read_texts(path))
        recognizer = Recognizer.load(args.model, threads=args.threads)
        model = hashlib.sha256(pretrained.find(args.model).read_bytes()).hexdigest()
        kept = args.output.with_name(f"{args.output.name}.heard")
        heard = hear(recognizer, model, utterances, kept, args.processes)
        counts: Counter[str] = Counter()
        seconds: defaultdict[str, float] = defaultdict(float)
        rows = []
        for utterance in utterances:
            if utterance.id not in heard:
                continue
            found = label(heard[utterance.id], prompts, excluded, args.confidence)
            if isinstance(found, Label):
                rows.append((utterance, found, heard[utterance.id]))
            what = found.source if isinstance(found, Label) else found
            counts[what] += 1
            seconds[what] += utterance.duration
        write_labelled(args.output, rows)
    except (AsrError, OSError) as error:
        print(f"pseudo_labels: error: {error}", file=sys.stderr)
        return 1
    for what, count in counts.most_common():
        print(f"{what:22}{count:7}{seconds[what] / 3600:8.2f} hours")
    hours = sum(utterance.duration for utterance, _, _ in rows) / 3600
    print(f"{args.output}: {len(rows)} labels, {hours:.2f} hours")
    return 0


if __name__ == "__main__":
    sys.exit(main())
