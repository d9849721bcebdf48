"""Training of a recurrent language model on sentences.

The softmax is over a sample of the words (Jean et al. 2015: importance sampling, here by a flattened unigram
distribution), and the logarithm of its sum is held near zero, so that no sum is needed later (Devlin et al.
2014). The embedding of a word is also its row of the output (Press and Wolf 2017).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.checkpoint import round_rows
from asr.decoding.recurrent import END, SPECIAL_WORDS, UNKNOWN, RecurrentModel
from asr.errors import TrainingError
from asr.files import write_atomically
from asr.training.precision import autocast
from asr.training.recurrent_graph import Rounded, step_graph

_CHECKPOINT_SECONDS = 240
_REPORT_UPDATES = 200
_SAMPLING_POWER = 0.75  # of the words' counts
_NORMALISATION = 0.05  # weight of the squared logarithm of the softmax's sum
_HOLD = 0.3  # part of the training before the learning rate begins to fall, in a line, to zero
_WARM_UP_UPDATES = 200
_MOST_GRADIENT = 1.0


@dataclass(frozen=True)
class RecurrentOptions:
    vocabulary: int = 32_000  # words known, the most frequent
    width: int = 256  # of the embedding
    n_cells: int = 512
    dropout: float = 0.25
    epochs: float = 5.0
    learning_rate: float = 2e-3
    n_rows: int = 64  # texts side by side, each of many sentences
    n_words: int = 32  # of each, through which an update looks back
    n_sampled: int = 4000  # words that the right ones are compared with
    seed: int = 1


class RecurrentNetwork(nn.Module):
    def __init__(self, options: RecurrentOptions, log_counts: Tensor) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(log_counts), options.width)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.bias = nn.Parameter(log_counts.clone())
        self.lstm = nn.LSTM(options.width, options.n_cells, batch_first=True)
        self.context = nn.Linear(options.n_cells, options.width)
        self.dropout = nn.Dropout(options.dropout)

    def forward(
        self, words: Tensor, state: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(rows, words) -> (rows, words, width) contexts of what follows, and the state at the end."""
        hidden, state = self.lstm(self.dropout(self.embedding(words)), state)
        return self.context(self.dropout(hidden)), state


@dataclass(frozen=True)
class Progress:
    done: float  # of all updates
    words_per_second: float
    perplexity: float  # of the last updates, against sampled words: an estimate, and with dropout


def train(
    sentences: Iterable[str],
    options: RecurrentOptions,
    unfinished: Path,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    mixed_precision: bool = True,
) -> RecurrentModel:
    """Learn from normalised sentences.

    unfinished: where the training is kept from time to time; one of the same sentences and options that
    was interrupted goes on there, and nothing is left there in the end. mixed_precision: bfloat16, nearly
    twice as fast where the processor has it.
    """
    trainer = _Trainer([sentence.split() for sentence in sentences], options, mixed_precision)
    trainer.resume(unfinished)
    saved = time.monotonic()
    while trainer.update < trainer.n_updates:
        trainer.step()
        if on_progress and trainer.update % _REPORT_UPDATES == 0:
            on_progress(trainer.progress())
        if time.monotonic() - saved > _CHECKPOINT_SECONDS:
            trainer.save(unfinished)
            saved = time.monotonic()
    model = trainer.model()
    unfinished.unlink(missing_ok=True)
    return model


