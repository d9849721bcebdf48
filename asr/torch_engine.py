"""Samples -> log-probabilities with torch, on the CPU or on CUDA, whole or step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from asr.checkpoint import Checkpoint
from asr.errors import UsageError
from asr.features import LogMel
from asr.model import AcousticModel


class TorchEngine:
    """A checkpoint on a device. It changes nothing, so threads may share it."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: no usable CUDA device; leave it out to use the CPU")
        self.metadata = checkpoint.metadata
        self.device = torch.device(device)
        self._front_end = checkpoint.front_end.to(self.device)
        self._model = checkpoint.model.to(self.device)

    @torch.inference_mode()
    def log_probs(self, recordings: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
        """For each recording (float32 samples at 16 kHz): {output name: (frames', labels) natural logs}."""
        features = [self._front_end(torch.from_numpy(samples).to(self.device)) for samples in recordings]
        # Less than one window gives no frames; one frame of nothing keeps the batch rectangular.
        padded = pad_sequence([f if len(f) else f.new_zeros(1, f.shape[1]) for f in features], True)
        lengths = torch.tensor([len(f) for f in features], device=self.device)
        outputs, n_frames = self._model(padded, lengths)
        return [
            {name: output[i, : n_frames[i]].cpu().numpy() for name, output in outputs.items()}
            for i in range(len(recordings))
        ]

    def stream(self) -> TorchStream:
        """A fresh pass over one utterance; only for a model of one direction."""
        return TorchStream(self._front_end, self._model, self.device)


class TorchStream:
    """Log-probabilities of one utterance as its samples arrive, equal to those of the whole."""

    def __init__(self, front_end: LogMel, model: AcousticModel, device: torch.device) -> None:
        self._frames = front_end.stream()
        self._model = model
        self._device = device
        self._state = model.initial_state()

    @torch.inference_mode()
    def feed(self, samples: np.ndarray, *, last: bool = False) -> dict[str, np.ndarray]:
        """{output name: (frames', labels)}: what became certain with these samples.

        samples: float32 at 16 kHz, any number. last: no more will come.
        """
        frames = self._frames.feed(torch.from_numpy(samples).to(self._device))
        outputs, self._state = self._model.step(frames[None], self._state, last=last)
        return {name: output[0].cpu().numpy() for name, output in outputs.items()}
