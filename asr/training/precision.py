"""Which numbers a training computes in: half precision where the processor is faster in it, else float32."""

from __future__ import annotations

import logging
import os
from functools import cache

import torch
from torch import nn

logger = logging.getLogger(__name__)


def autocast(device: torch.device, *, wanted: bool = True) -> torch.autocast:
    """A context that computes in half precision if that is wanted and the device can do it well.

    CUDA's autocast runs LSTMs in float16 whatever it is asked for; the CPU knows bfloat16.
    """
    if device.type == "cuda":
        return torch.autocast("cuda", torch.float16, enabled=wanted)
    return torch.autocast("cpu", torch.bfloat16, enabled=wanted and has_bfloat16())


@cache
def has_bfloat16() -> bool:
    """Whether this processor trains in bfloat16, and gains by it; says so once if it does not."""
    if _computes_in_bfloat16() and _lstm_runs():
        return True
    if os.environ.get("RANK", "0") == "0":  # several processes say it once
        logger.warning("this processor has no bfloat16 (AVX-512 BF16): training in float32")
    return False


def _computes_in_bfloat16() -> bool:
    # With AVX-512 alone it works, three times slower than float32. Other families lack this name.
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", True))


def _lstm_runs() -> bool:
    # oneDNN makes LSTMs of bfloat16 for few processors, and which ones differs from release to release.
    with torch.random.fork_rng(devices=()), torch.inference_mode(False), torch.enable_grad():
        lstm = nn.LSTM(8, 8, batch_first=True)
        try:
            with torch.autocast("cpu", torch.bfloat16):
                found, _ = lstm(torch.zeros(1, 2, 8))
            found.float().sum().backward()
        except RuntimeError:
            return False
    return True
