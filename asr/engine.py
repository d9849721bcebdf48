"""Samples -> log-probabilities with torch, on the CPU or on CUDA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from asr.checkpoint import Checkpoint
from asr.errors import UsageError


class TorchEngine:
    """A checkpoint on a device. It changes nothing, so threads may share it."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: no usable CUDA device; leave it out to use the CPU")
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
