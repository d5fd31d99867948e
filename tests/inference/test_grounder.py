"""Inference with one image and one text: results, thresholds, precision, and invalid input."""

from __future__ import annotations

import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mdetr
from mdetr import Mdetr
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.inference import batching
from mdetr.inference.detection import merge_classes
from mdetr.inference.results import AnswerResult, GroundingResult, ReferringResult, SegmentationResult
from mdetr.model.answer_space import CLEVR_VOCABULARY
from mdetr.processing import layouts as processing_layouts
from mdetr.processing.detections import Detections
from tests.model.models import small_model

TEXT = "a red cube and a ball"
CAPTION = "two purple metal balls and a red cube"
PICTURE = Path(mdetr.__file__).parent / "assets" / "demo" / "shapes.png"


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Mdetr:
    return Mdetr.from_pretrained(tiny_model_folder, device="cpu")


@pytest.fixture
def images() -> list[Image.Image]:
    noise = np.random.default_rng(0)
    sizes = ((60, 90), (80, 60), (60, 90))
    return [Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


def _same(one: GroundingResult, other: GroundingResult) -> bool:
    boxes = [torch.tensor([found.box for found in result]) for result in (one, other)]
    return (
        one.text == other.text
        and [found.phrase for found in one] == [found.phrase for found in other]
        and torch.allclose(boxes[0], boxes[1], atol=1e-2)
    )


def test_one_image_and_one_text_give_one_result(model: Mdetr, images: list[Image.Image]) -> None:
    result = model.ground(images[0], TEXT, threshold=0)
    assert isinstance(result, GroundingResult)
    assert len(result) == 7
    assert [found.score for found in result] == sorted((found.score for found in result), reverse=True)
    for found in result:
        x0, y0, x1, y1 = found.box
        assert 0 <= x0 <= x1 <= 90
        assert 0 <= y0 <= y1 <= 60
        assert found.phrase == " ... ".join(TEXT[start:end] for start, end in found.spans)


def test_a_threshold_leaves_out_what_is_less_certain(model: Mdetr, images: list[Image.Image]) -> None:
    everything = model.ground(images[0], TEXT, threshold=0)
    limit = everything[3].score
    assert model.ground(images[0], TEXT, threshold=limit).groundings == everything[:3]


def test_every_common_kind_of_image_is_understood(
    model: Mdetr, images: list[Image.Image], tmp_path: Path
) -> None:
    image = images[0]
    image.save(tmp_path / "image.png")
    array = np.asarray(image)
    kinds = [
        image,
        tmp_path / "image.png",
        str(tmp_path / "image.png"),
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        (tmp_path / "image.png").read_bytes(),
    ]
    results = [model.ground(kind, TEXT, threshold=0) for kind in kinds]
    assert all(result.groundings == results[0].groundings for result in results)


def test_many_pairs_in_batches_are_answered_as_one_by_one(model: Mdetr, images: list[Image.Image]) -> None:
    texts = [TEXT, "two balls", "the green thing left of the cube"]
    images = [images[0], images[2], images[0]]
    together = model.ground_batch(images, texts, threshold=0, batch_size=2)
    for image, text, result in zip(images, texts, together, strict=True):
        assert _same(result, model.ground(image, text, threshold=0))


@pytest.fixture(scope="module")
def mixed() -> tuple[list[Image.Image], list[str]]:
    """Six images of three shapes, and a text of another length for each."""
    noise = np.random.default_rng(1)
    sizes = [(60, 90), (80, 60), (60, 90), (33, 99), (60, 90), (60, 90)]
    images = [Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]
    return images, ["a " + "big red " * (place * 5 % 7) + "cube" for place in range(6)]


@pytest.mark.parametrize("batch_size", [3, 8])
@pytest.mark.parametrize("task", ["ground", "refer", "answer", "segment", "detect"])
def test_an_answer_does_not_depend_on_its_neighbors(
    model: Mdetr,
    mixed: tuple[list[Image.Image], list[str]],
    alone: dict[str, list[Any]],
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    batch_size: int,
) -> None:
    calls: list[int] = []
    encode = model.model.encode_image

    def counted(pixel_values: torch.Tensor, pixel_mask: torch.Tensor) -> object:
        assert pixel_mask.all()  # nothing is padded
        calls.append(len(pixel_values))
        return encode(pixel_values, pixel_mask)

    monkeypatch.setattr(model.model, "encode_image", counted)
    together = _predict(model, task, *mixed, batch_size)
    assert sum(calls) == 6
    assert max(calls) == (1 if task == "detect" else min(batch_size, 4))
    for one, other in zip(alone[task], together, strict=True):
        assert one.picture.size == other.picture.size
        first, second = _numbers(one), _numbers(other)
        assert first.pop("words") == second.pop("words")
        assert first.keys() == second.keys()
        for name, values in first.items():
            torch.testing.assert_close(values, second[name], rtol=0, atol=1e-2 if name == "boxes" else 1e-4)


@pytest.fixture(scope="module")
def alone(model: Mdetr, mixed: tuple[list[Image.Image], list[str]]) -> dict[str, list[Any]]:
    """What is found in each image when it is the only one."""
    return {
        task: [_predict(model, task, [image], [text], 1)[0] for image, text in zip(*mixed, strict=True)]
        for task in ("ground", "refer", "answer", "segment", "detect")
    }


def _predict(
    model: Mdetr, task: str, images: list[Image.Image], texts: list[str], batch_size: int
) -> list[Any]:
    if task == "detect":
        names = ["bow_(weapon)", "a very large red cube", "ball"]
        return list(model.detect_batch(images, names, threshold=0, max_overlap=1, batch_size=batch_size))
    return list(getattr(model, f"{task}_batch")(images, texts, threshold=0, batch_size=batch_size))


def _numbers(result: Any) -> dict[str, Any]:
    """The words, scores and boxes of a result of any task."""
    if isinstance(result, ReferringResult | SegmentationResult):
        one = isinstance(result, ReferringResult)
        numbers = {
            "words": [result.text],
            "scores": torch.tensor([result.score]) if one else torch.from_numpy(result.scores),
            "boxes": torch.from_numpy(result.boxes),
        }
        return numbers if one else numbers | {"masks": result.masks.mean((1, 2))}
    found = result.groundings if isinstance(result, AnswerResult) else list(result)
    words = [getattr(one, "phrase", None) or getattr(one, "name", "") for one in found]
    scores = [one.score for one in found]
    if isinstance(result, AnswerResult):
        words, scores = [*words, result.answer], [*scores, result.score]
    return {
        "words": words,
        "scores": torch.tensor(scores),
        "boxes": torch.tensor([one.box for one in found]),
    }


def test_no_image_waits_for_ever_for_others_of_its_shape(
    model: Mdetr, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, done, waiting = 0, 0, []
    load = batching.load_image

    def counted(image: Image.Image, *order: str) -> torch.Tensor:
        nonlocal loaded
        loaded += 1
        waiting.append(loaded - done)
        return load(image, *order)

    monkeypatch.setattr(batching, "load_image", counted)
    pairs = [images[1], *[images[0]] * 12]  # the first is the only one of its shape
    for image, result in zip(pairs, model.ground_batch(pairs, "a cube", batch_size=2), strict=True):
        assert result.image.size == image.size
        done += 1
    assert done == 13
    assert max(waiting) == batching.LOOK_AHEAD * 2 + 1


def test_one_image_is_encoded_once_for_all_its_texts(
    model: Mdetr, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    encode = model.model.encode_image

    def counted(*arguments: torch.Tensor) -> object:
        calls.append(len(arguments[0]))
        return encode(*arguments)

    texts = ["a cube", "a ball", "a cylinder"]
    alone = [model.ground(images[0], text, threshold=0) for text in texts]
    monkeypatch.setattr(model.model, "encode_image", counted)
    together = list(model.ground_batch(images[0], texts, threshold=0, batch_size=2))
    assert calls == [1]
    assert all(_same(one, other) for one, other in zip(alone, together, strict=True))


def test_one_text_is_used_for_every_image(model: Mdetr, images: list[Image.Image]) -> None:
    results = model.ground_batch(images, TEXT, threshold=0)
    assert [result.image.size for result in results] == [image.size for image in images]


def test_an_expression_denotes_one_box(model: Mdetr, images: list[Image.Image]) -> None:
    result = model.refer(images[1], "the red cube")
    assert isinstance(result, ReferringResult)
    x0, y0, x1, y1 = result.box
    assert 0 <= x0 <= x1 <= 60
    assert 0 <= y0 <= y1 <= 80
    assert 0 <= result.score <= 1
    assert model.refer(images[1], "the red cube", threshold=result.score).box == result.box
    assert model.refer(images[1], "the red cube", threshold=min(1, result.score + 1e-4)).box is None
    assert result.to_dict() == {
        "text": "the red cube",
        "width": 60,
        "height": 80,
        "box": list(result.box),
        "score": result.score,
    }


def test_a_single_pixel_can_be_searched(model: Mdetr) -> None:
    result = model.ground(Image.new("RGB", (1, 1)), TEXT, threshold=0)
    assert all(0 <= value <= 1 for found in result for value in found.box)


@pytest.mark.parametrize("task", ["ground", "refer", "answer", "segment"])
def test_a_batch_of_nothing_has_no_results(model: Mdetr, task: str) -> None:
    image = Image.new("RGB", (32, 32))
    for images, texts in (([], []), ([], "a cube"), (image, [])):
        assert list(getattr(model, f"{task}_batch")(images, texts)) == []
    with pytest.raises(InvalidInputError, match="The text is empty"):
        getattr(model, f"{task}_batch")([], "")


def test_detection_in_a_batch_of_nothing_has_no_results(model: Mdetr) -> None:
    assert list(model.detect_batch([], ["cube"])) == []


@pytest.mark.parametrize("task", ["ground", "refer", "answer", "segment"])
def test_several_images_or_texts_are_refused_with_the_name_of_the_batch_method(
    model: Mdetr, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "load_image", lambda *_: pytest.fail("an image was read"))
    image = np.zeros((32, 32, 3), np.uint8)
    predict, advice = getattr(model, task), f"; call {task}_batch for several\\."
    with pytest.raises(InvalidInputError, match=f"^Expected one image, got a list of 2{advice}"):
        predict([image, image], TEXT)
    with pytest.raises(InvalidInputError, match=f"^Expected one image, got a ndarray of 2{advice}"):
        predict(np.stack([image, image]), TEXT)
    with pytest.raises(InvalidInputError, match=f"^Expected one image, got a generator{advice}"):
        predict((one for one in [image]), TEXT)
    with pytest.raises(InvalidInputError, match=f"^Expected one text, got a tuple of 1{advice}"):
        predict(image, (TEXT,))


def test_detection_in_several_images_is_refused_with_the_name_of_the_batch_method(model: Mdetr) -> None:
    with pytest.raises(InvalidInputError, match=r"got a list of 1; call detect_batch for several\."):
        model.detect([Image.new("RGB", (32, 32))], ["cube"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "There is no class name; give at least one"),
        (["cat", " "], "Class name 2 of 2 is empty; leave it out"),
        (["cat", "dog", "cat"], "The class name 'cat' is a duplicate; give each name once"),
        ([None], "Expected a text, got NoneType"),
    ],
)
def test_names_of_classes_that_cannot_be_looked_for_are_refused(
    model: Mdetr, names: list[str], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        model.detect(Image.new("RGB", (32, 32)), names)


def test_arguments_out_of_range_are_refused(model: Mdetr) -> None:
    image = Image.new("RGB", (32, 32))
    with pytest.raises(InvalidInputError, match="Expected a threshold between 0 and 1, got 2"):
        model.ground(image, TEXT, threshold=2)
    with pytest.raises(InvalidInputError, match="Expected a batch_size of at least 1, got 0"):
        model.ground_batch(image, TEXT, batch_size=0)


def test_texts_that_cannot_be_read_are_refused(model: Mdetr) -> None:
    image = Image.new("RGB", (32, 32))
    with pytest.raises(InvalidInputError, match="The text is empty"):
        model.ground(image, "  ")
    with pytest.raises(InvalidInputError, match="has 303 tokens, but the model has only 256 positions"):
        model.ground(image, "cube " * 300)


def test_a_question_has_an_answer_of_the_vocabulary_and_boxes(
    model: Mdetr, images: list[Image.Image]
) -> None:
    results = list(model.answer_batch(images, "How many cubes are there?", threshold=0, batch_size=2))
    assert len(results) == 3
    for result in results:
        assert result.answer in CLEVR_VOCABULARY[result.answer_type]
        assert 0 < result.score <= 1
        assert len(result.groundings) >= 1
    alone = model.answer(images[1], "How many cubes are there?", threshold=0)
    assert (alone.answer, alone.answer_type) == (results[1].answer, results[1].answer_type)


def test_a_phrase_has_a_mask_in_the_pixels_of_the_image(model: Mdetr, images: list[Image.Image]) -> None:
    everything = model.segment(images[1], TEXT, threshold=0)
    assert everything.masks.shape == (7, 80, 60)
    assert np.array_equal(everything.mask, everything.masks.any(0))
    assert list(everything.scores) == sorted(everything.scores, reverse=True)
    limit = everything.scores[2]
    some = model.segment(images[1], TEXT, threshold=limit)
    assert np.array_equal(some.boxes, everything.boxes[:2])
    assert some.detections.phrases == (TEXT, TEXT)
    assert np.array_equal(some.masks, everything.masks[:2])
    nothing = model.segment(images[1], TEXT, threshold=1)
    assert nothing.mask.shape == (80, 60)
    assert not nothing.mask.any()


def test_detection_asks_each_name_by_itself_whatever_the_batch(
    model: Mdetr, images: list[Image.Image]
) -> None:
    names = ["bow_(weapon)", "a red cube", "ball"]
    one, other = (
        model.detect(images[0], names, threshold=0, max_overlap=1, batch_size=size) for size in (1, 32)
    )
    assert len(one) == len(other) == 7 * 3
    assert [found.name for found in one] == [found.name for found in other]
    for found, same in zip(one, other, strict=True):
        assert found.box == pytest.approx(same.box, abs=1e-2)
    prompt = model.ground(images[0], "bow ", threshold=0)
    scores = [found.score for found in one if found.name == "bow_(weapon)"]
    assert scores[0] == pytest.approx(prompt[0].score, abs=1e-5)
    several = model.detect_batch(images, names, threshold=0, max_overlap=1)
    assert [len(result) for result in several] == [21, 21, 21]


def test_a_model_has_a_threshold_of_its_own(bundled: Mdetr, tmp_path: Path) -> None:
    scores = bundled.ground(PICTURE, CAPTION, threshold=0).scores
    assert bundled.processor.default_threshold == 0.7
    assert len(bundled.ground(PICTURE, CAPTION)) == len(bundled.ground(PICTURE, CAPTION, threshold=0.7)) == 3
    bundled.save_pretrained(tmp_path / "mine")
    settings = json.loads((tmp_path / "mine" / "processor_config.json").read_text())
    limit = (float(scores[1]) + float(scores[2])) / 2
    (tmp_path / "mine" / "processor_config.json").write_text(
        json.dumps(settings | {"default_threshold": limit})
    )
    mine = Mdetr.from_pretrained(tmp_path / "mine", device="cpu")
    assert len(mine.ground(PICTURE, CAPTION)) == len(mine.answer(PICTURE, CAPTION).boxes) == 2
    assert len(mine.ground(PICTURE, CAPTION, threshold=0.7)) == 3
    found = mine.detect(PICTURE, ["two purple metal balls"], threshold=0)
    expected = sum(row.score > limit for row in found)
    assert len(mine.detect(PICTURE, ["two purple metal balls"])) == expected


def test_a_model_tells_in_one_line_what_it_is(bundled: Mdetr) -> None:
    assert repr(bundled) == "Mdetr(clevr-tiny: 2.9 million parameters, float32 on cpu)"
    assert bundled.to("cpu") is bundled
    with pytest.raises(InvalidInputError, match="no type of device 'nowhere'"):
        bundled.to("nowhere")


def test_a_model_moves_and_changes_its_numbers_as_modules_of_torch_do() -> None:
    model = Mdetr.from_pretrained("clevr-tiny", device="cpu")
    assert model.to(torch.float16).model.dtype == torch.float16
    assert len(model.ground(PICTURE, CAPTION)) == 3
    assert model.to("cpu", torch.bfloat16).model.dtype == torch.bfloat16
    assert model.to(dtype=torch.float32).model.dtype == torch.float32
    with pytest.raises(InvalidInputError, match=r"Weights cannot be torch\.int8; give a floating type"):
        model.to(torch.int8)
    with pytest.raises(InvalidInputError, match=r"Weights cannot be torch\.int8; give a floating type"):
        Mdetr.from_pretrained("clevr-tiny", dtype=torch.int8)


def test_predict_is_ground(bundled: Mdetr) -> None:
    assert bundled.predict(PICTURE, "red cube").groundings == bundled.ground(PICTURE, "red cube").groundings


def test_a_saved_model_finds_the_same(model: Mdetr, images: list[Image.Image], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("stays")
    model.save_pretrained(tmp_path / "mine")
    again = Mdetr.from_pretrained(tmp_path / "mine", device="cpu")
    one, other = (chosen.ground(images[0], TEXT, threshold=0) for chosen in (model, again))
    assert one.groundings == other.groundings
    assert (tmp_path / "mine" / "notes.txt").read_text() == "stays"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    with pytest.raises(CheckpointError, match=r"notes\.txt is a file; name a folder"):
        model.save_pretrained(tmp_path / "mine" / "notes.txt")
    with pytest.raises(CheckpointError, match="could not be written to"):
        model.save_pretrained(tmp_path / "mine" / "notes.txt" / "deeper")


def test_overlapping_boxes_of_one_class_are_merged_and_those_of_two_are_not() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9.5], [20, 20, 30, 44]])
    scores = torch.tensor([0.8, 0.9, 0.75, 0.1, 0.95, 0.2])
    found = Detections(torch.cat([boxes, boxes]).numpy(), scores.numpy(), labels=("cat",) * 3 + ("dog",) * 3)
    merged = merge_classes(found, (40, 40), threshold=0.7, max_overlap=0.7)
    assert [(d.name, d.box) for d in merged] == [
        ("dog", (0, 0, 10, 9.5)),
        ("cat", (0, 0, 10, 9.5)),
        ("cat", (20, 20, 30, 40)),
    ]


@pytest.fixture(scope="module")
def bundled() -> Mdetr:
    return Mdetr.from_pretrained("clevr-tiny", device="cpu")


RED_CUBE, BALLS = (284, 174, 379, 279), [(154, 191, 250, 288), (233, 66, 300, 133)]


@pytest.mark.parametrize(
    ("text", "phrase", "boxes"),
    [
        ("red cube", "red cube", [RED_CUBE]),
        (" red cube", "red cube", [RED_CUBE]),
        ("\tred  cube", "red  cube", [RED_CUBE]),
        ("Red Cube", "Red Cube", [RED_CUBE]),
        ("RED CUBE.", "RED CUBE", [RED_CUBE]),
        ("the red cube", "the red cube", [RED_CUBE]),
        ("purple ball", "purple ball", BALLS),
        ("a purple ball.", "a purple ball", BALLS),
        ("Purple balls", "Purple balls", BALLS),
        ("elephant", "", []),
    ],
)
def test_the_bundled_model_finds_the_obvious_and_names_it_exactly(
    bundled: Mdetr, text: str, phrase: str, boxes: list[tuple[int, ...]]
) -> None:
    result = bundled.ground(PICTURE, text)
    assert {found.phrase for found in result} == ({phrase} if boxes else set())
    assert all(text[start:end] == phrase for found in result for start, end in found.spans)
    for found, box in zip(sorted(found.box for found in result), sorted(boxes), strict=True):
        assert found == pytest.approx(box, abs=4)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How many purple balls are there?", "2"),
        ("What color is the tiny cube?", "cyan"),
        ("What shape is the big red thing?", "cube"),
        ("Are there any yellow things?", "no"),
        ("Is there a purple cylinder?", "yes"),
    ],
)
def test_the_bundled_model_answers_what_anyone_can_see(bundled: Mdetr, question: str, answer: str) -> None:
    assert bundled.answer(PICTURE, question).answer == answer


