"""Downloading one file over real HTTP: whole, broken off, resumed, wrong, and where there is no room."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mdetr.checkpoints.download import download
from mdetr.errors import CheckpointError
from tests.checkpoints.conftest import FileServer

CONTENT = random.Random(1).randbytes(300_000)


@pytest.fixture
def address(server: FileServer) -> str:
    server.files["/file.pth"] = CONTENT
    return f"{server.address}/file.pth"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.pth"


def _names(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.iterdir())


def test_a_file_arrives_whole(server: FileServer, address: str, file: Path) -> None:
    download(address, file, len(CONTENT))
    assert file.read_bytes() == CONTENT
    assert _names(file) == ["file.pth"]
    assert server.requests == [("/file.pth", None)]


def test_a_transfer_that_breaks_off_is_resumed_where_it_was(
    server: FileServer, address: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.breaks = 2
    download(address, file)
    assert file.read_bytes() == CONTENT
    assert server.requests == [
        ("/file.pth", None),
        ("/file.pth", "bytes=100000-"),
        ("/file.pth", "bytes=200000-"),
    ]


def test_a_transfer_that_keeps_breaking_off_is_resumed_by_the_next_call(
    server: FileServer, address: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    server.breaks, server.broken_after = 100, 0
    file.parent.mkdir()
    file.with_name("file.pth.part").write_bytes(CONTENT[:250_000])
    with pytest.raises(
        CheckpointError, match=r"The transfer of .* failed .*0 MB are kept, and the same call"
    ):
        download(address, file)
    assert _names(file) == ["file.pth.part"]
    server.breaks = 0
    server.requests.clear()
    download(address, file)
    assert server.requests == [("/file.pth", "bytes=250000-")]
    assert file.read_bytes() == CONTENT


def test_a_part_that_is_the_whole_file_is_taken_as_it_is(
    server: FileServer, address: str, file: Path
) -> None:
    file.parent.mkdir()
    file.with_name("file.pth.part").write_bytes(CONTENT)
    download(address, file)
    assert file.read_bytes() == CONTENT
    assert server.requests == [("/file.pth", "bytes=300000-")]


def test_a_part_that_is_longer_than_the_file_is_thrown_away(address: str, file: Path) -> None:
    file.parent.mkdir()
    file.with_name("file.pth.part").write_bytes(CONTENT + b"x")
    download(address, file)
    assert file.read_bytes() == CONTENT


def test_a_server_that_knows_no_ranges_sends_it_all_again(
    server: FileServer, address: str, file: Path
) -> None:
    server.ignores_ranges = True
    file.parent.mkdir()
    file.with_name("file.pth.part").write_bytes(b"y" * 1000)
    download(address, file)
    assert file.read_bytes() == CONTENT


def test_a_file_of_another_size_is_refused_and_deleted(address: str, file: Path) -> None:
    with pytest.raises(CheckpointError, match="has 300,000 bytes instead of 300,001: it is another file"):
        download(address, file, len(CONTENT) + 1)
    assert _names(file) == []


def test_a_file_that_is_not_there_and_a_server_that_refuses_are_named(
    server: FileServer, address: str, file: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"no file at .*/other\.pth \(the server answers 404\).*MIRROR"):
        download(address.replace("file", "other"), file)
    server.status = 503
    with pytest.raises(CheckpointError, match=r"refuses .*file\.pth \(it answers 503\)\. Try again later"):
        download(address, file)


@pytest.mark.usefixtures("server")
def test_a_server_that_is_not_there_is_told_in_one_sentence(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens, so that connections are refused
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/file.pth"
        with pytest.raises(CheckpointError, match=r"transfer of .* failed .*\. Check the network\."):
            download(address, file)
    assert not caplog.records
    assert _names(file) == []


@pytest.mark.parametrize("address", ["ftp://host/file.pth", "/mnt/files", "http://", "https://[bad/file.pth"])
def test_an_address_that_is_none_is_refused(address: str, file: Path) -> None:
    with pytest.raises(CheckpointError, match="is not an address to download from"):
        download(address, file)


def test_a_full_disk_is_named_and_what_fits_is_kept(address: str, file: Path) -> None:
    """A real process that may write files of 200,000 bytes only, which fails like a disk without space."""
    pytest.importorskip("resource")
    program = """
import pathlib, resource, sys
from huggingface_hub import constants
from mdetr.checkpoints.download import download
from mdetr.errors import CheckpointError

constants.DOWNLOAD_CHUNK_SIZE = 10_000
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    download(sys.argv[1], pathlib.Path(sys.argv[2]))
except CheckpointError as error:
    print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, address, str(file)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "0"},
    )
    assert "The disk is full" in run.stdout
    assert "Make room, and try again; 0 MB are kept, and the same call resumes." in run.stdout
    part = file.with_name("file.pth.part").read_bytes()
    assert part == CONTENT[:200_000]
    download(address, file)
    assert file.read_bytes() == CONTENT
