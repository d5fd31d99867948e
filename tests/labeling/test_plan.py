from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdetr.errors import InvalidInputError
from mdetr.labeling import plan as plans
from mdetr.labeling.image_list import ImageReference
from mdetr.labeling.plan import LabelPlan, PlannedImage, check_output_folder
from tests.labeling.conftest import label_settings

SETTINGS = label_settings("photos")


def _images(count: int) -> list[PlannedImage]:
    return [PlannedImage(ImageReference(f"{n}.jpg", f"photos/{n}.jpg"), (f"a {n}",)) for n in range(count)]


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    images = _images(150)
    LabelPlan.create(tmp_path / "out", SETTINGS, images)
    plan = LabelPlan.open(tmp_path / "out", SETTINGS)
    assert (plan.num_images, plan.num_parts) == (150, 3)
    assert [image for part in range(3) for image in plan.images_of(part)] == images


def test_the_number_of_parts_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "_MAX_PARTS", 2)
    plan = LabelPlan.create(tmp_path, SETTINGS, _images(200))
    assert [len(plan.images_of(part)) for part in range(plan.num_parts)] == [100, 100]


def test_the_processes_share_the_missing_parts(tmp_path: Path) -> None:
    plan = LabelPlan.create(tmp_path, SETTINGS, _images(64 * 5))
    plan.result_file(2).parent.mkdir()
    plan.result_file(2).touch()
    assert [list(plan.missing_parts(rank, 2)) for rank in (0, 1)] == [[0, 4], [1, 3]]
    assert plan.count_done() == 1


def test_other_settings_are_refused_with_their_name(tmp_path: Path) -> None:
    LabelPlan.create(tmp_path, SETTINGS, _images(1))
    with pytest.raises(InvalidInputError, match=r"threshold was 0\.7, now it is 0\.5"):
        LabelPlan.open(tmp_path, replace(SETTINGS, threshold=0.5))
    with pytest.raises(InvalidInputError, match="made with other classes or phrases"):
        LabelPlan.open(tmp_path, replace(SETTINGS, phrases=SETTINGS.phrases[:1]))


def test_a_damaged_plan_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text("[]")
    with pytest.raises(InvalidInputError, match=r"labels\.json is damaged"):
        LabelPlan.open(tmp_path, SETTINGS)


def test_the_output_may_be_new_empty_or_a_plan(tmp_path: Path) -> None:
    check_output_folder(tmp_path / "new")
    check_output_folder(tmp_path)
    LabelPlan.create(tmp_path / "out", SETTINGS, _images(1))
    check_output_folder(tmp_path / "out")


def test_a_run_that_was_killed_before_its_plan_was_complete_may_begin_anew(tmp_path: Path) -> None:
    (tmp_path / ".0123456789ab.parquet").touch()  # a temporary file
    check_output_folder(tmp_path)
    LabelPlan.create(tmp_path, SETTINGS, _images(1))
    (tmp_path / "labels.json").unlink()
    check_output_folder(tmp_path)


def test_other_files_are_not_mixed_with_labels(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(InvalidInputError, match="was not made by this command"):
        check_output_folder(tmp_path)
    with pytest.raises(InvalidInputError, match="is a file"):
        check_output_folder(tmp_path / "note.txt")
