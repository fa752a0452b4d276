"""Resumable downloads: a pooch downloader that continues a partial file, and functions that report network failures clearly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from model_zoo.errors import DamagedFileError, MissingDataError
from model_zoo.files import place

# Bytes per chunk: the most that a broken connection loses, and the interval at which progress is reported.
CHUNK = 1 << 17
TIMEOUT_S = 30
# Callback with bytes done and total bytes; if the server gives no length, the total is the size of the partial file (0 if there was none).
Report = Callable[[int, int], None]


class ResumingDownloader:
    """Downloader for pooch that continues the file an earlier attempt left in `partial`.

    Parameters
    ----------
    partial : Path
        File that holds the bytes received so far, between attempts.
    report : callable
        Called after every chunk with the bytes done and the total bytes.
    """

    def __init__(self, partial: Path, report: Report) -> None:
        self.partial = partial
        self.report = report

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download `url` into `output_file`. Raises a requests.RequestException if the server fails or the connection breaks."""
        received = self.partial.stat().st_size if self.partial.is_file() else 0
        # Bytes are counted as they are in the file, so the transfer must not be compressed.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # The partial file is already complete; pooch checks its hash.
                self.partial.replace(output_file)
                return
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                received = 0
            total = received + int(response.headers.get("Content-Length", 0))
            with self.partial.open("ab" if received else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    received += file.write(chunk)
                    self.report(received, total)
            if received < total:
                # requests 2.25 does not distinguish a broken connection from the end of the file.
                raise requests.ConnectionError(f"cut after {received:,} of {total:,} bytes")
        self.partial.replace(output_file)


def fetch(url: str, md5: str, folder: Path, hint: str, report: Report = lambda done, total: None) -> Path:
    """Download `url` into `folder`, unless it contains the file with that md5 already, and return the file's path.

    `hint` is a sentence for error messages that says what the user can do if the download fails.

    Raises
    ------
    MissingDataError
        If the server cannot be reached or the connection breaks (the bytes received are kept, and the next call continues), or if
        `folder` cannot be written.
    DamagedFileError
        If the downloaded file has another md5; it is removed.
    """
    return _retrieve(url, f"md5:{md5}", folder, url.rsplit("/", 1)[-1], hint, report)


def fetch_recorded(
    url: str, folder: Path, name: str, hint: str, sha256: str | None = None, report: Report = lambda done, total: None
) -> Path:
    """Download `url` as `folder/name`, unless it is there already, and return its path.

    If `sha256` is None, the hash of the first download is written to `folder/name.sha256` in the format of `sha256sum`, and every later
    call compares the file with it. Raises the errors of `fetch`, and a MissingDataError if the server sends a web page in place of the
    file.
    """
    record = folder / f"{name}.sha256"
    expected = sha256 or (record.read_text(encoding="utf-8").partition(" ")[0] if record.is_file() else None)
    path = _retrieve(url, f"sha256:{expected}" if expected else None, folder, name, hint, report)
    if expected is None:
        with path.open("rb") as file:
            beginning = file.read(256).lstrip().lower()
            if beginning.startswith((b"<!doctype", b"<html")):
                path.unlink()
                raise MissingDataError(f"{url} returned a web page, not the file. {hint}")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        place(record, f"{digest}  {name}\n".encode())
    return path


def _retrieve(url: str, known_hash: str | None, folder: Path, name: str, hint: str, report: Report) -> Path:
    import pooch

    # The errors below replace pooch's log messages.
    pooch.get_logger().setLevel("ERROR")
    partial = folder / f"{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=ResumingDownloader(partial, report)))
    except requests.RequestException as error:
        progress = f" after {partial.stat().st_size:,} bytes (stored; the next attempt continues)" if partial.is_file() else ""
        status = f" (status {error.response.status_code})" if error.response is not None else ""
        raise MissingDataError(f"{url} could not be downloaded{progress}: {type(error).__name__}{status}. {hint}") from None
    except ValueError:
        raise DamagedFileError(
            folder / name, f"{(known_hash or '').replace(':', ' ')} from {url}", "another hash; the download was removed"
        ) from None
    except OSError as error:
        raise MissingDataError(f"{name} cannot be stored in {folder}: {error}") from None
