"""The training loop: batches -> CTC losses -> AdamW -> checkpoints, metrics and exact resume.

A run lives in one folder: last.pt (everything needed to go on), last.safetensors and best.safetensors
(models for transcription, the moving average of the weights), metrics.jsonl, curves.png, tensorboard/,
cache/.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from torch import Tensor

from asr import checkpoint as checkpoints
from asr import pretrained
from asr.checkpoint import Checkpoint
from asr.decoding.greedy import best_path
from asr.errors import AsrError, CheckpointError, ConfigError, TrainingError
from asr.features import LogMel
from asr.files import remove_leftovers, write_atomically
from asr.labels import Labels, Lexicon
from asr.manifest import Utterance, read_manifest
from asr.model import AcousticModel, MaskedBatchNorm, length_mask
from asr.training import dataset as datasets
from asr.training.augment import augment
from asr.training.batching import make_batches
from asr.training.config import TEACHER, RunConfig, schedule
from asr.training.dataset import Dataset, summary, why_unusable
from asr.training.distributed import Group, choose_device
from asr.training.finetuning import copy_weights, learning_rate_factors
from asr.training.loss import REMEDY, Batch, ctc_loss, likely_fault, names_of
from asr.training.metrics import Metrics
from asr.training.precision import autocast
from asr.training.teacher import distillation_loss, posteriors

MOST_FAULTS = 3  # batches in a row without a loss that end a run

logger = logging.getLogger(__name__)


def run_files(folder: Path) -> list[Path]:
    """What a run writes into its folder, its cache and its tensorboard left out."""
    names = ("last.pt", "last.safetensors", "best.safetensors", "metrics.jsonl", "curves.png")
    return [*(folder / name for name in names), *folder.glob("update-*.safetensors")]


class Trainer:
    """One run. All that changes during training is in state_dict(), so a resumed run goes on exactly."""

    def __init__(self, config: RunConfig, device: torch.device | None = None) -> None:
        self.config = config
        self.device = device or choose_device()
        self.folder = Path(config.output)
        self.metrics = Metrics(self.folder)
        self.labels = {name: Labels.of_kind(name) for name in config.model.outputs}
        self.group = Group(self.device)
        torch.manual_seed(config.training.seed)  # the same weights in every process
        self.model = AcousticModel(config.model).to(self.device)
        self.average = self._copy_of_weights()
        self.optimizer = self._make_optimizer()
        on_cuda = self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=on_cuda and config.training.mixed_precision)
        torch.manual_seed(config.training.seed + self.group.rank)  # but not the same dropout
        self.front_end = LogMel(config.features)
        self.progress = 0.0  # 0..1 of the schedule
        self.update = 0
        self.epoch = 0
        self.position = 0  # batches of this epoch that are done
        self.seconds = 0.0  # of wall clock, over all sittings
        self.best_error = math.inf
        self.best_epoch = 0  # the one that it was reached in, from 1
        self.results: dict[str, Any] = {}
        self.log_priors: dict[str, np.ndarray] = {}
        self._is_fine_tuning = False
        self._n_faults = 0  # batches without a loss since the last one with

    def _copy_of_weights(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.model.state_dict().items()}

    def _make_optimizer(self) -> torch.optim.AdamW:
        config = self.config.training
        factors = learning_rate_factors(self.model, config.learning_rate_factors)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(factors[name] > 0)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        groups, self.rate_factors = [], []
        for factor in sorted({factor for factor in factors.values() if factor}, reverse=True):
            alike = [p for name, p in self.model.named_parameters() if factors[name] == factor]
            matrices, others = ([p for p in alike if (p.dim() > 1) is wide] for wide in (True, False))
            for parameters, weight_decay in ((matrices, config.weight_decay), (others, 0.0)):
                if parameters:
                    groups.append({"params": parameters, "weight_decay": weight_decay})
                    self.rate_factors.append(factor)
        return torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(config.betas[0], config.betas[1]), fused=True
        )

    def start_from(self, source: Checkpoint) -> None:
        """Begin with another model's weights, labels, and mean and deviation of the features.

        To be called before prepare(); a run that resume() finds goes on with its own.
        """
        if source.front_end.config != self.config.features:
            raise CheckpointError("the model to begin with was trained on other features")
        copy_weights(source.model, self.model)
        self.average = self._copy_of_weights()
        self.labels |= {name: labels for name, labels in source.labels.items() if name in self.labels}
        self.front_end.load_state_dict(source.front_end.state_dict())
        self._is_fine_tuning = True

    # --- data ---------------------------------------------------------------------------------

    def prepare(
        self, on_progress: Callable[[int, int], None] | None = None, first: int | None = None
    ) -> None:
        """Read the manifests and all audio (or its cache); measure the features' mean and deviation.

        first: read so many rows of each manifest only.
        """
        data = self.config.data
        if self.group.is_writer:
            for name in ("last.pt", "last.safetensors", "best.safetensors"):
                remove_leftovers(self.folder / name)
        lexicon = Lexicon.load(data.lexicon) if data.lexicon else None
        validation = read_manifest(data.validation)
        if data.validation_corpus:
            validation = [u for u in validation if u.corpus == data.validation_corpus]
            if not validation:
                raise ConfigError(f"{data.validation}: no utterances of corpus {data.validation_corpus}")
        if data.validation_utterances:
            validation = validation[: data.validation_utterances]
        if not self.group.is_writer:
            self.group.wait()  # for the cache
        arguments = (self.labels, lexicon, self.config.features, self.folder / "cache")
        measured = datasets.build(validation[:first], *arguments, on_progress)
        whole = datasets.build(read_manifest(data.train)[:first], *arguments, on_progress)
        noise = None
        if data.noise:
            noise = datasets.build_noise(
                read_manifest(data.noise), self.labels, *arguments[2:], on_progress=on_progress
            )
        if self.group.is_writer:
            self.group.wait()
        heard = [i for i, frames in enumerate(measured.frames) if len(frames) and np.isfinite(frames).all()]
        if not any(labels[i] for labels in measured.labels.values() for i in heard):
            raise ConfigError(f"{data.validation}: no utterance has both sound and text")
        self.validation_set = measured.subset(heard)
        self.training_set = self._keep_usable(whole)
        if not self._is_fine_tuning:
            mean, deviation = self.training_set.statistics()
            self.front_end.mean.copy_(torch.from_numpy(mean))
            self.front_end.deviation.copy_(torch.from_numpy(deviation))
        self.noises = noise.frames if noise else []
        if noise:
            self.training_set = self.training_set.joined(noise)
        if self.config.taught_outputs:
            self._hear_teacher()

    def _hear_teacher(self) -> None:
        teacher = checkpoints.load(pretrained.find(self.config.data.teacher))
        if teacher.front_end.config != self.config.features:
            raise CheckpointError(f"{self.config.data.teacher}: the teacher was trained on other features")
        for name in self.config.taught_outputs:
            if teacher.labels.get(name) != self.labels[name]:
                raise CheckpointError(f"{self.config.data.teacher}: the teacher has other {name}, or none")
        self.lessons = posteriors(
            teacher,
            self.training_set.frames,
            self.folder / "cache",
            self.group,
            mixed_precision=self.config.training.mixed_precision,
        )

    def _keep_usable(self, whole: Dataset) -> Dataset:
        kept: list[int] = []
        left_out: dict[str, list[Utterance]] = defaultdict(list)
        for i, utterance in enumerate(whole.utterances):
            labels = [labels[i] for labels in whole.labels.values()]
            reason = why_unusable(
                utterance, len(whole.frames[i]), labels, self.config.data, self.config.augment.speed
            )
            if not reason and not np.isfinite(whole.frames[i]).all():
                reason = "with samples out of all range"
            if reason:
                left_out[reason].append(utterance)
            else:
                kept.append(i)
        if not kept:
            raise ConfigError(
                f"{self.config.data.train}: no utterance is usable for training; {summary(left_out)}"
            )
        for name, labels in whole.labels.items():
            if all(labels[i] is None for i in kept):
                raise ConfigError(
                    f"{self.config.data.lexicon}: pronounces no utterance of {self.config.data.train}, "
                    f"so there is nothing to learn {name} from"
                )
        n_left_out = len(whole) - len(kept)
        reasons = {reason: len(utterances) for reason, utterances in left_out.items()}
        self._log("data", utterances=len(kept), left_out=n_left_out, reasons=reasons)
        if n_left_out and self.group.is_writer:
            logger.warning(
                "%s: %d of %d utterances are not trained on: %s",
                self.config.data.train,
                n_left_out,
                len(whole),
                summary(left_out),
            )
        return whole.subset(kept)

    def batch(self, data: Dataset, indices: list[int], *, augmented: bool) -> Batch:
        """The items padded together; augmentation is a function of (seed, epoch, item) alone.

        Frames that are not finite numbers come back as NaN throughout, so that no loss hides them.
        """
        items = []
        for index in indices:
            frames = torch.from_numpy(data.frames[index].astype(np.float32))
            if not frames.isfinite().all():
                items.append(torch.full_like(frames, torch.nan))
                continue
            if augmented:
                random = np.random.default_rng([self.config.training.seed, self.epoch, index])
                frames = augment(
                    frames,
                    random,
                    self.config.augment,
                    self._strength(),
                    self.config.features.floor,
                    self.noises,
                    self.training_set.frames.__getitem__,
                    len(self.training_set),
                )
            items.append(self.front_end.normalize(frames).nan_to_num(nan=0.0))
        return Batch(
            torch.nn.utils.rnn.pad_sequence(items, batch_first=True).to(self.device),
            torch.tensor([len(item) for item in items], device=self.device),
            {name: [labels[i] for i in indices] for name, labels in data.labels.items()},
            [data.utterances[i].id for i in indices],
            {name: [self.lessons[i][name] for i in indices] for name in self.config.taught_outputs}
            if augmented
            else {},
        )

    def _strength(self) -> float:
        """Augmentation is off while the model finds the first alignments, then rises to full."""
        warm_up = self.config.augment.warm_up_updates
        if not warm_up:
            return 1.0
        return min(1.0, max(0.0, self.update / warm_up - 1))

    # --- the loop -----------------------------------------------------------------------------

    def train(self, on_update: Callable[[Trainer], None] | None = None) -> None:
        """Train to the end of the schedule, validating each epoch; resume() first to go on.

        A run that begins with another model validates that one first.
        """
        started = time.monotonic() - self.seconds
        saved = time.monotonic()
        totals: dict[str, float] = defaultdict(float)
        if self._is_fine_tuning and not self.update:
            self.validate()  # what the other model is worth here, to compare with
        while not self._finished():
            batches = self._batches()
            for indices in batches[self.position :]:
                self.step(indices, totals)
                self.position += 1
                self.seconds = time.monotonic() - started
                if self.update % 50 == 0:
                    self._log_training(totals)
                if on_update:
                    on_update(self)
                every = self.config.training.validate_updates
                if every and self.update % every == 0:
                    self.validate()
                if self.update % 20 == 0:
                    due = time.monotonic() - saved > 60 * self.config.training.checkpoint_minutes
                    if self.group.from_writer(due):
                        self.save()
                        saved = time.monotonic()
                if self._finished():
                    break
            if self.position >= len(batches):
                self.epoch, self.position = self.epoch + 1, 0
            self.validate()
            self.save()
            saved = time.monotonic()

    def _batches(self) -> list[list[int]]:
        config = self.config.training
        return make_batches(
            [len(frames) for frames in self.training_set.frames],
            int(config.batch_seconds * 100),
            seed=config.seed,
            epoch=self.epoch,
            shortest_first=config.sorta_grad and self.epoch == 0,
        )

    def _measure_progress(self) -> float:
        """Where in the schedule this process is by its own clock and count, 0..1."""
        config = self.config.training
        by_updates = self.update / config.max_updates if config.max_updates else 0.0
        by_time = self.seconds / (3600 * config.max_hours) if config.max_hours else 0.0
        return max(by_updates, by_time)

    def _finished(self) -> bool:
        patience = self.config.training.patience
        return self.progress >= 1 or bool(patience and self.epoch - self.best_epoch >= patience)

    def step(self, indices: list[int], totals: dict[str, float]) -> None:
        """One update with a batch of these items of the training set; adds what it measures to totals."""
        config = self.config.training
        began = time.monotonic()
        self.model.train()
        for module in self.model.modules():
            if isinstance(module, MaskedBatchNorm) and not module.weight.requires_grad:
                module.eval()  # frozen means its statistics too
        share = self.group.share(indices)
        share_of_batch = len(share) / len(indices)
        share = share or indices[:1]  # without weight: a batch with fewer items than processes
        factor = schedule(max(self.progress, 1e-6), config)
        for group, own_factor in zip(self.optimizer.param_groups, self.rate_factors, strict=True):
            group["lr"] = config.learning_rate * factor * own_factor
        self.optimizer.zero_grad(set_to_none=True)
        # A forward pass moves the batch norms' statistics: those of a skipped batch are taken back.
        statistics = [buffer.clone() for buffer in self.model.buffers()]
        sums: dict[str, float] = defaultdict(float)
        n_parts = min(config.accumulate, len(share))
        for part in [share[i::n_parts] for i in range(n_parts)]:
            batch = self.batch(self.training_set, part, augmented=True)
            fault = self._backward(batch, len(part) / len(share), sums)
            if fault:
                break
        if not fault:
            self.scaler.unscale_(self.optimizer)
        self.update += 1
        self.progress, failed = self.group.average_gradients(
            self.trained, share_of_batch, self._measure_progress(), bool(fault)
        )
        norm = float(torch.nn.utils.clip_grad_norm_(self.trained, config.clip_norm))
        is_finite = math.isfinite(norm)
        # With float16 on CUDA gradients overflow now and then; the next are then scaled less.
        if not failed and not is_finite and not self.scaler.is_enabled():
            ids = [self.training_set.utterances[i].id for i in share]
            fault, failed = f"exploding gradients in {names_of(ids)}; {REMEDY}", True
        if is_finite and not failed:
            self.scaler.step(self.optimizer)
        else:
            totals["skipped"] += 1
        if not fault:
            self.scaler.update()
        if failed:
            for buffer, value in zip(self.model.buffers(), statistics, strict=True):
                buffer.copy_(value)
            self._skip(fault)
            return
        self._n_faults = 0
        self._average_weights()
        totals["updates"] += 1
        totals["gradient"] += norm if is_finite else 0.0
        for name in ("frames", "padded"):
            sums[name] *= len(indices) / len(share)  # as if the others' shares were like this one
        for name, amount in sums.items():
            totals[name] += amount
        totals["seconds"] += time.monotonic() - began

    def _backward(self, batch: Batch, weight: float, sums: dict[str, float]) -> str:
        """Add a part of a batch to the gradients and to its losses and sizes; what is wrong with it."""
        with self._autocast():
            outputs, lengths = self.model(batch.features, batch.lengths)
        loss = torch.zeros((), device=self.device)
        for name, weight_of_output in self.config.training.losses.items():
            output = name.split("@")[0]
            if name.endswith(TEACHER):
                part = weight * distillation_loss(outputs[output], lengths, batch.lessons[output])
            else:
                part = weight * ctc_loss(outputs[name], lengths, batch.targets[output])
            sums[f"loss/{name}"] += float(part.detach())
            loss = loss + weight_of_output * part
        if not loss.isfinite():
            return likely_fault(batch, lengths)
        self.scaler.scale(loss).backward()
        sums["frames"] += batch.n_frames
        sums["padded"] += batch.features.shape[0] * batch.features.shape[1]
        return ""

    def _skip(self, fault: str) -> None:
        """Say why a batch was skipped; TrainingError when too many were in a row."""
        faults = "; ".join(dict.fromkeys(fault for fault in self.group.gather(fault) if fault))
        self._n_faults += 1
        self._log("skipped", fault=faults)
        if self._n_faults >= MOST_FAULTS:
            kept = self.folder / "last.pt"
            where = f"{kept} is from before" if kept.exists() else "no checkpoint was written yet"
            raise TrainingError(
                f"{self.folder}: stopped at update {self.update}, the last {self._n_faults} batches had no "
                f"finite loss ({faults}); {where}"
            )
        if self.group.is_writer:
            logger.warning("update %d: batch skipped: %s", self.update, faults)

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, wanted=self.config.training.mixed_precision)

    @torch.no_grad()
    def _average_weights(self) -> None:
        if not self.group.is_writer:
            return
        # Early on the average follows closely: random initial weights must not linger in it.
        decay = min(self.config.training.average, (1 + self.update) / (10 + self.update))
        averaged, current = [], []
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                averaged.append(self.average[name])
                current.append(value)
            else:
                self.average[name].copy_(value)
        torch._foreach_lerp_(averaged, current, 1 - decay)

    # --- validation ---------------------------------------------------------------------------

    def averaged_model(self) -> AcousticModel:
        # The initial weights, drawn in vain, must not move the dropout of the updates to come: when a
        # checkpoint is due depends on the clock.
        with torch.random.fork_rng(devices=()):
            model = AcousticModel(self.config.model).to(self.device)
        model.load_state_dict(self.average)
        return model.eval()

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Greedy error rates of the averaged weights; keeps the model as `best` when it is."""
        measured = self._measure_errors() if self.group.is_writer else {}
        self.best_error, self.best_epoch = self.group.from_writer((self.best_error, self.best_epoch))
        return measured

    def _measure_errors(self) -> dict[str, float]:
        model = self.averaged_model()
        errors: dict[str, list[int]] = {name: [0, 0] for name in self.labels}
        words = [0, 0]
        began = time.monotonic()
        data = self.validation_set
        longest = int(self.config.training.batch_seconds * 100)
        for indices in make_batches([len(f) for f in data.frames], longest, seed=0, epoch=0):
            batch = self.batch(data, indices, augmented=False)
            with self._autocast():
                outputs, lengths = model(batch.features, batch.lengths)
            for name, labels in self.labels.items():
                for i, target in enumerate(batch.targets[name]):
                    if not target:
                        continue
                    guess = best_path(outputs[name][i, : lengths[i]].numpy(force=True))
                    wrong, n = _count_errors(
                        " ".join(map(str, target)), " ".join(map(str, guess))
                    )
                    errors[name][0] += wrong
                    errors[name][1] += n
                    if name == "characters":
                        wrong, n = _count_errors(labels.decode(target), labels.decode(guess))
                        words[0] += wrong
                        words[1] += n
        measured = {f"{name}_error": wrong / max(n, 1) for name, (wrong, n) in errors.items()}
        if "characters" in self.labels:
            measured["word_error"] = words[0] / max(words[1], 1)
        self.log_priors = self._measure_priors(model)
        # Phones tell models apart long before greedy words do; the worst of both would hide progress.
        error = sum(measured.values()) / len(measured)
        self._log("validation", seconds=round(time.monotonic() - began, 1), **measured)
        self.metrics.draw()
        self.results = measured
        if error < self.best_error:
            self.best_error = error
            self.best_epoch = self.epoch + bool(self.position)
            self._save_model(model, "best.safetensors")
        if self.config.training.keep and self.update:
            self._save_model(model, f"update-{self.update:07}.safetensors")
            for old in self._kept_models()[: -self.config.training.keep]:
                old.unlink()
        return measured

    def _measure_priors(self, model: AcousticModel, n_utterances: int = 200) -> dict[str, np.ndarray]:
        """Natural logs of the labels' mean posteriors over some of the training utterances."""
        data = self.training_set
        some = np.random.default_rng(self.config.training.seed).permutation(len(data))[:n_utterances]
        totals: dict[str, Tensor] = {}
        n_frames = int(self.config.training.batch_seconds * 100)
        for indices in make_batches([len(data.frames[i]) for i in some], n_frames, seed=0, epoch=0):
            batch = self.batch(data, [int(some[i]) for i in indices], augmented=False)
            with self._autocast():
                outputs, lengths = model(batch.features, batch.lengths)
            mask = length_mask(lengths, int(lengths.max()))[..., None]
            for name in self.labels:
                posteriors = (outputs[name].exp() * mask).sum((0, 1), dtype=torch.float64)
                totals[name] = totals.get(name, 0) + posteriors
        return {
            name: (total / total.sum()).clamp_min(1e-8).log().float().numpy(force=True)
            for name, total in totals.items()
        }

    def _kept_models(self) -> list[Path]:
        return sorted(self.folder.glob("update-*.safetensors"))

    # --- checkpoints --------------------------------------------------------------------------

    def _save_model(self, model: AcousticModel, name: str) -> None:
        config = dataclasses.asdict(self.config)
        del config["output"]  # of the paths, only the files' names are anybody else's business
        for key in ("train", "validation", "lexicon", "noise", "teacher"):
            config["data"][key] = Path(config["data"][key]).name
        info = {
            "config": config,
            "training": {
                "updates": self.update,
                "epochs": self.epoch,
                "hours": round(self.seconds / 3600, 2),
                "audio_hours": round(sum(map(len, self.training_set.frames)) / 360_000, 2),
                "utterances": len(self.training_set),
            },
            "validation": self.results,
        }
        checkpoints.save(
            Checkpoint(model, self.front_end, self.labels, self.log_priors, info), self.folder / name
        )

    def save(self) -> None:
        """Write last.pt and last.safetensors; an interrupted save leaves the ones before."""
        random = self.group.gather(torch.get_rng_state())
        if not self.group.is_writer:
            return
        state = self.state_dict() | {"random": random}
        write_atomically(self.folder / "last.pt", lambda file: torch.save(state, file))
        self._save_model(self.averaged_model(), "last.safetensors")

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random_cuda": torch.cuda.get_rng_state() if self.device.type == "cuda" else None,
            "update": self.update,
            "epoch": self.epoch,
            "position": self.position,
            "seconds": self.seconds,
            "best_error": self.best_error,
            "results": self.results,
            "log_priors": {name: torch.from_numpy(values) for name, values in self.log_priors.items()},
            "best_epoch": self.best_epoch,
            "mean": self.front_end.mean,
            "deviation": self.front_end.deviation,
        }

    def forget(self) -> None:
        """Remove what an earlier run in this folder would go on from; its models stay until replaced."""
        if self.group.is_writer:
            self.metrics.forget()
            for path in (self.folder / "last.pt", *self._kept_models()):
                path.unlink(missing_ok=True)
        self.group.wait()

    def resume(self) -> bool:
        """Go on from last.pt when there is one; False when the run is new."""
        path = self.folder / "last.pt"
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            self.model.load_state_dict(state["model"])
            self.average = state["average"]
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            # With another number of processes the run goes on, but with other dropout.
            torch.set_rng_state(state["random"][self.group.rank % len(state["random"])].cpu())
            if state["random_cuda"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(state["random_cuda"].cpu())
        except AsrError:
            raise
        except Exception as error:  # torch.load raises what the damaged bytes happen to trigger
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CheckpointError(
                f"{path}: does not fit this configuration or is damaged ({reason[:200]})"
            ) from None
        for name in ("update", "epoch", "position", "seconds", "best_error", "results"):
            setattr(self, name, state[name])
        priors = state.get("log_priors", {})
        self.log_priors = {name: values.numpy(force=True) for name, values in priors.items()}
        # States from before these were kept have none of them.
        self.best_epoch = state.get("best_epoch", self.epoch)
        self.front_end.mean.copy_(state.get("mean", self.front_end.mean))
        self.front_end.deviation.copy_(state.get("deviation", self.front_end.deviation))
        self.progress = self.group.from_writer(self._measure_progress())  # the schedule may be another
        return True

    # --- metrics ------------------------------------------------------------------------------

    def _log_training(self, totals: dict[str, float]) -> None:
        n = max(totals["updates"], 1)
        self._log(
            "training",
            learning_rate=self.optimizer.param_groups[0]["lr"],
            gradient=totals["gradient"] / n,
            skipped=totals["skipped"],
            times_real_time=totals["frames"] / 100 / max(totals["seconds"], 1e-9),
            padding=1 - totals["frames"] / max(totals["padded"], 1),
            **{name: total / n for name, total in totals.items() if name.startswith("loss/")},
        )
        totals.clear()

    def _log(self, event: str, **values: Any) -> None:
        if self.group.is_writer:
            hours = round(self.seconds / 3600, 4)
            self.metrics.write(event, self.update, epoch=self.epoch, hours=hours, **values)


def _count_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Edits and reference length, both in blank-separated units."""
    measured = jiwer.process_words(reference, hypothesis)
    edits = measured.substitutions + measured.deletions + measured.insertions
    return edits, len(reference.split())
