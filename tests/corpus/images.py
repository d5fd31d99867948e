"""Odd images, given to the image processor and to the model."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageCms

from mdetr import MdetrImageProcessor
from tests.corpus.cases import Case, Refused, model, refused

W, H = 64, 48
_COLORS = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "dark": (85, 85, 85),
    "light": (170, 170, 170),
}
COLORS = "red green blue white"
GRAYS = "black dark light white"
BLACK_WHITE = "black white white black"
RIGHT = f"{W}x{H} {COLORS}"


def quarters(colors: str = COLORS, width: int = W, height: int = H) -> Image.Image:
    """An image whose quarters have four colors: top left, top right, bottom left, bottom right."""
    image = Image.new("RGB", (width, height))
    for index, color in enumerate(colors.split()):
        place = (index % 2 * width // 2, index // 2 * height // 2)
        image.paste(_COLORS[color], (*place, place[0] + width // 2, place[1] + height // 2))
    return image


def seen(image: Any) -> str:
    """What the image processor makes of an image: its size, and the colors of its quarters."""
    processor = MdetrImageProcessor(do_resize=False)
    pixels = processor(image)["pixel_values"][0]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (processor.image_mean, processor.image_std))
    pixels = (pixels * std + mean) * 255
    height, width = pixels.shape[-2:]
    names = []
    for y in (height // 4, height * 3 // 4):
        for x in (width // 4, width * 3 // 4):
            color = np.array(pixels[:, y, x])
            names.append(min(_COLORS, key=lambda name: float(np.abs(color - _COLORS[name]).sum())))
    return f"{width}x{height} {' '.join(names)}"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """An image in a file format, as bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def written(folder: Path, name: str, content: bytes) -> Path:
    """A file in a folder."""
    file = folder / name
    file.write_bytes(content)
    return file


def of_image(make: Callable[[], Any]) -> Callable[[Path], str]:
    return lambda folder: seen(make())


def _of_file(make: Callable[[], bytes], name: str = "image.png") -> Callable[[Path], str]:
    return lambda folder: seen(written(folder, name, make()))


# Every mode of PIL, as an image in memory
def _in_mode(mode: str) -> Image.Image:
    if mode == "1":
        return quarters(BLACK_WHITE).convert("1")
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        return ImageCms.profileToProfile(quarters(), *profiles, outputMode="LAB")
    if mode.startswith("I;16"):
        values = np.array(quarters(GRAYS).convert("L")).astype(np.uint16) * 257
        order = ">" if mode.endswith("B") else "<"
        return Image.frombytes(mode, (W, H), values.astype(f"{order}u2").tobytes())
    if mode in ("L", "I", "F", "LA"):
        return quarters(GRAYS).convert(mode)
    if mode == "La":
        return quarters(GRAYS).convert("LA").convert("La")
    if mode == "PA":
        image = quarters().convert("P", palette=Image.Palette.ADAPTIVE)
        return image.convert("PA")
    if mode == "RGBa":
        return quarters().convert("RGBA").convert("RGBa")
    return quarters().convert(mode)


