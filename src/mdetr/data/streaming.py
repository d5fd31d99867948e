"""Streaming of the records of a store with embedded images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mdetr.data.record import Record, from_row
from mdetr.data.store_files import DESCRIPTION
from mdetr.errors import InvalidInputError, InvalidRecordError, MissingDependencyError, first_line


def stream_records(
    address: str,
    shuffle: int = 0,
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    **storage_options: Any,
) -> Iterator[Record]:
    """Read a store from a bucket or a server without a copy of it on disk.

    Several processes, also on several nodes, share the records if each gives its rank: every record goes to
    exactly one of them. A process reads only its own files if their number is a multiple of `world_size`, and
    otherwise all files. In a worker of PyTorch's `DataLoader`, the records of the process are also shared
    among its workers, by files.

    Args:
        address: Folder of the store: s3://bucket/store, gs://..., hf://datasets/NAME/store, or a path. The
            prefix selects the package that reads it (s3fs, gcsfs, huggingface_hub).
        shuffle: Size of the shuffle buffer, in records; 0 keeps the order.
        seed: Seed of the shuffle, which must be the same in all processes.
        rank: Number of this process, from 0.
        world_size: Number of processes that share the records.
        **storage_options: Options for that package, such as keys.

    Yields:
        The records with embedded images.

    Raises:
        MissingDependencyError: The package datasets, or the one for the address, is missing.
        InvalidInputError: The store is missing, or the connection is lost; or there is no such rank.
        InvalidRecordError: A row breaks a rule, or its image is not embedded.
    """
    if not 0 <= rank < world_size:
        raise InvalidInputError(
            f"Expected a rank from 0 to world_size - 1 = {world_size - 1}, got {rank}; give each process its "
            "own."
        )
    address = address.rstrip("/")
    for number, row in enumerate(_read_rows(address, shuffle, seed, rank, world_size, storage_options)):
        record = from_row(row, f"Row {number} of {address}")
        if not isinstance(record.image, bytes):
            raise InvalidRecordError(
                f"Row {number} of {address} names an image instead of holding it; "
                "import the data with `--embed-images`."
            )
        yield record


def _read_rows(
    address: str, shuffle: int, seed: int, rank: int, world_size: int, storage_options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Read the rows of a process."""
    try:
        import fsspec
        from datasets import load_dataset
        from datasets.distributed import split_dataset_by_node
    except ImportError:
        raise MissingDependencyError(
            "Streaming needs the package datasets; install it with `pip install 'mdetr[stream]'`."
        ) from None
    try:
        # The description lists the files, so that none is missed that was not copied to the bucket
        with fsspec.open(f"{address}/{DESCRIPTION}", "rb", **storage_options) as file:
            shards = json.load(file)["shards"]
        rows = load_dataset(
            "parquet",
            data_files=[f"{address}/{shard}" for shard in shards],
            split="train",
            streaming=True,
            storage_options=storage_options or None,
        )
        if shuffle:
            rows = rows.shuffle(seed=seed, buffer_size=shuffle)
        yield from split_dataset_by_node(rows, rank, world_size)
    except ImportError as error:
        raise MissingDependencyError(f"Reading {address} needs another package: {error}.") from None
    except Exception as error:  # every file system raises its own exceptions
        reason = first_line(error).rstrip(".") or type(error).__name__
        raise InvalidInputError(
            f"The store {address} cannot be read ({reason}); check the address and the connection."
        ) from None
