"""Annotations and stores may name images in their folder only."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from mdetr.cli.main import main
from mdetr.data.image_paths import is_inside
from mdetr.data.record import Record
from mdetr.data.statistics import store_statistics
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError

OUTSIDE = "../secret.png", "images/../../secret.png", "{root}/secret.png", "..\\secret.png"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of images, beside an image that is none of theirs."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (40, 30), "red").save(folder / "images" / "own.png")
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "secret.png")
    return folder


def _write_lines(folder: Path, image: str) -> Path:
    file = folder / "lines.jsonl"
    line = {"image": image, "text": "a dog", "boxes": [[1, 2, 20, 25]], "phrases": ["dog"]}
    file.write_text(json.dumps(line) + "\n")
    return file


def _record(image: str) -> Record:
    return Record("mine", "train", "1", image, "1", 40, 30, "a dog", ((1, 2, 20, 25),), (((2, 5),),))


@pytest.mark.parametrize("embedded", [(), ("--embed-images",)], ids=["named", "embedded"])
@pytest.mark.parametrize("name", OUTSIDE)
def test_an_import_refuses_images_outside_their_folder(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, name: str, embedded: tuple[str, ...]
) -> None:
    lines = _write_lines(folder, name.format(root=tmp_path))
    assert main(["data", "import", "jsonl", str(lines), str(tmp_path / "store"), *embedded]) == 1
    error = capsys.readouterr().err
    assert "is outside the folder" in error or "missing" in error
    assert "secret.png" in error and "--images" in error
    assert not (tmp_path / "store").exists()


def test_a_folder_that_holds_all_images_allows_them(folder: Path, tmp_path: Path) -> None:
    for number, (name, images) in enumerate(
        [(str(tmp_path / "secret.png"), Path("/")), (str(tmp_path / "secret.png"), tmp_path)]
    ):
        lines, store = _write_lines(folder, name), tmp_path / f"store-{number}"
        assert main(["data", "import", "jsonl", str(lines), str(store), "--images", str(images)]) == 0
        opened = Store.open(store)
        assert opened.load_image(opened[0]).shape == (3, 30, 40)


@pytest.mark.parametrize("name", OUTSIDE[:3])
def test_a_store_of_a_stranger_cannot_name_them_either(folder: Path, tmp_path: Path, name: str) -> None:
    store = write_store(tmp_path / "store", [_record(name.format(root=tmp_path))], folder)
    with pytest.raises(InvalidInputError, match=r"secret.png is outside the folder .*--images"):
        store.load_image(store[0])
    assert store_statistics(store).problems["images that are missing"] == 1


def test_a_store_without_a_folder_of_images_names_none(tmp_path: Path, folder: Path) -> None:
    store = write_store(tmp_path / "store", [_record(str(tmp_path / "secret.png"))], None)
    with pytest.raises(InvalidInputError, match="has no folder of images"):
        store.load_image(store[0])


def test_the_files_of_a_store_are_in_it(tmp_path: Path, folder: Path) -> None:
    write_store(tmp_path / "private", [_record("images/own.png")], folder)
    shutil.copytree(tmp_path / "private", tmp_path / "store")
    description = json.loads((tmp_path / "store" / "store.json").read_text())
    description["shards"] = ["../private/data-00000.parquet"]
    (tmp_path / "store" / "store.json").write_text(json.dumps(description))
    with pytest.raises(InvalidInputError, match=r"store.json is damaged \(shards"):
        Store.open(tmp_path / "store")


@pytest.mark.skipif(os.name != "posix", reason="links need a permission elsewhere")
def test_links_in_a_folder_are_followed_and_links_to_it_are_the_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "images" / "linked").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    assert is_inside(folder, "images/linked/secret.png")
    assert is_inside(tmp_path / "link", str(folder / "images" / "own.png"))
    store = write_store(tmp_path / "store", [_record("images/linked/secret.png")], folder)
    assert store.load_image(store[0])[2].min() == 255