_GRAY_MODES = ("L", "I", "F", "LA", "La", "I;16", "I;16L", "I;16B", "I;16N")
_MODES = ("1", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", *_GRAY_MODES)


def _rightof_image(mode: str) -> str:
    colors = BLACK_WHITE if mode == "1" else GRAYS if mode in _GRAY_MODES else COLORS
    return f"{W}x{H} {colors}"


CASES = [Case(f"mode {mode}", of_image(partial(_in_mode, mode)), _rightof_image(mode)) for mode in _MODES]

# Every file format that PIL writes
for kind in ("AVIF", "BMP", "DDS", "DIB", "GIF", "IM", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM"):
    CASES.append(Case(f"format {kind}", _of_file(lambda kind=kind: encoded(quarters(), kind)), RIGHT))
for kind in ("QOI", "SGI", "TGA", "TIFF", "WEBP"):
    CASES.append(Case(f"format {kind}", _of_file(lambda kind=kind: encoded(quarters(), kind)), RIGHT))
for kind in ("MSP", "XBM"):
    image = quarters(BLACK_WHITE).convert("1")
    right = f"{W}x{H} {BLACK_WHITE}"
    CASES.append(Case(f"format {kind}", _of_file(lambda kind=kind, i=image: encoded(i, kind)), right))
for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "zstd"):
    make = partial(encoded, quarters(), "TIFF", compression=compression)
    CASES.append(Case(f"TIFF compressed by {compression}", _of_file(make, "image.tif"), RIGHT))
CASES += [
    Case("format ICO", _of_file(lambda: encoded(quarters(width=64, height=64), "ICO")), f"64x64 {COLORS}"),
    Case(
        "format ICNS",
        _of_file(lambda: encoded(quarters(width=128, height=128), "ICNS")),
        f"1024x1024 {COLORS}",
    ),
    Case(
        "format SPIDER of floats",
        _of_file(lambda: encoded(quarters(GRAYS).convert("F"), "SPIDER")),
        f"{W}x{H} {GRAYS}",
    ),
    Case(
        "fax TIFF",
        _of_file(lambda: encoded(quarters(BLACK_WHITE).convert("1"), "TIFF", compression="group4")),
        f"{W}x{H} {BLACK_WHITE}",
    ),
    Case("format BLP with a palette", _of_file(lambda: encoded(quarters().quantize(4), "BLP")), RIGHT),
    Case("CMYK JPEG", _of_file(lambda: encoded(_in_mode("CMYK"), "JPEG", quality=95)), RIGHT),
    Case("CMYK TIFF", _of_file(lambda: encoded(_in_mode("CMYK"), "TIFF")), RIGHT),
    Case("LAB TIFF", _of_file(lambda: encoded(_in_mode("LAB"), "TIFF")), RIGHT),
    Case("16 bit PNG", _of_file(lambda: encoded(_in_mode("I;16"), "PNG")), f"{W}x{H} {GRAYS}"),
    Case("16 bit TIFF", _of_file(lambda: encoded(_in_mode("I;16"), "TIFF")), f"{W}x{H} {GRAYS}"),
    Case("16 bit PGM", _of_file(lambda: encoded(_in_mode("I;16"), "PPM")), f"{W}x{H} {GRAYS}"),
    Case("32 bit TIFF", _of_file(lambda: encoded(_in_mode("I"), "TIFF")), f"{W}x{H} {GRAYS}"),
    Case("progressive JPEG", _of_file(lambda: encoded(quarters(), "JPEG", progressive=True)), RIGHT),
    Case("gray JPEG", _of_file(lambda: encoded(_in_mode("L"), "JPEG")), f"{W}x{H} {GRAYS}"),
    Case(
        "palette with one transparent color",
        _of_file(lambda: encoded(quarters().quantize(4), "PNG", transparency=0)),
        RIGHT,
    ),
    Case(
        "palette with alpha for each color",
        _of_file(lambda: encoded(quarters().quantize(4), "PNG", transparency=bytes((0, 9, 128, 255)))),
        RIGHT,
    ),
    Case("transparent RGBA", _of_file(lambda: _transparent("PNG")), RIGHT),
    Case("transparent WEBP", _of_file(lambda: _transparent("WEBP", lossless=True, exact=True)), RIGHT),
]


def _transparent(kind: str, **options: Any) -> bytes:
    image = quarters().convert("RGBA")
    image.putalpha(0)
    return encoded(image, kind, **options)


# EXIF turns: the file holds the pixels turned back, and the upright image has to be seen
_TURNS = {
    1: [],
    2: [Image.Transpose.FLIP_LEFT_RIGHT],
    3: [Image.Transpose.ROTATE_180],
    4: [Image.Transpose.FLIP_TOP_BOTTOM],
    5: [Image.Transpose.TRANSPOSE],
    6: [Image.Transpose.ROTATE_90],
    7: [Image.Transpose.TRANSVERSE],
    8: [Image.Transpose.ROTATE_270],
}


def _turned(turn: int, kind: str) -> bytes:
    image = quarters()
    for step in _TURNS.get(turn, []):
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = turn
    return encoded(image, kind, exif=exif)


for turn in range(1, 9):
    CASES.append(Case(f"EXIF turn {turn}", _of_file(partial(_turned, turn, "JPEG")), RIGHT))
for kind in ("PNG", "WEBP", "TIFF", "AVIF", "MPO"):
    CASES.append(Case(f"EXIF turn 6 in {kind}", _of_file(partial(_turned, 6, kind)), RIGHT))
for turn in (0, 9, 65535):
    CASES.append(
        Case(f"EXIF turn {turn}, which does not exist", _of_file(partial(_turned, turn, "PNG")), RIGHT)
    )
CASES.append(
    Case(
        "EXIF data that are no EXIF data",
        _of_file(lambda: encoded(quarters(), "JPEG", exif=b"Exif\0\0" + b"\xff" * 60)),
        RIGHT,
    )
)

# Truncated files
for kind in ("BMP", "DDS", "GIF", "JPEG2000", "PCX", "PNG", "PPM", "QOI", "SGI", "TGA", "TIFF"):
    make = lambda kind=kind: encoded(noise(), kind)[:-2000]  # noqa: E731
    CASES.append(Case(f"{kind} cut off", _of_file(make), Refused("damaged or cut off")))
CASES += [
    Case("JPEG cut off", _of_file(lambda: encoded(noise(), "JPEG")[:-1000]), Refused("damaged or cut off")),
    Case("WEBP cut off", _of_file(lambda: encoded(noise(), "WEBP")[:-2000]), Refused("")),
    Case("AVIF cut off", _of_file(lambda: encoded(noise(), "AVIF")[:-2000]), Refused("")),
    *refused(
        {
            f"{kind} cut behind its head": _of_file(lambda kind=kind: encoded(noise(), kind)[:30])
            for kind in ("GIF", "JPEG", "PNG", "TIFF", "WEBP", "AVIF", "BMP", "ICO", "PCX")
        },
        "",
    ),
]


def noise() -> Image.Image:
    values = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    return Image.fromarray(values)


# Decompression bombs, which are refused from their heads
def _png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", head), *chunks, (b"IEND", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


def _bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 1000, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


def _tiff(width: int, height: int) -> bytes:
    tags = ((256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 200))
    tags += ((277, 3, 1), (278, 4, height), (279, 4, 100))
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 200


def _zeros(width: int, height: int) -> tuple[bytes, bytes]:
    packer = zlib.compressobj(9)
    row = b"\0" * (width * 3 + 1)
    return b"IDAT", b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


def _text_bomb() -> bytes:
    bomb = b"Comment\0\0" + zlib.compress(b"\0" * 200_000_000, 9)
    return _png(W, H, (b"zTXt", bomb), _zeros(W, H))


def _large_tiff(folder: Path, samples: int, bits: int, sample_format: int) -> Path:
    """A TIFF file of 9,400 x 9,400 pixels, turned by EXIF data; its zeros take no room on the disk."""
    side, behind = 9400, 512
    size = side * side * samples * bits // 8
    bits_tag = (258, 3, samples, 400 if samples == 3 else bits)
    tags = [(256, 4, 1, side), (257, 4, 1, side), bits_tag, (259, 3, 1, 1), (262, 3, 1, 1 + samples // 3)]
    tags += [(273, 4, 1, behind), (274, 3, 1, 6), (277, 3, 1, samples), (278, 4, 1, side), (279, 4, 1, size)]
    tags += [(339, 3, 1, sample_format)]
    content = b"II*\0" + struct.pack("<IH", 8, len(tags))
    content += b"".join(struct.pack("<HHII", *tag) for tag in tags)
    content = content.ljust(400, b"\0") + struct.pack("<3H", bits, bits, bits)
    file = written(folder, "large.tif", content.ljust(behind, b"\0") + b"\0\0\0\x3f")
    os.truncate(file, behind + size)
    return file


CASES += refused(
    {
        "PNG bomb of 60,000 x 60,000": _of_file(lambda: _png(60000, 60000, (b"IDAT", b"x"))),
        "PNG bomb of 2 billion x 1": _of_file(lambda: _png(2**31 - 1, 1, (b"IDAT", b"x"))),
        "PNG bomb of 12,000 x 12,000 with its data": _of_file(
            lambda: _png(12000, 12000, _zeros(12000, 12000))
        ),
        "GIF bomb of 65,535 x 65,535": _of_file(
            lambda: b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + b"\x2c" + b"\0" * 40
        ),
        "BMP bomb of 100,000 x 100,000": _of_file(lambda: _bmp(100_000, 100_000)),
        "TIFF bomb of 100,000 x 100,000": _of_file(lambda: _tiff(100_000, 100_000)),
        "PPM bomb of 100,000 x 100,000": _of_file(lambda: b"P6 100000 100000 255\n" + b"\0" * 99),
    },
    "too large to decode safely",
)
CASES += [
    Case("PNG with a text of 200 MB", _of_file(_text_bomb), Refused("Decompressed data too large")),
    *(
        Case(
            f"as many {kind} pixels as are accepted, turned",
            lambda folder, form=form: _found(_large_tiff(folder, *form)),
            (9400, 9400),
        )
        for kind, form in {"color": (3, 8, 1), "floating-point": (1, 32, 3), "32 bit": (1, 32, 2)}.items()
    ),
]


# Shapes and frames
def _found(image: Any) -> tuple[int, int]:
    """The size of the image that the model looked at, whose boxes are inside."""
    result = model().ground(image, "a red cube", threshold=0)
    width, height = result.picture.width, result.picture.height
    for box in result.detections.boxes_xyxy.tolist():
        assert 0 <= box[0] <= box[2] <= width, box
        assert 0 <= box[1] <= box[3] <= height, box
    return width, height


def _frames(kind: str, count: int, **options: Any) -> bytes:
    images = [quarters(), *(quarters(GRAYS) for _ in range(count - 1))]
    return encoded(images[0], kind, save_all=True, append_images=images[1:], **options)


for width, height in ((1, 1), (30_000, 1), (1, 30_000), (2, 3), (5000, 10), (1, 2)):
    CASES.append(
        Case(
            f"{width} x {height} pixels",
            lambda folder, size=(width, height): _found(Image.new("RGB", size, (200, 30, 30))),
            (width, height),
        )
    )
for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
    CASES.append(Case(f"animated or many-paged {kind}", _of_file(partial(_frames, kind, 3)), RIGHT))
CASES.append(Case("GIF of 2,000 frames", _of_file(partial(_frames, "GIF", 2000)), RIGHT))

# Wrong suffixes, and files that are no images
for suffix, kind in ((".jpg", "PNG"), (".png", "JPEG"), (".txt", "WEBP"), ("", "GIF"), (".JPEG", "BMP")):
    make = partial(encoded, quarters(), kind)
    CASES.append(Case(f"{kind} named image{suffix}", _of_file(make, f"image{suffix}"), RIGHT))
CASES += refused(
    {
        "empty file": _of_file(lambda: b""),
        "text file": _of_file(lambda: b"this is no image\n" * 99),
        "zip file": _of_file(lambda: b"PK\3\4" + b"\0" * 500),
        "zeros": _of_file(lambda: b"\0" * 5000),
        "PDF": _of_file(lambda: encoded(quarters(), "PDF"), "image.jpg"),
        "SVG": _of_file(lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "a.svg"),
        "HTML page saved as image": _of_file(
            lambda: b"<!DOCTYPE html><html><body>404</body></html>", "a.jpg"
        ),
        "Git LFS pointer": _of_file(lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"),
        "resource file of macOS": _of_file(lambda: b"\0\5\x16\7\0\2\0\0Mac OS X" + b"\0" * 90, "._a.png"),
        "no bytes": of_image(lambda: b""),
        "bytes that are no image": of_image(lambda: b"\xff\xd8\xff not really"),
    },
    "",
)
CASES += refused(
    {
        "PostScript named image.png": _of_file(lambda: encoded(quarters(), "EPS")),
        "PostScript as bytes": of_image(lambda: encoded(quarters(), "EPS")),
    },
    "PostScript",
)
