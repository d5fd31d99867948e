"""Masks as tensors in, COCO's compressed run lengths out, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mdetr.errors import MissingDependencyError


def decode_masks(masks: Sequence[bytes], height: int, width: int) -> Tensor:
    """COCO compressed RLE counts -> (n, height, width) uint8 of 0 and 1."""
    decoded = _rle().decode([{"size": [height, width], "counts": counts} for counts in masks])  # (H, W, n)
    return torch.from_numpy(np.ascontiguousarray(decoded.transpose(2, 0, 1)))


def encode_masks(masks: Tensor) -> tuple[bytes, ...]:
    """(n, H, W) uint8 of 0 and 1 -> COCO compressed RLE counts."""
    encoded = _rle().encode(np.asfortranarray(masks.permute(1, 2, 0).numpy()))
    return tuple(bytes(entry["counts"]) for entry in encoded)


def encode_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> bytes:
    """The union of polygons, each x0, y0, x1, y1, ... in pixels -> COCO compressed RLE counts."""
    rle = _rle()
    return bytes(rle.merge(rle.frPyObjects([list(polygon) for polygon in polygons], height, width))["counts"])


def encode_run_lengths(counts: str | bytes | Sequence[int], height: int, width: int) -> bytes:
    """COCO's run lengths, compressed or not -> COCO compressed RLE counts."""
    if isinstance(counts, bytes):
        return counts
    if isinstance(counts, str):
        return counts.encode("ascii")
    return bytes(
        _rle().frPyObjects({"size": [height, width], "counts": list(counts)}, height, width)["counts"]
    )


def run_lengths(mask: Tensor) -> dict[str, list[int]]:
    """(H, W) bool -> COCO's uncompressed RLE: lengths of runs down the columns, zeros first."""
    values = np.concatenate([[0], mask.T.flatten().to(torch.uint8).numpy(), [0]])
    changes = np.flatnonzero(np.diff(values))
    ends = np.concatenate([[0], changes, [mask.numel()]])
    counts = np.diff(ends)
    if len(counts) > 1 and counts[-1] == 0:
        counts = counts[:-1]
    return {"size": list(mask.shape), "counts": counts.tolist()}


def _rle() -> Any:
    try:
        from faster_coco_eval.core import mask
    except ImportError:
        raise MissingDependencyError(
            "Masks need the package faster-coco-eval; install it with `pip install 'mdetr[eval]'`."
        ) from None
    return mask
