"""Tests of reading any image: what is accepted, and what each bad input is told."""

from __future__ import annotations

import base64
import io
import os
import struct
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
import torch
from PIL import Image

from mdetr.errors import InvalidInputError
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.images import as_list, image_size, load_image
from mdetr.processing.layouts import resized_size

RED_LEFT = np.zeros((40, 60, 3), np.uint8)
RED_LEFT[:, :20, 0] = 255


def test_path_pil_array_tensor_and_bytes_of_one_image_give_the_same_pixels(tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    Image.fromarray(RED_LEFT).save(path)
    tensor = torch.from_numpy(RED_LEFT).permute(2, 0, 1)
    for image in (path, str(path), Image.open(path), RED_LEFT, tensor, path.read_bytes()):
        loaded = load_image(image)
        assert loaded.dtype == np.uint8
        assert np.array_equal(loaded, RED_LEFT)
        assert np.array_equal(load_image(loaded), RED_LEFT)


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_images_of_other_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.tif"
    Image.fromarray(RED_LEFT).convert(mode).save(path)
    assert load_image(path).shape == (40, 60, 3)


def test_sixteen_bit_gray_keeps_its_high_byte_instead_of_being_clipped(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((4, 5), 0x80FF, np.uint16)).save(path)
    assert np.unique(load_image(path)).tolist() == [0x80]


def test_image_is_turned_upright_as_its_exif_data_says(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    image = Image.fromarray(RED_LEFT)
    exif = image.getexif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise: the left side comes to the top
    image.save(path, exif=exif, quality=95)
    loaded = load_image(path)
    assert loaded.shape == (60, 40, 3)
    assert loaded[:15, :, 0].mean() > 200
    assert loaded[30:, :, 0].mean() < 50


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_in_a_header_is_that_of_the_upright_picture(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    path = tmp_path / f"turned.{suffix}"
    image = Image.fromarray(RED_LEFT)  # 60 x 40
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    expected = (40, 60) if orientation < 5 else (60, 40)
    assert image_size(path) == image_size(path.read_bytes()) == expected
    assert load_image(path).shape == (*expected, 3)


def test_exif_data_behind_the_pixels_of_a_png_count_too(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    Image.fromarray(RED_LEFT).save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    content = path.read_bytes()
    path.write_bytes(content[:-12] + chunk + content[-12:])
    assert image_size(path) == (60, 40)
    assert load_image(path).shape == (60, 40, 3)


def _tiff_entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


TURNED = _tiff_entry(0x0112, 3, 1, struct.pack("<H", 6))
ODD_TAGS = {
    "an orientation that is a word": ([_tiff_entry(0x0112, 2, 2, b"6")], False),
    "an orientation of two numbers": ([_tiff_entry(0x0112, 3, 2, struct.pack("<HH", 6, 6))], True),
    "an orientation that is no integer": ([_tiff_entry(0x0112, 11, 1, struct.pack("<f", 6.0))], False),
    "an orientation beyond 8": ([_tiff_entry(0x0112, 3, 1, struct.pack("<H", 60))], False),
    "a width that is a word": ([_tiff_entry(0x0100, 2, 2, b"x"), TURNED], True),
    "a resolution of no length": ([TURNED, _tiff_entry(0x011A, 5, 0, b"")], True),
    "a value outside the file": ([TURNED, _tiff_entry(0x8769, 4, 1, struct.pack("<I", 2**31))], True),
}


@pytest.mark.parametrize("name", ODD_TAGS)
def test_odd_exif_tags_do_not_stop_a_picture_from_being_read(tmp_path: Path, name: str) -> None:
    entries, is_turned = ODD_TAGS[name]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    path = tmp_path / "odd.jpg"
    Image.fromarray(RED_LEFT).save(path, exif=b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory)
    expected = (60, 40) if is_turned else (40, 60)
    assert load_image(path).shape == (*expected, 3)
    assert image_size(path) == expected


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_exif_data_that_are_no_such_data_turn_nothing(tmp_path: Path, exif: bytes) -> None:
    path = tmp_path / "odd.jpg"
    Image.fromarray(RED_LEFT).save(path, exif=exif)
    assert load_image(path).shape == (40, 60, 3)
    assert image_size(path) == (40, 60)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 0.25, 0.5], [0, 64, 128]),
        ([0.0, 60.0, 200.0], [0, 60, 200]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([0.0, 500.0, 2000.0], [0, 64, 255]),
        ([0.0, 0.51, 1.02], [0, 128, 255]),
        ([float("nan"), 0.2, float("inf")], [0, 51, 0]),
        ([7.5, 7.5, 7.5], [0, 0, 0]),
    ],
)
def test_float_gray_is_scaled_by_its_range(tmp_path: Path, values: list[float], expected: list[int]) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.array([values], np.float32)).save(path)
    assert load_image(path)[..., 0].tolist() == [expected]


