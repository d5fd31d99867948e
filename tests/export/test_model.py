"""Exported models give what the original gives: every output, every method, images of any size."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from torch import Tensor

from mdetr import Mdetr
from mdetr.errors import CheckpointError, InvalidInputError, MissingDependencyError
from mdetr.export.layout import ExportInfo
from mdetr.export.model import ExportedModel, load_exported
from mdetr.inference.results import Result
from mdetr.model.interface import MdetrOutput
from mdetr.model.tensors import to_array
from tests.export.conftest import Exported, Original
from tests.export.every_method import ground_in_this_process

FORMATS = ("onnx", "openvino")


def _inputs(count: int, height: int, width: int) -> dict[str, Tensor]:
    """Images and texts; those after the first are padded at the right and at the bottom."""
    generator = torch.Generator().manual_seed(count)
    mask = torch.ones(count, height, width, dtype=torch.long)
    mask[1:, height - 40 :], mask[1:, :, width - 33 :] = 0, 0
    ids = torch.randint(5, 1000, (count, 9), generator=generator)
    ids[1:, 6:] = 1
    return {
        "pixel_values": torch.randn(count, 3, height, width, generator=generator) * mask[:, None],
        "pixel_mask": mask,
        "input_ids": ids,
        "attention_mask": (ids != 1).long(),
    }


def _arrays(output: MdetrOutput) -> dict[str, np.ndarray]:
    answers = {f"answer {name}": logits for name, logits in (output.answer_logits or {}).items()}
    fields = ("logits", "pred_boxes", "query_embeddings", "token_embeddings", "referred_logits", "pred_masks")
    tensors = {name: getattr(output, name) for name in fields} | answers
    return {name: to_array(tensor) for name, tensor in tensors.items()}


@pytest.mark.parametrize("export_format", FORMATS)
@pytest.mark.parametrize("shape", [(2, 160, 224), (1, 161, 243), (3, 107, 95)], ids=str)
def test_every_output_agrees_with_torch(
    export_format: str, shape: tuple[int, int, int], exported: Exported, original: Original
) -> None:
    inputs = _inputs(*shape)
    with torch.inference_mode():
        expected = _arrays(original.model(**inputs))
    got = _arrays(ExportedModel(exported(export_format, "fp32"))(**inputs))
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, atol=1e-4, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("export_format", FORMATS)
def test_weights_in_half_precision_take_half_the_space_and_change_little(
    export_format: str, exported: Exported, original: Original
) -> None:
    inputs = _inputs(2, 160, 224)
    pixels = inputs["pixel_values"], inputs["pixel_mask"]
    ids = inputs["input_ids"], inputs["attention_mask"]
    with torch.inference_mode():
        images, texts = original.model.encode_image(*pixels), original.model.encode_text(*ids)
    folder = exported(export_format, "fp16")
    got = ExportedModel(folder)
    assert 0 < _error(got.encode_image(*pixels).sequence, images.sequence) < 0.005
    assert 0 < _error(got.encode_text(*ids).sequence, texts.sequence) < 0.005
    assert _weight(folder) < 0.6 * _weight(exported(export_format, "fp32"))


@pytest.mark.parametrize("export_format", FORMATS)
def test_int8_is_smaller_and_keeps_the_features(
    export_format: str, exported: Exported, original: Original, images: list[Path]
) -> None:
    pixels = original.processor.image_processor.preprocess(images[0])
    with torch.inference_mode():
        expected = original.model.encode_image(**pixels).sequence
    folder = exported(export_format, "int8")
    got = ExportedModel(folder).encode_image(pixels["pixel_values"]).sequence
    assert 0 < _error(got, expected) < 0.2
    assert _weight(folder) < 0.45 * _weight(exported(export_format, "fp32"))


def _error(got: np.ndarray, expected: Tensor) -> float:
    """Root of the mean squared error, relative to that of the expected values."""
    array = expected.numpy()
    return float(np.sqrt(np.square(got - array).mean() / np.square(array).mean()))


def _weight(folder: Path) -> int:
    """Bytes of the graphs."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.suffix in (".onnx", ".bin"))


@pytest.mark.parametrize("export_format", FORMATS)
def test_every_method_gives_the_results_of_the_original(
    export_format: str, exported: Exported, original: Original, images: list[Path]
) -> None:
    models = Mdetr.from_pretrained(exported(export_format, "fp32")), Mdetr(original.model, original.processor)
    assert len({_summary(model, images[0]) for model in models}) == 1


