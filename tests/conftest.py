"""Set-up that all tests share: small, quiet torch, and one tiny model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before torch is imported: spinning threads slow everything down when the cores are shared.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["GOMP_SPINCOUNT"] = "0"

import torch  # noqa: E402

torch.set_num_threads(2)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file with random weights, two layers and both outputs: quick, and it knows nothing."""
    from asr import checkpoint
    from asr.features import LogMel
    from asr.labels import Labels
    from asr.model import AcousticModel, ModelConfig

    labels = {kind: Labels.of_kind(kind) for kind in ("characters", "phones")}
    config = ModelConfig(
        outputs={kind: len(symbols) for kind, symbols in labels.items()},
        n_layers=2,
        n_hidden=16,
        n_model=24,
        n_channels=4,
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AcousticModel(config).eval()
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    checkpoint.save(checkpoint.Checkpoint(model, LogMel(), labels), path)
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the manifests train.jsonl and dev.jsonl of sung words, and lexicon.tsv."""
    from singing import write_corpus

    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="module")
def own_random_numbers_and_one_thread() -> Iterator[None]:
    """For tests that train: so small a model is faster on one thread."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(n_threads)
