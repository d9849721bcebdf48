"""A checkpoint -> an ONNX graph from samples to log-probabilities, in float32 or with int8 weights.

The log-mel front end is part of the graph, so that nothing of torch is needed to run it: a product with
the windowed sines and cosines of the discrete Fourier transform takes the place of the FFT, which costs a
tenth of the network. asr/onnx_engine.py runs the graph and tells its inputs and outputs.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asr.audio import SAMPLE_RATE
from asr.checkpoint import Checkpoint
from asr.features import LogMel
from asr.files import write_atomically
from asr.metadata import KEY
from asr.model import AcousticModel, RecurrentLayer, TimeReduction, length_mask
from asr.onnx_engine import LENGTHS, SAMPLES, STATES, OnnxEngine, next_state
from asr.torch_engine import TorchEngine

_OPSET = 17


@dataclass(frozen=True)
class Difference:
    """How far an exported graph is from the checkpoint it was made from, over all output frames."""

    n_frames: int
    largest: float  # between probabilities
    mean: float  # between probabilities
    same_label: float  # share of frames with the same likeliest label


def export(checkpoint: Checkpoint, path: str | Path, *, int8: bool = True) -> None:
    """Write the graph of a checkpoint, which is on the CPU.

    int8: weights of the LSTM and the projections in eight bits, a quarter of the size; the front end, the
    convolutions and the output layers, where a rounding error is not averaged out, stay in float32.
    """
    import onnx

    def write(temporary: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            whole = str(Path(folder) / "whole.onnx")
            _trace(checkpoint, whole)
            if int8:
                quantized = str(Path(folder) / "int8.onnx")
                _quantize(whole, quantized)
                whole = quantized
            graph = onnx.load(whole)
        onnx.helper.set_model_props(graph, {KEY: checkpoint.metadata.to_json()})
        onnx.save(graph, temporary)

    write_atomically(path, write)


def compare(checkpoint: Checkpoint, path: str | Path, recordings: Sequence[np.ndarray]) -> Difference:
    """How the graph in a file differs from the checkpoint on recordings: float32 samples at 16 kHz."""
    exact, exported = TorchEngine(checkpoint, "cpu"), OnnxEngine(path)
    pairs = [
        (expected[name], found[name])
        for expected, found in zip(
            exact.log_probs(recordings), exported.log_probs(recordings), strict=True
        )
        for name in expected
    ]
    differences = np.concatenate([np.abs(np.exp(a) - np.exp(b)).max(1) for a, b in pairs])
    same = np.concatenate([a.argmax(1) == b.argmax(1) for a, b in pairs])
    return Difference(len(same), float(differences.max()), float(differences.mean()), float(same.mean()))


def synthetic_sound() -> np.ndarray:
    """Three seconds of a gliding buzz in syllables, with a little noise: float32 at 16 kHz."""
    random = np.random.default_rng(1)
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.5 * time)
    buzz = np.sign(np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)) * np.sin(2 * np.pi * 2 * time) ** 2
    return (0.1 * buzz + random.normal(0, 0.003, len(time))).astype(np.float32)


class _FrontEnd(nn.Module):
    """LogMel in operations that ONNX has in every runtime."""

    kernel: Tensor
    filters: Tensor
    scale: Tensor
    shift: Tensor

    def __init__(self, log_mel: LogMel) -> None:
        super().__init__()
        self.config = log_mel.config
        window = log_mel.mel.spectrogram.window.double()
        self.margin = (self.config.n_fft - len(window)) // 2  # torch centres a window in the transform
        time = torch.arange(len(window), dtype=torch.float64) + self.margin
        frequency = torch.arange(self.config.n_fft // 2 + 1, dtype=torch.float64)
        angle = 2 * torch.pi * time[:, None] * frequency / self.config.n_fft
        self.register_buffer("kernel", (torch.cat([angle.cos(), angle.sin()], 1) * window[:, None]).float())
        self.register_buffer("filters", log_mel.mel.mel_scale.fb.clone())
        self.register_buffer("scale", 1 / log_mel.deviation)
        self.register_buffer("shift", -log_mel.mean / log_mel.deviation)

    def forward(self, samples: Tensor) -> Tensor:
        """(batch, samples), no more than the frames need -> (batch, frames, mels)."""
        squares = (self._windows(samples) @ self.kernel).square()
        n = len(self.filters)
        mel = (squares[..., :n] + squares[..., n:]) @ self.filters
        return (mel + self.config.floor).log() * self.scale + self.shift

    def _windows(self, samples: Tensor) -> Tensor:
        """(batch, samples) -> (batch, frames, window): hop by hop, since windows overlap."""
        hop, size = self.config.hop_length, len(self.kernel)
        inside = nn.functional.pad(samples, (-self.margin, -self.margin - size % -hop))
        hops = inside.reshape(inside.shape[0], -1, hop)
        n = -(-size // hop)  # that a window reaches into
        parts = [hops[:, i : i - n + 1] for i in range(n - 1)]
        return torch.cat([*parts, hops[:, n - 1 :, : size - (n - 1) * hop]], -1)


class _Whole(nn.Module):
    """The graph of a bidirectional model: recordings as a whole."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.front_end, self.model = _FrontEnd(checkpoint.front_end), checkpoint.model

    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        outputs, _ = self.model(self.front_end(samples), lengths)
        return tuple(outputs.values())


