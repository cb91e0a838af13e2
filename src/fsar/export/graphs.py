"""A recogniser as two ONNX graphs.

    encoder.onnx   images [frame, rgb, height, width] -> parts of the method's encoding
    matcher.onnx   these parts of one clip -> logits [way] and the score of the best action

If the method encodes every frame by itself (`Encoder.by_frame`), the encoder takes any number of frames, and windows of
a stream can share them. The matcher holds the enrolled examples and the background clips.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsar.files import atomic_path
from fsar.methods.base import Method
from fsar.methods.episode import Encoding
from fsar.recognizer.judgement import measure
from fsar.recognizer.state import State

OPSET = 17
SMALLEST_HALVED = 2**12
"""Tensors with so many numbers are kept in half precision, if that loses nothing."""


class EncoderGraph(nn.Module):
    """Images [frame, rgb, height, width] -> parts of the encoding, in the order of their names."""

    def __init__(self, method: Method):
        super().__init__()
        self.method, self.encoder = method, method.encoder()
        self.by_frame = self.encoder.by_frame

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode each frame or, if the method looks at whole clips, the clip."""
        made = self.encoder.of_frames(images[None]) if self.by_frame else self.encoder.encode(images[None])
        return tuple(made[name][0] for name in sorted(made))


class MatcherGraph(nn.Module):
    """Parts of one clip, in the order of their names -> logits [way], and the score."""

    def __init__(self, method: Method, state: State, names: list[str]):
        super().__init__()
        self.method, self.names = method, names
        self.encoder = method.encoder()
        self._state = [state]  # hidden from nn.Module

    def forward(self, *parts: Tensor) -> tuple[Tensor, Tensor]:
        """Match one clip with the enrolled actions."""
        clip: Encoding = {name: part[None] for name, part in zip(self.names, parts, strict=True)}
        begun = self.encoder.of_clip(clip) if self.encoder.by_frame else clip
        made = measure(self._state[0], self.method.enhance(begun, "query", None))
        return made.logits[0], made.scores[0]


def part_names(method: Method, image: Tensor) -> list[str]:
    """Name the parts of an encoding, sorted.

    Args:
        method: any.
        image: frames [frame, rgb, height, width].
    """
    encoder = method.encoder()
    with torch.no_grad():
        made = encoder.of_frames(image[None]) if encoder.by_frame else encoder.encode(image[None])
    return sorted(made)


@torch.no_grad()
def write_graph(
    path: Path, module: nn.Module, inputs: tuple[Tensor, ...], names: tuple[list[str], list[str]], any_number: bool
) -> None:
    """Write a module as ONNX, whole or not at all.

    Args:
        path: where to.
        module: what to write.
        inputs: examples of its inputs.
        names: of its inputs and outputs.
        any_number: whether the first axis of everything may have any length.

    Raises:
        ValueError: it holds an operation that ONNX does not have.
    """
    axes = {name: {0: "frame"} for name in (*names[0], *names[1])} if any_number else None
    given: dict[str, Any] = {"input_names": names[0], "output_names": names[1], "dynamic_axes": axes}
    with atomic_path(path) as temporary:
        with _more_operations(), _silent():
            # the newer exporter needs another package
            torch.onnx.export(module.eval(), inputs, str(temporary), opset_version=OPSET, dynamo=False, **given)
        _halve(temporary)


@contextmanager
def _more_operations() -> Iterator[None]:
    """Teach the exporter uneven pooling, padding, logaddexp, and any number of frames; keep attention plain."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    pool = partial(_pool, F.adaptive_avg_pool2d)
    torch.onnx.register_custom_op_symbolic("aten::logaddexp", _logaddexp, OPSET)
    try:
        with ExitStack() as patches:
            patches.enter_context(patch.object(F, "adaptive_avg_pool2d", pool))
            patches.enter_context(patch.object(F, "pad", partial(_pad, F.pad)))
            patches.enter_context(patch.object(Tensor, "unflatten", _unflatten))
            yield
    finally:
        torch.onnx.unregister_custom_op_symbolic("aten::logaddexp", OPSET)
        torch.backends.mha.set_fastpath_enabled(fused)


@contextmanager
def _silent() -> Iterator[None]:
    """Keep back the exporter's warnings and, if it fails, the whole graph that it prints."""
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def _pool(otherwise: Callable[..., Tensor], images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Pool [..., row, column] to cells: the mean over a cell is a product with a matrix of shares."""
    sides = [int(side) for side in images.shape[-2:]]
    cells = (size, size) if isinstance(size, int) else size
    if all(side % count == 0 for side, count in zip(sides, cells, strict=True)):
        return otherwise(images, size)
    down, across = (pooling(side, count) for side, count in zip(sides, cells, strict=True))
    return down @ images @ across.T


def _pad(otherwise: Callable[..., Tensor], images: Tensor, widths: Sequence[int], *words: Any, **named: Any) -> Tensor:
    """Pad by constants: widths that the graph computes from the size of images, the quantiser gets wrong."""
    return otherwise(images, [int(width) for width in widths], *words, **named)


def _unflatten(tensor: Tensor, dim: int, sizes: Sequence[int]) -> Tensor:
    """Unflatten by a plain reshape: the exporter itself makes a constant of the number of frames."""
    shape, axis = tensor.shape, dim % tensor.ndim
    return tensor.reshape(*shape[:axis], *sizes, *shape[axis + 1 :])


def pooling(side: int, cells: int) -> Tensor:
    """Make the matrix that averages a line over cells as adaptive pooling does: [cell, place].

    Args:
        side: number of places.
        cells: number of cells; neighbours overlap if they do not divide the side.

    Example:
        >>> pooling(3, 2)
        tensor([[0.5000, 0.5000, 0.0000],
                [0.0000, 0.5000, 0.5000]])
    """
    made = np.zeros((cells, side), np.float32)
    for cell in range(cells):
        first, last = cell * side // cells, -(-(cell + 1) * side // cells)
        made[cell, first:last] = 1 / (last - first)
    return torch.from_numpy(made)


def _logaddexp(graph: Any, first: Any, second: Any) -> Any:
    larger = graph.op("Max", first, second)
    apart = graph.op("Neg", graph.op("Abs", graph.op("Sub", first, second)))
    one = graph.op("Constant", value_t=torch.tensor(1.0))
    return graph.op("Add", larger, graph.op("Log", graph.op("Add", one, graph.op("Exp", apart))))


def _halve(path: Path) -> None:
    """Keep large tensors in half precision if that loses nothing, as with encodings from a recogniser's file."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for node in [node for node in model.graph.node if node.op_type == "Constant"]:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if value is not None and np.prod(value.dims) >= SMALLEST_HALVED:
            value.name = node.output[0]
            model.graph.initializer.append(value)
            model.graph.node.remove(node)
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < SMALLEST_HALVED:
            continue
        with np.errstate(over="ignore"):
            half = value.astype(np.float16)
        if np.array_equal(half.astype(np.float32), value):
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=onnx.TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    for cast in reversed(casts):
        model.graph.node.insert(0, cast)
    onnx.save(model, path)
