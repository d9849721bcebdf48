"""What runs a model: the interface that torch and ONNX Runtime share, and which of them to take."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from asr import extras, metadata
from asr.errors import CheckpointError, UsageError
from asr.metadata import Metadata

logger = logging.getLogger(__name__)

ONNX_SUFFIX = ".onnx"


class EngineStream(Protocol):
    """Log-probabilities of one utterance as its samples arrive, equal to those of the whole."""

    def feed(self, samples: np.ndarray, *, last: bool = False) -> dict[str, np.ndarray]:
        """{output name: (frames', labels)}: what became certain with these samples.

        samples: float32 at 16 kHz, any number. last: no more will come.
        """


class Engine(Protocol):
    """A model ready to run. It changes nothing, so threads may share it."""

    @property
    def metadata(self) -> Metadata: ...

    def log_probs(self, recordings: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """For each recording (float32 samples at 16 kHz): {output name: (frames', labels) natural logs}."""

    def stream(self) -> EngineStream:
        """A fresh pass over one utterance; only for a model of one direction."""


def file_to_run(path: Path, *, engine: str = "auto", device: str = "auto") -> Path:
    """The graph, for ONNX Runtime, or the checkpoint, for torch; quick, since no weights are read.

    path, engine, device: as load() has them. Raises UsageError for what contradicts itself, CheckpointError
    without a graph or for a checkpoint that is none, MissingExtraError where torch would have to run but is
    not installed.
    """
    if engine == "onnx" and device == "cuda":
        raise UsageError("--engine onnx: runs on the CPU; leave out --device cuda, or take --engine torch")
    graph = path if path.suffix == ONNX_SUFFIX else path.with_suffix(ONNX_SUFFIX)
    if path == graph and (engine == "torch" or device == "cuda"):
        raise UsageError(f"{path}: torch cannot run an ONNX graph; name the checkpoint it was made from")
    if engine == "onnx" and not graph.is_file():
        raise CheckpointError(f"{graph}: no such file; asr export {path} makes it")
    if engine == "onnx" or path == graph or (engine == "auto" and _may_take(graph, device)):
        return graph
    metadata.read(path)  # before 5 GB are installed for a file that is no model
    if engine == "torch" or device == "cuda":
        extras.require("torch", "--engine torch" if engine == "torch" else "--device cuda")
    extras.require("torch", f"{path}: a checkpoint without {graph.name} beside it")
    return path


def load(
    path: Path, *, engine: str = "auto", device: str = "auto", threads: int | None = None
) -> Engine:
    """The engine for a model file: a checkpoint or the ONNX graph that asr export made of one.

    engine: "torch", "onnx", or "auto": torch on a CUDA device if there is one, else ONNX Runtime if the
    file is a graph or one lies beside the checkpoint, else torch. threads: of the CPU.
    Raises what file_to_run() does, and CheckpointError for what cannot be read.
    """
    graph = file_to_run(path, engine=engine, device=device)
    if graph.suffix == ONNX_SUFFIX:
        from asr.onnx_engine import OnnxEngine

        exported = OnnxEngine(graph, threads)
        if path == graph or exported.metadata.describes_the_same(metadata.read(path)):
            return exported
        if engine == "onnx" or not extras.is_installed("torch"):
            raise CheckpointError(f"{graph}: not made from this {path.name}; asr export {path} makes it anew")
        logger.warning("%s: not made from this %s, which torch runs instead", graph, path.name)
    import torch

    from asr import checkpoint
    from asr.torch_engine import TorchEngine

    if threads:
        torch.set_num_threads(threads)
    return TorchEngine(checkpoint.load(path), device)


def _may_take(graph: Path, device: str) -> bool:
    """Whether there is a graph, and no CUDA device that would be faster."""
    return graph.is_file() and (device == "cpu" or (device == "auto" and not _has_cuda()))


def _has_cuda() -> bool:
    """Whether there are an NVIDIA device and a torch to use it, without the seconds of importing torch."""
    if not extras.is_installed("torch"):
        return False
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    n_devices = ctypes.c_int()
    return (
        driver.cuInit(0) == 0
        and driver.cuDeviceGetCount(ctypes.byref(n_devices)) == 0
        and n_devices.value > 0
    )
