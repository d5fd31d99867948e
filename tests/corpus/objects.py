"""Odd arrays, tensors and other objects, given to the image processor as images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.corpus.cases import Case, Refused
from tests.corpus.images import RIGHT, H, W, encoded, noise, of_image, quarters

_ARRAY = np.array(quarters())
_TENSOR = torch.from_numpy(_ARRAY.copy()).permute(2, 0, 1)
_GOOD: dict[str, Callable[[], Any]] = {
    "array": lambda: _ARRAY,
    "array of floats": lambda: _ARRAY.astype(np.float64) / 255,
    "array of half precision": lambda: (_ARRAY / 255).astype(np.float16),
    "array with alpha": lambda: np.array(quarters().convert("RGBA")),
    "array that is not contiguous": lambda: np.repeat(_ARRAY, 2, 1)[:, ::2],
    "array with negative strides": lambda: _ARRAY[::-1].copy()[::-1],
    "array that cannot be written to": lambda: np.frombuffer(_ARRAY.tobytes(), np.uint8).reshape(H, W, 3),
    "array in big-endian order": lambda: (_ARRAY / 255).astype(">f4"),
    "masked array": lambda: np.ma.masked_array(_ARRAY, mask=False),
    "tensor": lambda: _TENSOR,
    "tensor with a gradient": lambda: (_TENSOR / 255).requires_grad_(),
    "tensor of bfloat16": lambda: (_TENSOR / 255).bfloat16(),
    "tensor that is not contiguous": lambda: torch.from_numpy(_ARRAY).permute(2, 0, 1),
    "bytearray": lambda: bytearray(encoded(quarters(), "PNG")),
    "memoryview": lambda: memoryview(encoded(quarters(), "PNG")),
    "mapping with bytes": lambda: {"bytes": encoded(quarters(), "PNG"), "path": None},
    "open file at its end": lambda: _at_end(),
    "data URL": lambda: "data:image/png;base64," + _base64("PNG"),
    "data URL of unknown type": lambda: "DATA:;base64," + _base64("GIF"),
}
_BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "array of two channels": (lambda: _ARRAY[..., :2], "shape"),
    "array of five channels": (lambda: np.zeros((H, W, 5), np.uint8), "shape"),
    "array without rows": (lambda: np.zeros((0, W, 3), np.uint8), "shape"),
    "array with one axis": (lambda: np.zeros(12, np.uint8), "shape"),
    "array with five axes": (lambda: np.zeros((1, 1, 2, 2, 3), np.uint8), "shape"),
    "array of whole numbers": (lambda: _ARRAY.astype(np.int64), "uint8"),
    "array of true and false": (lambda: _ARRAY > 9, "uint8"),
    "array of objects": (lambda: _ARRAY.astype(object), "uint8"),
    "array of complex numbers": (lambda: _ARRAY.astype(np.complex64), "uint8"),
    "array of texts": (lambda: _ARRAY.astype(str), "uint8"),
    "array of floats up to 255": (lambda: _ARRAY.astype(np.float32), "floats from"),
    "array with NaN": (lambda: np.full((H, W, 3), np.nan), "NaN"),
    "array with infinite values": (lambda: np.full((H, W, 3), np.inf), "infinite"),
    "tensor with the channels last": (lambda: torch.from_numpy(_ARRAY), "shape"),
    "tensor without pixels": (lambda: torch.zeros(3, 0, 9), "shape"),
    "tensor of whole numbers": (lambda: _TENSOR.long(), "uint8"),
    "tensor with NaN": (lambda: torch.full((3, H, W), float("nan")), "NaN"),
    "sparse tensor": (lambda: (_TENSOR / 255).to_sparse(), ""),
    "tensor on the meta device": (lambda: torch.zeros(3, H, W, device="meta"), ""),
    "None": (lambda: None, "Expected an image"),
    "number": (lambda: 7, "Expected an image"),
    "list of numbers": (lambda: [7], "Expected an image"),
    "empty mapping": (lambda: {}, '"bytes" or "path"'),
    "mapping with a list": (lambda: {"bytes": [1, 2]}, '"bytes" or "path"'),
    "file open as text": (lambda: io.StringIO("text"), "open as text"),
    "closed file": (lambda: _closed(), "open it for reading"),
    "data URL without data": (lambda: "data:image/png;base64", "comma"),
    "data URL cut off": (lambda: "data:image/png;base64,iVBORw0KGgoAAAA", ""),
    "data URL that is no base64": (lambda: "data:image/png;base64,***", "base64"),
    "PIL image without pixels": (lambda: Image.new("RGB", (0, 9)), "no pixels"),
    "closed PIL image": (lambda: _closed_image(), ""),
    "PIL image whose file was cut": (
        lambda: _cut_image(),
        "cut off",
    ),
}


def _at_end() -> io.BytesIO:
    file = io.BytesIO()
    quarters().save(file, "PNG")
    return file


def _base64(kind: str) -> str:
    return base64.b64encode(encoded(quarters(), kind)).decode()


def _cut_image() -> Image.Image:
    return Image.open(io.BytesIO(encoded(noise(), "PNG")[:3000]))


def _closed() -> io.BytesIO:
    file = _at_end()
    file.close()
    return file


def _closed_image() -> Image.Image:
    image = Image.open(_at_end())
    image.close()
    return image


CASES = [Case(name, of_image(make), RIGHT) for name, make in _GOOD.items()]
CASES += [Case(name, of_image(make), Refused(words)) for name, (make, words) in _BAD.items()]
