"""Samples -> log-probabilities with ONNX Runtime on the CPU, by a graph that asr/export.py made; no torch.

A graph takes samples, the number of frames that each item has of them, and for a model of one direction
the state before them; it gives the log-probabilities of every output, and the state after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from asr.errors import CheckpointError
from asr.metadata import KEY, Metadata

SAMPLES, LENGTHS = "samples", "lengths"  # (batch, samples) float32; (batch,) frames of each item, int64
# Inputs of a model of one direction: the frame before either convolution, h and c of all layers, and
# what waits for its future context.
STATES = ("first", "second", "recurrent", "future")
_STRIDE = 4  # input frames per output frame


def next_state(name: str) -> str:
    """The output that is the next step's input of this name."""
    return f"next_{name}"


class OnnxEngine:
    """An exported model; CheckpointError when the file is none. It changes nothing: threads may share it."""

    def __init__(self, path: str | Path, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.enable_mem_pattern = False  # kept for each shape: 140 MB after two hours
        options.intra_op_num_threads = threads or 0  # 0: one a core
        # Threads that spin while they wait cost two thirds more CPU, and others want it: the search.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its classes have no base of their own
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: not a readable ONNX model ({reason})") from None
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise CheckpointError(f"{path}: an ONNX model, but not one that asr export made")
        self.metadata = Metadata.from_json(text, Path(path))
        self.lookahead: int = self.metadata.model["lookahead"]
        self._window: int = self.metadata.features["n_fft"]
        self._hop: int = self.metadata.features["hop_length"]
        self._outputs = list(self.metadata.labels)

    def log_probs(self, recordings: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """For each recording (float32 samples at 16 kHz): {output name: (frames', labels) natural logs}.

        Each goes alone: a graph in 8 bits rounds by the largest values of all that it is given at once.
        """
        return [self._log_probs(samples) for samples in recordings]

    def _log_probs(self, samples: np.ndarray) -> dict[str, np.ndarray]:
        length = self.n_frames(len(samples))
        n_outputs = -(-length // _STRIDE)
        n_frames = _STRIDE * max(1, n_outputs + self.lookahead)
        outputs, _ = self.run([samples], [length], n_frames, self.initial_state(1))
        return {
            name: output[0, self.lookahead : self.lookahead + n_outputs] for name, output in outputs.items()
        }

    def stream(self) -> OnnxStream:
        """A fresh pass over one utterance; only for a model of one direction."""
        return OnnxStream(self)

    def n_frames(self, n_samples: int) -> int:
        """How many frames come of so many samples; 0 for less than one window."""
        return max(0, (n_samples - self._window) // self._hop + 1)

    def n_samples(self, n_frames: int) -> int:
        """From the beginning of one frame to that of the frame so many later."""
        return n_frames * self._hop

    def nothing(self) -> dict[str, np.ndarray]:
        """The log-probabilities of no frames."""
        return {name: np.zeros((0, len(labels)), np.float32) for name, labels in self.metadata.labels.items()}

    def initial_state(self, n_items: int) -> dict[str, np.ndarray]:
        """The state before the first frame, by the names of inputs; empty for a bidirectional model."""
        return {
            node.name: np.zeros([n_items if isinstance(n, str) else n for n in node.shape], np.float32)
            for node in self._session.get_inputs()
            if node.name in STATES
        }

    def run(
        self,
        recordings: Sequence[np.ndarray],
        lengths: Sequence[int],
        n_frames: int,
        state: Mapping[str, np.ndarray],
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """{output name: (batch, n_frames / 4, labels)} and the next state.

        lengths: frames of each item, from the beginning of its samples; up to n_frames, a multiple of 4,
        there is nothing.
        """
        samples = np.zeros((len(recordings), (n_frames - 1) * self._hop + self._window), np.float32)
        for row, recording in zip(samples, recordings, strict=True):
            n_kept = min(len(row), len(recording))
            row[:n_kept] = recording[:n_kept]
        names = [*self._outputs, *map(next_state, state)]
        inputs = {SAMPLES: samples, LENGTHS: np.array(lengths, np.int64), **state}
        values = self._session.run(names, inputs)
        n = len(self._outputs)
        return dict(zip(self._outputs, values[:n], strict=True)), dict(zip(state, values[n:], strict=True))


class OnnxStream:
    """Log-probabilities of one utterance as its samples arrive, equal to those of the whole."""

    def __init__(self, engine: OnnxEngine) -> None:
        self._engine = engine
        self._state = engine.initial_state(1)
        self._pending = np.zeros(0, np.float32)  # from the first frame that has not run on
        self._n_dropped = engine.lookahead  # outputs of the nothing that the look-ahead begins with

    def feed(self, samples: np.ndarray, *, last: bool = False) -> dict[str, np.ndarray]:
        """{output name: (frames', labels)}: what became certain with these samples.

        samples: float32 at 16 kHz, any number. last: no more will come.
        """
        engine = self._engine
        self._pending = np.concatenate([self._pending, samples])
        length = n_frames = engine.n_frames(len(self._pending))
        if last:
            n_frames = _STRIDE * (-(-length // _STRIDE) + engine.lookahead)
        else:
            length = n_frames = length // _STRIDE * _STRIDE
        if not n_frames:
            return engine.nothing()
        outputs, self._state = engine.run([self._pending], [length], n_frames, self._state)
        self._pending = self._pending[engine.n_samples(n_frames) :]
        n_dropped = min(self._n_dropped, n_frames // _STRIDE)
        self._n_dropped -= n_dropped
        return {name: output[0, n_dropped:] for name, output in outputs.items()}
