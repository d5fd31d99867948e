"""Loading of images of any kind."""

from __future__ import annotations

import base64
import io
import os
import struct
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from urllib.parse import unquote_to_bytes

import numpy as np
from jaxtyping import Shaped, UInt8
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from mdetr.errors import InvalidInputError
from mdetr.files import is_address, is_data_address
from mdetr.model.tensors import Tensor, is_tensor, to_array
from mdetr.processing.addresses import read_address
from mdetr.processing.bit_depth import strips, to_8_bit
from mdetr.processing.coordinates import Size

ImageInput = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | BinaryIO
    | Image.Image
    | NDArray[Any]
    | Tensor
    | Mapping[str, Any]
)
"""Any image; see `load_image`."""

_CHANNEL_ORDERS = ("rgb", "bgr")

_DAMAGED_FILE_ERRORS = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, AttributeError, AssertionError, RuntimeError),
    *(LookupError, ArithmeticError, struct.error),
)
"""Exceptions that PIL's decoders raise on damaged files."""

_FLIPS = MappingProxyType({1: (), 2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)})
"""EXIF orientation -> dimensions of (H, W, 3) to flip, after H and W are swapped if it is in `_ROTATED`."""

_TIFF_WIDTH, _TIFF_HEIGHT = ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength
_ROTATED = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height


def load_image(image: object, channel_order: str = "rgb") -> UInt8[np.ndarray, "height width 3"]:
    """Read any image as RGB, made upright according to its EXIF data.

    Transparency is dropped, gray is repeated three times, and 16 bits become 8. Floating-point gray values
    (float TIFF) range from 0 (black) to 1 (white) if none is outside; they are used unchanged if all are
    whole numbers from 0 to 255; otherwise they are scaled from their minimum to their maximum. Values that
    are not finite are black. EXIF data that cannot be read are ignored.

    Args:
        image: One of:
            - a path, also with ~ for the home folder;
            - an http(s) address, a data: URL, or an address that fsspec can open;
            - the bytes of an encoded image, or an open binary file;
            - a PIL image of any mode;
            - an array (H, W, 3), (H, W, 4) with transparency, or (H, W) or (H, W, 1) gray; or a tensor
              (3, H, W), (4, H, W), (H, W) or (1, H, W). Values are uint8 0..255 or floats 0..1;
            - a mapping with "bytes" or "path", as in Hugging Face data sets.
        channel_order: Order of the channels of arrays and tensors: "rgb", or "bgr" as in OpenCV.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InvalidInputError: The file does not exist, is not an image, is damaged or is too large to decode
            safely; or the array or tensor has another shape, type or range.
    """
    if channel_order not in _CHANNEL_ORDERS:
        raise InvalidInputError(f'Expected channel_order "rgb" or "bgr", got {channel_order!r}.')
    image = unwrap(image)
    if is_tensor(image) or isinstance(image, np.ndarray):
        pixels = _from_tensor(cast(Tensor, image)) if is_tensor(image) else _from_array(cast(Any, image))
        return np.ascontiguousarray(pixels[..., ::-1] if channel_order == "bgr" else pixels)
    if isinstance(image, Image.Image):
        return _decode(image, "The PIL image")
    if isinstance(image, bytes | str | os.PathLike):
        return _open_and_decode(image)
    raise InvalidInputError(
        f"Expected an image as a path, an address, bytes, a PIL image, an array (H, W, 3) or a tensor "
        f"(3, H, W); got {type(image).__name__}."
    )


def unwrap(image: object) -> Any:
    """Take the bytes or the path out of a mapping, and the bytes out of an open file.

    Args:
        image: Any image.

    Returns:
        The content of a mapping or of an open file; any other image unchanged.

    Raises:
        InvalidInputError: The mapping has neither, or the file is not open for reading bytes.
    """
    if isinstance(image, Mapping):
        content = image.get("bytes") if image.get("bytes") is not None else image.get("path")
        if not isinstance(content, bytes | bytearray | str | os.PathLike):
            raise InvalidInputError(
                'Expected "bytes" or "path" in the mapping of an image, got '
                f"{', '.join(map(repr, image)) or 'nothing'}."
            )
        return unwrap(content)
    if isinstance(image, bytearray | memoryview):
        return bytes(image)
    if isinstance(image, Image.Image) or not hasattr(image, "read"):
        return image
    return _read_open_file(image)


def _read_open_file(file: Any) -> bytes:
    try:
        if file.seekable():  # a file that was just written is at its end
            file.seek(0)
        content = file.read()
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"The open file cannot be read ({error}); open it for reading.") from None
    if not isinstance(content, bytes):
        raise InvalidInputError('The file of an image is open as text; open it with mode "rb".')
    return content


