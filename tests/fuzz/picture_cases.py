"""Picture files for the door `images`, each with the pixels that must be read, or None if the file must be rejected."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from tests.fuzz.values import damaged

Expected = np.ndarray | None
LOSSLESS = ("png", "bmp", "tif", "ppm", "tga", "webp")


def array(random: Random, *shape: int) -> np.ndarray:
    """Return random bytes of the given shape."""
    return np.frombuffer(random.randbytes(int(np.prod(shape))), np.uint8).reshape(shape)


def sides(random: Random) -> tuple[int, int]:
    """Return a random height and width in pixels."""
    return random.randint(1, 20), random.randint(1, 20)


def rgb(grey: np.ndarray) -> np.ndarray:
    """Return grey values [H, W] as [H, W, 3]."""
    return np.repeat(grey[..., None], 3, axis=2)


def save(picture: Image.Image, path: Path, **options: object) -> None:
    """Save a picture without loss."""
    picture.save(path, **({"lossless": True, "exact": True} if path.suffix == ".webp" else {}), **options)  # type: ignore[arg-type]


def plain(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write eight bits per sample in a lossless format, with one of many suffixes in lower or upper case."""
    ending = random.choice(LOSSLESS)
    path = folder / f"0.{ending}"
    if random.random() < 0.5:
        pixels = array(random, *sides(random), 3)
        save(Image.fromarray(pixels), path)
    else:
        grey = array(random, *sides(random))
        save(Image.fromarray(grey), path)
        pixels = rgb(grey)
    # The content determines the format, not the suffix.
    renamed = folder / f"0.{random.choice([*LOSSLESS, 'PNG', 'jpeg', 'JFIF', 'Gif', 'tiff'])}"
    return path.rename(renamed), pixels