def _summary(model: Mdetr, image: Path) -> str:
    """The results of every method, in whole pixels and a few digits."""
    encoded = model.encode_image(image)
    results: list[Result] = [
        model.ground(encoded, "a red ball", threshold=0),
        model.refer(encoded, "the ball"),
        model.answer(encoded, "How many balls are there?", threshold=0),
        model.segment(encoded, "the ball", threshold=0),
        model.detect(encoded, ["ball", "large cube"], threshold=0),
        *model.ground_batch(image, ["one text", "another, longer text"], threshold=0),
    ]
    lines = []
    for result in results:
        boxes = np.round(result.boxes, 1) + 0.0  # no negative zeros
        lines.append((result.phrases, boxes.tolist(), np.round(result.scores, 3).tolist()))
    answer, masks = results[2], results[3]
    return json.dumps([lines, answer.answer, round(answer.score, 3), int(masks.masks.sum()) // 100])


def test_images_of_two_sizes_in_one_call_give_the_results_of_each(
    exported: Exported, images: list[Path]
) -> None:
    model = Mdetr.from_pretrained(exported("openvino", "fp32"))
    texts = ["a ball", "two cats"]
    together = list(model.ground_batch(images, texts, threshold=0))
    for result, image, text in zip(together, images, texts, strict=True):
        alone = model.ground(image, text, threshold=0)
        assert result.image.size == alone.image.size
        np.testing.assert_allclose(result.boxes, alone.boxes, atol=1e-2)


@pytest.mark.parametrize("export_format", FORMATS)
def test_threads_run_a_model_at_the_same_time(export_format: str, exported: Exported) -> None:
    model = ExportedModel(exported(export_format, "fp32"))
    inputs = [_inputs(1, 96 + 32 * index, 128) for index in range(4)]
    expected = [model(**one).logits for one in inputs]
    got: dict[int, np.ndarray] = {}

    def run(index: int) -> None:
        for _ in range(3):
            got[index] = model(**inputs[index]).logits

    threads = [Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, logits in enumerate(expected):
        np.testing.assert_allclose(got[index], logits, atol=1e-5, rtol=1e-5)


def test_an_exported_model_describes_itself_and_stays_on_the_cpu(exported: Exported) -> None:
    model = Mdetr.from_pretrained(exported("onnx", "fp32"), device="cpu")
    assert repr(model).endswith("million parameters, ONNX Runtime fp32 on cpu)")
    assert model.to("cpu") is model
    with pytest.raises(InvalidInputError, match="runs on the CPU, not on cuda:0; leave out the device"):
        model.to("cuda:0")
    with pytest.raises(InvalidInputError, match="has the precision of its export, not"):
        Mdetr.from_pretrained(exported("onnx", "fp32"), dtype=torch.bfloat16)
    with pytest.raises(InvalidInputError, match="copy its folder"):
        model.save_pretrained("somewhere")


@pytest.mark.parametrize(
    ("export_format", "file"),
    [("onnx", "fusion.onnx"), ("openvino", "fusion.xml"), ("openvino", "fusion.bin")],
)
def test_a_cut_or_missing_graph_is_an_error(
    export_format: str, file: str, exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "cut"
    shutil.copytree(exported(export_format, "fp32"), folder)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"is damaged \(.*\); export the model again"):
        load_exported(folder)
    (folder / file).unlink()
    with pytest.raises(CheckpointError, match=f"There is no file .*{file}; export the model again"):
        load_exported(folder)


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_model_and_its_images_can_be_pickled(
    export_format: str, exported: Exported, images: list[Path]
) -> None:
    model = Mdetr.from_pretrained(exported(export_format, "fp32"))
    encoded = model.encode_image(images[0])
    expected = model.ground(encoded, "a <mask> ball", threshold=0).to_dict()
    copied, image = pickle.loads(pickle.dumps((model, encoded)))
    for one, other in ((copied, image), (copied, encoded), (model, image)):
        assert one.ground(other, "a <mask> ball", threshold=0).to_dict() == expected
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        future = pool.submit(ground_in_this_process, model, encoded, "a <mask> ball")
        assert future.result() == expected
    another = Mdetr.from_pretrained(exported(export_format, "fp16"))
    with pytest.raises(InvalidInputError, match="was encoded by another model"):
        another.ground(encoded, "a ball")


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_folder_without_a_fingerprint_gets_that_of_its_graphs(
    export_format: str, exported: Exported, tmp_path: Path
) -> None:
    folder = tmp_path / "earlier"
    shutil.copytree(exported(export_format, "fp32"), folder)
    fields = json.loads((folder / "export.json").read_text())
    expected = fields.pop("fingerprint")
    (folder / "export.json").write_text(json.dumps(fields))
    assert ExportInfo.read(folder).fingerprint == expected


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format": "tflite"}'])
def test_a_damaged_description_is_an_error(content: str, exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(exported("onnx", "fp32"), folder)
    (folder / "export.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"export\.json is damaged"):
        Mdetr.from_pretrained(folder)


@pytest.mark.parametrize(("export_format", "library"), [("onnx", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_library_is_named_with_its_extra(
    export_format: str, library: str, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = exported(export_format, "fp32")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}; install it .*mdetr\[{export_format}\]"):
        load_exported(folder)
