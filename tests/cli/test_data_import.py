"""Tests of `mdetr data import`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from mdetr.cli.data_import import import_data
from mdetr.data.record import Record
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError, InvalidRecordError
from tests.cli.conftest import Command

APP = typer.Typer()
APP.command()(import_data)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """One image with two captions, of which the second has a span outside its text."""
    root = tmp_path / "shapes"
    for folder in ("images/train", "scenes", "captions"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "images" / "train" / "0.png")
    scene = {"image_index": 0, "image_filename": "0.png", "objects": [{"bbox": [1, 2, 10, 20]}]}
    (root / "scenes" / "CLEVR_train_scenes.json").write_text(json.dumps({"scenes": [scene]}))
    common = {"image_index": 0, "image_filename": "0.png"}
    captions = [
        {**common, "text": "a cube", "phrases": [{"spans": [[0, 6]], "objects": [0]}]},
        {**common, "text": "a cube", "phrases": [{"spans": [[0, 7]], "objects": [0]}]},
    ]
    (root / "captions" / "CLEVR_train_captions.json").write_text(json.dumps({"captions": captions}))
    return root


def test_bad_entries_are_left_out_and_listed_when_asked(shapes: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    result = CliRunner().invoke(APP, ["clevr", str(shapes), str(store), "--skip-bad"], catch_exceptions=False)
    assert result.exit_code == 0
    assert "Wrote 1 record" in result.output
    assert "Skipped 1 invalid entry:" in result.output
    assert "CLEVR_train_captions.json, entry 1" in result.output
    assert [record.text for record in Store.open(store)] == ["a cube"]


def test_a_bad_entry_stops_the_import_otherwise(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRecordError, match=r"CLEVR_train_captions\.json, entry 1: .* span \(0, 7\)"):
        import_data("clevr", shapes, tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_an_unknown_source_names_the_known_ones(shapes: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="Unknown data set 'klevr'; choose one of: clevr"):
        import_data("klevr", shapes, tmp_path / "store")


def test_help_has_an_example() -> None:
    assert "mdetr data import refcoco" in CliRunner().invoke(APP, ["--help"]).output


def test_own_data_are_imported_counted_and_viewed(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(pictures / "a.png")
    line = {"image": "pictures/a.png", "text": "a cat", "boxes": [[1, 2, 30, 20]], "phrases": ["cat"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    store = tmp_path / "store"
    code, output, error = command("data", "import", "jsonl", tmp_path / "mine.jsonl", store)
    assert (code, output, error) == (0, f"Wrote 1 record to {store}.\n", "")
    code, output, error = command("data", "combine", store, "--output", tmp_path / "both", "--processes", 1)
    assert (code, error) == (0, "")
    assert output.startswith("Wrote 1 record")
    code, output, _ = command("data", "stats", store, "--json", tmp_path / "stats.json")
    assert code == 0
    assert json.loads((tmp_path / "stats.json").read_text())["boxes"] == 1
    code, output, _ = command("data", "view", store, "--output", tmp_path / "sheet.png")
    assert code == 0
    assert Image.open(tmp_path / "sheet.png").width == 480
    code, _, error = command("data", "view", store, "--output", tmp_path / "none" / "sheet.png")
    assert code == 1
    assert "create it first" in error


def test_the_statistics_spell_types_of_answers_out(command: Command, tmp_path: Path) -> None:
    question = Record("mine", "val", "1", "a.png", "1", 9, 9, "how many?", answer="2", answer_type="reg")
    write_store(tmp_path / "store", [question], tmp_path)
    code, output, _ = command("data", "stats", tmp_path / "store", "--json", tmp_path / "stats.json")
    assert code == 0
    assert re.search("answers of the type number +│ 1 ", output)
    assert json.loads((tmp_path / "stats.json").read_text())["answer_types"] == {"reg": 1}


def _save_image(path: Path, width: int, height: int, orientation: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (width, height)).save(path, exif=exif)


def _only_record(store: Path) -> tuple[int, int]:
    """The width and height in a store of one record, whose image can be read."""
    opened = Store.open(store)
    (record,) = opened
    opened.load_image(record)  # refuses another size
    return record.width, record.height


def test_images_are_taken_from_the_folder_that_is_named_though_others_lie_beside_the_data(
    command: Command, tmp_path: Path
) -> None:
    data, pictures = tmp_path / "data", tmp_path / "pictures"
    _save_image(pictures / "a.png", 40, 30)
    _save_image(data / "a.png", 50, 50)
    (data / "mine.jsonl").write_text(json.dumps({"image": "a.png", "text": "a cat"}))
    arguments = ("data", "import", "jsonl", data / "mine.jsonl")
    assert command(*arguments, tmp_path / "beside")[0] == 0
    assert command(*arguments, tmp_path / "elsewhere", "--images", pictures)[0] == 0
    assert _only_record(tmp_path / "beside") == (50, 50)
    assert _only_record(tmp_path / "elsewhere") == (40, 30)


@pytest.mark.parametrize("place", ["", "images"])
def test_gqa_without_scene_graphs_takes_images_from_the_folder_that_is_named(
    command: Command, tmp_path: Path, place: str
) -> None:
    _save_image(tmp_path / "pictures" / place / "1.jpg", 40, 30)
    (tmp_path / "gqa").mkdir()
    question = {"imageId": "1", "question": "What is red?", "answer": "cube"}
    (tmp_path / "gqa" / "testdev_questions.json").write_text(json.dumps({"7": question}))
    arguments = ("data", "import", "gqa", tmp_path / "gqa", tmp_path / "store", "--split", "testdev")
    assert command(*arguments, "--images", tmp_path / "pictures")[0] == 0
    assert _only_record(tmp_path / "store") == (40, 30)


def test_clevr_takes_images_from_the_folder_that_is_named(
    command: Command, shapes: Path, tmp_path: Path
) -> None:
    (shapes / "images").rename(tmp_path / "images")
    arguments = ("data", "import", "clevr", shapes, tmp_path / "store", "--skip-bad", "--images", tmp_path)
    assert command(*arguments)[0] == 0
    assert _only_record(tmp_path / "store") == (30, 20)


@pytest.mark.parametrize("embedding", [(), ("--embed-images",)])
def test_a_photo_with_an_exif_turn_has_its_upright_size(
    command: Command, tmp_path: Path, embedding: tuple[str, ...]
) -> None:
    _save_image(tmp_path / "photo.jpg", 240, 160, orientation=6)
    line = {"image": "photo.jpg", "text": "a cat", "boxes": [[10, 100, 150, 230]], "phrases": ["cat"]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(line))
    arguments = ("data", "import", "jsonl", tmp_path / "mine.jsonl", tmp_path / "store", *embedding)
    assert command(*arguments)[0] == 0
    assert _only_record(tmp_path / "store") == (160, 240)


def _coco_file(folder: Path, file_name: str) -> Path:
    content = {
        "images": [{"id": 1, "file_name": file_name, "width": 40, "height": 30}],
        "categories": [{"id": 7, "name": "cube"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 8, 9], "area": 72}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


@pytest.mark.parametrize("source", ["coco", "jsonl"])
def test_backslashes_separate_folders(command: Command, tmp_path: Path, source: str) -> None:
    _save_image(tmp_path / "imgs" / "a.png", 40, 30)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": "imgs\\a.png", "text": "a cat"}))
    file = _coco_file(tmp_path, "imgs\\a.png") if source == "coco" else tmp_path / "mine.jsonl"
    code, _, error = command("data", "import", source, file, tmp_path / "store")
    assert (code, error) == (0, "")
    assert _only_record(tmp_path / "store") == (40, 30)


@pytest.mark.parametrize("source", ["coco", "jsonl"])
@pytest.mark.parametrize(
    ("named", "stored"),
    [
        ("C:\\data\\imgs\\a.png", "imgs/a.png"),
        ("\\\\server\\share\\a.png", "a.png"),
        ("/home/me/imgs/a.png", "imgs/a.png"),
        ("imgs/W\u00fcrfel.png", "imgs/Wu\u0308rfel.png"),
        ("imgs/Wu\u0308rfel.png", "imgs/W\u00fcrfel.png"),
    ],
)
def test_images_are_found_as_other_machines_name_them(
    command: Command, tmp_path: Path, source: str, named: str, stored: str
) -> None:
    _save_image(tmp_path / stored, 40, 30)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": named, "text": "a cat"}))
    file = _coco_file(tmp_path, named) if source == "coco" else tmp_path / "mine.jsonl"
    code, _, error = command("data", "import", source, file, tmp_path / "store")
    assert (code, error) == (0, "")
    assert Store.open(tmp_path / "store")[0].image == stored
    assert _only_record(tmp_path / "store") == (40, 30)


def test_a_path_inside_the_folder_is_never_shortened(command: Command, tmp_path: Path) -> None:
    _save_image(tmp_path / "a.png", 40, 30)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": "other/a.png", "text": "a cat"}))
    code, _, error = command("data", "import", "jsonl", tmp_path / "mine.jsonl", tmp_path / "store")
    assert code == 1
    assert "other/a.png is missing" in error


def test_an_import_says_whose_images_have_another_size_than_the_data_say(
    command: Command, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn, which whoever drew the boxes did not see
    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg", exif=exif)
    code, output, error = command("data", "import", "coco", _coco_file(tmp_path, "a.jpg"), tmp_path / "store")
    assert (code, output) == (0, f"Wrote 1 record to {tmp_path / 'store'}.\n")
    assert error.startswith(
        "1 image differs in size from the annotations, such as a.jpg (30 x 40 pixels instead of 40 x 30)"
    )


def test_records_that_cannot_be_drawn_are_listed_and_the_others_drawn(
    command: Command, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        _save_image(tmp_path / name, 40, 30)
    lines = [json.dumps({"image": name, "text": "a cat"}) for name in ("a.png", "b.png")]
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    command("data", "import", "jsonl", tmp_path / "mine.jsonl", tmp_path / "store")
    _save_image(tmp_path / "b.png", 50, 50)
    sheet = tmp_path / "sheet.png"
    code, output, error = command("data", "view", tmp_path / "store", "--output", sheet)
    assert (code, output) == (1, f"1 of 2 records are in {sheet}.\n")
    assert error.startswith("mdetr: 1 record could not be drawn:\n  Record '2' of the store ")
    assert "has 40 x 30 pixels, but it has 50 x 50" in error
    (tmp_path / "a.png").unlink()
    code, _, error = command("data", "view", tmp_path / "store", "--output", sheet)
    assert (code, error.count("\n")) == (1, 1)
    assert error.startswith("mdetr: None of the chosen records can be drawn: There is no image at ")


@pytest.mark.skipif("os.name == 'nt'")
def test_a_backslash_in_the_name_of_a_file_stays(command: Command, tmp_path: Path) -> None:
    _save_image(tmp_path / "imgs\\a.png", 40, 30)
    _save_image(tmp_path / "imgs" / "a.png", 50, 50)
    (tmp_path / "mine.jsonl").write_text(json.dumps({"image": "imgs\\a.png", "text": "a cat"}))
    assert command("data", "import", "jsonl", tmp_path / "mine.jsonl", tmp_path / "store")[0] == 0
    assert _only_record(tmp_path / "store") == (40, 30)


def test_an_import_says_which_images_cannot_be_found(command: Command, tmp_path: Path) -> None:
    code, output, error = command("data", "import", "coco", _coco_file(tmp_path, "a.png"), tmp_path / "store")
    assert code == 0
    assert "Wrote 1 record" in output
    assert f"1 image is not in {tmp_path}, such as a.png" in " ".join(error.split())


def test_what_is_left_out_on_purpose_is_counted(command: Command, tmp_path: Path) -> None:
    file = _coco_file(tmp_path, "a.png")
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    content["annotations"] += [first | {"iscrowd": 1}, first | {"bbox": [1, 2, 0, 9]}]
    file.write_text(json.dumps(content))
    code, output, error = command("data", "import", "coco", file, tmp_path / "store")
    assert (code, output.split(" to ")[0]) == (0, "Wrote 1 record")
    told = "Left out on purpose: 1 boxes of crowds, 1 boxes without area in their image."
    assert told in error


@pytest.mark.parametrize(
    ("changes", "options", "told"),
    [
        ({"iscrowd": 1}, (), "Left out on purpose: 1 boxes of crowds."),
        ({"bbox": None}, ("--skip-bad",), "image 0: annotation 1: its box must be a list, got null."),
    ],
)
def test_an_import_of_which_nothing_is_left_fails_and_says_why(
    command: Command, tmp_path: Path, changes: dict[str, Any], options: tuple[str, ...], told: str
) -> None:
    file = _coco_file(tmp_path, "a.png")
    content = json.loads(file.read_text())
    content["annotations"][0] |= changes
    file.write_text(json.dumps(content))
    code, output, error = command("data", "import", "coco", file, tmp_path / "store", *options)
    assert (code, output) == (1, "")
    assert told in error
    assert re.search(r"No usable record in \S+, so no store was written", error)
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]


def test_images_may_be_elsewhere(command: Command, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(images / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 40, "height": 30, "caption": "a cat"}],
        "annotations": [{"image_id": 1, "bbox": [1, 2, 8, 9], "tokens_positive": [[0, 5]]}],
    }
    (tmp_path / "final_gqa_val.json").write_text(json.dumps(content))
    arguments = ("data", "import", "official", tmp_path, tmp_path / "store", "--split", "final_gqa_val")
    code, _, _ = command(*arguments, "--images", images)
    assert code == 0
    store = Store.open(tmp_path / "store")
    assert store.load_image(store[0]).shape == (3, 30, 40)
    code, _, error = command(*arguments, "--images", tmp_path / "none", "--overwrite")
    assert code == 1
    assert "There is no folder" in error
    code, _, error = command("data", "import", "jsonl", tmp_path / "none", tmp_path / "other")
    assert code == 1
    assert "There is no file or folder" in error


VOC = """<annotation><filename>a.png</filename><object><name>cat</name><bndbox><xmin>2</xmin><ymin>3</ymin>
<xmax>30</xmax><ymax>20</ymax></bndbox></object></annotation>"""
CAPTION = {"annotations": [{"id": 1, "image_id": 1, "caption": "a cube"}]}


@pytest.mark.parametrize(
    ("source", "files", "text"),
    [
        ("yolo", {"data.yaml": "names: [cat]", "labels/train/a.txt": "0 0.4 0.4 0.7 0.6"}, "cat"),
        ("voc", {"Annotations/a.xml": VOC}, "cat"),
        ("csv", {"train.csv": "image,text,x,y,w,h\nimages/train/a.png,a cat,1,2,29,18\n"}, "a cat"),
        ("coco-captions", {"annotations/captions_train.json": json.dumps(CAPTION)}, "a cube"),
    ],
)
def test_the_layouts_of_other_tools_are_imported(
    command: Command, tmp_path: Path, source: str, files: dict[str, str], text: str
) -> None:
    for place in ("images/train", "JPEGImages", "train"):
        _save_image(tmp_path / place / "a.png", 40, 30)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    _coco_file(tmp_path, "a.png").rename(tmp_path / "annotations.json")
    if source == "coco-captions":
        (tmp_path / "annotations.json").rename(tmp_path / "annotations" / "instances_train.json")
    code, output, error = command("data", "import", source, tmp_path, tmp_path / "store")
    assert (code, output.split(" to ")[0]) == (0, "Wrote 1 record"), error
    assert _only_record(tmp_path / "store") == (40, 30)
    assert [record.text for record in Store.open(tmp_path / "store")] == [text]
