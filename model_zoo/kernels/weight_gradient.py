"""Dense gradient with respect to a convolution's weight, as matrix products over whole batches of cells.

dW[o, i, ky, kx] is the sum over images and positions of dz[o] times the input i moved by (ky, kx). In a matrix whose rows of positions end
with a zero, a move is an offset, so each entry of the kernel is one product [out, positions] x [positions, in]. Operands are bfloat16 if
the processor multiplies it, else float32. Input channels that are zero everywhere have a zero gradient and are left out.
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
    """Return bfloat16 if the processor multiplies it (AVX512_BF16 or AMX), else float32."""
    is_supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if is_supported else torch.float32


# Moves of at most this many rows in all are copied into one matrix: a product with few rows costs as much as one with many.
FEW_ROWS = 64
# Images next to each other in a matrix: two cells, so that every move is by whole cache lines.
WIDE = 2 * LANES


@dataclass(frozen=True)
class Geometry:
    """Layout of a batch of one value as a matrix [channels, pairs of cells x positions x 32].

    Every row of positions ends with a zero and every pair of cells with a row of zeros, which also serve as the borders of what follows.

    Attributes
    ----------
    rows, columns : int
        Size of the grid of positions.
    cells : int
        Number of cells of sixteen images.
    """

    rows: int
    columns: int
    cells: int

    @property
    def pair(self) -> int:
        """Numbers per pair of cells."""
        return (self.rows + 1) * (self.columns + 1) * WIDE

    @property
    def guard(self) -> int:
        """Numbers before and after the matrix that a move may reach into."""
        return (self.columns + 2) * WIDE

    @property
    def length(self) -> int:
        """Columns of the matrix, without the guards."""
        return -(-self.cells // 2) * self.pair

    def begin(self, cell: int) -> int:
        """Return the offset of the first position of a cell."""
        return self.guard + cell // 2 * self.pair + cell % 2 * LANES

    def move(self, row: int, column: int) -> int:
        """Return the offset at which the matrix moved by `row` rows and `column` columns begins."""
        return self.guard + (row * (self.columns + 1) + column) * WIDE

    def matrix(self, channels: int, dtype: torch.dtype) -> torch.Tensor:
        """Return zeros for the matrix with its guards, [channels, guard + length + guard], with rows aligned to cache lines."""
        width = self.length + 2 * self.guard
        kind = np.dtype(np.uint16 if dtype == torch.bfloat16 else np.float32)
        # NumPy asks for huge pages, PyTorch does not.
        memory = np.empty(channels * width + 64 // kind.itemsize, kind)
        memory.fill(0)
        begin = -memory.ctypes.data // kind.itemsize % (64 // kind.itemsize)
        return torch.from_numpy(memory[begin : begin + channels * width].reshape(channels, width)).view(dtype)


class Operand:
    """A value of a batch as matrices: one, or for convolutions of stride 2 four, by parity of row and column.

    Parameters
    ----------
    value : Shape
        Shape of the value.
    cells : int
        Number of cells of sixteen images.
    stride : int
        Stride of the convolutions that read the value.
    dtype : torch.dtype
        bfloat16 or float32.
    """

    def __init__(self, value: Shape, cells: int, stride: int, dtype: torch.dtype) -> None:
        self.stride = stride
        self.geometry = Geometry(-(-value.rows // stride), -(-value.columns // stride), cells)
        self.matrices = [self.geometry.matrix(value.channels, dtype) for _ in range(stride * stride)]
        self.parts = tuple(_bits(matrix) for matrix in self.matrices)

    def write(self, value: np.ndarray, cell: int, rows: np.ndarray) -> None:
        """Write the channels of a cell [channels, rows + 2, columns + 2, 16] into matrix rows `rows`, int64 [channels] with -1 for none."""
        for channel in np.flatnonzero(rows >= 0):
            copy_channel(value[channel], self.parts, rows[channel], *self.place(cell))

    def place(self, cell: int) -> tuple[int, int, int]:
        """Return the arguments `begin`, `width` (positions per row, including the zero) and `stride` of `copy_channel` for a cell."""
        return self.geometry.begin(cell), self.geometry.columns + 1, self.stride

    def moved(self, kernel_row: int, kernel_column: int, padding: int, channels: int) -> torch.Tensor:
        """Return the first `channels` rows of the matrix that an entry of the kernel reads."""
        down, across = kernel_row - padding, kernel_column - padding
        begin = self.geometry.move(down // self.stride, across // self.stride)
        part = down % self.stride * self.stride + across % self.stride
        return self.matrices[part][:channels, begin : begin + self.geometry.length]


def weight_gradient(operand: Operand, by_output: Operand, kernel: int, padding: int, inputs: int, live: np.ndarray) -> torch.Tensor:
    """Return the gradient with respect to a weight, float32 [out, in, k, k].

    Parameters
    ----------
    operand : Operand
        The convolution's input, with its channels `live` written.
    by_output : Operand
        The gradient with respect to the convolution's output, of stride 1, with all channels written.
    kernel, padding : int
        Kernel size and padding of the convolution.
    inputs : int
        Number of input channels, including those left out.
    live : np.ndarray
        int64: the input channels that were written.
    """
    output_matrix = by_output.matrices[0][:, by_output.geometry.guard : by_output.geometry.guard + by_output.geometry.length]
    moves = [operand.moved(entry // kernel, entry % kernel, padding, len(live)) for entry in range(kernel * kernel)]
    if len(moves) * len(live) <= FEW_ROWS:
        products = torch.stack(torch.mm(output_matrix, torch.cat(moves).t()).split(len(live), 1))
    else:
        products = torch.empty((len(moves), len(output_matrix), len(live)), dtype=output_matrix.dtype)
        for move, product in zip(moves, products, strict=True):
            torch.mm(output_matrix, move.t(), out=product)
    allocate = torch.empty if len(live) == inputs else torch.zeros
    by_weight = allocate((len(output_matrix), inputs, kernel, kernel))
    is_bfloat16 = products.dtype == torch.bfloat16
    bits = _bits(products) if is_bfloat16 else products.view(torch.int32).numpy()
    _gather(bits, live, by_weight.view(torch.int32).numpy(), np.int32(16 if is_bfloat16 else 0))
    return by_weight


def _bits(values: torch.Tensor) -> np.ndarray:
    """Return a NumPy view for numba that shares memory with `values`: bfloat16 as uint16, float32 unchanged."""
    return values.view(torch.uint16).numpy() if values.dtype == torch.bfloat16 else values.numpy()


@intrinsic  # type: ignore[untyped-decorator]
def _round_row(typing: Any, source: Any, source_step: Any, target: Any, target_step: Any, count: Any) -> Any:
    """Round `count` groups of sixteen float32 to bfloat16, ties to even; addresses and distances between groups are in bytes."""

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        source, source_step, target, target_step, count = arguments
        wide, narrow = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(16), LANES)

        def each(value: int) -> ir.Constant:
            return ir.Constant(wide, [value] * LANES)

        with cgutils.for_range(b, count, intp=ir.IntType(64)) as loop:
            address = b.inttoptr(b.add(source, b.mul(loop.index, source_step)), wide.as_pointer())
            bits = b.load(address, align=4)
            upper = b.lshr(bits, each(16))
            rounded = b.lshr(b.add(b.add(bits, each(0x7FFF)), b.and_(upper, each(1))), each(16))
            address = b.inttoptr(b.add(target, b.mul(loop.index, target_step)), narrow.as_pointer())
            b.store(b.trunc(rounded, narrow), address, align=2)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@njit(cache=True, nogil=True)
def copy_channel(channel, parts, number, begin, width, stride):  # type: ignore[no-untyped-def]
    """Copy a channel [rows + 2, columns + 2, 16] into a row of the matrices of an `Operand`.

    Parameters
    ----------
    parts : tuple of np.ndarray
        `Operand.parts`: uint16 takes numbers rounded to bfloat16, float32 takes them unchanged.
    number : int
        Index of the row.
    begin, width, stride : int
        As returned by `Operand.place`.
    """
    for part in range(len(parts)):
        row, column, target = part // stride, part % stride, parts[part]
        count = (channel.shape[1] - 2 - column + stride - 1) // stride
        for y in range(row, channel.shape[0] - 2, stride):
            values = channel[y + 1].reshape(-1)[(1 + column) * LANES :]
            written = target[number, begin + y // stride * width * WIDE :]
            if target.itemsize == 2:
                _round_row(values.ctypes.data, 4 * stride * LANES, written.ctypes.data, 2 * WIDE, count)
            else:
                for x in range(count):
                    for n in range(LANES):
                        written[x * WIDE + n] = values[x * stride * LANES + n]


@njit(cache=True, nogil=True)
def _gather(products, live, gradient, shift):  # type: ignore[no-untyped-def]
    """Reorder products [entries, out, live], the bits of floats as integers, into weights; `shift` makes bfloat16 bits float32 bits."""
    entries, outputs, inputs = products.shape
    kernel = gradient.shape[3]
    for o in range(outputs):
        for i in range(inputs):
            for entry in range(entries):
                gradient[o, live[i], entry // kernel, entry % kernel] = np.int32(products[entry, o, i]) << shift
