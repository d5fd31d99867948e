"""Stores in a bucket: a real server of S3 on this machine, read by several ranks and their workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import httpx
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from torch.utils.data import DataLoader, IterableDataset

from mdetr.data.record import Record
from mdetr.data.store import write_store
from mdetr.data.streaming import stream_records
from mdetr.errors import InvalidInputError, MissingDependencyError

STORE = "s3://bucket/stores/mine"
RECORD = Record("test", "train", "0", b"an encoded image", "0", 30, 20, "a thing", (), ())
RECORDS = [replace(RECORD, id=str(number)) for number in range(23)]
IDS = [record.id for record in RECORDS]


class Bucket:
    """A store of 23 records in 5 files, in a bucket of a server that can be stopped."""

    def __init__(self, folder: Path) -> None:
        write_store(folder / "mine", RECORDS, None, rows_per_group=2, rows_per_shard=5)
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        httpx.post(f"http://{host}:{port}/moto-api/reset")  # all servers of a process share their buckets
        # A client that gives up soon: those of a real run wait longer
        self.options: dict[str, Any] = {
            "endpoint_url": f"http://{host}:{port}",
            "config_kwargs": {"retries": {"max_attempts": 1}, "connect_timeout": 5, "read_timeout": 5},
        }
        files = s3fs.S3FileSystem(**self.options)
        files.mkdir("bucket")
        files.put(str(folder / "mine"), "bucket/stores/mine", recursive=True)

    def stop(self) -> None:
        """Break all connections."""
        self._server.stop()


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = Bucket(tmp_path)
    yield bucket
    bucket.stop()


class Stream(IterableDataset[str]):
    """The ids of the records of one rank, for PyTorch's loader."""

    def __init__(self, rank: int, world_size: int, options: dict[str, Any]) -> None:
        self.rank, self.world_size, self.options = rank, world_size, options

    def __iter__(self) -> Iterator[str]:
        records = stream_records(STORE, rank=self.rank, world_size=self.world_size, **self.options)
        return (record.id for record in records)


def _sorted(ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=int)


@pytest.mark.parametrize("world_size", [1, 4, 5])  # 4 ranks share 5 files; of 5 ranks, each has a file
@pytest.mark.parametrize("shuffle", [0, 7])
def test_every_record_goes_to_exactly_one_rank(bucket: Bucket, world_size: int, shuffle: int) -> None:
    parts = []
    for rank in range(world_size):
        records = stream_records(STORE, shuffle, 3, rank, world_size, **bucket.options)
        parts.append([record.id for record in records])
    together = [record for part in parts for record in part]
    assert _sorted(together) == IDS
    assert max(map(len, parts)) - min(map(len, parts)) <= (1 if world_size == 4 else 2)
    assert (parts[0] == _sorted(parts[0])) == (not shuffle)


def test_the_workers_of_two_nodes_with_two_ranks_share_the_records(bucket: Bucket) -> None:
    together: list[str] = []
    for rank in range(4):
        together += DataLoader(Stream(rank, 4, bucket.options), batch_size=None, num_workers=2)
    assert _sorted(together) == IDS


def test_a_broken_connection_is_told_in_one_sentence(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "STREAMING_READ_MAX_RETRIES", 1)
    monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
    records = stream_records(STORE, **bucket.options)
    assert next(records).id == "0"
    bucket.stop()
    with pytest.raises(InvalidInputError) as caught:
        list(records)
    message = str(caught.value)
    assert message.startswith(f"The store {STORE} cannot be read (")
    assert message.endswith("); check the address and the connection.")
    assert "\n" not in message


@pytest.mark.parametrize("missing", ["data-00003.parquet", "store.json"])
def test_a_file_that_was_not_copied_is_missed(bucket: Bucket, missing: str) -> None:
    s3fs.S3FileSystem(**bucket.options).rm(f"bucket/stores/mine/{missing}")
    with pytest.raises(InvalidInputError, match=rf"store {STORE} cannot be read \(.*{missing}.*\); check"):
        list(stream_records(STORE, **bucket.options))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="Expected a rank from 0 to world_size - 1 = 3, got 4"):
        next(stream_records(STORE, rank=4, world_size=4))
    with pytest.raises(MissingDependencyError, match=r"gs://bucket/store needs another package: .*gcsfs"):
        next(stream_records("gs://bucket/store"))
