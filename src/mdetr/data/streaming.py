"""Streaming of the records of a store with embedded images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mdetr.data.record import Record, from_row
from mdetr.errors import InvalidRecordError, MissingDependencyError


def stream_records(address: str, shuffle: int = 0, seed: int = 0, **storage_options: Any) -> Iterator[Record]:
    """Read a store from a bucket or a server without a copy of it on disk.

    Args:
        address: Folder of the store: s3://bucket/store, gs://..., hf://datasets/NAME/store, or a path. The
            prefix selects the package that reads it (s3fs, gcsfs, huggingface_hub).
        shuffle: Size of the shuffle buffer, in records; 0 keeps the order.
        seed: Seed of the shuffle.
        **storage_options: Options for that package, such as keys.

    Yields:
        The records with embedded images.

    Raises:
        MissingDependencyError: The package datasets is missing.
        InvalidRecordError: A row breaks a rule, or its image is not embedded.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise MissingDependencyError(
            "Streaming needs the package datasets; install it with `pip install 'mdetr[stream]'`."
        ) from None
    rows = load_dataset(
        "parquet",
        data_files=f"{address.rstrip('/')}/*.parquet",
        split="train",
        streaming=True,
        storage_options=storage_options or None,
    )
    if shuffle:
        rows = rows.shuffle(seed=seed, buffer_size=shuffle)
    for number, row in enumerate(rows):
        record = from_row(row, f"Row {number} of {address}")
        if not isinstance(record.image, bytes):
            raise InvalidRecordError(
                f"Row {number} of {address} names an image instead of holding it; "
                "import the data with `--embed-images`."
            )
        yield record
