"""Pipeline "zero-shot-object-detection" of transformers, which encodes each image once for all its labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from transformers.pipelines import PIPELINE_REGISTRY
from transformers.pipelines.zero_shot_object_detection import ZeroShotObjectDetectionPipeline

from mdetr.errors import InvalidInputError
from mdetr.model import MODEL_TYPE
from mdetr.processing.detections import MAX_OVERLAP

TASK = "zero-shot-object-detection"
LABELS_AT_ONCE = 32


class MdetrZeroShotObjectDetectionPipeline(ZeroShotObjectDetectionPipeline):
    """Detects the objects of labels like `Mdetr.detect`, with the calls and results of transformers.

    The library's pipeline runs a model, including its backbone, once for each label; models of other types
    still get that pipeline. Images are processed one by one, each with up to 32 labels at once, whatever the
    batch size.
    """

    def __new__(cls, model: Any, **kwargs: Any) -> Any:
        """Make the pipeline of a model: this one for MDETR, the library's for any other."""
        if model.config.model_type != MODEL_TYPE:
            return ZeroShotObjectDetectionPipeline(model=model, **kwargs)
        return super().__new__(cls)

    def __init__(self, model: Any, **kwargs: Any) -> None:
        super().__init__(model=model, **kwargs)
        cast(Any, self.model).backbone.folds_norms = True  # as `Mdetr.from_pretrained` does

    def check_model_type(self, supported_models: Any) -> None:
        """Do nothing, because `__new__` has checked it."""

    def get_iterator(self, inputs: Any, num_workers: int, batch_size: int, *params: Any) -> Any:
        """Iterate over images one by one, because they may differ in size."""
        return super().get_iterator(inputs, num_workers, 1, *params)

    def preprocess(  # type: ignore[override]
        self, inputs: Mapping[str, Any], timeout: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Load one image, with all its labels."""
        from transformers.image_utils import load_image

        labels = inputs["candidate_labels"]
        if isinstance(labels, str):
            labels = labels.split(",")
        if not labels:
            raise InvalidInputError('Give candidate_labels, such as ["a cat", "a dog"].')
        labels = list(dict.fromkeys(label.strip() for label in labels))
        yield {"image": load_image(inputs["image"], timeout=timeout), "labels": labels, "is_last": True}

    def _forward(self, model_inputs: dict[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        from mdetr.inference.detection import ClassPrompts
        from mdetr.processing.processor import MdetrProcessor

        model = cast(Any, self.model)
        processor = MdetrProcessor(
            cast(Any, self.image_processor),
            cast(Any, self.tokenizer),
            max_text_tokens=model.config.num_token_positions,
        )
        prompts = ClassPrompts(model, processor, model_inputs["labels"], LABELS_AT_ONCE)
        return model_inputs | {"detections": prompts.detect(model_inputs["image"])}

    def postprocess(  # type: ignore[override]
        self, model_outputs: list[dict[str, Any]], threshold: float = 0.1, top_k: int | None = None
    ) -> list[dict[str, Any]]:
        """Convert the detections of an image, best first, to "score", "label" and "box", in whole pixels."""
        from mdetr.inference.detection import merge_classes

        (output,) = model_outputs
        image = output["image"]
        size = (image.height, image.width)
        detections = merge_classes(output["detections"], size, threshold, MAX_OVERLAP)
        results: list[dict[str, Any]] = []
        for row in detections[:top_k]:
            box = dict(zip(("xmin", "ymin", "xmax", "ymax"), map(int, row.box), strict=True))
            results.append({"score": row.score, "label": row.name, "box": box})
        return results


PIPELINE_REGISTRY.supported_tasks[TASK] |= {"impl": MdetrZeroShotObjectDetectionPipeline}
