"""The acoustic model: a deep LSTM over log-mel frames with CTC output layers.

Strided convolutions reduce time by four; each recurrent layer is batch-normalised on the way in,
projected and added to its input on the way out. Offline the recurrence runs in both directions,
streaming in one, with a small convolution over a few future frames before the output. Two layers of
one direction and a flip that respects lengths stand in for a packed bidirectional LSTM: the results
agree, and only unpacked input reaches the fused kernels of oneDNN and cuDNN's persistent ones.

Sources: Graves et al. 2006 (CTC), Sak et al. 2014 (deep LSTM acoustic models), Laurent et al. 2016
(sequence-wise batch normalisation), Wang et al. 2016 (row convolution over future frames),
Jozefowicz et al. 2015 (forget-gate bias of one), Lee and Watanabe 2021 (CTC at a middle layer),
Nozaki and Komatsu 2021 (whose posteriors the layers above hear).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CELLS: dict[str, Any] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
STRIDE = 4  # input frames per output frame


@dataclass(frozen=True)
class ModelConfig:
    n_mels: int = 80
    outputs: dict[str, int] = field(default_factory=lambda: {"characters": 29})  # name -> labels
    middle_outputs: tuple[str, ...] = ()  # outputs that a middle layer is trained on as well
    self_conditioning: bool = False  # the layers above hear the posteriors of the middle outputs
    cell: str = "lstm"  # lstm, gru or rnn (plain tanh)
    bidirectional: bool = True
    n_layers: int = 4
    n_hidden: int = 320  # cells of one direction
    n_model: int = 512  # width of the residual stream
    n_channels: int = 32  # of the convolutions in the time reduction
    lookahead: int = 0  # output frames of future context; only for one direction
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.cell not in CELLS:
            raise ValueError(f"cell '{self.cell}': choose from {', '.join(CELLS)}")
        if self.bidirectional and self.lookahead:
            raise ValueError("lookahead is for one direction: a bidirectional model sees all the future")
        unknown = set(self.middle_outputs) - set(self.outputs)
        if unknown:
            raise ValueError(f"middle_outputs: {', '.join(sorted(unknown))} is not among the outputs")
        if self.self_conditioning and not self.middle_outputs:
            raise ValueError("self_conditioning needs middle_outputs, whose posteriors it is about")


def output_lengths(lengths: Tensor) -> Tensor:
    """Output frames of so many input frames: two halvings, each rounded up."""
    return (lengths + STRIDE - 1) // STRIDE


def length_mask(lengths: Tensor, n_frames: int) -> Tensor:
    """(batch, frames) booleans: true inside each item."""
    return torch.arange(n_frames, device=lengths.device) < lengths[:, None]


class _Gather(torch.autograd.Function):
    """Reorders frames by an index that is its own inverse, so the gradient is the same gather."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x.gather(1, index[..., None].expand(-1, -1, x.shape[-1]))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        (gradient,) = gradients
        return gradient.gather(1, index[..., None].expand(-1, -1, gradient.shape[-1])), None


def flip_index(lengths: Tensor, n_frames: int) -> Tensor:
    """(batch, frames) indices that reverse each item in place and leave its padding where it is."""
    t = torch.arange(n_frames, device=lengths.device)[None]
    reverse = lengths[:, None] - 1 - t
    return torch.where(reverse >= 0, reverse, t)


