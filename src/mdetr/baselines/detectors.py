"""Baseline detectors of the paper's LVIS table: DETR and Mask R-CNN.

DETR with a plain class head is transformers', Mask R-CNN is torchvision's; both train on the same stores,
with the same recipes and training loop, as MDETR.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_convert
from transformers import DetrConfig, DetrForObjectDetection

from mdetr.data.examples import Example
from mdetr.data.record import Record
from mdetr.errors import CheckpointError, InvalidInputError, first_line
from mdetr.evaluation.evaluator import Validation, count_images, indices_of_process, score_detection
from mdetr.evaluation.metrics.detection import NamedClass, class_of
from mdetr.files import give_ordinary_permissions, read_json_object
from mdetr.processing.detections import Detections
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.rle import decode_masks

Labels = list[dict[str, Tensor]]
_DERIVED_FIELDS = ("id2label", "label2id", "model_type", "architectures", "transformers_version")
DESCRIPTION, WEIGHTS = "baseline.json", "model.safetensors"
PER_IMAGE = 300  # detections of Mask R-CNN


@dataclass
class BaselineOutput:
    """Output of a baseline in training.

    Attributes:
        loss: Scalar to differentiate.
        losses: Name -> detached part of the loss, for logging.
    """

    loss: Tensor
    losses: dict[str, Tensor]


class BaselineCollator:
    """Collates images, with all records of each, into a batch for a baseline.

    Args:
        classes: Classes to detect.
        processor: Image processor.
        do_resize: Whether to resize the images; False where augmentation has resized them.
        with_masks: Whether to include masks.
    """

    def __init__(
        self, classes: Sequence[NamedClass], processor: MdetrImageProcessor, do_resize: bool, with_masks: bool
    ) -> None:
        self._index_of = {named.number: index for index, named in enumerate(classes)}
        self._processor = processor
        self._do_resize = do_resize
        self._with_masks = with_masks

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """Collate a batch.

        Args:
            examples: I images with their records.

        Returns:
            The arguments of `Baseline.forward`, with boxes as relative center x, center y, width and height,
            and masks in the size of their resized image; and "records", a list.

        Raises:
            InvalidInputError: A record has no masks, and the batch should have them.
        """
        # Prepare the images
        images = [example.image for example in examples]
        batch = self._processor(images=images, do_resize=self._do_resize, return_tensors="pt")

        # Prepare the labels of each image, in its size without padding
        labels: Labels = []
        records: list[Record] = []
        for example, mask in zip(examples, batch["pixel_mask"], strict=True):
            labels.append(self._label(example, *_unpadded_size(mask)))
            records += example.records
        return {**batch, "labels": labels, "records": records}

    def _label(self, example: Example, height: int, width: int) -> dict[str, Tensor]:
        """Class labels (n,), boxes (n, 4) and masks (n, height, width) of one image."""
        # Start from none, for images without boxes
        classes = [torch.zeros(0, dtype=torch.long)]
        boxes = [torch.zeros(0, 4)]
        masks = [torch.zeros(0, height, width, dtype=torch.uint8)]
        for record in example.records:
            if not record.boxes:
                continue
            # Classes
            named, _ = class_of(record)
            classes.append(torch.full((len(record.boxes),), self._index_of[named.number]))

            # Boxes, relative to the image
            size = torch.tensor([record.width, record.height] * 2)
            boxes.append(box_convert(torch.tensor(record.boxes) / size, "xyxy", "cxcywh"))

            # Masks, in the size of the resized image
            if self._with_masks:
                if not record.masks:
                    raise InvalidInputError(
                        f"Expected masks to train Mask R-CNN, got record {record.id!r} without; "
                        "choose a store with masks, or the baseline detr."
                    )
                own_masks = torch.from_numpy(decode_masks(record.masks, record.height, record.width))
                masks.append(F.interpolate(own_masks[None], (height, width))[0])
        return {
            "class_labels": torch.cat(classes),
            "boxes": torch.cat(boxes),
            "masks": torch.cat(masks),
        }


class Baseline(nn.Module, ABC):
    """Base class of both detectors: their classes, prediction and saving.

    Args:
        classes: Classes to detect.
        config: Settings of the detector.
    """

    kind = ""

    def __init__(self, classes: Sequence[NamedClass], config: dict[str, Any]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.config_fields = config

    @torch.inference_mode()
    def detect(self, image: Tensor, processor: MdetrImageProcessor) -> Detections:
        """Detect the objects in one image.

        Args:
            image: (3, H, W) uint8.
            processor: Image processor.

        Returns:
            Labeled detections, whose boxes may extend beyond the image.
        """
        # Predict
        batch = processor(images=[image], return_tensors="pt").to(next(self.parameters()).device)
        classes, boxes, scores = self._predict(batch["pixel_values"], batch["pixel_mask"])

        # Convert to pixels and class names
        corners = box_convert(boxes.float().cpu(), "cxcywh", "xyxy") * _size(image)
        labels = tuple(self.classes[index].name for index in classes.tolist())
        return Detections(corners.numpy(), scores.float().cpu().numpy(), labels=labels)

    @abstractmethod
    def _predict(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Class indices (n,), relative boxes (n, 4) as cxcywh, and scores (n,) of one image."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the weights, the settings and the classes.

        Args:
            folder: Folder to write to; it is created if missing.
        """
        # Weights
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous().clone() for name, tensor in self.state_dict().items()}
        save_file(state, path / WEIGHTS)
        give_ordinary_permissions(path / WEIGHTS)

        # Settings and classes
        classes = [asdict(named) for named in self.classes]
        content = {"kind": self.kind, "config": self.config_fields, "classes": classes}
        (path / DESCRIPTION).write_text(json.dumps(content))


