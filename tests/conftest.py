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


SENTENCE = Path(__file__).parent / "data" / "1462-170142-0003.flac"
SENTENCE_WORDS = "the room was empty when he entered"


@pytest.fixture(scope="session")
def parrot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file of one direction that has learned one recording by heart, in seconds."""
    import numpy as np
    import torch.nn.functional as F
    from torch.nn.utils.rnn import pad_sequence

    from asr import checkpoint
    from asr.audio import read_audio
    from asr.features import LogMel
    from asr.labels import Labels
    from asr.model import AcousticModel, ModelConfig

    speech, random = read_audio(SENTENCE), np.random.default_rng(1)

    def variant() -> tuple[torch.Tensor, int]:
        """The recording amid silence, louder or softer, with a little noise; the frame it begins at."""
        before, after = random.integers(4_000, 24_000, 2)
        samples = np.pad(speech, (before, after)) * 10 ** random.uniform(-0.2, 0.2)
        samples += random.normal(0, 10 ** random.uniform(-5, -3), len(samples))
        return torch.from_numpy(samples.astype(np.float32)), before // 640

    labels, front_end = Labels.of_kind("characters"), LogMel()
    frames = front_end.raw(torch.from_numpy(speech))
    front_end.mean.copy_(frames.mean(0))
    front_end.deviation.copy_(frames.std(0) + 0.5)
    config = ModelConfig(
        bidirectional=False, lookahead=4, n_layers=2, n_hidden=64, n_model=64, n_channels=8, dropout=0.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AcousticModel(config).eval()  # statistics of so few frames would mislead
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=200, pct_start=0.2)
    target = torch.tensor(labels.encode(SENTENCE_WORDS)).repeat(3, 1)
    n_spoken = len(speech) // 640 + 6
    for _ in range(schedule.total_steps):
        samples, starts = zip(*(variant() for _ in target), strict=True)
        batch = [front_end(item) for item in samples]
        outputs, lengths = model(pad_sequence(batch, True), torch.tensor([len(item) for item in batch]))
        spoken = torch.zeros(outputs["characters"].shape[:2], dtype=torch.bool)
        for item, start in zip(spoken, starts, strict=True):
            item[start : start + n_spoken] = True
        # CTC alone lets spikes wander into the silence: there, only blanks are right.
        log_probs = outputs["characters"][spoken].unflatten(0, (len(target), n_spoken))
        n_letters = torch.full((len(target),), target.shape[1])
        loss = F.ctc_loss(log_probs.transpose(0, 1), target, torch.full_like(n_letters, n_spoken), n_letters)
        loss = loss - outputs["characters"][~spoken][:, 0].mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    path = tmp_path_factory.mktemp("parrot") / "parrot.safetensors"
    checkpoint.save(checkpoint.Checkpoint(model, front_end, {"characters": labels}), path)
    return path


@pytest.fixture(params=["compiled", "NumPy"])
def each_way_of_searching(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once with the compiled frames of a search, once as where nothing could be compiled."""
    from asr import align
    from asr.decoding import compiled

    if request.param == "NumPy":
        for module in (align, compiled):
            monkeypatch.setattr(module, "kernel", lambda: None)
    elif compiled.kernel() is None:
        pytest.skip("nothing is compiled here")