def image_size(image: str | os.PathLike[str] | bytes) -> Size:
    """Read the size of an image from its header.

    Args:
        image: A path, or the bytes of an encoded image.

    Returns:
        (height, width) of the upright image, as `load_image` gives it.

    Raises:
        InvalidInputError: The file does not exist, is not an image, is damaged or is too large to decode
            safely.
    """
    source, name = _source_of(image)
    with _opened(source, name) as opened:
        _check_size(opened, name)
        width, height = opened.size
        # In some versions of PIL the `size` of a TIFF file is that of the upright image already
        if isinstance(opened, TiffImagePlugin.TiffImageFile):
            width, height = (opened.tag_v2[tag] for tag in (_TIFF_WIDTH, _TIFF_HEIGHT))
        return (width, height) if _orientation(opened) in _ROTATED else (height, width)


def is_single(images: object) -> bool:
    """Return whether the argument is one image, and not an iterable or an array (N, H, W, C) of images."""
    if isinstance(images, np.ndarray) or is_tensor(images):
        return cast(Any, images).ndim != 4
    kinds = str | os.PathLike | bytes | bytearray | memoryview | Image.Image | Mapping
    return isinstance(images, kinds) or hasattr(images, "read") or not isinstance(images, Iterable)


def as_list(images: ImageInput | Iterable[ImageInput]) -> list[ImageInput]:
    """Return one or several images, also an array (N, H, W, C) or a tensor (N, C, H, W), as a list."""
    return [cast(ImageInput, images)] if is_single(images) else list(cast(Iterable[ImageInput], images))


def _source_of(image: str | os.PathLike[str] | bytes) -> tuple[Path | io.BytesIO, str]:
    """Find what PIL can open, and its name for messages.

    Args:
        image: A path, an address or bytes.

    Returns:
        A path or a file in memory, and the name.

    Raises:
        InvalidInputError: The image does not exist, or the address cannot be read.
    """
    # Images that are not files
    if isinstance(image, bytes):
        return io.BytesIO(image), f"The encoded image ({len(image):,} bytes)"
    if is_data_address(image):
        return io.BytesIO(decode_data_address(str(image))), "The image in the data: URL"
    if is_address(image):
        return io.BytesIO(read_address(str(image))), str(image)

    # Files; a name that begins with ~ may exist as it is
    path = Path(image)
    try:
        exists = path.exists()
        if not exists and str(path).startswith("~"):
            path = path.expanduser()
            exists = path.exists()
    except (OSError, ValueError, RuntimeError):  # for example a name that is too long, or an unknown user
        exists = False
    if not exists:
        raise InvalidInputError(f"There is no image at {path}; check the path.")
    if path.is_dir():
        raise InvalidInputError(f"Expected an image file, got the folder {path}; choose a file in it.")
    if path.is_fifo() or path.is_socket():  # opening one would wait for another program
        raise InvalidInputError(f"Expected an image file, got the pipe or socket {path}; save it to a file.")
    return path, str(path)


def decode_data_address(address: str) -> bytes:
    """Decode the data of a data: URL.

    Args:
        address: The URL.

    Returns:
        The data.

    Raises:
        InvalidInputError: It is cut off, or its data are not base64 although it says so.
    """
    header, comma, data = address.partition(",")
    if not comma:
        raise InvalidInputError(
            "The data: URL has no comma before its data; expected data:image/png;base64,..."
        )
    content = unquote_to_bytes(data)
    if not header.lower().endswith(";base64"):
        return content
    try:
        return base64.b64decode(content + b"=" * (-len(content) % 4), validate=True)
    except ValueError:
        raise InvalidInputError("The data: URL is cut off, or is not base64; copy all of it.") from None


def _open_and_decode(image: str | os.PathLike[str] | bytes) -> UInt8[np.ndarray, "height width 3"]:
    source, name = _source_of(image)
    with _opened(source, name) as opened:
        return _decode(opened, name)


