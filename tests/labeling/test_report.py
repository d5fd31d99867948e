from __future__ import annotations

import csv

from PIL import Image

from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.report import crop_caption, write_report


def test_boxes_and_images_are_counted(labeled: LabeledData) -> None:
    report = write_report(labeled)
    names = [row.name for labels in labeled.usable_images() for row in labels.accepted]
    assert report.num_images == 8
    assert report.num_boxes == {name: names.count(name) for name in set(names)}
    assert report.num_images_with["ball"] == sum("ball" in labels.accepted.names for labels in labeled)


def test_unsure_boxes_are_listed_on_both_sides_of_their_threshold(labeled: LabeledData) -> None:
    report = write_report(labeled)
    with open(labeled.folder / "unsure.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report.num_unsure > 0
    for row in rows:
        distance = float(row["score"]) - float(row["threshold"])
        assert abs(distance) <= 0.1001
        assert row["is_label"] == ("yes" if distance >= 0 else "no")


def test_images_that_cannot_be_used_are_listed(labeled: LabeledData) -> None:
    report = write_report(labeled)
    assert report.num_failed == 1
    with open(labeled.folder / "failed.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["image"] == "broken.png"
    assert (row["image"], row["error"]) == report.failures[0]


def test_each_class_with_boxes_has_a_contact_sheet(labeled: LabeledData) -> None:
    report = write_report(labeled)
    assert report.sheets == [
        f"sheets/{number:03d}-{name}.jpg" for number, name in enumerate(("block", "can", "ball", "grape"), 1)
    ]
    with Image.open(labeled.folder / report.sheets[0]) as sheet:
        assert sheet.width == 8 * 160 + 7 * 8


def test_the_caption_of_a_crop_names_its_image() -> None:
    assert crop_caption(0.914, "day/a.jpg") == "0.91 day/a.jpg"
    caption = crop_caption(0.5, "photos/2024/a-rather-long-name.jpg")
    assert caption == "0.50 \u2026-long-name.jpg"
