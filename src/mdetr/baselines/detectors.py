"""Baseline detectors of the paper's LVIS table: DETR and Mask R-CNN.

DETR with a plain class head is transformers', Mask R-CNN is torchvision's; both learn from the same stores,
by the same recipes and with the same trainer as the model that reads text.
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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_convert
from transformers import DetrConfig, DetrForObjectDetection

from mdetr.data.examples import Example
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.evaluation.evaluator import Validation, count_images, score_detection, share_of
from mdetr.evaluation.metrics.detection import NamedClass, class_of
from mdetr.files import give_ordinary_permissions
from mdetr.processing.detections import Detections
from mdetr.processing.image_processor import MdetrImageProcessor
from mdetr.processing.rle import decode_masks

Labels = list[dict[str, Tensor]]
DESCRIPTION, WEIGHTS = "baseline.json", "model.safetensors"
PER_IMAGE = 300  # detections that Mask R-CNN gives


@dataclass
class BaselineOutput:
    """loss: with gradient. losses: its parts, for the log."""

    loss: Tensor
    losses: dict[str, Tensor]


class BaselineCollator:
    """Turns images with all records of each into a batch for a baseline."""

    def __init__(
        self, classes: Sequence[NamedClass], processor: MdetrImageProcessor, do_resize: bool, with_masks: bool
    ) -> None:
        """Keep all this; `do_resize` is false where augmentation has chosen the sizes already."""
        self._place = {named.number: place for place, named in enumerate(classes)}
        self._processor = processor
        self._do_resize = do_resize
        self._with_masks = with_masks

    def __call__(self, examples: Sequence[Example]) -> dict[str, Any]:
        """I examples -> the arguments of `Baseline.forward`, and "records", a list.

        Boxes are relative center x, center y, width and height; masks are as large as their image is here.

        Raises:
            InvalidInputError: masks are wanted, and a record has none.
        """
        images = [example.image for example in examples]
        batch = self._processor(images=images, do_resize=self._do_resize, return_tensors="pt")
        labels = [
            self._label(example, int(mask[:, 0].sum()), int(mask[0].sum()))
            for example, mask in zip(examples, batch["pixel_mask"], strict=True)
        ]
        records = [record for example in examples for record in example.records]
        return {**batch, "labels": labels, "records": records}

    def _label(self, example: Example, height: int, width: int) -> dict[str, Tensor]:
        classes, boxes, masks = [], [], []
        for record in example.records:
            size = torch.tensor([record.width, record.height] * 2)
            classes += [self._place[class_of(record)[0].number]] * len(record.boxes)
            boxes += [torch.tensor(box) / size for box in record.boxes]
            if self._with_masks and record.boxes:
                if not record.masks:
                    raise InvalidInputError(
                        f"Record {record.id!r} has no masks, which Mask R-CNN learns from."
                    )
                own = decode_masks(record.masks, record.height, record.width)
                masks.append(F.interpolate(own[None], (height, width))[0])
        return {
            "class_labels": torch.tensor(classes, dtype=torch.long),
            "boxes": box_convert(torch.stack(boxes), "xyxy", "cxcywh") if boxes else torch.zeros(0, 4),
            "masks": torch.cat(masks) if masks else torch.zeros(0, height, width, dtype=torch.uint8),
        }


class Baseline(nn.Module, ABC):
    """What both detectors share: their classes, and how they are asked and saved."""

    kind = ""

    def __init__(self, classes: Sequence[NamedClass], config: dict[str, Any]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.config_fields = config

    @torch.inference_mode()
    def find(self, image: Tensor, processor: MdetrImageProcessor) -> Detections:
        """Find the things in one image, (3, H, W) uint8; boxes may leave it."""
        batch = processor(images=[image], return_tensors="pt").to(next(self.parameters()).device)
        classes, boxes, scores = self._detect(batch["pixel_values"], batch["pixel_mask"])
        height, width = image.shape[-2:]
        corners = box_convert(boxes.float().cpu(), "cxcywh", "xyxy") * torch.tensor([width, height] * 2)
        labels = tuple(self.classes[place].name for place in classes.tolist())
        return Detections(corners.numpy(), scores.float().cpu().numpy(), labels=labels)

    @abstractmethod
    def _detect(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One image -> places of classes (n,), relative boxes (n, 4), scores (n,)."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the weights, the settings and the classes to a folder."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.contiguous().clone() for name, tensor in self.state_dict().items()}
        save_file(state, path / WEIGHTS)
        give_ordinary_permissions(path / WEIGHTS)
        classes = [asdict(named) for named in self.classes]
        content = {"kind": self.kind, "config": self.config_fields, "classes": classes}
        (path / DESCRIPTION).write_text(json.dumps(content))


class DetrBaseline(Baseline):
    """DETR whose class head is made for the data set (arXiv 2005.12872)."""

    kind = "detr"

    def __init__(
        self, classes: Sequence[NamedClass], config: dict[str, Any], start_from: str | None = None
    ) -> None:
        super().__init__(classes, config)
        if start_from is None:
            fields: dict[str, Any] = {"num_labels": len(classes), **config}
            self.model = DetrForObjectDetection(DetrConfig(**fields))
        else:
            self.model = DetrForObjectDetection.from_pretrained(
                start_from, num_labels=len(classes), ignore_mismatched_sizes=True, **config
            )
            self.config_fields = {
                name: value
                for name, value in self.model.config.to_diff_dict().items()
                if name not in ("id2label", "label2id", "model_type", "architectures", "transformers_version")
            }

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor, labels: Labels) -> BaselineOutput:
        """The loss of a batch."""
        targets = [{name: label[name] for name in ("class_labels", "boxes")} for label in labels]
        output = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask.long(), labels=targets)
        return BaselineOutput(output.loss, {name: part.detach() for name, part in output.loss_dict.items()})

    def _detect(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        output = self.model(pixel_values=pixel_values, pixel_mask=pixel_mask.long())
        scores = output.logits[0].softmax(-1)[:, :-1]  # (Q, classes)
        queries, classes = scores.shape
        places = torch.arange(classes, device=scores.device).repeat(queries)
        return places, output.pred_boxes[0].repeat_interleave(classes, 0), scores.flatten()


class _ImagesAsGiven(GeneralizedRCNNTransform):
    """Batches images in the sizes that they come in, as for other models; torchvision would resize them."""

    def resize(
        self, image: Tensor, target: dict[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        return image, target


class MaskRcnnBaseline(Baseline):
    """Mask R-CNN with a feature pyramid (arXiv 1703.06870)."""

    kind = "maskrcnn"

    def __init__(
        self, classes: Sequence[NamedClass], config: dict[str, Any], start_from: str | None = None
    ) -> None:
        super().__init__(classes, config)
        if start_from is not None:
            raise InvalidInputError("Mask R-CNN starts from its backbone: set model.config.weights instead.")
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
        self.model.transform = _ImagesAsGiven(0, 0, image_mean=[0.0] * 3, image_std=[1.0] * 3)

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor, labels: Labels) -> BaselineOutput:
        """The loss of a batch."""
        images = _unpadded(pixel_values, pixel_mask)
        targets = [
            {
                "boxes": box_convert(label["boxes"], "cxcywh", "xyxy") * _size(image),
                "labels": label["class_labels"] + 1,
                "masks": label["masks"],
            }
            for image, label in zip(images, labels, strict=True)
        ]
        losses = self.model(images, targets)
        loss = cast(Tensor, sum(losses.values()))
        return BaselineOutput(loss, {name: part.detach() for name, part in losses.items()})

    def _detect(self, pixel_values: Tensor, pixel_mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        (image,) = _unpadded(pixel_values, pixel_mask)
        (found,) = self.model([image])
        boxes = box_convert(found["boxes"] / _size(image), "xyxy", "cxcywh")
        return found["labels"] - 1, boxes, found["scores"]


BASELINES: dict[str, type[DetrBaseline] | type[MaskRcnnBaseline]] = {
    "detr": DetrBaseline,
    "maskrcnn": MaskRcnnBaseline,
}


def is_baseline(folder: str | Path) -> bool:
    """Whether `load_baseline` reads this folder."""
    return (Path(folder) / DESCRIPTION).is_file()


def load_baseline(folder: str | Path) -> tuple[Baseline, MdetrImageProcessor]:
    """Read what `save_pretrained` and the processor's own wrote.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    path = Path(folder)
    try:
        content = json.loads((path / DESCRIPTION).read_text())
        classes = [NamedClass(**entry) for entry in content["classes"]]
        config = {name: value for name, value in content["config"].items() if name != "weights"}
        model = BASELINES[content["kind"]](classes, config)
        model.load_state_dict(load_file(path / WEIGHTS))
        return model, MdetrImageProcessor.from_pretrained(path)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} is no baseline that loads ({error}); train it again.") from None


def _unpadded(pixel_values: Tensor, pixel_mask: Tensor) -> list[Tensor]:
    return [
        image[:, : int(mask[:, 0].sum()), : int(mask[0].sum())]
        for image, mask in zip(pixel_values, pixel_mask, strict=True)
    ]


def _size(image: Tensor) -> Tensor:
    height, width = image.shape[-2:]
    return image.new_tensor([width, height, width, height])


def evaluate_baseline(
    model: Baseline,
    validation: Validation,
    batch_size: int,
    accelerator: Accelerator,
    on_progress: Callable[[int], None] | None = None,
    on_example_scores: object = None,
) -> dict[str, float]:
    """Score a baseline's detections, image by image; called as `mdetr.evaluation.evaluator.evaluate`."""
    was_training = model.training
    model.eval()
    share = share_of(accelerator, validation.num_images)
    unreadable: set[int] = set()
    find = partial(model.find, processor=validation.processor)
    scores = score_detection(validation, share, find, unreadable, on_progress)
    model.train(was_training)
    return scores | count_images(validation, unreadable)
