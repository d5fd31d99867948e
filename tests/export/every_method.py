"""The results of every method of a model, as lists; it imports nothing that needs torch."""

from __future__ import annotations

from typing import Any

from mdetr import Mdetr
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.results import Result


def summary_of(model: Mdetr, picture: str) -> dict[str, Any]:
    """The results of every method for one picture, as lists."""
    encoded = model.encode_image(picture)
    results: dict[str, Result] = {
        "ground": model.ground(encoded, "a red ball", threshold=0),
        "refer": model.refer(encoded, "the ball"),
        "answer": model.answer(encoded, "How many balls are there?", threshold=0),
        "segment": model.segment(encoded, "the ball", threshold=0),
        "detect": model.detect(encoded, ["ball", "large cube"], threshold=0),
    }
    pictures, texts = [picture] * 3, ["a ball", "two cubes", "a third, longer text"]
    batches = {
        "ground_batch": model.ground_batch(pictures, texts, threshold=0, batch_size=2),
        "refer_batch": model.refer_batch(pictures, texts, batch_size=2),
        "answer_batch": model.answer_batch(picture, texts, threshold=0, batch_size=2),
        "segment_batch": model.segment_batch(pictures, texts, threshold=0, batch_size=2),
        "detect_batch": model.detect_batch(pictures, ["ball"], threshold=0),
    }
    for name, batch in batches.items():
        results |= {f"{name} {index}": result for index, result in enumerate(batch)}
    summary: dict[str, Any] = {}
    for name, result in results.items():
        assert result.plot().mode == "RGB"
        masks = result.detections.masks
        summary[name] = {
            "phrases": list(result.phrases),
            "boxes": result.boxes.tolist(),
            "scores": result.scores.tolist(),
            "covered": [] if masks is None else masks.mean((1, 2)).tolist(),
            "answer": getattr(result, "answer", None),
        }
    return summary


def ground_in_this_process(model: Mdetr, image: EncodedImage, text: str) -> dict[str, Any]:
    """The result of a model and of an encoded image that come from another process."""
    return model.ground(image, text, threshold=0).to_dict()
