"""Downloads against a real server on this machine: whole, cut midway and continued, wrong, and not there."""

import dataclasses
import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from harness.datasets.cifar import TEST, read_split
from harness.datasets.download import fetch
from model_zoo.errors import DamagedFileError, MissingDataError
from tests.harness.datasets.test_cifar import SAMPLE, md5, official_bytes, small_set

CONTENT = bytes(range(256)) * 12_000


class Server(ThreadingHTTPServer):
    content = CONTENT
    cut_after: int | None = None
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server  # type: ignore[assignment]
        asked = self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])
        self.close_connection = True

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server(("127.0.0.1", 0), Handler)
    made.ranges = []
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/file.bin"


def test_a_file_comes_whole_and_once(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        path = fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "", lambda done, total: seen.append((done, total)))
        assert path.read_bytes() == CONTENT
    assert len(server.ranges) == 1 and seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_cut_connection_is_continued(server: Server, tmp_path: Path) -> None:
    server.cut_after = 2_000_000
    with pytest.raises(MissingDataError, match=r"2,000,000 bytes .*the next try continues.*Use the sample"):
        fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "Use the sample.")
    server.cut_after = None
    assert fetch(url(server), hashlib.md5(CONTENT).hexdigest(), tmp_path, "").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=2000000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_another_file_is_refused_and_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="md5"):
        fetch(url(server), "0" * 32, tmp_path, "")
    assert not list(tmp_path.iterdir())


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match=r"ConnectionError\. Use the sample") as raised:
        fetch("http://127.0.0.1:9/file.bin", "0" * 32, tmp_path, "Use the sample.")
    assert "\n" not in str(raised.value)


def test_an_archive_is_unpacked_to_the_files_we_know(server: Server, tmp_path: Path) -> None:
    data = small_set(tmp_path / "made")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in ("cifar-10-batches-py/test_batch", "../../escaped", "cifar-10-batches-py/readme.html"):
            member = tarfile.TarInfo(name)
            member.size = len(official_bytes())
            archive.addfile(member, io.BytesIO(official_bytes()))
    server.content = buffer.getvalue()
    there = dataclasses.replace(data, url=url(server), md5=md5(server.content))
    images = read_split(there, TEST, tmp_path / "data", download=True)
    assert images.sha256 == dataclasses.replace(SAMPLE, name="cifar10", index=images.index).sha256
    assert sorted(path.name for path in (tmp_path / "data").rglob("*") if path.is_file()) == ["file.bin", "test_batch"]
