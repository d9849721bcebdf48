"""Learning from another model's posteriors, frame by frame, beside CTC.

A model that hears both directions knows where each label is; CTC alone lets a model of one direction
find out for itself, which takes long and ends later in time. Sources: Hinton et al. 2015 (distillation),
Kurata and Audhkhasi 2019 (from bidirectional to unidirectional CTC models).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asr.checkpoint import Checkpoint
from asr.model import output_lengths
from asr.training.batching import make_batches
from asr.training.dataset import save_array
from asr.training.distributed import Group
from asr.training.precision import autocast

BATCH_FRAMES = 6000


def posteriors(
    teacher: Checkpoint,
    frames: Sequence[np.ndarray],
    cache: Path,
    group: Group,
    *,
    mixed_precision: bool = True,
) -> list[dict[str, np.ndarray]]:
    """The teacher's probabilities of every label of every output, (frames', labels) float16, per item.

    frames: (frames, mels) raw log-mel each. Every process of the group computes its share, and all
    read the whole from the cache, as does a later run with the same teacher and frames.
    """
    digest = hashlib.blake2b(digest_size=8)
    for tensor in teacher.model.state_dict().values():
        digest.update(tensor.numpy(force=True).tobytes())
    for item in frames:
        digest.update(item.tobytes())
    shares = [range(rank, len(frames), group.size) for rank in range(group.size)]
    files = [cache / f"{digest.hexdigest()}.teacher{i}-{group.size}.npy" for i in range(group.size)]
    if not files[group.rank].exists():
        own = [frames[i] for i in shares[group.rank]]
        save_array(files[group.rank], _compute(teacher, own, mixed_precision))
    group.wait()
    widths = teacher.model.config.outputs
    columns = np.cumsum(list(widths.values()))
    found: list[dict[str, np.ndarray]] = [{}] * len(frames)
    for share, file in zip(shares, files, strict=True):
        flat, start = np.load(file, mmap_mode="r"), 0
        for i in share:
            end = start + _n_outputs(frames[i])
            found[i] = {
                name: flat[start:end, last - width : last]
                for (name, width), last in zip(widths.items(), columns, strict=True)
            }
            start = end
    return found


def _n_outputs(frames: np.ndarray) -> int:
    return int(output_lengths(torch.tensor(len(frames))))


@torch.inference_mode()
def _compute(teacher: Checkpoint, frames: Sequence[np.ndarray], mixed_precision: bool) -> np.ndarray:
    """(all frames', all labels): the items one after the other, the outputs side by side."""
    found: list[np.ndarray] = [np.empty(0)] * len(frames)
    for indices in make_batches([len(item) for item in frames], BATCH_FRAMES, seed=0, epoch=0):
        items = [torch.from_numpy(frames[i].astype(np.float32)) for i in indices]
        lengths = torch.tensor([len(item) for item in items])
        features = [teacher.front_end.normalize(item) for item in items]
        with autocast(torch.device("cpu"), wanted=mixed_precision):
            outputs, n_outputs = teacher.model(
                torch.nn.utils.rnn.pad_sequence(features, batch_first=True), lengths
            )
        joint = torch.cat([outputs[name] for name in teacher.model.config.outputs], -1).exp().half()
        for row, n, i in zip(joint, n_outputs, indices, strict=True):
            found[i] = row[:n].numpy()
    return np.concatenate(found)


def distillation_loss(log_probs: Tensor, lengths: Tensor, targets: Sequence[np.ndarray]) -> Tensor:
    """Kullback-Leibler divergence of log_probs from the teacher's probabilities, the mean per frame.

    log_probs: (batch, frames', labels); targets: (their frames', labels) each, stretched in time to
    the item's length, since augmentation changes its speed.
    """
    total = log_probs.new_zeros(())
    for item, n, target in zip(log_probs, lengths.tolist(), targets, strict=True):
        probabilities = torch.from_numpy(target.astype(np.float32)).to(log_probs.device)
        if len(probabilities) != n:
            probabilities = F.interpolate(probabilities.T[None], n, mode="linear")[0].T
        total = total + F.kl_div(item[:n], probabilities, reduction="sum")
    return total / lengths.sum()
