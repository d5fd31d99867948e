"""The pipeline of transformers finds what `Mdetr.detect` finds, and encodes each image once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import OwlViTConfig, OwlViTForObjectDetection, pipeline
from transformers.pipelines.zero_shot_object_detection import ZeroShotObjectDetectionPipeline

import mdetr
from mdetr import Mdetr
from mdetr.errors import InvalidInputError
from mdetr.inference.zero_shot import MdetrZeroShotObjectDetectionPipeline
from mdetr.modeling import MdetrForObjectDetection

ASSETS = Path(mdetr.__file__).parent / "assets"
PHOTO_TINY = ASSETS / "models" / "photo-tiny"
TASK = "zero-shot-object-detection"
LABELS = ["cat", "dog", "red_car"]


@pytest.fixture(scope="module")
def detector() -> Any:
    return pipeline(TASK, model=str(PHOTO_TINY), dtype=torch.float32, device="cpu")


@pytest.fixture
def images() -> list[Image.Image]:
    """The cat, and the cat smaller, in another shape."""
    cat = Image.open(ASSETS / "demo" / "cat.jpg").convert("RGB")
    return [cat, cat.resize((200, 260))]


def test_it_finds_what_detect_finds(detector: Any, images: list[Image.Image]) -> None:
    found = detector(images[0], candidate_labels=LABELS)
    expected = Mdetr.from_pretrained("photo-tiny", device="cpu").detect(images[0], LABELS, threshold=0.1)
    assert [entry["label"] for entry in found] == [row.name for row in expected]
    assert [entry["score"] for entry in found] == pytest.approx([row.score for row in expected], abs=1e-5)
    assert len(found) >= 2
    assert list(found[0]["box"].values()) == [int(side) for side in expected[0].box]
    assert list(found[0]["box"]) == ["xmin", "ymin", "xmax", "ymax"]


def test_each_of_several_images_is_encoded_once_for_all_its_labels(
    detector: Any, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    encode = MdetrForObjectDetection.encode_image

    def watched(self: MdetrForObjectDetection, pixel_values: torch.Tensor, *rest: Any) -> Any:
        seen.append(len(pixel_values))
        return encode(self, pixel_values, *rest)

    monkeypatch.setattr(MdetrForObjectDetection, "encode_image", watched)
    both = detector(images, candidate_labels=LABELS)
    assert seen == [1, 1]
    assert both == [detector(image, candidate_labels=LABELS) for image in images]
    assert detector(images, candidate_labels=LABELS, batch_size=2) == both


@pytest.mark.parametrize("labels", ["cat, dog", ["cat", "dog", "cat"], ("cat", "dog")])
def test_labels_may_be_one_text_with_commas_and_repeat(
    detector: Any, images: list[Image.Image], labels: Any
) -> None:
    found = detector(images[0], candidate_labels=labels)
    assert found == detector(images[0], candidate_labels=["cat", "dog"])


def test_images_may_have_labels_of_their_own_and_be_paths(detector: Any, images: list[Image.Image]) -> None:
    own = detector(images, candidate_labels=[["cat"], ["dog"]])
    assert [entry["label"] for entry in own[0]] == ["cat"] * len(own[0]) != []
    assert {entry["label"] for entry in own[1]} <= {"dog"}
    asked = {"image": str(ASSETS / "demo" / "cat.jpg"), "candidate_labels": ["cat"]}
    assert detector(asked) == own[0]


def test_threshold_and_top_k_leave_the_best(detector: Any, images: list[Image.Image]) -> None:
    every = detector(images[0], candidate_labels=LABELS, threshold=0)
    assert len(every) > 3
    assert detector(images[0], candidate_labels=LABELS, threshold=0, top_k=2) == every[:2]
    high = detector(images[0], candidate_labels=LABELS, threshold=0.5)
    assert high == [entry for entry in every if entry["score"] > 0.5]


def test_a_call_without_labels_says_what_is_missing(detector: Any, images: list[Image.Image]) -> None:
    with pytest.raises(InvalidInputError, match="Give candidate_labels"):
        detector(images[0])


def test_models_of_other_kinds_get_the_librarys_own_pipeline(detector: Any) -> None:
    assert type(detector) is MdetrZeroShotObjectDetectionPipeline
    part = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = OwlViTConfig(text_config=part, vision_config=part)
    other = pipeline(
        TASK,
        model=OwlViTForObjectDetection(config),
        tokenizer=detector.tokenizer,
        image_processor=detector.image_processor,
    )
    assert type(other) is ZeroShotObjectDetectionPipeline


@pytest.mark.parametrize(
    "imports",
    ["import mdetr\nfrom transformers import pipeline", "from transformers import pipeline\nimport mdetr"],
)
def test_it_is_known_whichever_is_imported_first(imports: str) -> None:
    program = f"""
import sys
{imports}

print(type(pipeline("{TASK}", model=sys.argv[1])).__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(PHOTO_TINY)], capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["MdetrZeroShotObjectDetectionPipeline"], run.stderr
    assert "not supported" not in run.stderr
