"""A corpus that is sung: every letter is a tone, so a tiny model learns to read it in seconds."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr import config
from asr.training.config import RunConfig
from asr.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
# In this language every letter is a tone, and is pronounced as one phone.
TONES = {"a": 300.0, "b": 550.0, "c": 1000.0, "d": 1800.0, "e": 3200.0}
PHONES = {"a": "AH", "b": "B", "c": "K", "d": "D", "e": "IY"}
WORDS = ["bad", "cab", "dab", "bed", "ace", "bee", "add", "dead", "cede", "abba"]


def sing(text: str, random: np.random.Generator) -> np.ndarray:
    """Samples of a sentence: a tone a letter, a short gap between letters, a longer one between words."""
    pieces = [np.zeros(1600)]
    for letter in text:
        if letter == " ":
            pieces.append(np.zeros(3200))
            continue
        n_samples = int(random.integers(1400, 2400))
        time = np.arange(n_samples) / 16_000
        pieces += [0.3 * np.sin(2 * np.pi * TONES[letter] * time), np.zeros(640)]
    pieces.append(np.zeros(1600))
    samples = np.concatenate(pieces)
    return (samples + 0.003 * random.standard_normal(len(samples))).astype(np.float32)


def write_manifest(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def sing_corpus(folder: Path, name: str, n_utterances: int, seed: int) -> Path:
    random = np.random.default_rng(seed)
    entries = []
    for i in range(n_utterances):
        text = " ".join(random.choice(WORDS, int(random.integers(1, 4))))
        samples = sing(text, random)
        soundfile.write(folder / f"{name}{i}.wav", samples, 16_000)
        duration = len(samples) / 16_000
        entries.append({"audio": f"{name}{i}.wav", "text": text, "duration": duration})
    return write_manifest(folder / f"{name}.jsonl", entries)


CONFIG = """
output = "{output}"
[data]
train = "{corpus}/train.jsonl"
validation = "{corpus}/dev.jsonl"
lexicon = "{corpus}/lexicon.tsv"
[model]
outputs = {{ characters = 29, phones = 40 }}
middle_outputs = ["phones"]
n_layers = 2
n_hidden = 24
n_model = 32
n_channels = 4
[augment]
warm_up_updates = 1_000_000
[training]
losses = {{ characters = 0.4, phones = 0.4, "phones@middle" = 0.2 }}
batch_seconds = 8
max_updates = 60
learning_rate = 1e-2
average = 0.9
mixed_precision = false
"""
NO_PHONES = ["model.middle_outputs=[]", "data.lexicon="]
CHARACTERS_ONLY = [
    *NO_PHONES,
    "model.outputs={characters = 29}",
    "training.losses={characters = 1.0}",
]


def write_config(folder: Path, corpus: Path) -> Path:
    path = folder / "run.toml"
    path.write_text(CONFIG.format(output=folder / "run", corpus=corpus))
    return path


def run_config(folder: Path, corpus: Path, *overrides: str) -> RunConfig:
    return config.load(write_config(folder, corpus), overrides, RunConfig)


def prepared(folder: Path, corpus: Path, *overrides: str) -> Trainer:
    trainer = Trainer(run_config(folder, corpus, *overrides), torch.device("cpu"))
    trainer.prepare()
    return trainer


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]


def asr(*arguments: str | Path, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", *launcher, *(("-m",) if launcher else ()), "asr"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=300
    )


def torchrun(n_processes: int) -> tuple[str, ...]:
    """A launcher for asr() on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return (
        *("torch.distributed.run", "--nproc-per-node", str(n_processes)),
        *("--master-addr", "127.0.0.1", "--master-port", str(port)),
    )


def write_corpus(folder: Path) -> None:
    """train.jsonl, dev.jsonl and lexicon.tsv."""
    sing_corpus(folder, "train", 60, seed=1)
    sing_corpus(folder, "dev", 12, seed=2)
    lexicon = [f"{word}\t{' '.join(PHONES[letter] for letter in word)}\n" for word in WORDS]
    (folder / "lexicon.tsv").write_text("".join(lexicon))
