"""Sparse convolution kernels, compiled by numba once and cached on disk.

Values are stored as [channel, row, column, 16 images] with a border of zeros one position wide; the last channel is followed by one that
holds ones inside the border, see `graph`. With sixteen images next to each other, one vector register holds one position of one channel for
all of them. A kept weight then costs one multiply-add of a register with sixteen numbers read from the first-level cache, and this read
bounds the speed. The factor is the sign times the batch norm's scale. The innermost loop is written as LLVM code because numba's loops do
not keep an array in registers. It is in this file because numba recompiles a function only if the file that contains it changes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
# Batches of at most this many images lie in cells of half the size and take half a register: half the time, half the memory.
HALF = 8
# Images per cell of float16 numbers, on processors that compute with them (AVX512_FP16): half the time per image.
SHORT = 32

_INT, _BITS = ir.IntType(64), ir.IntType(16)


@lru_cache(maxsize=1)
def computes_float16() -> bool:
    """Return whether numba compiles for a processor with vector instructions for float16 numbers."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return "+avx512fp16" in (config.CPU_FEATURES or "")
    return bool(binding.get_host_cpu_features().get("avx512fp16", False))


def item_bytes(lanes: int) -> int:
    """Return the bytes per number in cells of `lanes` images."""
    return 2 if lanes == SHORT else 4


def mask_bytes(lanes: int) -> int:
    """Return the bytes of one position's mask in cells of `lanes` images."""
    return 4 if lanes == SHORT else 2


