"""Recognition of file types by the first bytes, for error messages about unexpected files."""

from __future__ import annotations

import zipfile
from pathlib import Path

_BEGINNINGS = (
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file with `git lfs pull`"),
    (b"\x93NUMPY", "an array of numpy (.npy)"),
    (b"\x89HDF\r\n", "HDF5 (Keras?)"),
    (b"\x1f\x8b", "a file compressed with gzip: unpack it first"),
    (b"\xfd7zXZ", "a file compressed with xz: unpack it first"),
    (b"BZh", "a file compressed with bzip2: unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive: unpack it first"),
    (b"\x7fELF", "a program"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
    (b"%PDF", "a PDF"),
)


def kind_of(path: Path) -> str:
    """Return a short description of a file's type, beginning with "another file" if it is unknown, or the error if it cannot be read.

    Reads the first 512 bytes and, of a zip archive, the table of contents.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        return error.strerror or type(error).__name__
    if not head:
        return "an empty file"
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "a web page (a download that needed a login, or failed?)"
    if is_safetensors(head):
        return "safetensors"
    if text.startswith((b"{", b"[")):
        return "JSON"
    if head.startswith(b"PK"):
        return _archive(path)
    if head.startswith(b"\x80"):
        return "a pickle, or a file that torch saved"
    return "text" if all(32 <= byte < 127 or byte in b"\r\n\t" for byte in head) else "another file, or one cut short"


def is_safetensors(head: bytes) -> bool:
    """Return whether `head` is the beginning of a safetensors file: eight bytes with the length of the header, then the header as JSON."""
    return len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 100_000_000


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "an archive that is cut short"
    if any(name.endswith(".npy") for name in names):
        return "arrays of numpy (.npz)"
    if any("/code/" in name for name in names):
        return "TorchScript, which is a whole network and not weights: pass it in place of FILE.py:FUNCTION"
    if any(name.endswith(("serialized_exported_program.json", "models/model.json")) for name in names):
        return "a network that torch.export saved, not weights: pass it in place of FILE.py:FUNCTION"
    return "a file that torch saved" if any(name.endswith("data.pkl") for name in names) else "an archive"