def few_bits(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write a picture of one bit per pixel or with a palette."""
    height, width = sides(random)
    if random.random() < 0.5:
        bits = array(random, height, width) > 127
        ending = random.choice(["png", "tif", "bmp", "pbm"])
        Image.fromarray(bits).save(folder / f"0.{ending}")
        return folder / f"0.{ending}", rgb(bits.astype(np.uint8) * 255)
    palette, indices = array(random, 16, 3), array(random, height, width) % 16
    picture = Image.fromarray(indices)
    picture.putpalette(palette.tobytes())
    ending = random.choice(["png", "gif", "tif", "bmp"])
    picture.save(folder / f"0.{ending}")
    return folder / f"0.{ending}", palette[indices]


def sixteen_bits(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write 16-bit grey; TIFF samples for which 0 is white are rejected."""
    values = array(random, *sides(random), 2).copy().view(np.uint16)[..., 0] >> random.choice([0, 0, 4, 9])
    expected = rgb(np.rint(values / 257.0).astype(np.uint8))
    ending = random.choice(["png", "tif", "pgm"])
    path = folder / f"0.{ending}"
    if ending == "tif" and random.random() < 0.3:
        Image.fromarray(values).save(path, tiffinfo={262: 0})
        return path, None
    Image.fromarray(values).save(path)
    return path, expected


def sixteen_bits_per_channel(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write 16-bit RGB as PNG, of which the upper 8 bits are read."""
    height, width = sides(random)
    values = array(random, height, width, 3, 2)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    write_png(folder / "0.png", header, zlib.compress(rows))
    return folder / "0.png", values[..., 0]


def write_png(path: Path, header: bytes, content: bytes) -> None:
    """Write a PNG file with the given contents of the chunks IHDR and IDAT."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b""))


def floats(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write grey floats inside or outside [0, 1]."""
    values = (array(random, *sides(random)) / 255).astype(np.float32)
    path = folder / "0.tif"
    if random.random() < 0.5:
        Image.fromarray(values).save(path)
        return path, rgb(np.rint(values * 255.0).astype(np.uint8))
    wrong = random.choice([-1e-3, 1.01, 255.0, float("nan"), float("inf"), float("-inf"), 1e30])
    values[random.randrange(values.shape[0]), random.randrange(values.shape[1])] = wrong
    Image.fromarray(values).save(path)
    return path, None


def whole_numbers(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write 32-bit integers or signed 8-bit integers, whose scale is unknown."""
    if random.random() < 0.5:
        Image.fromarray(array(random, *sides(random), 4).copy().view(np.int32)[..., 0]).save(folder / "0.tif")
    else:
        Image.fromarray(array(random, *sides(random))).save(folder / "0.tif", tiffinfo={339: 2})
    return folder / "0.tif", None


def rotated(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write a picture with an EXIF orientation tag."""
    upright, orientation = array(random, *sides(random), 3), random.randint(1, 8)
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda pixels: pixels,
        2: lambda pixels: pixels[:, ::-1],
        3: lambda pixels: pixels[::-1, ::-1],
        4: lambda pixels: pixels[::-1],
        5: lambda pixels: pixels.transpose(1, 0, 2),
        6: lambda pixels: np.rot90(pixels),
        7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: lambda pixels: np.rot90(pixels, 3),
    }
    tag = Image.Exif()
    tag[0x0112] = orientation
    path = folder / f"0.{random.choice(['png', 'webp', 'tif'])}"
    save(Image.fromarray(np.ascontiguousarray(turns[orientation](upright))), path, exif=tag)
    return path, upright


def transparent(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write a picture with an alpha channel, opaque or not, or a palette with a transparent colour."""
    height, width = sides(random)
    kind = random.choice(["RGBA", "LA", "palette"])
    if kind == "palette":
        indices = array(random, height, width) % 4
        picture = Image.fromarray(indices)
        palette = array(random, 4, 3)
        picture.putpalette(palette.tobytes())
        clear = random.randrange(6)
        picture.save(folder / "0.png", **({"transparency": clear} if clear < 4 else {}))  # type: ignore[arg-type]
        return folder / "0.png", None if (indices == clear).any() else palette[indices]
    pixels = array(random, height, width, 4 if kind == "RGBA" else 2).copy()
    pixels[..., -1] = 255
    is_opaque = random.random() < 0.5
    if not is_opaque:
        pixels[random.randrange(height), random.randrange(width), -1] = random.randrange(255)
    path = folder / f"0.{random.choice(['png', 'tif'])}"
    Image.fromarray(pixels).save(path)
    opaque = pixels[..., :3] if kind == "RGBA" else rgb(pixels[..., 0])
    return path, opaque if is_opaque else None


def animated(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write several frames or pages."""
    frames = [Image.fromarray(array(random, 6, 7, 3)) for _ in range(random.randint(2, 4))]
    path = folder / f"0.{random.choice(['gif', 'png', 'webp', 'tif'])}"
    save(frames[0], path, save_all=True, append_images=frames[1:])
    return path, None


def cmyk(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write CMYK, which is converted without a colour profile."""
    inks = array(random, *sides(random), 4)
    Image.fromarray(inks, "CMYK").save(folder / "0.tif")
    key = 255.0 - inks[..., 3:]
    # Integer arithmetic in Pillow may differ by one from the exact value, so the expected pixels are those of Pillow.
    return folder / "0.tif", np.asarray(Image.fromarray(inks, "CMYK").convert("RGB")) if key.size else None


def gigantic(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write a header that claims up to 2^31 x 2^31 pixels."""
    width, height = (random.choice([0, 9_000, 20_000, 100_000, 2**31 - 1]) for _ in range(2))
    write_png(folder / "0.png", struct.pack(">IIBBBBB", width, height, 8, random.choice([0, 2]), 0, 0, 0), zlib.compress(bytes(1000)))
    return folder / "0.png", None


def no_picture(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write other content into a file with the name of a picture, or create a special file."""
    path = folder / f"0.{random.choice(LOSSLESS)}"
    content = {
        "page": b"<!DOCTYPE html><html></html>",
        "pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "empty": b"",
        "text": b"hello",
        "noise": random.randbytes(200),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
        "head": b"\x89PNG\r\n\x1a\n",
        "zip": b"PK\x05\x06" + bytes(18),
    }
    kind = random.choice([*content, "pipe", "dangling", "loop", "socket", "device"])
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to(folder / "absent.png")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    else:
        path.write_bytes(content[kind])
    return path, None


def damaged_png(random: Random, folder: Path) -> tuple[Path, Expected]:
    """Write a damaged PNG: it is rejected, or read unchanged if the damage does not affect its pixels (the caller allows both)."""
    pixels = array(random, *sides(random), 3)
    path = folder / "0.png"
    Image.fromarray(pixels).save(path, compress_level=random.choice([0, 6]))
    path.write_bytes(damaged(random, path.read_bytes()))
    return path, pixels


def damaged_without_checksum(random: Random, folder: Path) -> Path:
    """Write a damaged file in a format without checksums: it is rejected, or read like Pillow reads it."""
    path = folder / f"0.{random.choice(['bmp', 'jpg', 'tif', 'tga', 'gif', 'webp', 'ppm'])}"
    Image.fromarray(array(random, *sides(random), 3)).save(path)
    path.write_bytes(damaged(random, path.read_bytes()))
    return path


KINDS = (
    plain,
    few_bits,
    sixteen_bits,
    sixteen_bits_per_channel,
    floats,
    whole_numbers,
    rotated,
    transparent,
    animated,
    cmyk,
    gigantic,
    no_picture,
)
