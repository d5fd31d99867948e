"""Combination of whole stores: what is joined, moved and left out, and what a killed run leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from mdetr.data.combine import combine_records
from mdetr.data.combine_stores import CombineOptions, combine_stores, excluded_images
from mdetr.data.record import Record
from mdetr.data.shared_images import CocoImage, ImageIndex, read_aliases, read_coco_images
from mdetr.data.store import Store, write_store
from mdetr.errors import InvalidInputError


def _record(
    source: str, image: int, number: int, box: tuple[float, float, float, float] = (10, 10, 30, 30)
) -> Record:
    text = f"thing {number} of {source}"
    return Record(
        source=source,
        split="train",
        id=f"{image}-{number}",
        image=f"{image}.jpg",
        image_id=str(image),
        width=100,
        height=50,
        text=text,
        boxes=(box,),
        spans=(((0, 5),),),
    )


def _store(tmp_path: Path, source: str, images: range, captions: int = 3) -> Store:
    root = tmp_path / "images" / source
    root.mkdir(parents=True, exist_ok=True)
    return write_store(
        tmp_path / "stores" / source,
        (
            _record(source, image, number, (number * 20, 0, number * 20 + 15, 20))
            for number in range(captions)  # the captions of an image do not follow each other
            for image in images
        ),
        root,
    )


def _coco_store(tmp_path: Path) -> Store:
    root = tmp_path / "images" / "refcoco"
    root.mkdir(parents=True)
    own = [_record("refcoco", 77, number, (number * 20, 0, number * 20 + 15, 20)) for number in range(3)]
    name = "COCO_train2014_000000000077.jpg"
    records = [replace(record, image=name, width=200, height=200) for record in own]
    return write_store(tmp_path / "stores" / "refcoco", records, root)


def _members(store: Store) -> set[tuple[str, str]]:
    return {
        (source, identity)
        for record in store
        for source, _, identity in json.loads(record.extra or "")["members"]
    }


def test_captions_of_one_image_come_together_from_all_stores(tmp_path: Path) -> None:
    stores = [_store(tmp_path, "refcoco", range(8)), _store(tmp_path, "refcocog", range(4, 12))]
    made = combine_stores(stores, tmp_path / "combined", CombineOptions())
    assert _members(made) == {(r.source, r.id) for store in stores for r in store}
    by_image: dict[str, list[Record]] = {}
    for record in made:
        by_image.setdefault(record.image_id, []).append(record)
    assert len(by_image) == 12
    for name, records in by_image.items():
        image = name.removeprefix("coco:")
        given = [r for store in stores for r in store if r.image_id == image]
        assert [r.text for r in records] == [r.text for r in combine_records(given)]
    assert (made.image_root or tmp_path).resolve() == tmp_path / "images"
    assert {record.image.split("/")[0] for record in made} == {"refcoco", "refcocog"}
    assert not list(tmp_path.glob(".combined*"))


def test_the_number_of_processes_changes_nothing(tmp_path: Path) -> None:
    store = _store(tmp_path, "refcoco", range(30))
    one = combine_stores([store], tmp_path / "one", CombineOptions())
    two = combine_stores([store], tmp_path / "two", CombineOptions(), processes=2)
    assert list(one) == list(two)


def test_images_of_visual_genome_move_to_coco(tmp_path: Path) -> None:
    stores = [_store(tmp_path, "gqa", range(1, 4)), _coco_store(tmp_path)]
    index = ImageIndex(
        {"2": ("coco:77", "flickr:5"), "3": ("coco:78",)},
        {"77": CocoImage("COCO_train2014_000000000077.jpg", 200, 200)},
        tmp_path / "images" / "refcoco",
    )
    made = combine_stores(stores, tmp_path / "combined", CombineOptions(index=index))
    names = {record.image_id for record in made}
    assert names == {"visual_genome:1", "coco:77", "visual_genome:3"}
    moved = [r for r in made if r.image_id == "coco:77"]
    assert {(r.image, r.width, r.height) for r in moved} == {
        ("refcoco/COCO_train2014_000000000077.jpg", 200, 200)
    }
    boxes = {box for r in moved for box in r.boxes}
    assert {(40, 0, 70, 80), (0, 0, 30, 80)} <= boxes  # twice as wide, four times as high
    assert {(20, 0, 35, 20), (40, 0, 55, 20)} <= boxes  # COCO's own stay


def test_images_of_other_sets_are_left_out_under_every_name(tmp_path: Path) -> None:
    store = _store(tmp_path, "gqa", range(1, 6))
    index = ImageIndex({"2": ("coco:77",), "3": ("flickr:9",)})
    validation = [_store(tmp_path, "refcoco", range(77, 78)), _store(tmp_path, "flickr30k", range(9, 10))]
    excluded = excluded_images(validation, index)
    made = combine_stores([store], tmp_path / "combined", CombineOptions(excluded=excluded, index=index))
    assert {record.image_id for record in made} == {f"visual_genome:{n}" for n in (1, 4, 5)}


def test_the_original_lists_of_images_are_read(tmp_path: Path) -> None:
    file = tmp_path / "image_data.json"
    entries = [
        {"image_id": 1, "coco_id": None, "flickr_id": None},
        {"image_id": 2, "coco_id": 77, "flickr_id": 5},
    ]
    file.write_text(json.dumps(entries))
    assert read_aliases(file) == {"2": ("coco:77", "flickr:5")}
    file.write_text(json.dumps(entries)[:-10])
    with pytest.raises(InvalidInputError, match="cut off"):
        read_aliases(file)
    file.write_text(json.dumps({"images": [{"id": 77, "file_name": "a.jpg", "width": 9, "height": 8}]}))
    assert read_coco_images(file) == {"77": CocoImage("a.jpg", 9, 8)}


def test_a_killed_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    store = _store(tmp_path, "refcoco", range(2500), captions=4)
    expected = combine_stores([store], tmp_path / "expected", CombineOptions())
    output = tmp_path / "combined"
    command = [sys.executable, "-m", "mdetr", "data", "combine", str(store.path), "--output", str(output)]
    work = tmp_path / ".combined-combining"
    running = subprocess.Popen([*command, "--processes", "1"], start_new_session=True)
    deadline = time.monotonic() + 120
    while len(list(work.glob("data-*.parquet"))) < 3:
        assert running.poll() is None and time.monotonic() < deadline, "it ended before it could be killed"
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert not output.exists()
    finished = {file: file.stat().st_mtime_ns for file in work.glob("data-*.parquet")}
    assert 3 <= len(finished) < 64
    (work / "keep").touch()  # shows that the folder is used again, and not made anew
    made_again = subprocess.run([*command, "--processes", "2"], capture_output=True, text=True, check=False)
    assert made_again.returncode == 0, made_again.stderr
    assert "of 10,000 to" in made_again.stdout
    assert list(Store.open(output)) == list(expected)
    assert not work.exists()


def test_the_work_of_other_options_is_not_used(tmp_path: Path) -> None:
    store = _store(tmp_path, "refcoco", range(3))
    work = tmp_path / ".combined-combining"
    work.mkdir()
    (work / "work.json").write_text("{}")
    (work / "data-00000.parquet").write_text("of another run")
    made = combine_stores([store], tmp_path / "combined", CombineOptions(max_length=20))
    assert max(len(record.text) for record in made) <= 20
    with pytest.raises(InvalidInputError, match="already exists"):
        combine_stores([store], tmp_path / "combined", CombineOptions())
    again = combine_stores([store], tmp_path / "combined", CombineOptions(), overwrite=True)
    assert len(again) < len(made)
