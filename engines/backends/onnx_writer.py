"""Writes small networks as ONNX files without the package onnx, which the base install does not bring.

An ONNX file is a message of Protocol Buffers (https://onnx.ai/onnx/repo-docs/IR.html, numbers of the fields from
onnx.proto3). Only what ``Graph`` needs of it is written here: nodes, attributes, tensors, and the shapes of inputs and
outputs.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

OPSET, IR_VERSION = 17, 8
"""Versions of the operators and of the file that every ONNX Runtime since 1.12 reads."""
_TYPES = {"float32": 1, "int64": 7, "float16": 10}
"""``TensorProto.DataType`` by the NumPy dtype."""

Attribute = int | float | str | Sequence[int]


class Graph:
    """A network under construction. Nodes are added in the order in which they compute."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[bytes] = []
        self._tensors: dict[str, bytes] = {}
        self._inputs: list[bytes] = []
        self._outputs: list[bytes] = []

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Add an input of float32 and return its name."""
        self._inputs.append(_value(name, shape))
        return name

    def output(self, name: str, shape: tuple[int, ...]) -> None:
        """Make the result ``name`` an output of float32."""
        self._outputs.append(_value(name, shape))

    def tensor(self, name: str, array: NDArray[Any]) -> str:
        """Add a constant and return its name."""
        array = np.ascontiguousarray(array)
        dims = b"".join(_integer(1, size) for size in array.shape)
        self._tensors[name] = dims + _integer(2, _TYPES[array.dtype.name]) + _text(8, name) + _bytes(9, array.tobytes())
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Attribute) -> str:
        """Add a node of one output and return that output's name. ``inputs``: empty for one that is left out."""
        content = b"".join(_text(1, name) for name in inputs) + _text(2, output) + _text(3, output) + _text(4, kind)
        content += b"".join(_bytes(5, _attribute(name, value)) for name, value in attributes.items())
        self._nodes.append(content)
        return output

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        graph = b"".join(_bytes(1, node) for node in self._nodes) + _text(2, self._name)
        graph += b"".join(_bytes(5, tensor) for tensor in self._tensors.values())
        graph += b"".join(_bytes(11, each) for each in self._inputs)
        graph += b"".join(_bytes(12, each) for each in self._outputs)
        opset = _text(1, "") + _integer(2, OPSET)
        return _integer(1, IR_VERSION) + _text(2, "reenact") + _bytes(7, graph) + _bytes(8, opset)


def _varint(value: int) -> bytes:
    value &= (1 << 64) - 1  # negative numbers are written as 64 bits
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _integer(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _bytes(field, text.encode())


def _attribute(name: str, value: Attribute) -> bytes:
    """Return an ``AttributeProto``: its name, its value in the field of its type, and the type."""
    if isinstance(value, str):
        return _text(1, name) + _text(4, value) + _integer(20, 3)
    if isinstance(value, float):
        return _text(1, name) + _varint(2 << 3 | 5) + struct.pack("<f", value) + _integer(20, 1)
    if isinstance(value, int):
        return _text(1, name) + _integer(3, value) + _integer(20, 2)
    return _text(1, name) + b"".join(_integer(8, each) for each in value) + _integer(20, 7)


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    """Return a ``ValueInfoProto`` of a float32 tensor."""
    dims = b"".join(_bytes(1, _integer(1, size)) for size in shape)
    tensor = _integer(1, _TYPES["float32"]) + _bytes(2, dims)
    return _text(1, name) + _bytes(2, _bytes(1, tensor))