class DetrBaseline(Baseline):
    """DETR with a class head for the data set.

    Args:
        classes: Classes to detect.
        config: Fields of `DetrConfig`.
        start_from: Folder or Hub id of a DETR to fine-tune; None for random weights.

    Source: arXiv 2005.12872.
    """

    kind = "detr"

    def __init__(
        self, classes: Sequence[NamedClass], config: dict[str, Any], start_from: str | None = None
    ) -> None:
        super().__init__(classes, config)
        if start_from is None:
            fields: dict[str, Any] = {"num_labels": len(classes), **config}
            self.model = DetrForObjectDetection(DetrConfig(**fields))
            return

        # Load the weights, with a new class head, and keep the settings of the loaded model
        self.model = DetrForObjectDetection.from_pretrained(
            start_from, num_labels=len(classes), ignore_mismatched_sizes=True, **config
        )
        self.config_fields = self.model.config.to_diff_dict()
        for name in _DERIVED_FIELDS:
            self.config_fields.pop(name, None)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor, labels: Labels) -> BaselineOutput:
        """Compute the loss of a batch.

        Args:
            pixel_values: (I, 3, H, W) normalized images.
            pixel_mask: (I, H, W), 1 = image, 0 = padding.
            labels: I dictionaries of `BaselineCollator`.

        Returns:
            The losses.
        """
        targets = [{"class_labels": label["class_labels"], "boxes": label["boxes"]} for label in labels]
        output = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask.long(), labels=targets)
        return BaselineOutput(output.loss, {name: part.detach() for name, part in output.loss_dict.items()})

    def _predict(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask.long())
        scores = output.logits[0].softmax(-1)[:, :-1]  # (Q, classes)
        queries, classes = scores.shape
        indices = torch.arange(classes, device=scores.device).repeat(queries)
        return indices, output.pred_boxes[0].repeat_interleave(classes, 0), scores.flatten()


