"""Collection of the rows of metrics from all processes."""

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
_PACK = 4096


class RecordRows:
    """Rows of numbers, each of which belongs to a record.

    A record may be scored more than once: by two processes, when a sampler fills up the last batch so that
    all have as many, or by two passes. Its rows count once.
    """

    def __init__(self, columns: int, dtype: type[np.number] = np.float32) -> None:
        """Args: columns: how many numbers a row has. dtype: of the numbers."""
        self._columns = columns
        self._dtype = dtype
        self._keys: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[Any]] = []
        self._packed = 0  # the arrays at the beginning that hold the rows of many records

    def add(self, record: Record, rows: NDArray[np.number]) -> None:
        """Keep the rows (n, columns) of a record, all at once; n may be 0."""
        keys = np.empty((len(rows), 2), dtype=np.int64)
        keys[:, 0] = record_key(record.source, record.split, record.id)
        keys[:, 1] = np.arange(len(rows))
        self._keys.append(keys)
        self._rows.append(np.asarray(rows, dtype=self._dtype).reshape(len(rows), self._columns))
        if len(self._keys) - self._packed >= _PACK:  # many small arrays take more memory than their numbers
            self._keys[self._packed :] = [np.concatenate(self._keys[self._packed :])]
            self._rows[self._packed :] = [np.concatenate(self._rows[self._packed :])]
            self._packed += 1

    def merged(self) -> tuple[NDArray[np.int64], NDArray[Any]]:
        """Collect the rows of all processes, each record's once; every process must call this together.

        Returns:
            The record's key of each row (n,), and the rows (n, columns), in an order that does not depend on
            which process scored what.
        """
        keys = gather_rows(np.concatenate([np.empty((0, 2), dtype=np.int64), *self._keys]))
        rows = gather_rows(np.concatenate([np.empty((0, self._columns), dtype=self._dtype), *self._rows]))
        keys, first = np.unique(keys, axis=0, return_index=True)
        return keys[:, 0], rows[first]


class GroupedRows:
    """`RecordRows` for each of a few groups, such as the types of phrases, that turn up while scoring."""

    def __init__(self, columns: int) -> None:
        """Args: columns: how many numbers a row has."""
        self._columns = columns
        self._groups: dict[str, RecordRows] = {}

    def add(self, group: str, record: Record, rows: NDArray[np.number]) -> None:
        """Keep the rows (n, columns) of a record that belong to a group, all at once."""
        self._groups.setdefault(group, RecordRows(self._columns)).add(record, rows)

    def merged(self) -> dict[str, NDArray[np.float32]]:
        """Collect the rows of all processes by group; every process must call this at the same time."""
        names = gather_names(self._groups)
        return {name: self._groups.get(name, RecordRows(self._columns)).merged()[1] for name in names}


def gather_names(names: Iterable[str]) -> list[str]:
    """Put the names that the processes know together, sorted; every process must call this together."""
    mine = "\0".join(names).encode()
    lengths = gather_rows(np.array([[len(mine)]]))[:, 0]
    letters = gather_rows(np.frombuffer(mine, dtype=np.uint8)[:, None].copy())[:, 0].tobytes()
    ends = np.cumsum(lengths).tolist()
    texts = [letters[end - length : end].decode() for end, length in zip(ends, lengths.tolist(), strict=True)]
    return sorted({name for text in texts if text for name in text.split("\0")})


def gather_rows(rows: NDArray[T]) -> NDArray[T]:
    """Put the rows of all processes one below the other; every process must call this at the same time.

    Args:
        rows: (n, columns); n may differ from process to process.

    Returns:
        (sum of n, columns), the same on every process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")
    mine = torch.from_numpy(np.ascontiguousarray(rows)).to(device)
    counts = [int(count) for count in _all_gather(torch.tensor([len(rows)], device=device))]
    padded = mine.new_zeros((max(counts), *mine.shape[1:]))
    padded[: len(mine)] = mine
    pieces = [piece[:count] for piece, count in zip(_all_gather(padded), counts, strict=True)]
    return torch.cat(pieces).cpu().numpy()


def _all_gather(tensor: Tensor) -> list[Tensor]:
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor)
    return gathered


def record_key(source: str, split: str, id: str) -> int:
    """A number for a record that all processes agree on."""
    return hash_of("\0".join((source, split, id)))


def hash_of(text: str) -> int:
    """63 bits and a sign that differ for different texts."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
