"""Downloads that resume: a pooch downloader which continues a partial file, with a clear message where there is no network."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from model_zoo.errors import DamagedFileError, MissingDataError
from model_zoo.files import place

# What a cut connection may cost; also how often progress is reported.
CHUNK = 1 << 17
TIMEOUT_S = 30
# Bytes done, bytes in all (0 where the server does not say).
Report = Callable[[int, int], None]


class ResumingDownloader:
    """What pooch calls to fetch a file; what an earlier attempt left in `partial` is not fetched again.

    Parameters
    ----------
    partial : Path
        Where the bytes so far are kept between attempts.
    report : callable
        Called with bytes done and bytes in all after every chunk.
    """

    def __init__(self, partial: Path, report: Report) -> None:
        self.partial = partial
        self.report = report

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Fetch `url` into `output_file`."""
        have = self.partial.stat().st_size if self.partial.is_file() else 0
        # Bytes are counted as they are in the file: nothing may be compressed on the way.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                # Nothing is left to fetch; the checksum says whether what is there is right.
                self.partial.replace(output_file)
                return
            response.raise_for_status()
            if response.status_code != requests.codes.partial_content:
                have = 0
            total = have + int(response.headers.get("Content-Length", 0))
            with self.partial.open("ab" if have else "wb") as file:
                for chunk in response.iter_content(CHUNK):
                    have += file.write(chunk)
                    self.report(have, total)
            if have < total:
                # requests 2.25 takes a connection that was cut for the end of the file.
                raise requests.ConnectionError(f"cut after {have:,} of {total:,} bytes")
        self.partial.replace(output_file)


def fetch(url: str, md5: str, folder: Path, instead: str, report: Report = lambda done, total: None) -> Path:
    """Download `url` into `folder` unless a file with that md5 is there already, and return its path.

    Raises
    ------
    MissingDataError
        If the server cannot be reached or the connection breaks; what has come stays, and the next call continues. `instead` says
        what else the user can do.
    DamagedFileError
        If what came is not the file expected; it is removed.
    """
    return _retrieve(url, f"md5:{md5}", folder, url.rsplit("/", 1)[-1], instead, report)


def fetch_recorded(
    url: str, folder: Path, name: str, instead: str, sha256: str | None = None, report: Report = lambda done, total: None
) -> Path:
    """Download `url` as `folder/name`, once, and return its path. Where no hash is known, the first download's is written beside it.

    It is `name.sha256`, as `sha256sum` writes it, and every later use of the file is compared with it. Errors are those of `fetch`; a web
    page in the place of the file is a MissingDataError.
    """
    record = folder / f"{name}.sha256"
    known = sha256 or (record.read_text(encoding="utf-8").partition(" ")[0] if record.is_file() else None)
    path = _retrieve(url, f"sha256:{known}" if known else None, folder, name, instead, report)
    if known is None:
        with path.open("rb") as file:
            beginning = file.read(256).lstrip().lower()
            if beginning.startswith((b"<!doctype", b"<html")):
                path.unlink()
                raise MissingDataError(f"{url} gave a web page and not the file. {instead}")
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        place(record, f"{digest}  {name}\n".encode())
    return path


def _retrieve(url: str, known_hash: str | None, folder: Path, name: str, instead: str, report: Report) -> Path:
    import pooch

    # What pooch has to say is said by the errors below.
    pooch.get_logger().setLevel("ERROR")
    partial = folder / f"{name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(pooch.retrieve(url, known_hash, fname=name, path=folder, downloader=ResumingDownloader(partial, report)))
    except requests.RequestException as error:
        got = f" after {partial.stat().st_size:,} bytes (kept; the next try continues)" if partial.is_file() else ""
        status = f" (status {error.response.status_code})" if error.response is not None else ""
        raise MissingDataError(f"{url} could not be downloaded{got}: {type(error).__name__}{status}. {instead}") from None
    except ValueError:
        raise DamagedFileError(
            folder / name, f"{(known_hash or '').replace(':', ' ')} from {url}", "another; the download was removed"
        ) from None
    except OSError as error:
        raise MissingDataError(f"{name} cannot be kept in {folder}: {error}") from None