def test_integers_beyond_16_bits_are_scaled_by_their_range(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[-100_000, 0, 100_000]], np.int32)).save(path)
    assert load_image(path)[..., 0].tolist() == [[0, 128, 255]]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"There is no image at .*nowhere\.png"):
        load_image(tmp_path / "nowhere.png")


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="got the folder"):
        load_image(tmp_path)


def test_text_file_named_png_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.png"
    path.write_text("not a picture")
    with pytest.raises(InvalidInputError, match=r"notes\.png is not an image in a known format"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_cut_off_file_is_refused(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"whole.{suffix}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInputError, match="damaged"):
        load_image(path)


@pytest.mark.parametrize("side", [20_000, 10_000])
def test_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header_of(side))
    with pytest.raises(InvalidInputError, match="too large to decode safely"):
        load_image(path)


def _png_header_of(side: int) -> bytes:
    """A PNG of side x side pixels with almost no pixel data: decoding it would fail in another way."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("image", "told"),
    [
        (np.zeros((3, 40, 60), np.uint8), r"shape \(H, W, 3\).* got \(3, 40, 60\)"),
        (np.zeros((2, 40, 60, 3), np.uint8), r"got \(2, 40, 60, 3\)"),
        (np.zeros((0, 60, 3), np.uint8), r"shape \(H, W, 3\)"),
        (np.zeros((40, 60, 3), np.int64), "got int64; convert"),
        (np.zeros((40, 60, 3), bool), "got bool; convert"),
        (np.full((40, 60, 3), 200.0), "got floats from 200 to 200; scale"),
        (np.array([[-0.5, 0.5]]), "got floats from -0.5 to 0.5"),
        (torch.zeros(40, 60, 3, dtype=torch.uint8), r"shape \(3, H, W\)"),
        (torch.zeros(3, 40, 60, dtype=torch.int32), r"got int32; convert"),
        (torch.full((3, 40, 60), torch.nan), "NaN"),
        (torch.full((3, 4, 6), 1.5), "got floats from 1.5 to 1.5"),
        (42, "got int"),
        (None, "got NoneType"),
        ((image for image in []), "got generator"),
        ({"image": 3}, 'Expected "bytes" or "path" in the mapping of an image, got \'image\''),
        ({"bytes": None, "path": None}, 'Expected "bytes" or "path"'),
        (io.StringIO("text"), 'open it with mode "rb"'),
    ],
)
def test_what_is_no_image_is_refused(image: object, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        load_image(image)  # type: ignore[arg-type]


RED = [255, 102, 0]  # as floats 1, 0.4 and 0


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.full((2, 3, 3), RED, np.uint8), RED),
        (np.full((2, 3, 3), (1, 0.4, 0), np.float32), RED),
        (np.full((2, 3, 3), (1, 0.4, 0), np.float64), RED),
        (np.full((2, 3, 3), (1, 0.4, 0), np.float16), RED),
        (np.full((2, 3, 4), [*RED, 7], np.uint8), RED),
        (np.full((2, 3), 102, np.uint8), [102] * 3),
        (np.full((2, 3, 1), 0.4), [102] * 3),
        (torch.tensor(RED, dtype=torch.uint8).view(3, 1, 1).expand(3, 2, 3), RED),
        (torch.tensor([1, 0.4, 0]).view(3, 1, 1).expand(3, 2, 3).requires_grad_(), RED),
        (torch.tensor([*RED, 7], dtype=torch.uint8).view(4, 1, 1).expand(4, 2, 3), RED),
        (torch.full((2, 3), 0.4, dtype=torch.bfloat16), [102] * 3),
        (Image.new("RGBA", (3, 2), (*RED, 128)), RED),
        (Image.new("I;16", (3, 2), 102 * 256), [102] * 3),
    ],
)
def test_gray_transparent_and_float_images_become_rgb(image: object, expected: list[int]) -> None:
    loaded = load_image(image)  # type: ignore[arg-type]
    assert loaded.shape == (2, 3, 3)
    assert loaded.dtype == np.uint8
    assert loaded[1, 2].tolist() == expected


def test_frames_of_opencv_are_read_in_their_order_and_files_in_their_own(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), tuple(RED)).save(tmp_path / "red.png")
    frame = np.full((2, 3, 3), RED[::-1], np.uint8)
    transparent = np.concatenate([frame, frame[..., :1]], -1)
    for image in (frame, transparent, torch.from_numpy(frame).permute(2, 0, 1), tmp_path / "red.png"):
        assert load_image(image, channel_order="bgr")[1, 2].tolist() == RED
    with pytest.raises(InvalidInputError, match='Expected channel_order "rgb" or "bgr", got \'grb\''):
        load_image(frame, channel_order="grb")


def test_files_bytes_mappings_and_the_home_folder_hold_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "red.png"
    Image.fromarray(RED_LEFT).save(path)
    memory = io.BytesIO()
    Image.fromarray(RED_LEFT).save(memory, "PNG")  # and is at its end now
    monkeypatch.setenv("HOME", str(tmp_path))
    content = path.read_bytes()
    images = [
        "~/red.png",
        Path("~/red.png"),
        memory,
        memory,
        bytearray(content),
        {"bytes": content, "path": "x"},
    ]
    for image in (*images, {"bytes": None, "path": str(path)}):
        assert np.array_equal(load_image(image), RED_LEFT)
    with path.open("rb") as file:
        assert np.array_equal(load_image(file), RED_LEFT)
    with pytest.raises(InvalidInputError, match="The open file cannot be read"):
        load_image(file)  # it is closed
    with pytest.raises(InvalidInputError, match="There is no image at ~no-such-user/red"):
        load_image("~no-such-user/red.png")


def test_arrays_and_tensors_of_several_images_are_lists_of_them() -> None:
    several = np.stack([np.full((2, 3, 3), value, np.uint8) for value in (10, 20)])
    tensors = torch.from_numpy(several).permute(0, 3, 1, 2)
    for images in (several, tensors, list(several)):
        assert [int(load_image(image)[0, 0, 0]) for image in as_list(images)] == [10, 20]
        batch = MdetrImageProcessor(size=None)(images)
        assert batch["pixel_values"].shape == (2, 3, 2, 3)
    assert len(as_list(several[0])) == len(as_list("a.png")) == len(as_list({"path": "a.png"})) == 1


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1066)),  # 640 * 800 / 480 = 1066.7, cut
        ((640, 480), (1066, 800)),
        ((300, 1000), (400, 1333)),  # 1333 * 300 / 1000 = 399.9, rounded; 400 * 1000 / 300 = 1333.3, cut
        ((500, 500), (800, 800)),
        ((1, 1), (800, 800)),
        ((1, 5000), (1, 1333)),
    ],
)
def test_shortest_side_becomes_800_unless_the_longest_would_exceed_1333(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resized_size(size, 800, 1333) == expected


def test_one_pixel_is_an_image() -> None:
    batch = MdetrImageProcessor()(np.full((1, 1, 3), 255, np.uint8))
    assert batch["pixel_values"].shape == (1, 3, 800, 800)


def test_pixels_are_normalized_and_padded_at_the_right_and_bottom() -> None:
    small, tall = np.full((4, 6, 3), 51, np.uint8), np.full((9, 5, 3), 255, np.uint8)
    batch = MdetrImageProcessor(size=None)([small, tall])
    assert batch["pixel_values"].shape == (2, 3, 9, 6)
    assert batch["pixel_values"][0, 0, 3, 5].item() == pytest.approx((0.2 - 0.485) / 0.229)
    assert batch["pixel_values"][1, 2, 8, 4].item() == pytest.approx((1 - 0.406) / 0.225)
    assert batch["pixel_values"][0, :, 4:].abs().sum() == 0
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [4 * 6, 9 * 5]
    assert batch["pixel_mask"][0, :4, :6].all()


def test_padding_can_be_rounded_up_for_stable_shapes() -> None:
    batch = MdetrImageProcessor(size=None, pad_to_multiple=32)(np.zeros((33, 64, 3), np.uint8))
    assert batch["pixel_values"].shape == (1, 3, 64, 64)
    assert batch["pixel_mask"].sum() == 33 * 64


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((1600, 1600, 3), np.uint8)
    stripes[:, ::2] = 255  # one pixel wide: gone at half the size, if averaged
    resized = MdetrImageProcessor().resize(load_image(stripes))
    assert resized.shape == (800, 800, 3)
    assert np.abs(resized[:, 2:-2] - 127.5).max() <= 2


def test_a_data_address_holds_the_image_itself() -> None:
    file = io.BytesIO()
    Image.new("RGB", (3, 2), (10, 20, 30)).save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    for address in (
        f"data:image/png;base64,{encoded}",
        f"DATA:;BASE64,{quote(encoded)}",
        f"data:image/png;base64,{encoded.rstrip('=')}",
        f"data:image/png,{quote(file.getvalue())}",
    ):
        assert load_image(address)[1, 2].tolist() == [10, 20, 30]
        assert image_size(address) == (2, 3)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("data:image/png;base64", "has no comma before its data"),
        ("data:image/png;base64,a", "is cut off, or is not base64"),
        ("data:text/plain,hello", "The image in the data: URL is not an image"),
        ("data:,", "The image in the data: URL is not an image"),
        ("file:///a.png", "file:///a.png cannot be read"),
        ("a" * 5000, "There is no image at a"),
        ("a\0b", "There is no image at a"),
    ],
)
def test_an_address_or_path_that_gives_no_image_is_refused(address: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        load_image(address)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidInputError, match="got the pipe or socket"):
        load_image(tmp_path / "pipe.png")
