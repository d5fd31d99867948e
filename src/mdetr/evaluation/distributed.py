"""Rows of metrics, gathered from all processes."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from mdetr.data.record import Record

T = TypeVar("T", bound=np.generic)
_PACK = 4096  # records whose rows are concatenated into one array


class RecordRows:
    """Rows of numbers that belong to records.

    A record may be scored more than once: by two processes, when a sampler pads the last batch to give all
    processes the same number, or by two passes. Its rows count once.

    Args:
        columns: Number of columns.
        dtype: Type of the numbers.
    """

    def __init__(self, columns: int, dtype: type[np.number] = np.float32) -> None:
        self._columns = columns
        self._dtype = dtype
        self._keys: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[Any]] = []
        self._packed = 0  # number of leading arrays that hold the rows of many records

    def add(self, record: Record, rows: NDArray[np.number]) -> None:
        """Add all rows of a record.

        Args:
            record: The record.
            rows: (n, columns); n may be 0.
        """
        keys = np.empty((len(rows), 2), dtype=np.int64)
        keys[:, 0] = record_key(record.source, record.split, record.id)
        keys[:, 1] = np.arange(len(rows))
        self._keys.append(keys)
        self._rows.append(np.asarray(rows, dtype=self._dtype).reshape(len(rows), self._columns))
        # Pack many small arrays, which take more memory than their numbers
        if len(self._keys) - self._packed >= _PACK:
            self._keys[self._packed :] = [np.concatenate(self._keys[self._packed :])]
            self._rows[self._packed :] = [np.concatenate(self._rows[self._packed :])]
            self._packed += 1

    def merged(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Gather the rows of all processes; every process must call this at the same time.

        Returns:
            The key of each row's record (n,), and the rows (n, columns), each record's once, in an order that
            does not depend on how the records were distributed.
        """
        keys = gather_rows(np.concatenate([np.empty((0, 2), dtype=np.int64), *self._keys]))
        rows = gather_rows(np.concatenate([np.empty((0, self._columns), dtype=self._dtype), *self._rows]))
        keys, first = np.unique(keys, axis=0, return_index=True)
        return keys[:, 0], rows[first]


class GroupedRows:
    """`RecordRows` by group, such as the type of a phrase; groups are created when first added to.

    Args:
        columns: Number of columns.
    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._groups: dict[str, RecordRows] = {}

    def add(self, group: str, record: Record, rows: NDArray[np.number]) -> None:
        """Add all rows of a record that belong to a group.

        Args:
            group: Name of the group.
            record: The record.
            rows: (n, columns).
        """
        self._groups.setdefault(group, RecordRows(self._columns)).add(record, rows)

    def merged(self) -> dict[str, NDArray[np.float32]]:
        """Gather the rows of all processes; every process must call this at the same time.

        Returns:
            Group -> rows (n, columns).
        """
        merged = {}
        for name in gather_names(self._groups):
            rows = self._groups.get(name, RecordRows(self._columns))
            _, merged[name] = rows.merged()
        return merged


def gather_names(names: Iterable[str]) -> list[str]:
    """Gather names from all processes; every process must call this at the same time.

    Args:
        names: Names that this process knows.

    Returns:
        The distinct names of all processes, sorted.
    """
    # Gather the names as bytes
    own = "\0".join(names).encode()
    lengths = gather_rows(np.array([[len(own)]]))[:, 0].tolist()
    content = gather_rows(np.frombuffer(own, dtype=np.uint8)[:, None].copy())[:, 0].tobytes()

    # Split them by process, then into names
    gathered: set[str] = set()
    start = 0
    for length in lengths:
        if length:
            gathered.update(content[start : start + length].decode().split("\0"))
        start += length
    return sorted(gathered)


def gather_rows(rows: NDArray[T]) -> NDArray[T]:
    """Concatenate the rows of all processes; every process must call this at the same time.

    Args:
        rows: (n, ...) rows; n may differ between processes.

    Returns:
        (sum of n, ...) rows, the same on every process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    own = torch.from_numpy(np.ascontiguousarray(rows)).to(device)

    # Pad to the largest number of rows, since all tensors that are gathered must have the same shape
    counts = torch.cat(_all_gather(torch.tensor([len(rows)], device=device))).tolist()
    padded = own.new_zeros((max(counts), *own.shape[1:]))
    padded[: len(own)] = own

    # Gather, and cut the padding off
    pieces = [piece[:count] for piece, count in zip(_all_gather(padded), counts, strict=True)]
    return torch.cat(pieces).cpu().numpy()


def _all_gather(tensor: Tensor) -> list[Tensor]:
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor)
    return gathered


def record_key(source: str, split: str, id: str) -> int:
    """Number that identifies a record, the same on all processes.

    Args:
        source: The record's source.
        split: Its split.
        id: Its id.

    Returns:
        A hash, signed, of 64 bits.
    """
    return hash_of("\0".join((source, split, id)))


def hash_of(text: str) -> int:
    """Hash of a text, the same on all processes.

    Args:
        text: The text.

    Returns:
        A signed integer of 64 bits.
    """
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
