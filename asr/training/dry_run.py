"""A rehearsal of a training run: can this set-up learn one batch by heart?"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import torch

from asr.checkpoint import Checkpoint
from asr.training.config import RunConfig
from asr.training.trainer import Trainer

FIRST_ROWS = 64  # of the manifests
MOST_UTTERANCES = 8  # in the batch: the shortest, for speed
MOST_UPDATES = 300
LEARNT_SHARE = 0.2  # of the first loss
LEARNT_LOSS = 0.1  # nats per label; a model that begins with other weights may begin below


@dataclass(frozen=True)
class DryRun:
    """Losses per label, weighted as configured, of the first and the last update."""

    first_loss: float
    last_loss: float
    n_updates: int
    n_utterances: int

    @property
    def goal(self) -> float:
        return max(LEARNT_SHARE * self.first_loss, LEARNT_LOSS)

    @property
    def can_learn(self) -> bool:
        return self.last_loss <= self.goal


def overfit_one_batch(
    config: RunConfig,
    device: torch.device,
    source: Checkpoint | None = None,
    on_update: Callable[[Trainer], None] | None = None,
) -> DryRun:
    """Train on the first utterances again and again, without augmentation and dropout; writes nothing.

    Stops when the loss has fallen far enough. Raises what a real run would raise about its input.
    """
    with TemporaryDirectory(prefix="asr-dry-run-") as folder:
        rehearsal = dataclasses.replace(
            config,
            output=folder,
            data=dataclasses.replace(config.data, noise=""),
            model=dataclasses.replace(config.model, dropout=0.0),
            augment=dataclasses.replace(config.augment, warm_up_updates=1_000_000_000),
            training=dataclasses.replace(
                config.training, max_hours=0.0, max_updates=MOST_UPDATES, warm_up=0.03, hold=1.0
            ),
        )
        trainer = Trainer(rehearsal, device)
        if source:
            trainer.start_from(source)
        trainer.prepare(first=FIRST_ROWS)
        data = trainer.training_set
        shortest = sorted(range(len(data)), key=lambda i: len(data.frames[i]))[:MOST_UTTERANCES]
        losses: list[float] = []
        result = DryRun(0.0, float("inf"), 0, len(shortest))
        while trainer.update < MOST_UPDATES and not result.can_learn:
            totals: dict[str, float] = defaultdict(float)
            trainer.step(shortest, totals)
            if totals["updates"]:
                weights = config.training.losses
                losses.append(sum(weight * totals[f"loss/{name}"] for name, weight in weights.items()))
                result = DryRun(losses[0], losses[-1], trainer.update, len(shortest))
            if on_update:
                on_update(trainer)
        return result
