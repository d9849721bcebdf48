"""Log-mel frames of 16 kHz samples, of a whole recording or as samples arrive: the same numbers.

Frames are not centred: frame t sees the samples [160 t, 160 t + 512), a 25 ms Hann window in a
512-point transform, so nothing depends on how the samples were cut into blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torchaudio
from torch import Tensor, nn


@dataclass(frozen=True)
class FeatureConfig:
    sample_rate: int = 16_000  # Hz
    n_mels: int = 80
    n_fft: int = 512  # samples; the span of one frame
    win_length: int = 400  # samples: 25 ms
    hop_length: int = 160  # samples: 10 ms
    f_min: float = 20.0  # Hz
    floor: float = 1e-6  # added to the mel power, so that digital silence has a logarithm


class LogMel(nn.Module):
    """Samples -> log-mel frames, normalised with the mean and deviation of the training data.

    mean, deviation: (mels,), buffers kept in the checkpoint; 0 and 1 until measured.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, config: FeatureConfig = FeatureConfig()) -> None:
        super().__init__()
        self.config = config
        self.mel = torchaudio.transforms.MelSpectrogram(
            sample_rate=config.sample_rate,
            n_fft=config.n_fft,
            win_length=config.win_length,
            hop_length=config.hop_length,
            f_min=config.f_min,
            n_mels=config.n_mels,
            center=False,
        )
        self.register_buffer("mean", torch.zeros(config.n_mels))
        self.register_buffer("deviation", torch.ones(config.n_mels))

    def n_frames(self, n_samples: int) -> int:
        """How many frames come of so many samples; 0 for less than one window."""
        return max(0, (n_samples - self.config.n_fft) // self.config.hop_length + 1)

    def raw(self, samples: Tensor) -> Tensor:
        """(..., samples) in -1..1 -> (..., frames, mels), natural logs, not normalised."""
        if samples.shape[-1] < self.config.n_fft:
            return samples.new_zeros(*samples.shape[:-1], 0, self.config.n_mels)
        return (self.mel(samples) + self.config.floor).log().transpose(-1, -2)

    def normalize(self, frames: Tensor) -> Tensor:
        return (frames - self.mean) / self.deviation

    def forward(self, samples: Tensor) -> Tensor:
        """(..., samples) in -1..1 -> (..., frames, mels), normalised."""
        return self.normalize(self.raw(samples))

    def stream(self) -> FeatureStream:
        """A fresh stream over one recording."""
        return FeatureStream(self)


class FeatureStream:
    """Frames as samples arrive, in blocks of any size; holds less than one window of samples."""

    def __init__(self, front_end: LogMel) -> None:
        self._front_end = front_end
        self._pending = front_end.mean.new_zeros(0)

    def feed(self, samples: Tensor) -> Tensor:
        """(samples,) -> (frames, mels): all frames that became complete, perhaps none."""
        samples = torch.cat([self._pending, samples])
        frames = self._front_end(samples)
        self._pending = samples[len(frames) * self._front_end.config.hop_length :].clone()
        return frames