@pytest.mark.parametrize(("dtype", "pixels", "score"), [(torch.float16, 1, 0.01), (torch.bfloat16, 6, 0.05)])
def test_weights_of_half_precision_answer_as_whole_ones_do(
    bundled: Mdetr, dtype: torch.dtype, pixels: float, score: float
) -> None:
    half = Mdetr.from_pretrained("clevr-tiny", device="cpu", dtype=dtype)
    assert half.model.dtype == dtype
    # From left to right: rounding may swap boxes of almost equal scores.
    expected, found = (
        sorted(model.ground(PICTURE, CAPTION), key=lambda row: row.box) for model in (bundled, half)
    )
    assert len(expected) == 3
    assert [f.phrase for f in found] == [f.phrase for f in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.box == pytest.approx(other.box, abs=pixels)
        assert one.score == pytest.approx(other.score, abs=score)
    assert half.answer(PICTURE, "How many purple balls are there?").answer == "2"
    assert half.detect(PICTURE, ["the purple cylinder"])[0].name == "the purple cylinder"
    one, other = (model.refer(PICTURE, "the purple cylinder") for model in (bundled, half))
    assert one.box == pytest.approx(other.box, abs=pixels)


def test_questions_that_a_model_cannot_answer_are_refused(images: list[Image.Image], bundled: Mdetr) -> None:
    model = bundled
    with pytest.raises(InvalidInputError, match=r"no head that answers questions\..* clevr-tiny, .*gqa-r101"):
        Mdetr(small_model(), model.processor).answer(images[0], "What is this?")
    with pytest.raises(
        InvalidInputError, match=r"clevr-tiny has no head that makes masks\..* phrasecut-r101"
    ):
        model.segment(images[0], "a cube")
    with pytest.raises(InvalidInputError, match="list of class names, got the text 'cat'"):
        model.detect(images[0], "cat")


def _live_pictures(size: tuple[int, int]) -> int:
    """How many images of this (width, height) are in memory."""
    gc.collect()
    return sum(type(held) is Image.Image and held.size == size for held in gc.get_objects())


def test_results_of_many_files_keep_no_pixels_and_can_still_be_drawn(model: Mdetr, tmp_path: Path) -> None:
    size = (91, 67)  # of no other image here
    files = [tmp_path / f"{number}.png" for number in range(5)]
    for number, file in enumerate(files):
        Image.new("RGB", size, (40 * number, 0, 0)).save(file)
    for results in (
        list(model.ground_batch(files, TEXT, batch_size=2)),
        list(model.refer_batch(files, TEXT, batch_size=2)),
        list(model.answer_batch(files, TEXT, batch_size=2)),
        list(model.segment_batch(files, TEXT)),
        list(model.detect_batch(files, ["cube"])),
    ):
        assert _live_pictures(size) == 0
        assert [result.image.getpixel((0, 0)) for result in results] == [
            (40 * number, 0, 0) for number in range(5)
        ]
        assert results[4].plot().width >= 640
        assert results[4].to_dict()["width"] == 91
    kept = model.ground(files[0], TEXT)
    assert kept.image.size == size
    assert _live_pictures(size) == 1  # a single result has its own


def test_a_result_of_one_file_can_be_drawn_when_the_file_is_gone(model: Mdetr, tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "one.png")
    one = model.ground(tmp_path / "one.png", TEXT)
    several = list(model.ground_batch([tmp_path / "one.png"] * 2, TEXT))
    Image.new("RGB", (20, 30)).save(tmp_path / "one.png")
    with pytest.raises(InvalidInputError, match="has changed since the prediction: it had 30 x 20 pixels"):
        several[0].plot()
    (tmp_path / "one.png").unlink()
    assert one.image.size == (30, 20)
    assert one.plot().width >= 640
    with pytest.raises(InvalidInputError, match="There is no image at"):
        several[0].plot()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "Expected a text or a list of texts, got None"),
        (5, "Expected a text or a list of texts, got 5"),
        (b"cube", "Expected a text or a list of texts, got b'cube'"),
        ([None], "Expected a text, got NoneType"),
        ("\ud83d", r"'.ud83d' is not valid Unicode at character 1"),
        ("caf\udce9 cube", "not valid Unicode at character 4"),
    ],
)
def test_what_is_no_text_is_refused(
    model: Mdetr, images: list[Image.Image], text: object, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        model.ground_batch(images[0], text)  # type: ignore[arg-type]
        next(model.ground_batch(images[0], text))  # type: ignore[arg-type]
    names = [text] if isinstance(text, str) else text
    with pytest.raises(InvalidInputError, match=message):
        model.detect(images[0], names)  # type: ignore[arg-type]
    if not isinstance(text, list):
        with pytest.raises(InvalidInputError, match=message.split(" or a list of texts")[0]):
            model.ground(images[0], text)  # type: ignore[arg-type]
    if text is not None:
        with pytest.raises(InvalidInputError, match=message):
            model.processor(text=text)  # type: ignore[arg-type]


@pytest.mark.parametrize("batched", [False, True])
def test_one_image_and_one_caption_are_loaded_tokenized_and_laid_out_once(
    bundled: Mdetr, batched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()

    def count_calls(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            counts[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counted)

    count_calls(Image, "open")
    count_calls(type(bundled.processor.tokenizer), "__call__")
    count_calls(processing_layouts, "ImageLayout")
    if batched:
        (result,) = bundled.ground_batch([PICTURE], [CAPTION])
    else:
        result = bundled.ground(PICTURE, CAPTION)
    assert len(result)
    assert counts == {"open": 1, "__call__": 1, "ImageLayout": 1}