class _Trainer:
    def __init__(
        self,
        sentences: Sequence[Sequence[str]],
        options: RecurrentOptions,
        mixed_precision: bool = True,
    ) -> None:
        counts = Counter(word for words in sentences for word in words)
        known = [word for word, _ in counts.most_common(options.vocabulary - len(SPECIAL_WORDS))]
        self._words = (*SPECIAL_WORDS, *known)
        ids = {word: i for i, word in enumerate(self._words)}
        self._sentences = [
            np.array([*(ids.get(word, UNKNOWN) for word in words), END], np.int32) for words in sentences
        ]
        n_tokens = sum(map(len, self._sentences))
        self._n_in_epoch = (n_tokens // options.n_rows) // options.n_words
        if not self._n_in_epoch:
            fewest = options.n_rows * options.n_words
            raise TrainingError(f"{n_tokens} words are too few for a recurrent model; it needs {fewest}")
        self.n_updates = round(options.epochs * self._n_in_epoch)
        self._options = options
        self._mixed_precision = mixed_precision
        torch.manual_seed(options.seed)
        seen = torch.from_numpy(np.bincount(np.concatenate(self._sentences), minlength=len(ids))) + 1.0
        self._sampling = seen.double() ** _SAMPLING_POWER
        expected = options.n_sampled * self._sampling / self._sampling.sum()
        self._log_expected = expected.log().float()
        self._network = RecurrentNetwork(options, (seen / seen.sum()).log())
        self._optimizer = torch.optim.Adam(
            self._network.parameters(), lr=options.learning_rate, betas=(0.9, 0.98), fused=True
        )
        self.update = 0
        self._state: tuple[Tensor, Tensor] | None = None
        self._epoch, self._rows = -1, torch.zeros(0)  # the epoch whose text is at hand, and the text
        self._loss = 0.0  # a moving average
        self._began, self._began_at = time.monotonic(), 0

    def step(self) -> None:
        """One update of the weights."""
        options = self._options
        epoch, position = divmod(self.update, self._n_in_epoch)
        if position == 0:
            self._state = None
        text = self._text(epoch)[:, position * options.n_words :][:, : options.n_words + 1]
        words, following = text[:, :-1], text[:, 1:].reshape(-1)
        for group in self._optimizer.param_groups:
            group["lr"] = options.learning_rate * self._rate()
        sampled = torch.multinomial(self._sampling, options.n_sampled, replacement=True)
        embedding, bias = self._network.embedding, self._network.bias
        with autocast(torch.device("cpu"), wanted=self._mixed_precision):
            context, state = self._network(words, self._state)
            context = context.reshape(-1, options.width)
            others = F.linear(context, embedding(sampled)).float()
        self._state = (state[0].detach(), state[1].detach())
        others = others + (bias[sampled] - self._log_expected[sampled])
        others = others.masked_fill(sampled == following[:, None], -torch.inf)
        right = (context.float() * embedding(following)).sum(-1) + bias[following]
        log_sum = torch.logaddexp(others.logsumexp(1), right)
        loss = (log_sum - right).mean()
        self._optimizer.zero_grad(set_to_none=True)
        (loss + _NORMALISATION * log_sum.square().mean()).backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), _MOST_GRADIENT)
        self._optimizer.step()
        self.update += 1
        self._loss += (loss.item() - self._loss) / min(self.update, 100)

    def _text(self, epoch: int) -> Tensor:
        """(rows, words) sentences in an order of the epoch's own, one after the other in each row."""
        if self._epoch != epoch:
            order = np.random.default_rng((self._options.seed, epoch)).permutation(len(self._sentences))
            line = np.concatenate([[END], *(self._sentences[i] for i in order)])
            n_rows, n = self._options.n_rows, self._n_in_epoch * self._options.n_words
            starts = np.arange(n_rows)[:, None] * n
            self._epoch, self._rows = epoch, torch.from_numpy(line[starts + np.arange(n + 1)])
        return self._rows

    def _rate(self) -> float:
        """Factor of the learning rate."""
        done = self.update / self.n_updates
        return min(1.0, (self.update + 1) / _WARM_UP_UPDATES, (1 - done) / (1 - _HOLD))

    def progress(self) -> Progress:
        n_words = (self.update - self._began_at) * self._options.n_rows * self._options.n_words
        seconds = time.monotonic() - self._began
        return Progress(self.update / self.n_updates, n_words / seconds, math.exp(min(self._loss, 50)))

    @cached_property
    def _task(self) -> str:
        """What an interrupted training must have in common with this one."""
        digest = hashlib.sha256(repr(asdict(self._options)).encode())
        for sentence in self._sentences:
            digest.update(sentence.tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        state: dict[str, Any] = {
            "task": self._task,
            "update": self.update,
            "loss": self._loss,
            "state": self._state,
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        write_atomically(path, partial(torch.save, state))

    def resume(self, path: Path) -> None:
        """Go on from what save() wrote, if it was the same task."""
        if not path.is_file():
            return
        try:
            state = torch.load(path, weights_only=True)
            if state["task"] != self._task:
                return
        except Exception as error:  # a torn file may raise anything
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"{path}: cannot be gone on from; delete it ({reason})") from None
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.update, self._loss, self._state = state["update"], state["loss"], state["state"]
        self._began_at = self.update
        torch.set_rng_state(state["random"])

    def model(self) -> RecurrentModel:
        """What was learned, in 8 bits."""
        network = self._network.eval()
        embedding, scale = round_rows(network.embedding.weight.detach())
        weights = {
            "embedding": embedding.numpy(),
            "scale": scale[:, 0].numpy(),
            "bias": network.bias.detach().half().numpy(),
            "graph": np.frombuffer(_graph(network), np.uint8),
        }
        return RecurrentModel(self._words, weights, {})

def _graph(network: RecurrentNetwork) -> bytes:
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    return step_graph(
        _rounded(weights["lstm.weight_ih_l0"]),
        _rounded(weights["lstm.weight_hh_l0"]),
        (weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"]).numpy(),
        _rounded(weights["context.weight"]),
        weights["context.bias"].numpy(),
    )


def _rounded(weight: Tensor) -> Rounded:
    """Of a weight (outputs, inputs)."""
    integers, factors = round_rows(weight)
    return Rounded(integers.numpy().T, factors[:, 0].numpy())
