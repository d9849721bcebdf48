"""One step of a recurrent language model as an ONNX graph in 8 bits.

Every row is rounded by itself: what a text's state becomes does not depend on the other texts of the batch,
as it does with the graphs that ONNX Runtime's own quantisation makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from asr.decoding.recurrent import CELLS, CONTEXT, EMBEDDED, HIDDEN, NEXT_CELLS, NEXT_HIDDEN

_OPSET, _IR = 17, 8
_LARGEST = 127.0  # of 8 bits
_ZERO = 128  # in unsigned bytes, of which ONNX Runtime multiplies faster


@dataclass(frozen=True)
class Rounded:
    """A matrix (inputs, outputs) as 8-bit integers, and (outputs,) the factors of its columns."""

    integers: np.ndarray
    factors: np.ndarray


def step_graph(
    inputs: Rounded, recurrent: Rounded, bias: np.ndarray, context: Rounded, context_bias: np.ndarray
) -> bytes:
    """An LSTM's step, (1, texts, width) and (1, texts, cells), and the linear layer on its output.

    inputs, recurrent, bias: (width, 4 cells), (cells, 4 cells) and (4 cells,), the gates in PyTorch's order:
    input, forget, cell, output. context, context_bias: (cells, width) and (width,).
    """
    graph = _Builder()
    largest = graph.add("ReduceMax", graph.add("Abs", EMBEDDED), axes=[-1], keepdims=1)
    scale = graph.add("Div", graph.add("Max", largest, graph.constant(1e-12)), graph.constant(_LARGEST))
    heard = graph.add("Mul", graph.product(graph.add("Div", EMBEDDED, scale), inputs), scale)
    said = graph.of_output(HIDDEN, recurrent)
    gates = graph.add("Add", graph.add("Add", heard, said), graph.constant(bias))
    i, f, g, o = graph.split(gates, 4)
    kept = graph.add("Mul", graph.add("Sigmoid", f), CELLS)
    new = graph.add("Mul", graph.add("Sigmoid", i), graph.add("Tanh", g))
    graph.add("Add", kept, new, name=NEXT_CELLS)
    graph.add("Mul", graph.add("Sigmoid", o), graph.add("Tanh", NEXT_CELLS), name=NEXT_HIDDEN)
    graph.add("Add", graph.of_output(NEXT_HIDDEN, context), graph.constant(context_bias), name=CONTEXT)
    n_cells, width = context.integers.shape
    return graph.bytes(
        {EMBEDDED: width, HIDDEN: n_cells, CELLS: n_cells},
        {CONTEXT: width, NEXT_HIDDEN: n_cells, NEXT_CELLS: n_cells},
    )


class _Builder:
    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """The output of a node, of this or any name."""
        name = name or f"{operator}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def split(self, value: str, n: int) -> list[str]:
        names = [f"{value}/{i}" for i in range(n)]
        self._nodes.append(helper.make_node("Split", [value], names, axis=-1))
        return names

    def product(self, value: str, matrix: Rounded) -> str:
        """Of values that were divided so as to lie within -127 and 127."""
        zero = self.constant(_ZERO, np.uint8)
        rounded = self.add("Add", self.add("Round", value), self.constant(_ZERO))
        unsigned = self.add("Cast", rounded, to=TensorProto.UINT8)
        sums = self.add("MatMulInteger", unsigned, self.constant(matrix.integers, np.int8), zero)
        return self.add("Mul", self.add("Cast", sums, to=TensorProto.FLOAT), self.constant(matrix.factors))

    def of_output(self, hidden: str, matrix: Rounded) -> str:
        """The product of an LSTM's output, which lies within -1 and 1."""
        scaled = self.add("Mul", hidden, self.constant(_LARGEST))
        return self.product(scaled, Rounded(matrix.integers, matrix.factors / _LARGEST))

    def bytes(self, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> bytes:
        """The graph, with these inputs and outputs of (1, texts, width)."""
        begin, end = (
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, "texts", n]) for name, n in ends]
            for ends in (inputs.items(), outputs.items())
        )
        graph = helper.make_graph(self._nodes, "step", begin, end, initializer=self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        return model.SerializeToString()