def make_tile(rows: int, columns: int, channels: int, stride: int, lanes: int) -> Callable[..., None]:
    """Return a function for numba code that computes `rows` x `columns` positions of `channels` output channels.

    The function takes 64-bit integers; addresses and distances are in bytes. Values, weights and biases are float32, or all float16 if
    `lanes` is `SHORT`. Its arguments are, in order:

    - x: address of the input at the tile's first position
    - offsets, weights, count: addresses of the tap offsets (int32) and weights (`channels` per tap), and the number of taps
    - x_row: distance between the input rows of neighbouring output rows
    - bias, fresh: address of the first channel's bias; 1 if sums start with the bias, 0 if they continue from the output's contents
    - out, out_row, out_column, out_channel: address of the output, and the distances of its rows, columns and channels
    - residual: address of the same place in the residual, or 0
    - mask, mask_row, mask_column, mask_channel: the same for the masks (one bit per image, at least 16 bits); address 0 for no masks
    - end: 0 if a later call continues the sums; 1 to add the residual; 2 to add it, apply the ReLU and write the mask; 3 to add it and set
      to zero what the mask does not let through

    Parameters
    ----------
    stride : int
        Stride of the convolution: distance, in positions, between the inputs of neighbouring output columns.
    lanes : int
        Images per cell: `LANES`, `HALF` or `SHORT`.
    """
    element: ir.Type = ir.HalfType() if lanes == SHORT else ir.FloatType()
    size, suffix = item_bytes(lanes), "f16" if lanes == SHORT else "f32"
    vector, flags = ir.VectorType(element, lanes), ir.VectorType(ir.IntType(1), lanes)
    packed, zero = ir.IntType(lanes), ir.Constant(vector, [0.0] * lanes)
    bits_type = ir.IntType(32) if lanes == SHORT else _BITS
    places = [(row, column) for row in range(rows) for column in range(columns)]

    def codegen(context: Any, b: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        (x, offsets, weights, count, x_row, bias, fresh) = arguments[:7]
        (out, out_row, out_column, out_channel, residual, mask, mask_row, mask_column, mask_channel, end) = arguments[7:]

        def number(value: int) -> ir.Constant:
            return ir.Constant(_INT, value)

        def at(address: ir.Value, kind: ir.Type) -> ir.Value:
            return b.inttoptr(address, kind.as_pointer())

        def load(address: ir.Value) -> ir.Value:
            return b.load(at(address, vector), align=size)

        def spread(address: ir.Value) -> ir.Value:
            scalar = b.load(at(address, element))
            undefined, first_lane = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            return b.shuffle_vector(b.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0)), undefined, first_lane)

        def place(row: ir.Value, column: ir.Value, channel: ir.Value) -> list[list[ir.Value]]:
            distances = [[b.add(b.mul(row, number(r)), b.mul(column, number(c))) for r, c in places]] * channels
            return [[b.add(distance, b.mul(channel, number(k))) for distance in distances[k]] for k in range(channels)]

        fma = cgutils.get_or_insert_function(b.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{lanes}{suffix}")
        # Stack slots, which LLVM turns into registers.
        sums = [[cgutils.alloca_once(b, vector) for _ in places] for _ in range(channels)]
        pairs = [(k, p) for k in range(channels) for p in range(len(places))]
        distances = place(out_row, out_column, out_channel)
        with b.if_else(b.icmp_signed("!=", fresh, number(0))) as (begin, resume):
            with begin:
                for k in range(channels):
                    start = spread(b.add(bias, number(size * k)))
                    for slot in sums[k]:
                        b.store(start, slot)
            with resume:
                for k, p in pairs:
                    b.store(load(b.add(out, distances[k][p])), sums[k][p])
        if channels == 1 and len(places) > 1:
            # The next output channel is too far away in memory for the processor to prefetch it by itself.
            byte, half = ir.IntType(8), ir.IntType(32)
            prefetch = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(ir.VoidType(), [byte.as_pointer(), half, half, half]), "llvm.prefetch.p0"
            )
            to_write, keep, data = (ir.Constant(half, value) for value in (1, 3, 1))
            for next_distance in distances[0]:
                b.call(prefetch, [at(b.add(b.add(out, out_channel), next_distance), byte), to_write, keep, data])
        row_distances = [b.mul(x_row, number(row)) for row in range(rows)]
        with cgutils.for_range(b, count, intp=_INT) as loop:
            offset = b.load(at(b.add(offsets, b.mul(loop.index, number(4))), ir.IntType(32)))
            tap = b.add(x, b.sext(offset, _INT))
            factors = b.add(weights, b.mul(loop.index, number(size * channels)))
            factor = [spread(b.add(factors, number(size * k))) for k in range(channels)]
            for p, (row, column) in enumerate(places):
                value = load(b.add(b.add(tap, row_distances[row]), number(size * lanes * column * stride)))
                for k in range(channels):
                    b.store(b.call(fma, [factor[k], value, b.load(sums[k][p])]), sums[k][p])
        with b.if_then(b.and_(b.icmp_signed("!=", end, number(0)), b.icmp_signed("!=", residual, number(0)))):
            for k, p in pairs:
                b.store(b.fadd(b.load(sums[k][p]), load(b.add(residual, distances[k][p]))), sums[k][p])
        mask_distances = place(mask_row, mask_column, mask_channel)
        with b.if_then(b.icmp_signed("==", end, number(2))):
            positive = [[b.fcmp_ordered(">", b.load(slot), zero) for slot in sums[k]] for k in range(channels)]
            for k, p in pairs:
                b.store(b.select(positive[k][p], b.load(sums[k][p]), zero), sums[k][p])
            with b.if_then(b.icmp_signed("!=", mask, number(0))):
                for k, p in pairs:
                    bits = b.bitcast(positive[k][p], packed)
                    b.store(b.zext(bits, bits_type) if lanes == HALF else bits, at(b.add(mask, mask_distances[k][p]), bits_type))
        with b.if_then(b.icmp_signed("==", end, number(3))):
            for k, p in pairs:
                bits = b.load(at(b.add(mask, mask_distances[k][p]), bits_type))
                passes = b.bitcast(b.trunc(bits, packed) if lanes == HALF else bits, flags)
                b.store(b.select(passes, b.load(sums[k][p]), zero), sums[k][p])
        for k, p in pairs:
            b.store(b.load(sums[k][p]), at(b.add(out, distances[k][p]), vector), align=size)
        return context.get_dummy_value()

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typing: Any, x: Any, offsets: Any, weights: Any, count: Any, x_row: Any, bias: Any, fresh: Any, out: Any, out_row: Any,
        out_column: Any, out_channel: Any, residual: Any, mask: Any, mask_row: Any, mask_column: Any, mask_channel: Any, end: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.intp] * 17), codegen

    return tile


