"""The dense gradient by a convolution's weight, as matrix products of whole batches of cells.

dW[o, i, ky, kx] is the sum over images and positions of dz[o] times the input i moved by (ky, kx). In a matrix whose rows of positions end
with a zero, a move is an offset, so each entry of the kernel is one product [out, positions] x [positions, in]. Operands are bfloat16 where
the processor multiplies it, float32 elsewhere. An input channel that is zero everywhere has no gradient and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from model_zoo.kernels.convolve import LANES
from model_zoo.kernels.taps import Shape


def half_type() -> torch.dtype:
    """bfloat16 where the processor multiplies it, float32 elsewhere."""
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32


# Images side by side in a matrix: two cells, so that every move is by whole cache lines.
WIDE = 2 * LANES


@dataclass(frozen=True)
class Geometry:
    """How a batch of one value is laid out as a matrix [channels, pairs of cells x positions x 32].

    Every row of positions ends with a zero and every pair of cells with a row of zeros, which are the borders of what follows, too.

    Attributes
    ----------
    rows, columns : int
        Of the grid of positions.
    cells : int
        Of sixteen images.
    """

    rows: int
    columns: int
    cells: int

    @property
    def pair(self) -> int:
        """Numbers of two cells side by side."""
        return (self.rows + 1) * (self.columns + 1) * WIDE

    @property
    def guard(self) -> int:
        """Numbers before and behind the matrix that a move may reach into."""
        return (self.columns + 2) * WIDE

    @property
    def length(self) -> int:
        """Columns of the matrix, without the guards."""
        return -(-self.cells // 2) * self.pair

    def begin(self, cell: int) -> int:
        """Where the first position of a cell lies."""
        return self.guard + cell // 2 * self.pair + cell % 2 * LANES

    def move(self, row: int, column: int) -> int:
        """Where the matrix moved by so many rows and columns begins."""
        return self.guard + (row * (self.columns + 1) + column) * WIDE

    def matrix(self, channels: int, dtype: torch.dtype) -> torch.Tensor:
        """Zeros for the matrix with its guards, [channels, guard + length + guard], rows aligned to cache lines."""
        width = self.length + 2 * self.guard
        size = torch.empty((), dtype=dtype).element_size()
        room = torch.zeros(channels * width + 64 // size, dtype=dtype)
        begin = -room.data_ptr() // size % (64 // size)
        return room[begin : begin + channels * width].view(channels, width)


class Operand:
    """A value of a batch as matrices: whole, or for convolutions of stride 2 its four parts by parity of row and column.

    Parameters
    ----------
    value : Shape
    cells : int
    stride : int
        Of the convolutions that read the value.
    """

    def __init__(self, value: Shape, cells: int, stride: int, dtype: torch.dtype) -> None:
        self.stride = stride
        self.geometry = Geometry(-(-value.rows // stride), -(-value.columns // stride), cells)
        self.parts = [[self.geometry.matrix(value.channels, dtype) for _ in range(stride)] for _ in range(stride)]
        self._bits = [[_bits(part) for part in row] for row in self.parts]

    def write(self, value: np.ndarray, cell: int, live: np.ndarray) -> None:
        """Write the channels `live`, int64, of a cell [channels, rows + 2, columns + 2, 16] into the first rows of the matrices."""
        source, begin = _bits(value), self.geometry.begin(cell)
        for row in range(self.stride):
            for column in range(self.stride):
                _copy(source, live, self.stride, row, column, self._bits[row][column], begin, self.geometry.columns + 1)

    def moved(self, kernel_row: int, kernel_column: int, padding: int, channels: int) -> torch.Tensor:
        """The first `channels` rows of the matrix that an entry of the kernel reads."""
        down, across = kernel_row - padding, kernel_column - padding
        begin = self.geometry.move(down // self.stride, across // self.stride)
        return self.parts[down % self.stride][across % self.stride][:channels, begin : begin + self.geometry.length]


def weight_gradient(operand: Operand, by_output: Operand, kernel: int, padding: int, inputs: int, live: np.ndarray) -> torch.Tensor:
    """The gradient by a weight, float32 [out, in, k, k].

    Parameters
    ----------
    operand : Operand
        The convolution's input, its channels `live` written.
    by_output : Operand
        The gradient by the convolution's output, all of its channels written; of stride 1.
    inputs : int
        Channels of the input, those left out among them.
    live : np.ndarray
        int64: the input channels that were written.
    """
    left = by_output.parts[0][0][:, by_output.geometry.guard : by_output.geometry.guard + by_output.geometry.length]
    products = torch.empty((kernel * kernel, len(left), len(live)), dtype=left.dtype)
    for entry, product in enumerate(products):
        torch.mm(left, operand.moved(entry // kernel, entry % kernel, padding, len(live)).t(), out=product)
    gradient = torch.empty if len(live) == inputs else torch.zeros
    by_weight = gradient((len(left), inputs, kernel, kernel))
    if products.dtype == torch.bfloat16:
        _gather_bits(_bits(products), live, by_weight.view(torch.int32).numpy())
    else:
        _gather(products.numpy(), live, by_weight.numpy())
    return by_weight


def _bits(values: np.ndarray | torch.Tensor) -> np.ndarray:
    """The same memory as unsigned whole numbers, or float32 as it is for float32 tensors."""
    if isinstance(values, np.ndarray):
        return values.view(np.uint32)
    return values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy().view(np.uint32)


@intrinsic  # type: ignore[untyped-decorator]
def _round_row(typing: Any, source: Any, source_step: Any, target: Any, target_step: Any, count: Any) -> Any:
    """Round `count` groups of sixteen float32 to bfloat16, ties to even; addresses and distances between groups in bytes."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_step, target, target_step, count = arguments
        wide, narrow = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(16), LANES)

        def each(value: int) -> ir.Constant:
            return ir.Constant(wide, [value] * LANES)

        with cgutils.for_range(b, count, intp=ir.IntType(64)) as loop:
            place = b.inttoptr(b.add(source, b.mul(loop.index, source_step)), wide.as_pointer())
            bits = b.load(place, align=4)
            upper = b.lshr(bits, each(16))
            rounded = b.lshr(b.add(b.add(bits, each(0x7FFF)), b.and_(upper, each(1))), each(16))
            place = b.inttoptr(b.add(target, b.mul(loop.index, target_step)), narrow.as_pointer())
            b.store(b.trunc(rounded, narrow), place, align=2)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@njit(cache=True, nogil=True)
