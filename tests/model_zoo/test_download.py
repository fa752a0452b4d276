"""Tests of downloads from a local server: complete, interrupted and resumed, wrong, and missing files."""

import dataclasses
import gzip
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.datasets.cifar import TEST, read_split
from model_zoo.download import fetch, fetch_recorded
from model_zoo.errors import DamagedFileError, MissingDataError
from tests.harness.datasets.test_cifar import SAMPLE, md5, official_bytes, small_set

CONTENT = bytes(range(256)) * 12_000


class Server(ThreadingHTTPServer):
    content = CONTENT
    cut_after: int | None = None
    status: int | None = None
    resumes = True
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        byte_range = self.headers.get("Range")
        server.ranges.append(byte_range)
        start = int(byte_range.removeprefix("bytes=").rstrip("-")) if byte_range and server.resumes else 0
        body = server.content[start:] if server.status is None else b""
        # A server answers a range that starts at the end of the file with status 416.
        self.send_response(server.status or (416 if start and not body else 206 if start else 200))
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            # A server may compress; the bytes sent then differ from the file.
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    instance = Server(("127.0.0.1", 0), Handler)
    instance.ranges = []
    thread = threading.Thread(target=instance.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield instance
    instance.shutdown()
    thread.join()
    instance.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/file.bin"


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    reports: list[tuple[int, int]] = []
    for _ in range(2):
        path = fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "", lambda done, total: reports.append((done, total)))
        assert path.read_bytes() == CONTENT
    assert len(server.ranges) == 1 and reports[-1] == (len(CONTENT), len(CONTENT))


def test_an_interrupted_download_is_resumed(server: Server, tmp_path: Path) -> None:
    server.cut_after = 2 * 2**20
    with pytest.raises(MissingDataError, match=r"2,097,152 bytes .*the next attempt continues.*Use the sample"):
        fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "Use the sample.")
    server.cut_after = None
    assert fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2097152-"]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_wrong_file_is_an_error_and_deleted(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="md5"):
        fetch(url(server), "0" * 32, tmp_path, "")
    assert not list(tmp_path.iterdir())


def test_a_server_without_resume_sends_the_whole_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    server.resumes = False
    assert fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "").read_bytes() == CONTENT


def test_a_complete_partial_file_is_only_verified(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "").read_bytes() == CONTENT


def test_a_wrong_partial_file_is_an_error_and_deleted(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"something else")
    with pytest.raises(DamagedFileError, match="md5"):
        fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "")
    assert not list(tmp_path.iterdir())


def test_an_http_error_is_reported_with_its_status(server: Server, tmp_path: Path) -> None:
    server.status = 404
    with pytest.raises(MissingDataError, match=r"status 404.*Use the sample"):
        fetch(url(server), "0" * 32, tmp_path, "Use the sample.")


def test_an_impossible_folder_is_a_one_line_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MissingDataError, match="cannot be stored"):
        fetch(url(server), "0" * 32, tmp_path / "file", "")


def test_an_unreachable_server_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"ConnectionError\. Use the sample") as raised:
        fetch("http://127.0.0.1:9/file.bin", "0" * 32, tmp_path, "Use the sample.")
    assert "\n" not in str(raised.value)


def test_only_known_files_of_an_archive_are_extracted(server: Server, tmp_path: Path) -> None:
    data = small_set(tmp_path / "made")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("cifar-10-batches-py/test_batch", "../../escaped", "cifar-10-batches-py/readme.html"):
            member = tarfile.TarInfo(name)
            member.size = len(official_bytes())
            archive.addfile(member, io.BytesIO(official_bytes()))
    server.content = buffer.getvalue()
    served = dataclasses.replace(data, url=url(server), md5=md5(server.content))
    images = read_split(served, TEST, tmp_path / "data", download=True)
    assert images.sha256 == dataclasses.replace(SAMPLE, name="cifar10", index=images.index).sha256
    assert sorted(path.name for path in (tmp_path / "data").rglob("*") if path.is_file()) == ["file.bin", "test_batch"]


def test_the_hash_of_the_first_download_is_recorded_and_checked_later(server: Server, tmp_path: Path) -> None:
    path = fetch_recorded(url(server), tmp_path, "model.pth", "")
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert path.read_bytes() == CONTENT
    assert (tmp_path / "model.pth.sha256").read_text() == f"{digest}  model.pth\n"
    assert fetch_recorded(url(server), tmp_path, "model.pth", "") == path and len(server.ranges) == 1
    path.write_bytes(b"changed")
    server.content = b"changed at the server, too"
    with pytest.raises(DamagedFileError, match=f"sha256 {digest[:40]}"):
        fetch_recorded(url(server), tmp_path, "model.pth", "")


def test_a_known_hash_is_checked_immediately(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="sha256"):
        fetch_recorded(url(server), tmp_path, "model.pth", "", "0" * 64)
    assert not list(tmp_path.iterdir())
    assert fetch_recorded(url(server), tmp_path, "model.pth", "", hashlib.sha256(CONTENT).hexdigest()).is_file()


def test_a_web_page_instead_of_the_file_is_an_error_and_deleted(server: Server, tmp_path: Path) -> None:
    server.content = b"\n<!DOCTYPE html><html>too many people have viewed this file</html>"
    with pytest.raises(MissingDataError, match=r"web page, not the file\. Fetch it yourself"):
        fetch_recorded(url(server), tmp_path, "model.pth", "Fetch it yourself.")
    assert not list(tmp_path.iterdir())