# Rows, columns and output channels per tile: sixteen sums, which leave a vector unit with 32 registers room for the rest.
SPARSE, DENSE, SINGLE = ((2, 8, 1), (4, 4, 1)), (2, 2, 4), (1, 1, 1)


def _make_runner(lanes: int) -> Callable[..., None]:
    """Return a function that runs the tile of the given depth, width and stride; its other arguments are those of the tile."""
    wide_1, wide_2 = (make_tile(*SPARSE[0], stride, lanes) for stride in (1, 2))
    square_1, square_2 = (make_tile(*SPARSE[1], stride, lanes) for stride in (1, 2))
    dense_1, dense_2 = (make_tile(*DENSE, stride, lanes) for stride in (1, 2))
    single = make_tile(*SINGLE, 1, lanes)

    @njit(nogil=True, forceinline=True)
    def run(deep, wide, stride, x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end):  # type: ignore[no-untyped-def]
        if deep == 4 and stride == 1:
            dense_1(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        elif deep == 4:
            dense_2(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        elif wide == 1:
            single(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        elif wide == 8 and stride == 1:
            wide_1(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        elif wide == 8:
            wide_2(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        elif stride == 1:
            square_1(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)
        else:
            square_2(x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end)

    return run


@njit(nogil=True)
def _no_float16(deep, wide, stride, x, offsets, weights, count, row, bias, fresh, out, r, c, k, residual, mask, mr, mc, mk, end):  # type: ignore[no-untyped-def]
    """Replace the float16 tiles on processors for which numba cannot compile them; does nothing."""


_run_full, _run_half = _make_runner(LANES), _make_runner(HALF)
_run_short = _make_runner(SHORT) if computes_float16() else _no_float16

# How a convolution's sums end; see `make_tile`.
ADD, RELU, MASKED = 1, 2, 3


@njit(cache=True, nogil=True)
def convolve(x, out, residual, mask, bias, offsets, weights, starts, channels, shape, at):  # type: ignore[no-untyped-def]
    """Compute every position of the output channels.

    Parameters
    ----------
    x, out, residual : np.ndarray
        float32, flat; for cells of 32 images float16 numbers as uint16. `residual` may be empty.
    mask : np.ndarray
        uint16, flat; uint32 for cells of 32 images. May be empty.
    bias, offsets, weights : np.ndarray
        Bias per channel, of x's type; byte offset per tap, int32; weights per tap, of x's type.
    starts : np.ndarray
        int64 [groups, blocks + 1]: index of the first tap of each block of output channels, for each group of input channels.
    channels : np.ndarray
        int64 [blocks]: first output channel of each block.
    shape : np.ndarray
        int64: output rows and columns; tile rows, columns and channels; stride; how the sums end; lanes.
    at : np.ndarray
        int64, in bytes: first input position and distance of the input's rows; first output position and distances of the output's rows,
        columns and channels; the same four numbers for the mask.
    """
    rows, columns, high, wide, deep, stride, end, lanes = shape
    x_first, x_row, out_first, out_row, out_column, out_channel, mask_first, mask_row, mask_column, mask_channel = at
    source, target, taps, factors, start = x.ctypes.data, out.ctypes.data, offsets.ctypes.data, weights.ctypes.data, bias.ctypes.data
    residual_data = residual.ctypes.data if residual.size else 0
    mask_data = mask.ctypes.data if mask.size else 0
    groups = starts.shape[0]
    step, size = stride * x_row, x.itemsize
    for high_row in range(0, rows, high):
        row = min(high_row, rows - high)
        for wide_column in range(0, columns, wide):
            column = min(wide_column, columns - wide)
            tile_source = source + x_first + row * step + size * lanes * column * stride
            tile_target = out_first + row * out_row + column * out_column
            tile_mask = mask_first + row * mask_row + column * mask_column
            # The tile's input of one group of channels stays in the first-level cache while all output channels read it.
            for group in range(groups):
                fresh = 1 if group == 0 else 0
                group_end = end if group == groups - 1 else 0
                for block in range(channels.shape[0]):
                    channel = channels[block]
                    first = starts[group, block]
                    count = starts[group, block + 1] - first
                    if count == 0 and fresh == 0 and group_end == 0:
                        continue
                    block_offset = tile_target + channel * out_channel
                    block_residual = residual_data + block_offset if residual_data else 0
                    block_mask = mask_data + tile_mask + channel * mask_channel if mask_data else 0
                    block_taps, block_factors, block_bias = taps + 4 * first, factors + size * deep * first, start + size * channel
                    if x.itemsize == 2:
                        _run_short(
                            deep, wide, stride, tile_source, block_taps, block_factors, count, step, block_bias, fresh,
                            target + block_offset, out_row, out_column, out_channel, block_residual, block_mask, mask_row, mask_column,
                            mask_channel, group_end,
                        )  # fmt: skip
                    elif lanes == HALF:
                        _run_half(
                            deep, wide, stride, tile_source, block_taps, block_factors, count, step, block_bias, fresh,
                            target + block_offset, out_row, out_column, out_channel, block_residual, block_mask, mask_row, mask_column,
                            mask_channel, group_end,
                        )  # fmt: skip
                    else:
                        _run_full(
                            deep, wide, stride, tile_source, block_taps, block_factors, count, step, block_bias, fresh,
                            target + block_offset, out_row, out_column, out_channel, block_residual, block_mask, mask_row, mask_column,
                            mask_channel, group_end,
                        )  # fmt: skip


@njit(cache=True, nogil=True)
def pack(images, value, mean, deviation):  # type: ignore[no-untyped-def]
    """Write normalised images, float32 [n, C, H, W] with n at most lanes, into value [C + 1, H + 2, W + 2, lanes], padded with zeros."""
    count, channels, rows, columns = images.shape
    for channel in range(channels):
        for row in range(rows):
            for lane in range(value.shape[3]):
                if lane < count:
                    for column in range(columns):
                        value[channel, row + 1, column + 1, lane] = (images[lane, channel, row, column] - mean[channel]) / deviation[
                            channel
                        ]
                else:
                    for column in range(columns):
                        value[channel, row + 1, column + 1, lane] = np.float32(0.0)


@njit(cache=True, nogil=True)
def unpack(value, gradient, deviation):  # type: ignore[no-untyped-def]
    """Write the gradient with respect to the images, float32 [n, C, H, W], from that with respect to their normalised form in `value`."""
    count, channels, rows, columns = gradient.shape
    for channel in range(channels):
        for row in range(rows):
            for lane in range(count):
                for column in range(columns):
                    gradient[lane, channel, row, column] = value[channel, row + 1, column + 1, lane] / deviation[channel]


@njit(cache=True, nogil=True)
def average(value, pooled, channels):  # type: ignore[no-untyped-def]
    """Write the mean over the positions of value [C + 1, H + 2, W + 2, lanes] into pooled [C + 1, 3, 3, lanes]."""
    rows, columns = value.shape[1] - 2, value.shape[2] - 2
    share = np.float32(1.0 / (rows * columns))
    for channel in range(channels):
        for lane in range(value.shape[3]):
            pooled[channel, 1, 1, lane] = np.float32(0.0)
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                for lane in range(value.shape[3]):
                    pooled[channel, 1, 1, lane] += value[channel, row, column, lane]
        for lane in range(value.shape[3]):
            pooled[channel, 1, 1, lane] *= share


@njit(cache=True, nogil=True)
def spread(pooled, value, mask, channels):  # type: ignore[no-untyped-def]
    """Write the gradient of `average` into `value` where the flat mask [C * H * W] is set, and zero elsewhere."""
    rows, columns = value.shape[1] - 2, value.shape[2] - 2
    share = np.float32(1.0 / (rows * columns))
    for channel in range(channels):
        for row in range(rows):
            for column in range(columns):
                bits = mask[(channel * rows + row) * columns + column]
                for lane in range(value.shape[3]):
                    passes = (bits >> lane) & 1
                    value[channel, row + 1, column + 1, lane] = pooled[channel, 1, 1, lane] * share if passes else np.float32(0.0)