@contextmanager
def _opened(source: Path | io.BytesIO, name: str) -> Iterator[Image.Image]:
    """Open an image, and read only its header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see `_check_size`
            warnings.simplefilter("ignore", UserWarning)  # about unusual EXIF data
            opened = Image.open(source)
        with opened:
            if opened.format == "EPS":  # a program, which PIL would run with Ghostscript
                raise InvalidInputError(f"{name} is PostScript, which is not read; save it as a PNG file.")
            yield opened
    except UnidentifiedImageError:
        raise InvalidInputError(
            f"{name} is not an image in a known format; use a PNG, JPEG or other image file."
        ) from None
    except Image.DecompressionBombError:
        raise InvalidInputError(_too_large(name)) from None
    except InvalidInputError:
        raise
    except _DAMAGED_FILE_ERRORS as error:
        raise InvalidInputError(f"{name} cannot be read as an image ({error}); it may be damaged.") from None


def _decode(image: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    _check_size(image, name)
    try:
        image.load()  # before reading EXIF data, because some formats transpose the image themselves
        return _upright_pixels(to_8_bit(image), _orientation(image))
    except _DAMAGED_FILE_ERRORS as error:
        raise InvalidInputError(
            f"{name} is damaged or cut off ({error}); download or copy it again."
        ) from None


def _upright_pixels(image: Image.Image, orientation: int) -> UInt8[np.ndarray, "height width 3"]:
    """Convert an image to RGB strip by strip and turn it, because copies of a large image take gigabytes."""
    width, height = image.size
    upright = np.empty((width, height, 3) if orientation in _ROTATED else (height, width, 3), np.uint8)
    as_stored = np.flip(upright, _FLIPS[orientation])
    if orientation in _ROTATED:
        as_stored = as_stored.swapaxes(0, 1)
    for part in strips((height, width)):
        strip = image.crop((0, part.start, width, part.stop))
        as_stored[part] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    return upright


def _check_size(image: Image.Image, name: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise InvalidInputError(_too_large(name, image.width, image.height))
    if image.width == 0 or image.height == 0:
        raise InvalidInputError(f"{name} has no pixels ({image.width} x {image.height}); use another image.")


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation from 1 to 8; 1 (upright) if there is none or it cannot be read."""
    # `getexif` of a PNG file decodes all pixels, which only EXIF data behind them needs
    decodes_all = image.format == "PNG" and not _has_late_exif(image)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about unusual tags
            exif = Image.Image.getexif(image) if decodes_all else image.getexif()
            value = exif.get(ExifTags.Base.Orientation)
    except _DAMAGED_FILE_ERRORS:
        return 1
    return value if isinstance(value, int) and value in _FLIPS else 1


def _has_late_exif(image: Image.Image) -> bool:
    """Return whether a PNG file has chunks behind its pixels that may hold EXIF data."""
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


def _from_array(array: NDArray[Any]) -> UInt8[np.ndarray, "height width 3"]:
    """Convert an array (H, W, 3), (H, W, 4), (H, W, 1) or (H, W)."""
    channels_last = array[..., None] if array.ndim == 2 else array
    if channels_last.ndim != 3 or channels_last.shape[2] not in (1, 3, 4) or 0 in channels_last.shape:
        raise InvalidInputError(
            f"Expected an image array of shape (H, W, 3), (H, W, 4) or (H, W), got {array.shape}."
        )
    return _to_rgb(channels_last)


def _from_tensor(tensor: Tensor) -> UInt8[np.ndarray, "height width 3"]:
    """Convert a tensor (3, H, W), (4, H, W), (1, H, W) or (H, W)."""
    if str(tensor.layout) != "torch.strided" or tensor.is_meta:
        raise InvalidInputError(
            "Expected an image tensor with pixels, got a sparse or meta tensor; use a dense one."
        )
    channels_first = tensor[None] if tensor.ndim == 2 else tensor
    if channels_first.ndim != 3 or channels_first.shape[0] not in (1, 3, 4) or tensor.numel() == 0:
        raise InvalidInputError(
            f"Expected an image tensor of shape (3, H, W), (4, H, W) or (H, W), got {tuple(tensor.shape)}."
        )
    return _to_rgb(to_array(channels_first).transpose(1, 2, 0))


def _to_rgb(pixels: Shaped[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width 3"]:
    """Convert 1, 3 or 4 channels of uint8, or of floats from 0 to 1."""
    is_float = np.issubdtype(pixels.dtype, np.floating)
    if not is_float and pixels.dtype != np.uint8:
        raise InvalidInputError(
            f"Expected image values as uint8 from 0 to 255 or floats from 0 to 1, got {pixels.dtype}; "
            "convert them first."
        )
    if is_float:
        pixels = pixels.astype(np.float32)
        if not np.isfinite(pixels).all():
            raise InvalidInputError("The image has NaN or infinite values; give floats from 0 to 1.")
        low, high = float(pixels.min()), float(pixels.max())
        if low < 0 or high > 1:
            raise InvalidInputError(
                f"Expected image values as uint8 from 0 to 255 or floats from 0 to 1, got floats from "
                f"{low:g} to {high:g}; scale them first."
            )
        pixels = (pixels * 255).round().astype(np.uint8)
    return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels[..., :3]


def _too_large(name: str, width: int | None = None, height: int | None = None) -> str:
    size = "" if width is None else f" ({width} x {height} pixels)"
    return (
        f"{name} is too large to decode safely{size}: at most {Image.MAX_IMAGE_PIXELS:,} pixels are "
        "accepted; make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )
