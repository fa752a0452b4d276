"""Tests of image decoding: each type of file is scaled according to its pixel format, or is an error that names it."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.datasets.decode import decode
from model_zoo.errors import DamagedFileError

GREY = np.random.default_rng(0).integers(0, 256, (24, 32), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def save_picture(picture: Image.Image, path: Path, **options: object) -> Path:
    picture.save(path, **options)  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_divided_by_257(tmp_path: Path, ending: str) -> None:
    path = save_picture(Image.fromarray(GREY.astype(np.uint16) * 257), tmp_path / f"0.{ending}")
    picture = decode(path)
    assert (picture.pixels == GREY[..., None]).all() and picture.changes == ("of 16 bits, divided by 257",)


def test_dark_sixteen_bit_images_stay_dark(tmp_path: Path) -> None:
    path = save_picture(Image.fromarray(GREY.astype(np.uint16)), tmp_path / "0.png")
    assert decode(path).pixels.max() <= 1


def test_floats_are_multiplied_by_255(tmp_path: Path) -> None:
    path = save_picture(Image.fromarray((GREY / 255).astype(np.float32)), tmp_path / "0.tif")
    picture = decode(path)
    assert (picture.pixels == GREY[..., None]).all() and picture.changes == ("of floats, multiplied by 255",)
    for wrong in (GREY.astype(np.float32), GREY / np.float32(255) - np.float32(0.5), np.full_like(GREY, np.nan, dtype=np.float32)):
        with pytest.raises(DamagedFileError, match=r"1\.tif.*floats in \[0, 1\].*floats from"):
            decode(save_picture(Image.fromarray(wrong), tmp_path / "1.tif"))


def test_integers_of_32_bits_are_an_error_with_their_range(tmp_path: Path) -> None:
    path = save_picture(Image.fromarray(GREY.astype(np.int32) * 1000), tmp_path / "0.tif")
    with pytest.raises(DamagedFileError, match=r"32-bit integers from \d+ to \d+"):
        decode(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    stored = {
        1: COLOUR,
        2: COLOUR[:, ::-1],
        3: COLOUR[::-1, ::-1],
        4: COLOUR[::-1],
        5: COLOUR.transpose(1, 0, 2),
        6: np.rot90(COLOUR),
        7: COLOUR[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(COLOUR, 3),
    }[orientation]
    tag = Image.Exif()
    tag[0x0112] = orientation
    picture = decode(save_picture(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "0.png", exif=tag))
    assert np.array_equal(picture.pixels, COLOUR)
    assert picture.changes == (() if orientation == 1 else ("turned upright as their EXIF tag says",))


@pytest.mark.parametrize(("mode", "ending"), [("1", "png"), ("L", "png"), ("P", "gif"), ("CMYK", "tif"), ("YCbCr", "jpg"), ("RGB", "bmp")])
def test_other_formats_are_converted_by_pillow(tmp_path: Path, mode: str, ending: str) -> None:
    path = save_picture(Image.fromarray(COLOUR).convert(mode), tmp_path / f"0.{ending}")
    with Image.open(path) as opened:
        expected = np.asarray(opened.convert("RGB"))
    picture = decode(path)
    assert np.array_equal(picture.pixels, expected) and picture.changes == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_an_error_and_opaque_ones_are_not(tmp_path: Path, mode: str) -> None:
    opaque = Image.fromarray(COLOUR).convert(mode)
    assert decode(save_picture(opaque, tmp_path / "0.png")).pixels.shape == (24, 32, 3)
    opaque.putpixel((3, 4), (0,) * (len(mode) - 1) + (0,))
    with pytest.raises(DamagedFileError, match=r"without transparent pixels.*1 transparent pixels"):
        decode(save_picture(opaque, tmp_path / "0.png"))


def test_an_animation_is_an_error(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.roll(COLOUR, shift, axis=0)) for shift in range(3)]
    path = save_picture(frames[0], tmp_path / "0.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DamagedFileError, match=r"one picture.*3 pictures"):
        decode(path)


def test_special_and_absent_files_are_errors_that_name_the_kind(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "absent.png")
    (tmp_path / "folder.png").mkdir()
    for name, words in (("pipe", "a pipe"), ("link", "a link to nothing"), ("folder", "a folder"), ("absent", "no file")):
        with pytest.raises(DamagedFileError, match=f"{name}.png.*{words}"):
            decode(tmp_path / f"{name}.png")


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"<!DOCTYPE html><html></html>", b"version https://git-lfs.github.com/spec/v1\n"])
def test_files_that_are_not_pictures_are_errors(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "0.png").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"0\.png.*an image"):
        decode(tmp_path / "0.png")


def test_inverted_and_signed_samples_are_errors(tmp_path: Path) -> None:
    for tags, kind, words in (
        ({262: 0}, np.uint16, "16 bits per sample with 0 as white"),
        ({262: 0}, np.float32, "32 bits per sample with 0 as white"),
        ({339: 2}, np.uint8, "signed integers"),
    ):
        path = save_picture(Image.fromarray((GREY / 255).astype(kind)), tmp_path / "0.tif", tiffinfo=tags)
        with pytest.raises(DamagedFileError, match=rf"0\.tif.*{words}"):
            decode(path)


def test_sixteen_bits_per_channel_are_reduced_to_the_upper_eight(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + (COLOUR[row].astype(">u2") * 257).astype(">u2").tobytes() for row in range(24))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 32, 24, 16, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "0.png").write_bytes(content)
    picture = decode(tmp_path / "0.png")
    assert np.array_equal(picture.pixels, COLOUR) and picture.changes == ("of 16 bits per channel, of which the upper 8 are used",)


def test_a_flipped_bit_in_a_png_is_detected(tmp_path: Path) -> None:
    path = save_picture(Image.fromarray(COLOUR), tmp_path / "0.png", compress_level=0)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"0\.png"):
        decode(path)


def test_gigantic_pictures_are_errors_before_they_are_decoded(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for size in (10_000, 12_000, 100_000):
        header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
        (tmp_path / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
        with pytest.raises(DamagedFileError, match=r"0\.png.*pixels"):
            decode(tmp_path / "0.png")


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    save_picture(Image.fromarray(COLOUR), tmp_path / "0.eps").rename(tmp_path / "0.png")
    with pytest.raises(DamagedFileError, match=r"0\.png: expected an image, found text"):
        decode(tmp_path / "0.png")


def test_a_web_page_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"<!DOCTYPE html><html></html>")
    with pytest.raises(DamagedFileError, match="a web page"):
        decode(tmp_path / "0.png")


@pytest.mark.parametrize(("mode", "ending"), [("L", "png"), ("1", "png"), ("LA", "png"), ("L", "jpg"), ("RGB", "bmp")])
def test_grey_images_have_one_channel_on_request(tmp_path: Path, mode: str, ending: str) -> None:
    path = save_picture(Image.fromarray(GREY).convert(mode), tmp_path / f"0.{ending}")
    one, three = decode(path, channels=1).pixels, decode(path).pixels
    assert one.shape == (24, 32, 1) and (three == one).all()