class _WithoutResizing(GeneralizedRCNNTransform):
    """Batches images in their given sizes; torchvision would resize them a second time."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class MaskRcnnBaseline(Baseline):
    """Mask R-CNN with a feature pyramid.

    Args:
        classes: Classes to detect.
        config: Arguments of torchvision's `MaskRCNN`; `backbone` and `weights` of `resnet_fpn_backbone`; and
            `score_threshold`.
        start_from: Must be None; set `weights` instead.

    Raises:
        InvalidInputError: `start_from` is set.

    Source: arXiv 1703.06870.
    """

    kind = "maskrcnn"

    def __init__(
        self, classes: Sequence[NamedClass], config: dict[str, Any], start_from: str | None = None
    ) -> None:
        super().__init__(classes, config)
        if start_from is not None:
            raise InvalidInputError(
                "Expected no start_from for Mask R-CNN, whose backbone alone is pretrained; "
                "set model.config.weights instead."
            )
        # Build the detector
        fields = dict(config)
        backbone = resnet_fpn_backbone(
            backbone_name=fields.pop("backbone", "resnet101"), weights=fields.pop("weights", None)
        )
        self.model = MaskRCNN(
            backbone,
            num_classes=len(classes) + 1,
            box_detections_per_img=PER_IMAGE,
            box_score_thresh=fields.pop("score_threshold", 1e-4),
            **fields,
        )

        # Replace its image processing: the images are resized and normalized already
        self.model.transform = _WithoutResizing(0, 0, image_mean=[0.0] * 3, image_std=[1.0] * 3)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor, labels: Labels) -> BaselineOutput:
        """Compute the loss of a batch.

        Args:
            pixel_values: (I, 3, H, W) normalized images.
            pixel_mask: (I, H, W), 1 = image, 0 = padding.
            labels: I dictionaries of `BaselineCollator`, with masks.

        Returns:
            The losses.
        """
        # Convert the labels to torchvision's: boxes in pixels, classes from 1 on
        images = _unpadded(pixel_values, pixel_mask)
        targets = []
        for image, label in zip(images, labels, strict=True):
            boxes = box_convert(label["boxes"], "cxcywh", "xyxy") * _size(image)
            targets.append({"boxes": boxes, "labels": label["class_labels"] + 1, "masks": label["masks"]})

        # Sum the losses
        losses = self.model(images, targets)
        loss = cast(Tensor, sum(losses.values()))
        return BaselineOutput(loss, {name: part.detach() for name, part in losses.items()})

    def _predict(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (image,) = _unpadded(pixel_values, pixel_mask)
        (output,) = self.model([image])
        boxes = box_convert(output["boxes"] / _size(image), "xyxy", "cxcywh")
        return output["labels"] - 1, boxes, output["scores"]


BASELINES: dict[str, type[DetrBaseline] | type[MaskRcnnBaseline]] = {
    "detr": DetrBaseline,
    "maskrcnn": MaskRcnnBaseline,
}


def is_baseline(folder: str | Path) -> bool:
    """Whether a folder holds a baseline that `load_baseline` loads.

    Args:
        folder: Folder of a model.

    Returns:
        True for a baseline, False for any other model.
    """
    return (Path(folder) / DESCRIPTION).is_file()


def load_baseline(folder: str | Path) -> tuple[Baseline, MdetrImageProcessor]:
    """Load a baseline and its image processor.

    Args:
        folder: Folder that `save_pretrained` of both wrote to.

    Returns:
        The baseline, in training mode, and the processor.

    Raises:
        CheckpointError: A file is missing or damaged.
    """
    path = Path(folder)
    try:
        content = read_json_object(path / DESCRIPTION)
        classes = [NamedClass(**entry) for entry in content["classes"]]
        config = dict(content["config"])
        config.pop("weights", None)  # of the backbone; all weights are loaded below
        model = BASELINES[content["kind"]](classes, config)
        model.load_state_dict(load_file(path / WEIGHTS))
        return model, MdetrImageProcessor.from_pretrained(path)
    except (OSError, LookupError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        reason = first_line(error).rstrip(".")
        raise CheckpointError(
            f"The baseline in {path} is damaged or that of another program ({reason}); train it again."
        ) from None


def _unpadded(pixel_values: Tensor, pixel_mask: Tensor) -> list[Tensor]:
    """I images (3, h, w) without their padding."""
    images = []
    for image, mask in zip(pixel_values, pixel_mask, strict=True):
        height, width = _unpadded_size(mask)
        images.append(image[:, :height, :width])
    return images


def _unpadded_size(mask: Tensor) -> tuple[int, int]:
    """Height and width of the image that a mask (H, W) marks."""
    return int(mask[:, 0].sum()), int(mask[0].sum())


def _size(image: Tensor) -> Tensor:
    """Width, height, width, height of an image, to scale boxes by."""
    height, width = image.shape[-2:]
    return torch.tensor([width, height, width, height], device=image.device)


def evaluate_baseline(
    model: Baseline,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
    on_example_scores: object = None,
) -> dict[str, float]:
    """Score a baseline's detections; takes the arguments of `mdetr.evaluation.evaluator.evaluate`.

    Args:
        model: The baseline, in any mode; its mode is restored.
        validation: Validation set.
        batch_size: Unused: images are evaluated one by one.
        accelerator: The processes.
        on_progress: Called after each image with 1.
        on_example_scores: Unused: detections are scored over all images.

    Returns:
        "detection_score" -> value, and the counts of images.

    Raises:
        TrainingError: Too many images could not be read.
    """
    was_training = model.training
    model.eval()
    indices = indices_of_process(accelerator, validation.num_images)
    unreadable: set[int] = set()
    detect = partial(model.detect, processor=validation.processor)
    scores = score_detection(validation, indices, detect, unreadable, on_progress)
    model.train(was_training)
    return scores | count_images(validation, unreadable)
