"""Engines: ONNX Runtime says what torch says, and which of them runs."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from asr import checkpoint, engine, export
from asr.audio import read_audio
from asr.errors import CheckpointError, UsageError
from asr.onnx_engine import OnnxEngine
from asr.recognizer import Recognizer
from asr.torch_engine import TorchEngine
from tests.conftest import SENTENCE

ROOT = Path(__file__).parent.parent
EXACT = 3e-4  # between log-probabilities in float32, of which the front ends differ most
ROUNDED = 0.05  # between probabilities, one of them with int8 weights


@pytest.fixture(scope="module")
def tiny(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a bidirectional model, in float32."""
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    export.export(checkpoint.load(tiny_checkpoint), path, int8=False)
    return path


@pytest.fixture(scope="module")
def parrot_graph(parrot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of a model of one direction, in float32."""
    path = tmp_path_factory.mktemp("graph") / "parrot.onnx"
    export.export(checkpoint.load(parrot), path, int8=False)
    return path


@pytest.fixture(scope="module")
def pair(parrot: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with its int8 graph beside it."""
    path = tmp_path_factory.mktemp("pair") / "parrot.safetensors"
    path.write_bytes(parrot.read_bytes())
    export.export(checkpoint.load(path), path.with_suffix(".onnx"))
    return path


def recordings() -> list[np.ndarray]:
    """Speech of several lengths, some too short for a frame."""
    speech = read_audio(SENTENCE)
    return [speech, speech[:20_000], speech[5_000:5_700], speech[:511], speech[:0]]


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, log_probs in expected.items():
        assert found[name].shape == log_probs.shape
        np.testing.assert_allclose(found[name], log_probs, atol=EXACT)


def test_a_graph_gives_what_torch_gives_for_recordings_of_any_length(
    tiny: Path, tiny_checkpoint: Path, parrot_graph: Path, parrot: Path
) -> None:
    for graph, source in ((tiny, tiny_checkpoint), (parrot_graph, parrot)):
        expected = TorchEngine(checkpoint.load(source), "cpu").log_probs(recordings())
        for ours, theirs in zip(OnnxEngine(graph).log_probs(recordings()), expected, strict=True):
            assert_equal(ours, theirs)


def test_a_recording_in_a_batch_is_as_alone(tiny: Path, parrot_graph: Path) -> None:
    for graph in (tiny, parrot_graph):
        onnx = OnnxEngine(graph)
        for samples, batched in zip(recordings(), onnx.log_probs(recordings()), strict=True):
            assert_equal(batched, onnx.log_probs([samples])[0])


@pytest.mark.parametrize("block", [97, 160, 640, 2560, 100_000])
def test_a_recording_step_by_step_is_as_whole(parrot_graph: Path, block: int) -> None:
    onnx, speech = OnnxEngine(parrot_graph), read_audio(SENTENCE)
    for samples in (speech[:30_500], speech[:1_000], speech[:100]):
        stream = onnx.stream()
        steps = [stream.feed(samples[i : i + block]) for i in range(0, len(samples), block)]
        steps.append(stream.feed(samples[:0], last=True))
        joined = {name: np.concatenate([step[name] for step in steps]) for name in steps[0]}
        assert_equal(joined, onnx.log_probs([samples])[0])


def test_steps_come_as_early_as_with_torch(parrot_graph: Path, parrot: Path) -> None:
    ours, theirs = OnnxEngine(parrot_graph).stream(), TorchEngine(checkpoint.load(parrot), "cpu").stream()
    speech = read_audio(SENTENCE)
    for i in range(0, 20_000, 1000):
        block = speech[i : i + 1000]
        assert len(ours.feed(block)["characters"]) == len(theirs.feed(block)["characters"])


def test_int8_weights_change_probabilities_little_and_the_words_not(pair: Path) -> None:
    difference = export.compare(checkpoint.load(pair), pair.with_suffix(".onnx"), [read_audio(SENTENCE)])
    assert 0 < difference.largest < ROUNDED
    ours, theirs = (Recognizer.load(pair, engine=choice, device="cpu") for choice in ("onnx", "torch"))
    assert ours.transcribe(SENTENCE).text == theirs.transcribe(SENTENCE).text != ""


def test_the_graph_beside_a_checkpoint_runs_unless_torch_is_asked_for(
    pair: Path, parrot: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_has_cuda", lambda: False)
    assert isinstance(engine.load(pair), OnnxEngine)
    assert isinstance(engine.load(pair.with_suffix(".onnx")), OnnxEngine)
    assert isinstance(engine.load(pair, engine="torch"), TorchEngine)
    assert isinstance(engine.load(parrot), TorchEngine)


def test_torch_runs_where_there_is_a_cuda_device(pair: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_has_cuda", lambda: True)
    assert isinstance(engine.load(pair), TorchEngine)
    assert isinstance(engine.load(pair, device="cpu"), OnnxEngine)


def test_a_graph_of_an_older_checkpoint_does_not_run_unnoticed(
    pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    newer = checkpoint.load(pair)
    newer.info["step"] = 2
    checkpoint.save(newer, tmp_path / "model.safetensors")
    (tmp_path / "model.onnx").write_bytes(pair.with_suffix(".onnx").read_bytes())
    with caplog.at_level(logging.WARNING, logger="asr"):
        assert isinstance(engine.load(tmp_path / "model.safetensors", device="cpu"), TorchEngine)
    assert "not made from this model.safetensors" in caplog.text
    with pytest.raises(CheckpointError, match="asr export .* makes it anew"):
        engine.load(tmp_path / "model.safetensors", engine="onnx")


def test_what_an_engine_cannot_do_is_refused(parrot: Path, pair: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--engine onnx: runs on the CPU"):
        engine.load(pair, engine="onnx", device="cuda")
    with pytest.raises(UsageError, match="torch cannot run an ONNX graph"):
        engine.load(pair.with_suffix(".onnx"), engine="torch")
    with pytest.raises(CheckpointError, match="asr export .* makes it"):
        engine.load(parrot, engine="onnx")
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(CheckpointError, match="text.onnx: not a readable ONNX model") as error:
        engine.load(tmp_path / "text.onnx")
    assert "\n" not in str(error.value)


def test_a_bidirectional_graph_does_not_stream(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="hears only whole recordings"):
        Recognizer.load(tiny).stream()


@pytest.mark.parametrize("verb", [["transcribe"], ["listen", "--fast", "--simulate"]])
def test_recognition_with_onnx_imports_neither_torch_nor_librosa(pair: Path, verb: list[str]) -> None:
    code = (
        "import sys; from asr.cli import main; status = main(sys.argv[1:]);"
        "loaded = {'torch', 'torchaudio', 'librosa'} & set(sys.modules);"
        "sys.exit(f'{status} {loaded}' if status or loaded else 0)"
    )
    command = [*verb, str(SENTENCE), "-m", str(pair), "--engine", "onnx"]
    done = subprocess.run([sys.executable, "-c", code, *command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
