"""Loading of images of any kind."""

from __future__ import annotations

import base64
import io
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import unquote_to_bytes

import numpy as np
import torch
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from mdetr.errors import InvalidInputError
from mdetr.files import is_address, is_data_address
from mdetr.processing.addresses import read_address
from mdetr.processing.coordinates import Size

ImageInput = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | BinaryIO
    | Image.Image
    | np.ndarray[Any, Any]
    | Tensor
    | Mapping[str, Any]
)
"""Any image; `load_image` says which kinds there are."""

_CHANNEL_ORDERS = ("rgb", "bgr")

_DAMAGED_FILE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError),
    *(LookupError, ArithmeticError, struct.error),
)
"""All that PIL's many decoders raise on files that are cut off or hold nonsense."""

_TURNS = MappingProxyType(
    {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
)
"""What turns an image upright, by the value of its EXIF orientation."""

_TIFF_WIDTH, _TIFF_HEIGHT = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
_LYING = frozenset({5, 6, 7, 8})  # the EXIF orientations that exchange width and height


@dataclass(frozen=True)
class ImageLayout:
    """How an image lies in a batch: its size as given, as resized, and with padding; (height, width) each."""

    given: Size
    resized: Size
    padded: Size


def image_layouts(given: Sequence[Size], pixel_mask: Tensor) -> list[ImageLayout]:
    """How images of the given sizes lie in the batch with this mask (I, H, W; 1 = image)."""
    height, width = pixel_mask.shape[-2:]
    heights, widths = pixel_mask[:, :, 0].sum(1).tolist(), pixel_mask[:, 0].sum(1).tolist()
    return [
        ImageLayout(size, (int(h), int(w)), (height, width))
        for size, h, w in zip(given, heights, widths, strict=True)
    ]


def load_image(image: ImageInput, channel_order: str = "rgb") -> Tensor:
    """Read any image as RGB, turned upright as its EXIF data says.

    Transparency is dropped, gray is repeated three times, and 16 bits become 8. Gray values that are floats
    (float TIFF) are taken as 0 (black) to 1 (white) where none is outside, as they are where all are whole
    numbers from 0 to 255, and else as running from the image's least to its largest value; what is not finite
    is black. EXIF data that cannot be read turn nothing.

    Args:
        image: One of these:
            - a path, also with ~ for the home folder;
            - an http(s) address, a data: address, or one of a file system that fsspec knows;
            - the bytes of an encoded image, or an open binary file that holds one;
            - a PIL image of any mode;
            - an array (H, W, 3), (H, W, 4) with transparency, or (H, W) or (H, W, 1) gray; or a tensor
              (3, H, W), (4, H, W), (H, W) or (1, H, W). Values are uint8 0..255 or floats 0..1;
            - a mapping with "bytes" or "path", as the data sets of Hugging Face have them.
        channel_order: Of arrays and tensors: "rgb", or "bgr" as OpenCV has them.

    Returns:
        (3, H, W) uint8.

    Raises:
        InvalidInputError: the file is missing, no image, damaged or too large to be decoded safely, or the
            array or tensor has another shape, type or range.
    """
    if channel_order not in _CHANNEL_ORDERS:
        raise InvalidInputError(f'channel_order must be "rgb" or "bgr"; found {channel_order!r}.')
    image = unwrap(image)
    if isinstance(image, Tensor):
        pixels = _from_tensor(image)
        return pixels.flip(0) if channel_order == "bgr" else pixels
    if isinstance(image, np.ndarray):
        pixels = _from_array(image)
        return pixels.flip(0) if channel_order == "bgr" else pixels
    if isinstance(image, Image.Image):
        return _decode(image, "the PIL image")
    if isinstance(image, bytes | str | os.PathLike):
        return _open_and_decode(image)
    raise InvalidInputError(
        f"Expected an image as a path, an address, bytes, a PIL image, an array (H, W, 3) or a tensor "
        f"(3, H, W); found {type(image).__name__}."
    )


def unwrap(image: ImageInput) -> ImageInput:
    """The bytes or the path in a mapping, the bytes in an open file; all other images as they are.

    Raises:
        InvalidInputError: The mapping has neither, or the file is not open for reading bytes.
    """
    if isinstance(image, Mapping):
        content = image.get("bytes") if image.get("bytes") is not None else image.get("path")
        if not isinstance(content, bytes | bytearray | str | os.PathLike):
            raise InvalidInputError(
                'Expected "bytes" or "path" in the mapping of an image; found '
                f"{', '.join(map(repr, image)) or 'nothing'}."
            )
        return unwrap(content)
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image) or not hasattr(image, "read"):
        return image
    return _read_open_file(cast(BinaryIO, image))


def _read_open_file(file: BinaryIO) -> bytes:
    try:
        if file.seekable():  # what was just written is at its end
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The open file cannot be read ({error}); open it for reading.") from None
    if not isinstance(content, bytes):
        raise InvalidInputError('The file of an image is open as text; open it with mode "rb".')
    return content


