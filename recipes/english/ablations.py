"""What each part of the recipe is worth: one small training again and again, one thing changed each time.

    python recipes/english/ablations.py train.jsonl dev.jsonl --noise data/noise.jsonl --output runs/ablations

Every row is a run of ablations.toml on every 8th training utterance. Rows that are finished are not run
again, and one that was interrupted goes on; the table (Markdown, on standard output) has those there are.
Letters and phones are counted as they are heard, words after the search with the language model of asr.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from asr import checkpoint
from asr.manifest import read_manifest, write_manifest

CONFIG = Path(__file__).with_name("ablations.toml")

# What is changed -> overrides of the configuration. GRU and plain RNN have as many weights as the LSTM.
ROWS: dict[str, tuple[str, ...]] = {
    "nothing": (),
    "another seed": ("training.seed=2",),
    "GRU, 309 cells": ("model.cell=gru", "model.n_hidden=309"),
    "plain RNN (tanh), 607 cells": ("model.cell=rnn", "model.n_hidden=607"),
    "1 layer": ("model.n_layers=1",),
    "2 layers": ("model.n_layers=2",),
    "5 layers": ("model.n_layers=5",),
    "384 cells": ("model.n_hidden=384",),
    "one direction, 8 frames of look-ahead": ("model.bidirectional=false", "model.lookahead=8"),
    "letters alone": (
        "model.outputs={characters=29}",
        "model.middle_outputs=[]",
        "training.losses={characters=1.0}",
    ),
    "no loss at the middle layer": (
        "model.middle_outputs=[]",
        "training.losses={characters=0.5,phones=0.5}",
    ),
    "no masks": ("augment.frequency_masks=0", "augment.time_masks_per_second=0.0"),
    "no change of speed and vocal tract": ("augment.speed=0.0", "augment.vocal_tract=0.0"),
    "no noise mixed in": ("augment.noise=0.0",),
    "no dropout": ("model.dropout=0.0",),
    "dropout 0.3": ("model.dropout=0.3",),
    "no moving average of the weights": ("training.average=0.0",),
    "no weight decay": ("training.weight_decay=0.0",),
    "first pass in random order": ("training.sorta_grad=false",),
    "peak learning rate 0.0005": ("training.learning_rate=5e-4",),
    "peak learning rate 0.002": ("training.learning_rate=2e-3",),
    "batches of 120 s, half the updates": ("training.batch_seconds=120", "training.max_updates=750"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--noise", type=Path, help="manifest of sounds without speech")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=8, metavar="N", help="use each Nth utterance")
    parser.add_argument("--rows", type=int, default=len(ROWS), help="only the first so many")
    parser.add_argument("--corpus", default="librispeech/dev-clean", help="of the validation set; empty: all")
    parser.add_argument("--processes", type=int, default=1, help="by torchrun, when more than one")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for all rows")
    args = parser.parse_intermixed_args()
    (args.output / "cache").mkdir(parents=True, exist_ok=True)
    subset = args.output / "train.jsonl"
    write_manifest(subset, read_manifest(args.train)[:: args.every])
    given = [f"data.train={subset}", f"data.validation={args.validation}"]
    given += [f"data.validation_corpus='{args.corpus}'", *args.overrides]
    if args.noise:
        given.append(f"data.noise={args.noise}")
    print("| changed | weights | words wrong | letters wrong | phones wrong | x real time |")
    print("| --- | --: | --: | --: | --: | --: |", flush=True)
    for number, (name, overrides) in enumerate(list(ROWS.items())[: args.rows]):
        folder = args.output / f"{number:02}"
        folder.mkdir(exist_ok=True)
        if not (folder / "cache").exists():
            (folder / "cache").symlink_to("../cache")
        train([str(CONFIG), f"output={folder}", *given, *overrides], args.processes)
        print(row(name, folder, evaluate(folder, args.validation, args.corpus)), flush=True)


def train(arguments: list[str], n_processes: int) -> None:
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", str(n_processes)] if n_processes > 1 else []
    subprocess.run([sys.executable, *launch, "-m", "asr", "train", "-q", *arguments], check=True, stdout=2)


def evaluate(folder: Path, validation: Path, corpus: str) -> float:
    """Words wrong, in percent, after the search."""
    result = folder / "evaluation.json"
    if not result.exists():
        command = [sys.executable, "-m", "asr", "evaluate", "-q", "--json", str(validation)]
        command += ["--corpus", corpus, "--model", str(folder / "last.safetensors")]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result.write_text(done.stdout, encoding="utf-8")
    return json.loads(result.read_text(encoding="utf-8"))["corpora"][-1]["wer"]


def row(name: str, folder: Path, word_error: float) -> str:
    """A line of the table, with the errors of the run's last validation."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    last = [event for event in events if event["event"] == "validation"][-1]
    speeds = sorted(event["times_real_time"] for event in events if event["event"] == "training")
    model = checkpoint.load(folder / "last.safetensors").model
    n_weights = sum(parameter.numel() for parameter in model.parameters())
    errors = (last.get(f"{unit}_error") for unit in ("characters", "phones"))
    cells = [f"{word_error:.1f}", *("" if error is None else f"{100 * error:.1f}" for error in errors)]
    speed = f"{speeds[len(speeds) // 2]:.0f}" if speeds else ""
    return f"| {name} | {n_weights / 1e6:.2f} M | {' | '.join(cells)} | {speed} |"


if __name__ == "__main__":
    main()
