"""Several training processes that act as one, started by torchrun; a single process needs none of it.

Every process takes its share of each batch and the gradients are averaged with the shares as weights.
On a CPU whose cores are also used by others, two processes of one thread each are faster than one of
two threads, because no thread waits at a barrier inside every small operation.
"""

from __future__ import annotations

import atexit
import datetime
import os
from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def choose_device(name: str = "auto") -> torch.device:
    """The device of this process, for "auto", "cpu" or "cuda"; on CUDA every local process has its own."""
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)  # NCCL and the random numbers go by the current device
    return device


class Group:
    """The processes of one run. rank 0 writes files; size 1 does nothing at all."""

    def __init__(self, device: torch.device) -> None:
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.size > 1 and not dist.is_initialized():
            backend = "nccl" if device.type == "cuda" else "gloo"
            # Reading all audio for the first time happens in rank 0 while the others wait.
            dist.init_process_group(backend, timeout=datetime.timedelta(hours=6))
            atexit.register(_end)  # gloo's threads abort a process that ends inside of its group

    def leave(self) -> None:
        """End the group once every process is here."""
        if self.size > 1:
            dist.barrier()
            _end()

    @property
    def is_writer(self) -> bool:
        return self.rank == 0

    def share(self, items: list[int]) -> list[int]:
        """This process's part of a batch; neighbours in length are dealt out in turn."""
        return items[self.rank :: self.size]

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()

    def from_writer(self, value: Any) -> Any:
        """The value that rank 0 has, in every process."""
        if self.size == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0)
        return holder[0]

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in order of rank."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def average_gradients(
        self, parameters: Iterable[Tensor], weight: float, progress: float, failed: bool = False
    ) -> tuple[float, bool]:
        """Replace every gradient by its weighted mean over the processes, in one exchange.

        weight: this process's share of the batch. Returns the progress of rank 0, so that all agree
        on the learning rate and on when to stop although their clocks differ, and whether any process
        failed to make a gradient, so that all of them skip the batch.
        """
        if self.size == 1:
            return progress, failed
        parameters = list(parameters)
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.flatten() for parameter in parameters])  # type: ignore[union-attr]
        agreed = flat.new_tensor([float(failed), progress if self.rank == 0 else 0.0])
        flat = torch.cat([flat * weight, agreed])
        dist.all_reduce(flat)
        position = 0
        for parameter in parameters:
            assert parameter.grad is not None
            n = parameter.numel()
            parameter.grad.copy_(flat[position : position + n].view_as(parameter))
            position += n
        return float(flat[-1]), bool(flat[-2] > 0)


def _end() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()