class _Step(nn.Module):
    """The graph of a model of one direction: frames in multiples of four, and the state before them.

    Unlike AcousticModel.step() every state has a fixed shape. Frames beyond an item's length are none,
    so that a recording's end is a step like any other; what waits for its future context is at first
    `lookahead` frames of nothing, whose outputs the caller drops. A step is short, so that what counts is
    the number of operations: time comes first wherever ONNX's LSTM wants it so.
    """

    future: Tensor

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self.front_end, self.model = _FrontEnd(checkpoint.front_end), checkpoint.model
        self.recurrences = nn.ModuleList()
        for layer in self.model.layers:
            assert isinstance(layer, RecurrentLayer)
            recurrence: Any = copy(layer.directions[0])  # which has the same weights
            recurrence.batch_first = False
            self.recurrences.append(recurrence)
        if self.model.future is not None:
            weights = self.model.future.weight.clone()
            weights[..., 0] += 1  # what the convolution is added to
            self.register_buffer("future", weights[:, :, None])

    def forward(
        self,
        samples: Tensor,
        lengths: Tensor,
        first: Tensor,
        second: Tensor,
        recurrent: Tensor,
        future: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """first, second: (batch, channels, 1, bands); recurrent: (layers * parts of a state, batch, cells);
        future: (lookahead, batch, n_model). Returns the outputs and the next states."""
        model: AcousticModel = self.model
        features = self.front_end(samples)
        # Outputs at every second and fourth frame are those of frames that there are.
        mask = length_mask(lengths, features.shape[1]).float()[:, None, :, None]
        x = torch.cat([first, features[:, None] * mask], 2)
        first = x[:, :, -1:]
        x = TimeReduction.convolve(model.reduction.first, x) * mask[:, :, ::2]
        x = torch.cat([second, x], 2)
        second = x[:, :, -1:]
        x = model.reduction.output(TimeReduction.convolve(model.reduction.second, x)).transpose(0, 1)
        before = recurrent.split(1)
        n_parts = len(before) // len(model.layers)
        after: list[Tensor] = []
        for i, (layer, recurrence) in enumerate(zip(model.layers, self.recurrences, strict=True)):
            assert isinstance(layer, RecurrentLayer)
            state = before[n_parts * i : n_parts * (i + 1)]
            output, state = recurrence(layer.norm(x), state if n_parts == 2 else state[0])
            after.extend(state if n_parts == 2 else [state])
            x, _ = model.hear_middle(i, x + layer.project(output))
        states = [first, second, torch.cat(after)]
        if future is not None:
            assert model.future is not None
            x = torch.cat([future, x * mask[:, 0, ::4].transpose(0, 1)])
            states.append(x[-model.config.lookahead :])
            # A convolution in two dimensions is one that runtimes have a fast kernel for.
            x = x.permute(1, 2, 0)[:, :, None]
            x = nn.functional.conv2d(x, self.future, model.future.bias, groups=x.shape[1])
            x = x[:, :, 0].transpose(1, 2)
        else:
            x = x.transpose(0, 1)
        return *model._outputs(x).values(), *states


def _trace(checkpoint: Checkpoint, path: str) -> None:
    """Write the float32 graph of a checkpoint."""
    config, features = checkpoint.model.config, checkpoint.front_end.config
    n_batch, n_frames = 2, 64
    samples = torch.zeros(n_batch, (n_frames - 1) * features.hop_length + features.n_fft)
    inputs = {SAMPLES: samples, LENGTHS: torch.full((n_batch,), n_frames)}
    axes: dict[str, dict[int, str]] = {SAMPLES: {0: "batch", 1: "samples"}, LENGTHS: {0: "batch"}}
    axes |= {name: {0: "batch", 1: "frames"} for name in config.outputs}
    graph: nn.Module
    states: dict[str, Tensor] = {}
    if config.bidirectional:
        graph = _Whole(checkpoint)
    else:
        graph = _Step(checkpoint)
        n_parts = 2 if config.cell == "lstm" else 1
        state = checkpoint.model.initial_state()
        states = dict(
            zip(
                STATES,
                (
                    state.convolutions[0].repeat(n_batch, 1, 1, 1),
                    state.convolutions[1].repeat(n_batch, 1, 1, 1),
                    torch.zeros(config.n_layers * n_parts, n_batch, config.n_hidden),
                    torch.zeros(config.lookahead, n_batch, config.n_model),
                ),
                strict=True,
            )
        )
        if not config.lookahead:
            del states[STATES[-1]]
        for name in states:
            at = 1 if name in ("recurrent", "future") else 0
            axes[name] = axes[next_state(name)] = {at: "batch"}
    inputs |= states
    with torch.inference_mode(), warnings.catch_warnings():
        # The exporter that is not deprecated unrolls or refuses recurrent layers; this one writes LSTM nodes.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph.eval(),  # whose mode is put back, and with it that of its parts
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[*config.outputs, *map(next_state, states)],
            dynamic_axes=axes,
            opset_version=_OPSET,
            dynamo=False,
        )


def _quantize(source: str, target: str) -> None:
    """Write a graph with int8 weights in all but the front end and the output layers."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = f"{target}.prepared"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    nodes = onnx.load(prepared).graph.node
    # The outputs are found by their biases: nodes of layers that share a name are numbered.
    biased = {name for node in nodes if any(map(_is_output_bias, node.input)) for name in node.input}
    quantize_dynamic(
        prepared,
        target,
        op_types_to_quantize=["LSTM", "MatMul"],
        nodes_to_exclude=[
            node.name
            for node in nodes
            if node.name.startswith("/front_end/") or not biased.isdisjoint(node.output)
        ],
        weight_type=QuantType.QInt8,
    )


def _is_output_bias(name: str) -> bool:
    return "outputs." in name and name.endswith(".bias")  # of outputs or middle_outputs
