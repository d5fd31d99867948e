from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mdetr.errors import InvalidInputError
from mdetr.labeling.image_list import ImageReference, list_images
from mdetr.processing.images import load_image
from tests.labeling.conftest import SCENES

FILES = sorted(SCENES.glob("*.png"))[:3]
CONTENTS = [file.read_bytes() for file in FILES]


def _read(references: list[ImageReference]) -> list[bytes]:
    """Read the encoded images, wherever they are."""
    contents = []
    for reference in references:
        content = reference.read()
        contents.append(content if isinstance(content, bytes) else content.read_bytes())
    return contents


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with images in subfolders, and other files."""
    folder = tmp_path / "my photos"
    for file, name in zip(FILES, ("b.png", "trip/ä c.png", "trip/2025/a.PNG"), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    for name in (".hidden.png", ".thumbs/x.png", "notes.txt", "trip/table.csv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"")
    os.mkfifo(folder / "pipe.png")
    return folder


def _archive(kind: str, file: Path) -> Path:
    """Pack the images under x/, with a text beside each."""
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            for image in FILES:
                archive.write(image, f"x/{image.name}")
                archive.writestr(f"x/{image.stem}.txt", "a caption")
        return file
    with tarfile.open(file, "w:gz" if kind == "tar.gz" else "w") as tar:
        for image in FILES:
            tar.add(image, f"x/{image.name}")
            tar.add(__file__, f"x/{image.stem}.txt")
    return file


def test_a_folder_is_searched_with_its_subfolders_but_not_hidden_ones(photos: Path) -> None:
    references = list_images([str(photos)])
    assert [reference.name for reference in references] == ["b.png", "trip/2025/a.PNG", "trip/ä c.png"]
    assert _read(references) == [CONTENTS[0], CONTENTS[2], CONTENTS[1]]


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_the_images_of_an_archive_are_read_in_any_order(kind: str, tmp_path: Path) -> None:
    archive = _archive(kind, tmp_path / f"photos.{kind}")
    references = list_images([str(archive)])
    assert [reference.name for reference in references] == [f"x/{file.name}" for file in FILES]
    assert _read(references[::-1]) == CONTENTS[::-1]


def test_a_folder_without_images_may_hold_archives(tmp_path: Path) -> None:
    _archive("tar", tmp_path / "00.tar")
    _archive("zip", tmp_path / "01.zip")
    references = list_images([str(tmp_path)])
    assert len(references) == 6
    assert len({reference.name for reference in references}) == 6
    assert _read(references) == CONTENTS * 2


@pytest.mark.parametrize("column", ["image", "jpg", "url"])
def test_the_images_of_a_parquet_file_are_embedded_or_named(column: str, tmp_path: Path) -> None:
    values = {
        "image": [
            {"bytes": content, "path": file.name} for content, file in zip(CONTENTS, FILES, strict=True)
        ],
        "jpg": CONTENTS,
        "url": [str(file) for file in FILES],
    }
    table = pa.table({"id": [1, 2, 3], column: values[column]})
    pq.write_table(table, tmp_path / "photos.parquet", row_group_size=2)
    references = list_images([str(tmp_path / "photos.parquet")])
    names = [file.name for file in FILES]
    if column == "jpg":
        names = ["photos-000000.jpg", "photos-000001.jpg", "photos-000002.jpg"]
    assert [reference.name for reference in references] == names
    assert _read(references[::-1]) == CONTENTS[::-1]


def test_a_list_has_paths_relative_to_its_folder_and_absolute_ones(photos: Path) -> None:
    (photos / "list.txt").write_text(f"b.png\n\ntrip/ä c.png\n{FILES[2]}\n", encoding="utf-8-sig")
    references = list_images([str(photos / "list.txt")])
    assert [reference.name for reference in references] == ["b.png", "trip/ä c.png", FILES[2].name]
    assert _read(references) == CONTENTS


def test_a_bucket_is_searched_and_its_archives_are_read() -> None:
    bucket = fsspec.filesystem("memory")
    for file in FILES:
        bucket.pipe(f"/bucket/photos/day/{file.name}", file.read_bytes())
    references = list_images(["memory://bucket/photos"])
    assert [reference.name for reference in references] == [f"day/{file.name}" for file in FILES]
    assert _read(references) == CONTENTS
    assert len(list_images(["memory://bucket/photos/day/*0.png"])) == 1
    assert _read(list_images([f"memory://bucket/photos/day/{FILES[1].name}"])) == CONTENTS[1:2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A web server of a folder with an image, an archive and a list."""
    folder = tmp_path / "web"
    folder.mkdir()
    shutil.copy(FILES[0], folder / "a.png")
    _archive("zip", folder / "photos.zip")
    (folder / "list.txt").write_text("a.png\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_images_archives_and_lists_are_read_from_the_web(server: str) -> None:
    assert _read(list_images([f"{server}/a.png", f"{server}/list.txt"])) == CONTENTS[:1] * 2


def test_names_are_unique_without_their_suffix_and_stay_in_their_folder(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "odd.tar", "w") as tar:
        for name in ("a.png", "A.jpg", "../../a.jpeg", "/etc/b.png", "a.png"):
            tar.add(FILES[0], name)
    names = [reference.name for reference in list_images([str(tmp_path / "odd.tar")])]
    assert names == ["a.png", "A-2.jpg", "a-3.jpeg", "etc/b.png", "a-4.png"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.tar", b"\1" * 700, "cut.tar cannot be read"),
        ("cut.zip", b"PK", "cut.zip cannot be read"),
        ("cut.parquet", b"PAR1", "cut.parquet cannot be read"),
        ("cut.tgz", gzip.compress(b"x" * 2000, mtime=0)[:20], "cut.tgz cannot be read"),
        ("list.txt", "ä.png".encode("latin-1"), "is not UTF-8"),
        ("list.txt", b"\n\n", "There is no image in"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError) as error:
        list_images([str(tmp_path / name)])
    assert message in str(error.value)


def test_sources_without_images_are_refused(tmp_path: Path) -> None:
    for source, message in (
        (str(tmp_path), "There is no image in"),
        (str(tmp_path / "none"), "There is no file or folder"),
        ("nothing://bucket/x", "cannot be opened"),
        ("data:image/png;base64,AAAA", "got a data: URL"),
    ):
        with pytest.raises(InvalidInputError) as error:
            list_images([source])
        assert message in str(error.value)
    pq.write_table(pa.table({"id": [1]}), tmp_path / "ids.parquet")
    with pytest.raises(InvalidInputError, match=r"ids\.parquet has no column of images; .* got id\.$"):
        list_images([str(tmp_path / "ids.parquet")])


def test_an_encrypted_or_vanished_member_is_refused(tmp_path: Path) -> None:
    archive = _archive("zip", tmp_path / "photos.zip")
    content = bytearray(archive.read_bytes())
    position = content.index(CONTENTS[1][:64])
    content[position + 20 : position + 40] = bytes(20)
    archive.write_bytes(content)
    references = list_images([str(archive)])
    assert references[0].read() == CONTENTS[0]
    with pytest.raises(InvalidInputError, match=r"photos\.zip cannot be read"):
        references[1].read()


def test_a_source_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    shutil.copy(FILES[0], tmp_path / "a.png")
    assert len(list_images([str(tmp_path), str(tmp_path)])) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such names")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path / "bad") + b"\xff.jpg")).write_bytes(CONTENTS[0])
    with pytest.raises(InvalidInputError, match=r"bad\\udcff\.jpg' is not UTF-8; rename the file"):
        list_images([str(tmp_path)])


def test_a_link_without_its_target_is_listed_and_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere.png")
    (reference,) = list_images([str(tmp_path)])
    with pytest.raises(InvalidInputError, match="There is no image at"):
        load_image(reference.read())


def test_paths_in_a_column_of_encoded_images_are_read(tmp_path: Path) -> None:
    shutil.copy(FILES[0], tmp_path / "a.png")
    values = [
        {"bytes": None, "path": "a.png"},
        {"bytes": None, "path": "nowhere.png"},
        {"bytes": CONTENTS[1], "path": "b.png"},
    ]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(values, kind)}), tmp_path / "images.parquet")
    first, missing, last = list_images([str(tmp_path / "images.parquet")])
    assert (first.read(), last.read()) == (FILES[0].read_bytes(), CONTENTS[1])
    with pytest.raises(InvalidInputError, match=r"The image nowhere\.png of .* cannot be read"):
        missing.read()


def test_paths_are_relative_to_a_file_of_a_bucket_too(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(
        pa.table({"image": pa.array([{"bytes": None, "path": "day/a.png"}], kind)}),
        tmp_path / "images.parquet",
    )
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/images.parquet", (tmp_path / "images.parquet").read_bytes())
    memory.pipe("/bucket/day/a.png", CONTENTS[0])
    (reference,) = list_images(["memory://bucket/images.parquet"])
    assert reference.read() == CONTENTS[0]