def _copy(source, live, stride, row, column, target, begin, width):  # type: ignore[no-untyped-def]
    """Rounded to the nearest bfloat16, ties to even, where the target has 16 bits; as it is where it has 32."""
    columns = source.shape[2] - 2
    count = (columns - column + stride - 1) // stride
    for number in range(live.shape[0]):
        for y in range(row, source.shape[1] - 2, stride):
            values = source[live[number], y + 1].reshape(-1)[(1 + column) * LANES :]
            written = target[number, begin + y // stride * width * WIDE :]
            if target.itemsize == 2:
                _round_row(values.ctypes.data, 4 * stride * LANES, written.ctypes.data, 2 * WIDE, count)
            else:
                for x in range(count):
                    for n in range(LANES):
                        written[x * WIDE + n] = values[x * stride * LANES + n]


@njit(cache=True, nogil=True)
def _gather_bits(products, live, gradient):  # type: ignore[no-untyped-def]
    entries, outputs, inputs = products.shape
    kernel = gradient.shape[3]
    for o in range(outputs):
        for i in range(inputs):
            for entry in range(entries):
                gradient[o, live[i], entry // kernel, entry % kernel] = np.int32(products[entry, o, i]) << np.int32(16)


@njit(cache=True, nogil=True)
def _gather(products, live, gradient):  # type: ignore[no-untyped-def]
    entries, outputs, inputs = products.shape
    kernel = gradient.shape[3]
    for o in range(outputs):
        for i in range(inputs):
            for entry in range(entries):
                gradient[o, live[i], entry // kernel, entry % kernel] = products[entry, o, i]
