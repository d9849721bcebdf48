"""What a training run is made of: the tables of its TOML file, checked against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from asr.features import FeatureConfig
from asr.labels import Labels
from asr.model import ModelConfig
from asr.training.augment import AugmentConfig

# What may follow an output's name in the name of a loss.
MIDDLE = "@middle"
TEACHER = "@teacher"


@dataclass(frozen=True)
class DataConfig:
    train: str  # manifest
    validation: str  # manifest; its word error rate chooses the best checkpoint
    lexicon: str = ""  # needed by phone labels
    noise: str = ""  # manifest of sounds without speech: mixed in, and heard alone with empty labels
    teacher: str = ""  # a trained model; the losses NAME@teacher draw the outputs towards its posteriors
    max_seconds: float = 20.0  # longer training utterances are left out
    max_words_per_second: float = 5.5  # faster ones have a wrong label
    validation_corpus: str = ""  # only this corpus of the validation manifest; empty: all
    validation_utterances: int = 300  # the first so many; 0: all


@dataclass(frozen=True)
class TrainingConfig:
    seed: int = 1
    # Which losses, and their weights: an output's name, NAME@middle for the middle layer, or NAME@teacher
    # for the difference from data.teacher's posteriors.
    losses: dict[str, float] = field(default_factory=lambda: {"characters": 1.0})
    batch_seconds: float = 160.0  # padded audio in one batch
    max_hours: float = 0.0  # wall clock; 0: the schedule runs in updates
    max_updates: int = 0  # ends the run; and is the schedule's length when max_hours is 0
    learning_rate: float = 1e-3  # peak
    warm_up: float = 0.03  # part of the schedule with a rising rate
    hold: float = 0.4  # part after which the rate falls along a cosine to zero
    weight_decay: float = 0.05  # of matrices, not of biases and norms
    betas: tuple[float, ...] = (0.9, 0.98)
    clip_norm: float = 1.0
    average: float = 0.999  # decay of the moving average of weights that is validated and shipped
    sorta_grad: bool = True  # first pass short to long
    checkpoint_minutes: float = 3.0
    validate_updates: int = 0  # also validate every so many updates; 0: at the end of an epoch only
    # Factors on the learning rate of parts of the model, as in { reduction = 0.0, "layers.0" = 0.3 }; 0
    # freezes a part, batch-norm statistics included.
    learning_rate_factors: dict[str, float] = field(default_factory=dict)
    accumulate: int = 1  # parts that a batch is computed in, one after the other, to need less memory
    patience: int = 0  # epochs without a better validation that end the run; 0: no end before its time
    keep: int = 0  # models of the latest validations to keep, for asr average
    mixed_precision: bool = True  # bfloat16 on CPUs that have it, float16 with loss scaling on CUDA


@dataclass(frozen=True)
class RunConfig:
    """A whole training run, as written in its TOML file."""

    data: DataConfig
    output: str  # the run's folder
    features: FeatureConfig = FeatureConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()

    def __post_init__(self) -> None:
        if not (self.training.max_hours or self.training.max_updates):
            raise ValueError("training.max_hours or training.max_updates must be given")
        for name, least in (("accumulate", 1), ("patience", 0), ("keep", 0)):
            if getattr(self.training, name) < least:
                raise ValueError(f"training.{name} must be {least} or more")
        outputs = set(self.model.outputs)
        known = outputs | {f"{name}{TEACHER}" for name in outputs}
        known |= {f"{name}{MIDDLE}" for name in self.model.middle_outputs}
        unknown = set(self.training.losses) - known
        if unknown:
            raise ValueError(f"training.losses: {', '.join(sorted(unknown))} is not an output of the model")
        idle = outputs - {name.split("@")[0] for name in self.training.losses}
        if idle:
            raise ValueError(f"training.losses: nothing trains the output {', '.join(sorted(idle))}")
        if "phones" in self.model.outputs and not self.data.lexicon:
            raise ValueError("data.lexicon is missing: the labels of model.outputs.phones come from it")
        if self.taught_outputs and not self.data.teacher:
            raise ValueError(f"data.teacher is missing: a loss of training.losses ends in {TEACHER}")
        for name, n_labels in self.model.outputs.items():
            if n_labels != len(Labels.of_kind(name)):
                raise ValueError(f"model.outputs: {name} has {len(Labels.of_kind(name))} labels")
        if self.model.n_mels != self.features.n_mels:
            raise ValueError("model.n_mels and features.n_mels differ")

    @property
    def taught_outputs(self) -> list[str]:
        """The outputs that learn from a teacher."""
        return [name.removesuffix(TEACHER) for name in self.training.losses if name.endswith(TEACHER)]


def schedule(progress: float, config: TrainingConfig) -> float:
    """Factor on the peak learning rate at a progress of 0..1: rising, held, falling as a cosine."""
    if progress < config.warm_up:
        return progress / config.warm_up
    if progress < config.hold:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - config.hold) / max(1 - config.hold, 1e-9))))