def image_size(image: str | os.PathLike[str] | bytes) -> Size:
    """The (height, width) that `load_image` gives an image, read from its header.

    Args:
        image: A path, or the bytes of an encoded image.

    Returns:
        The size of the upright picture, in pixels.

    Raises:
        InvalidInputError: The file is missing, no image, damaged, or too large to be decoded safely.
    """
    source, name = _source_of(image)
    with _opened(source, name) as opened:
        _check_size(opened, name)
        width, height = opened.size
        if isinstance(
            opened, TiffImagePlugin.TiffImageFile
        ):  # whose `size` is upright in some versions of PIL
            width, height = (opened.tag_v2[tag] for tag in (_TIFF_WIDTH, _TIFF_HEIGHT))
        return (width, height) if _orientation(opened) in _LYING else (height, width)


def resized_size(size: Size, shortest: int, longest: int | None) -> Size:
    """The size of an image whose shortest side becomes `shortest`, or less where `longest` would be exceeded.

    Source: DETR's rule: the shortest side is rounded where `longest` decides, the other is cut to an integer.
    """
    height, width = size
    small, large = min(size), max(size)
    target = shortest
    if longest is not None and large / small * target > longest:
        target = round(longest * small / large)
        if target == 0:  # an image so thin that nothing of it would be left
            return (longest, 1) if width < height else (1, longest)
    if width < height:
        return int(target * height / width), target
    return target, int(target * width / height)


def is_single(images: object) -> bool:
    """Whether something is one image, and not a list, an array (N, H, W, C) or another iterable of them."""
    if isinstance(images, np.ndarray | Tensor):
        return images.ndim != 4
    kinds = str | os.PathLike | bytes | bytearray | Image.Image | Mapping
    return isinstance(images, kinds) or hasattr(images, "read") or not isinstance(images, Iterable)


