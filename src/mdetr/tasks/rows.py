"""Rows of numbers that scorers keep of each record in, the rows of all processes out."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from mdetr.data.record import Record

T = TypeVar("T", bound=np.generic)


class RecordRows:
    """Rows of numbers, each of which belongs to a record.

    A record may be scored more than once: by two processes, when a sampler fills up the last batch so that
    all have as many, or by two passes. Its rows count once.
    """

    def __init__(self, columns: int) -> None:
        """Args: columns: how many numbers a row has."""
        self._columns = columns
        self._keys: list[NDArray[np.int64]] = []
        self._rows: list[NDArray[np.float32]] = []

    def add(self, record: Record, rows: NDArray[np.floating]) -> None:
        """Keep the rows (n, columns) of a record; n may be 0."""
        keys = np.empty((len(rows), 2), dtype=np.int64)
        keys[:, 0] = _record_key(record)
        keys[:, 1] = np.arange(len(rows))
        self._keys.append(keys)
        self._rows.append(np.asarray(rows, dtype=np.float32).reshape(len(rows), self._columns))

    def merged(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Collect the rows of all processes, each record's once; every process must call this together.

        Returns:
            The record's key of each row (n,), and the rows (n, columns), in an order that does not depend on
            which process scored what.
        """
        keys = gather_rows(np.concatenate([np.empty((0, 2), dtype=np.int64), *self._keys]))
        rows = gather_rows(np.concatenate([np.empty((0, self._columns), dtype=np.float32), *self._rows]))
        keys, first = np.unique(keys, axis=0, return_index=True)
        return keys[:, 0], rows[first]


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


def _record_key(record: Record) -> int:
    name = "\0".join((record.source, record.split, record.id))
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
