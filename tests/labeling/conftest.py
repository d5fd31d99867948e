"""Labels of the generated scenes, made once by the bundled model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mdetr.labeling.class_phrases import ClassPhrase
from mdetr.labeling.engines import ProcessGroup, label_locally
from mdetr.labeling.image_list import list_images
from mdetr.labeling.labeled_data import LabeledData
from mdetr.labeling.plan import LabelPlan, LabelSettings, PlannedImage

SCENES = Path(__file__).parents[1] / "fixtures" / "shapes" / "images" / "train"
CLASSES = (
    ClassPhrase("cube", "block"),
    ClassPhrase("cylinder", "can", 0.9),
    ClassPhrase("ball", "ball"),
    ClassPhrase("purple ball", "grape"),
)


def label_settings(*sources: Path | str, phrases: tuple[ClassPhrase, ...] = CLASSES) -> LabelSettings:
    """Settings to label with the bundled model."""
    return LabelSettings(
        sources=tuple(map(str, sources)),
        model="clevr-tiny",
        phrases=phrases,
        captions=None,
        threshold=0.7,
        max_overlap=0.7,
        margin=0.1,
    )


@pytest.fixture(scope="session")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> LabeledData:
    """Boxes of four classes in the generated scenes, which are in a subfolder, and a broken image."""
    folder = tmp_path_factory.mktemp("labels")
    shutil.copytree(SCENES, folder / "photos" / "day 1")
    (folder / "photos" / "broken.png").write_bytes(b"no picture")
    settings = label_settings(folder / "photos")
    images = [PlannedImage(reference) for reference in list_images(settings.sources)]
    plan = LabelPlan.create(folder / "out", settings, images)
    label_locally(plan, ProcessGroup(), "cpu")
    return LabeledData(plan)


@pytest.fixture
def captioned(tmp_path: Path) -> LabeledData:
    """Two generated scenes with three captions."""
    settings = label_settings(SCENES, phrases=())
    references = list_images(settings.sources)[:2]
    texts = (("a red cube next to a purple ball", "two cylinders"), ("a cylinder",))
    images = [PlannedImage(image, of_image) for image, of_image in zip(references, texts, strict=True)]
    plan = LabelPlan.create(tmp_path / "captioned", settings, images)
    label_locally(plan, ProcessGroup(), "cpu")
    return LabeledData(plan)