def as_list(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """One image or several, also as an array (N, H, W, C) or a tensor (N, C, H, W) -> a list."""
    return [cast(ImageInput, images)] if is_single(images) else list(cast(Iterable[ImageInput], images))


def _source_of(image: str | os.PathLike[str] | bytes) -> tuple[Path | io.BytesIO, str]:
    """What PIL opens, and its name in errors."""
    if isinstance(image, bytes):
        return io.BytesIO(image), f"the encoded image of {len(image)} bytes"
    if is_data_address(image):
        return io.BytesIO(_decode_data_address(str(image))), "the image in the data: address"
    if is_address(image):
        return io.BytesIO(read_address(str(image))), str(image)
    path = Path(image)
    try:
        is_there = path.exists()
        if not is_there and str(path).startswith("~"):
            path = path.expanduser()
            is_there = path.exists()
    except (OSError, ValueError, RuntimeError):  # such as a name that is too long, or an unknown user's home
        is_there = False
    if not is_there:
        raise InvalidInputError(f"There is no image at {path}; check the path.")
    if path.is_dir():
        raise InvalidInputError(f"Expected an image file, found the folder {path}; name a file in it.")
    return path, str(path)


def _decode_data_address(address: str) -> bytes:
    header, comma, data = address.partition(",")
    if not comma:
        raise InvalidInputError(
            "The data: address has no comma before its data; expected data:image/png;base64,..."
        )
    content = unquote_to_bytes(data)
    if not header.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except ValueError:
        raise InvalidInputError("The data: address is cut off, or is not base64; copy all of it.") from None


def _open_and_decode(image: str | os.PathLike[str] | bytes) -> Tensor:
    source, name = _source_of(image)
    with _opened(source, name) as opened:
        return _decode(opened, name)


@contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """An image of which only the header is read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", Image.DecompressionBombWarning
            )  # `_check_size` refuses them itself
            warnings.simplefilter("ignore", UserWarning)  # of odd EXIF data
            opened = Image.open(source)
        with opened:
            yield opened
    except UnidentifiedImageError:
        raise InvalidInputError(
            f"{name} is not an image in a known format; give a PNG, JPEG or another image file."
        ) from None
    except Image.DecompressionBombError:
        raise InvalidInputError(_too_large(name)) from None
    except InvalidInputError:
        raise
    except _DAMAGED_FILE_ERRORS as error:
        raise InvalidInputError(f"{name} cannot be read as an image ({error}); it may be damaged.") from None


def _decode(image: Image.Image, name: str) -> Tensor:
    _check_size(image, name)
    try:
        image.load()  # before its EXIF data are asked for: some formats turn the picture themselves
        turn = _TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        rgb = _to_8_bit(upright).convert("RGB")
    except _DAMAGED_FILE_ERRORS as error:
        raise InvalidInputError(
            f"{name} is damaged or cut off ({error}); get the whole file again."
        ) from None
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def _check_size(image: Image.Image, name: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise InvalidInputError(_too_large(name, image.width, image.height))
    if image.width == 0 or image.height == 0:
        raise InvalidInputError(
            f"{name} has no pixels ({image.width} x {image.height}); give an image that has some."
        )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation from 1 to 8; 1, upright, where there is none or it cannot be read."""
    decodes_all = image.format == "PNG" and not _has_late_exif(image)  # if its own `getexif` is called
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of odd tags
            exif = Image.Image.getexif(image) if decodes_all else image.getexif()
            value = exif.get(ExifTags.Base.Orientation)
    except _DAMAGED_FILE_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _TURNS else 1


def _has_late_exif(image: Image.Image) -> bool:
    """Whether a PNG file has chunks that may hold EXIF data behind its pixels, where PIL has not read yet."""
    file = getattr(image, "fp", None)
    if file is None or "exif" in image.info:
        return False
    start = file.tell()
    try:
        file.seek(8)
        is_late = False
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            is_late = is_late or kind == b"IDAT"
            if is_late and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
                return True
            file.seek(length + 4, os.SEEK_CUR)
        return False
    finally:
        file.seek(start)


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Scale gray images of more than 8 bits, whose values PIL's own conversion would clip at 255.

    Of 16 bits the high byte is kept.
    """
    if image.mode == "F":
        return Image.fromarray(_scaled(np.asarray(image)))
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        return Image.fromarray(_scaled(values.astype(np.float64)))
    return Image.fromarray((values >> 8 if image.mode != "I" or high > 255 else values).astype(np.uint8))


def _scaled(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Values (H, W) of any range -> uint8, as `load_image` says."""
    finite = np.isfinite(values)
    values = np.where(finite, values, 0).astype(np.float64)
    known = values[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if low >= 0 and high <= 1:
        values = values * 255
    elif not (low >= 0 and high <= 255 and bool((known == known.round()).all())):
        values = (values - low) / max(high - low, np.finfo(np.float64).tiny) * 255
    return np.where(finite, values.clip(0, 255).round(), 0).astype(np.uint8)


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    """An array (H, W, 3), (H, W, 4), (H, W, 1) or (H, W) -> (3, H, W) uint8."""
    channels_last = array[..., None] if array.ndim == 2 else array
    if channels_last.ndim != 3 or channels_last.shape[2] not in (1, 3, 4) or 0 in channels_last.shape:
        raise InvalidInputError(
            f"Expected an image array of shape (H, W, 3), (H, W, 4) or (H, W), found {array.shape}."
        )
    _check_values(str(array.dtype), array.dtype == np.uint8, np.issubdtype(array.dtype, np.floating))
    copied = np.ascontiguousarray(channels_last.transpose(2, 0, 1))
    if array.dtype != np.uint8:
        copied = copied.astype(np.float32)
    return _to_rgb(torch.from_numpy(copied))


def _from_tensor(tensor: Tensor) -> Tensor:
    """A tensor (3, H, W), (4, H, W), (1, H, W) or (H, W) -> (3, H, W) uint8."""
    channels_first = tensor[None] if tensor.ndim == 2 else tensor
    if channels_first.ndim != 3 or channels_first.shape[0] not in (1, 3, 4) or tensor.numel() == 0:
        raise InvalidInputError(
            f"Expected an image tensor of shape (3, H, W), (4, H, W) or (H, W), found {tuple(tensor.shape)}."
        )
    _check_values(str(tensor.dtype), tensor.dtype == torch.uint8, tensor.is_floating_point())
    return _to_rgb(channels_first.detach().cpu())


def _check_values(dtype: str, is_uint8: bool, is_float: bool) -> None:
    if not is_uint8 and not is_float:
        raise InvalidInputError(
            f"Expected image values as uint8 from 0 to 255 or floats from 0 to 1, found {dtype}; convert "
            "them first."
        )


def _to_rgb(pixels: Tensor) -> Tensor:
    """(1, 3 or 4, H, W) uint8, or floats from 0 to 1 -> (3, H, W) uint8."""
    if pixels.is_floating_point():
        pixels = pixels.float()
        if not bool(pixels.isfinite().all()):
            raise InvalidInputError("The image holds NaN or infinite values; give floats from 0 to 1.")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise InvalidInputError(
                f"Expected image values as uint8 from 0 to 255 or floats from 0 to 1, found floats from "
                f"{low:g} to {high:g}; scale them first."
            )
        pixels = (pixels * 255).round().to(torch.uint8)
    return pixels.expand(3, -1, -1) if len(pixels) == 1 else pixels[:3]


def _too_large(name: str, width: int | None = None, height: int | None = None) -> str:
    size = "" if width is None else f" ({width} x {height} pixels)"
    return (
        f"{name} is too large to be decoded safely{size}: at most {Image.MAX_IMAGE_PIXELS:,} pixels are "
        "accepted; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )
