"""Whether there is speech in sound as it arrives: the only place that knows Silero VAD.

Measured on 36 recordings of noise, it took 3 % of their time for speech, nearly all of it people talking
in a coffee shop; a detector by level alone that missed as little speech took 38 %.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

CHUNK = 512  # samples at 16 kHz that the network takes at once: 32 ms
THRESHOLD = 0.35  # of its probability; its authors' 0.5 begins a little later in noise


class SpeechDetector:
    """A small recurrent network; an instance remembers one stream."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        spec = find_spec("silero_vad")
        assert spec is not None and spec.origin is not None
        # Importing the package would set torch to one thread, so only its data is taken.
        self._network = torch.jit.load(Path(spec.origin).parent / "data" / "silero_vad.jit")

    @torch.inference_mode()
    def feed(self, samples: np.ndarray) -> bool:
        """Whether speech is likely anywhere in these samples: float32, 16 kHz, a multiple of CHUNK."""
        chunks = torch.from_numpy(samples).reshape(-1, CHUNK)
        return max((self._network(chunk, 16_000).item() for chunk in chunks), default=0.0) > self._threshold

    def reset(self) -> None:
        """Forget the stream."""
        self._network.reset_states()