class TimeReduction(nn.Module):
    """Two 3x3 convolutions of stride two over time and frequency, then a projection."""

    def __init__(self, n_mels: int, n_channels: int, n_model: int) -> None:
        super().__init__()
        # Frequency is padded here, time by the caller.
        self.first = nn.Conv2d(1, n_channels, 3, stride=2, padding=(0, 1))
        self.second = nn.Conv2d(n_channels, n_channels, 3, stride=2, padding=(0, 1))
        n_bands = (n_mels + 1) // 2
        self.project = nn.Linear(n_channels * ((n_bands + 1) // 2), n_model)

    @staticmethod
    def convolve(convolution: nn.Conv2d, x: Tensor) -> Tensor:
        """Halve (batch, channels, frames, bands)."""
        return F.relu(convolution(x))

    def output(self, x: Tensor) -> Tensor:
        """(batch, channels, frames', bands') -> (batch, frames', n_model)."""
        return self.project(x.transpose(1, 2).flatten(2))

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        x = features * length_mask(lengths, features.shape[1])[..., None]
        x = x[:, None]
        for convolution in (self.first, self.second):
            # One zero frame before and after; what convolution makes of padding is set to zero again,
            # as an item alone would find it.
            x = self.convolve(convolution, F.pad(x, (0, 0, 1, 1)))
            lengths = (lengths + 1) // 2
            x = x * length_mask(lengths, x.shape[2])[:, None, :, None]
        return self.output(x)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over (batch, frames, channels) whose statistics leave out the padding."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None
        x = x.float()
        if self.training and mask is not None:
            weight = (mask / mask.sum())[..., None].float()
            mean = (x * weight).sum((0, 1))
            variance = ((x - mean).square() * weight).sum((0, 1))
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum or 0.1)
                self.running_var.lerp_(variance, self.momentum or 0.1)
        else:
            mean, variance = self.running_mean, self.running_var
        scale = self.weight * (variance + self.eps).rsqrt()
        return x * scale + (self.bias - mean * scale)


class RecurrentLayer(nn.Module):
    """x + projection(recurrence(normalise(x))), in one direction or two."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = MaskedBatchNorm(config.n_model)
        cell = CELLS[config.cell]
        n_directions = 2 if config.bidirectional else 1
        self.directions = nn.ModuleList(
            cell(config.n_model, config.n_hidden, batch_first=True) for _ in range(n_directions)
        )
        self.project = nn.Linear(n_directions * config.n_hidden, config.n_model)
        self.dropout = nn.Dropout(config.dropout)
        if config.cell == "lstm":
            for direction in self.directions:
                forget = slice(config.n_hidden, 2 * config.n_hidden)  # after the input gate
                nn.init.ones_(direction.get_parameter("bias_hh_l0")[forget])

    def forward(self, x: Tensor, mask: Tensor, flip: Tensor) -> Tensor:
        normed = self.norm(x, mask)
        outputs = [self.directions[0](normed)[0]]
        if len(self.directions) == 2:
            backward = self.directions[1](_Gather.apply(normed, flip))[0]
            outputs.append(_Gather.apply(backward, flip))
        return x + self.dropout(self.project(torch.cat(outputs, -1)))

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        output, state = self.directions[0](self.norm(x), state)
        return x + self.project(output), state


@dataclass(frozen=True)
class ModelState:
    """All that a stream remembers between two steps; its size does not grow."""

    convolutions: tuple[Tensor, Tensor]  # input frames that the next output still needs
    recurrent: tuple[Any, ...]  # one per layer: (h, c) of an LSTM, h of the others
    future: Tensor  # (1, frames, n_model): frames that wait for their future context


class AcousticModel(nn.Module):
    """Log-mel frames -> log-probabilities of labels, for a padded batch or step by step."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.reduction = TimeReduction(config.n_mels, config.n_channels, config.n_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(RecurrentLayer(config) for _ in range(config.n_layers))
        self.future: nn.Conv1d | None = (
            nn.Conv1d(config.n_model, config.n_model, config.lookahead + 1, groups=config.n_model)
            if config.lookahead
            else None
        )
        self.norm = nn.LayerNorm(config.n_model)
        self.outputs = nn.ModuleDict(
            {name: nn.Linear(config.n_model, n) for name, n in config.outputs.items()}
        )
        self.middle_outputs = nn.ModuleDict(
            {name: nn.Linear(config.n_model, config.outputs[name]) for name in config.middle_outputs}
        )
        heard = config.middle_outputs if config.self_conditioning else ()
        self.conditions = nn.ModuleDict(
            {name: nn.Linear(config.outputs[name], config.n_model, bias=False) for name in heard}
        )
        for weight in self.conditions.parameters():
            nn.init.zeros_(weight)  # a trained model that gets them begins as it was

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Log-probability of every label at every output frame, for each output layer.

        features: (batch, frames, mels), zero-padded, normalised with the training mean and deviation.
        lengths:  (batch,) integers, frames of each item before padding.
        Returns {output name: (batch, frames', labels) natural logs} and (batch,) output lengths;
        frames' = frames / 4 rounded up. In training the middle outputs are there as "NAME@middle".
        An item's result does not depend on what it is batched with.
        """
        x = self.dropout(self.reduction(features, lengths))
        lengths = output_lengths(lengths)
        mask = length_mask(lengths, x.shape[1])
        flip = flip_index(lengths, x.shape[1])
        log_probs: dict[str, Tensor] = {}
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, flip)
            x, middle = self.hear_middle(i, x)
            if self.training:
                log_probs |= {f"{name}@middle": output for name, output in middle.items()}
        if self.future is not None:
            x = self._see_future(F.pad(x * mask[..., None], (0, 0, 0, self.config.lookahead)))
        return {**log_probs, **self._outputs(x)}, lengths

    def hear_middle(self, layer: int, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What the layer after this one hears of (batch, frames, n_model); after the middle one also the
        middle outputs, where they are of use."""
        if layer + 1 != (len(self.layers) + 1) // 2 or not (self.training or self.conditions):
            return x, {}
        log_probs = {name: _log_softmax(output(x)) for name, output in self.middle_outputs.items()}
        for name, condition in self.conditions.items():
            x = x + condition(log_probs[name].exp())
        return x, log_probs

    def _see_future(self, x: Tensor) -> Tensor:
        """(batch, frames + lookahead, n_model) -> (batch, frames, n_model)."""
        assert self.future is not None
        n_frames = x.shape[1] - self.config.lookahead
        return x[:, :n_frames] + self.future(x.transpose(1, 2)).transpose(1, 2)

    def _outputs(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(x)
        return {name: _log_softmax(output(x)) for name, output in self.outputs.items()}

    def initial_state(self) -> ModelState:
        """The state before the first frame; only a model of one direction has one."""
        if self.config.bidirectional:
            raise ValueError("a bidirectional model cannot run step by step")
        config = self.config
        like = self.reduction.project.weight
        return ModelState(
            convolutions=(
                like.new_zeros(1, 1, 1, config.n_mels),
                like.new_zeros(1, config.n_channels, 1, (config.n_mels + 1) // 2),
            ),
            recurrent=(None,) * config.n_layers,
            future=like.new_zeros(1, 0, config.n_model),
        )

    def step(
        self, features: Tensor, state: ModelState, *, last: bool = False
    ) -> tuple[dict[str, Tensor], ModelState]:
        """The outputs that became certain with these frames, equal to those of forward().

        features: (1, frames, mels), any number of frames; last: no more will come.
        Returns {output name: (1, frames', labels)}, frames' perhaps 0, and the next state.
        """
        x = features[:, None]
        leftovers = []
        for convolution, pending in zip(
            (self.reduction.first, self.reduction.second), state.convolutions, strict=True
        ):
            x = torch.cat([pending, x], 2)
            if last:
                x = F.pad(x, (0, 0, 0, 1))
            n_outputs = max(0, (x.shape[2] - 1) // 2)
            leftovers.append(x[:, :, 2 * n_outputs :])
            if n_outputs:
                x = TimeReduction.convolve(convolution, x)
            else:
                n_bands = (x.shape[3] + 1) // 2
                x = x.new_zeros(1, convolution.out_channels, 0, n_bands)
        x = self.reduction.output(x)
        recurrent = state.recurrent
        if x.shape[1]:
            states = []
            for i, (layer, layer_state) in enumerate(zip(self.layers, recurrent, strict=True)):
                assert isinstance(layer, RecurrentLayer)
                x, layer_state = layer.step(x, layer_state)
                states.append(layer_state)
                x, _ = self.hear_middle(i, x)
            recurrent = tuple(states)
        future = state.future
        if self.future is not None:
            x = torch.cat([future, x], 1)
            if last:
                x = F.pad(x, (0, 0, 0, self.config.lookahead))
            n_ready = max(0, x.shape[1] - self.config.lookahead)
            future = x[:, n_ready:]
            x = self._see_future(x) if n_ready else x[:, :0]
        return self._outputs(x), ModelState((leftovers[0], leftovers[1]), recurrent, future)


def deepened(weights: dict[str, Tensor], n_layers: int, deeper: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a model of n_layers as those of a deeper one that computes the same.

    deeper: weights of the deeper shape. Its additional layers stand above the lower and above the upper half:
    the middle output stays where it was. They keep their weights, but their projections become zero.
    """
    n_deeper = 1 + max(int(name.split(".")[1]) for name in deeper if name.startswith("layers."))
    below, middle = (n_layers + 1) // 2, (n_deeper + 1) // 2
    renamed = {}
    for name, value in weights.items():
        if name.startswith("layers."):
            _, number, rest = name.split(".", 2)
            i = int(number)
            name = f"layers.{i if i < below else i - below + middle}.{rest}"
        renamed[name] = value
    for name, value in deeper.items():
        if name.startswith("layers.") and name not in renamed:
            renamed[name] = torch.zeros_like(value) if ".project." in name else value
    return renamed


def _log_softmax(logits: Tensor) -> Tensor:
    return logits.float().log_softmax(-1)  # autocast would leave it in half precision
