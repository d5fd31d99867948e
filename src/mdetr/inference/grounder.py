"""The friendly face: images and texts of any common kind in, results out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, overload

import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

from mdetr.errors import InvalidInputError
from mdetr.images import ImageInput, as_list, load_image
from mdetr.inference.loading import load
from mdetr.inference.results import GroundingResult, ReferringResult
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import ImageFeatures, MdetrModel
from mdetr.processor import MdetrProcessor

R = TypeVar("R")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Mdetr:
    """A model with its processor, ready to be asked.

    Every question takes one image or a list, one text or a list. Two lists of one length are asked pairwise;
    one image with several texts is encoded once; one text is asked of every image. One of each gives one
    result, else a list.
    """

    model: MdetrModel
    processor: MdetrProcessor

    @classmethod
    def from_pretrained(
        cls, name: str | Path, device: str | torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> Mdetr:
        """Load a model.

        Args:
            name: a bundled name such as "clevr-tiny", a folder, or a Hub id.
            device: where it runs; a GPU where there is one, if left out.
            dtype: of the weights.

        Raises:
            CheckpointError: there is no such model, its files are damaged, or it is not an MDETR.
        """
        model, processor = load(name, dtype)
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.nn.Module.to(model, chosen)  # PreTrainedModel's own `to` is typed as if it took a model
        return cls(model, processor)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.model.device

    @overload
    def ground(
        self,
        image: ImageInput,
        text: str,
        threshold: float = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> GroundingResult: ...

    @overload
    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float = ...,
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> GroundingResult | list[GroundingResult]: ...

    def ground(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        threshold: float = 0.7,
        batch_size: int = 8,
        on_progress: Progress | None = None,
    ) -> GroundingResult | list[GroundingResult]:
        """Find the things that a text speaks of, and the words that each belongs to.

        Args:
            image: a path, PIL image, (H, W, 3) uint8 array or (3, H, W) uint8 tensor; or a list of these.
            text: a caption, or a list of captions.
            threshold: boxes with 1 - p(no object) above this are kept.
            batch_size: pairs of image and text that the model sees at once.
            on_progress: called with the number of pairs that were finished since the last call.

        Raises:
            InvalidInputError: an image or a text cannot be used, or the lists differ in length.

        Source: arXiv 2104.12763, section 4.2.1.
        """
        if not 0 <= threshold <= 1:
            raise InvalidInputError(f"threshold must be between 0 and 1; found {threshold}.")

        def read(output: MdetrOutput, batch: _Batch) -> list[GroundingResult]:
            found = self.processor.post_process_grounding(output, batch.texts, batch.sizes, threshold)
            return [
                GroundingResult(picture, sentence, tuple(groundings))
                for picture, sentence, groundings in zip(batch.images, batch.texts, found, strict=True)
            ]

        return self._ask(image, text, batch_size, on_progress, read)

    @overload
    def refer(
        self, image: ImageInput, text: str, batch_size: int = ..., on_progress: Progress | None = ...
    ) -> ReferringResult: ...

    @overload
    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = ...,
        on_progress: Progress | None = ...,
    ) -> ReferringResult | list[ReferringResult]: ...

    def refer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int = 8,
        on_progress: Progress | None = None,
    ) -> ReferringResult | list[ReferringResult]:
        """Find the one thing that an expression denotes; arguments and errors as for `ground`.

        Source: arXiv 2104.12763, section 4.2.2.
        """

        def read(output: MdetrOutput, batch: _Batch) -> list[ReferringResult]:
            results = []
            scored = self.processor.post_process_boxes(output, batch.sizes)
            for picture, sentence, (boxes, scores, referred) in zip(
                batch.images, batch.texts, scored, strict=True
            ):
                ranking = scores if referred is None else referred
                best = int(ranking.argmax())
                limits = torch.tensor([picture.width, picture.height] * 2, device=boxes.device)
                x0, y0, x1, y1 = boxes[best].clamp(min=0).minimum(limits).tolist()
                results.append(ReferringResult(picture, sentence, (x0, y0, x1, y1), float(ranking[best])))
            return results

        return self._ask(image, text, batch_size, on_progress, read)

    def _ask(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str | Sequence[str],
        batch_size: int,
        on_progress: Progress | None,
        read: Callable[[MdetrOutput, _Batch], list[R]],
    ) -> R | list[R]:
        if batch_size < 1:
            raise InvalidInputError(f"batch_size must be at least 1; found {batch_size}.")
        single = not isinstance(image, list | tuple) and isinstance(text, str)
        images = as_list(image)
        texts = [text] if isinstance(text, str) else list(text)
        count = _number_of_pairs(len(images), len(texts))
        results: list[R] = []
        shared: tuple[Image.Image, ImageFeatures] | None = None
        for start in range(0, count, batch_size):
            places = range(start, min(start + batch_size, count))
            asked = [texts[0 if len(texts) == 1 else place] for place in places]
            if len(images) == 1:
                if shared is None:
                    pictures, features = self._encode(images)
                    shared = pictures[0], features
                pictures = [shared[0]] * len(asked)
                features = shared[1].select(torch.zeros(len(asked), dtype=torch.long, device=self.device))
            else:
                pictures, features = self._encode([images[place] for place in places])
            results += read(self._fuse(features, asked), _Batch(pictures, asked))
            if on_progress is not None:
                on_progress(len(asked))
        return results[0] if single else results

    @torch.inference_mode()
    def _encode(self, images: Sequence[ImageInput]) -> tuple[list[Image.Image], ImageFeatures]:
        loaded = [load_image(image) for image in images]
        inputs = self.processor(images=loaded).to(self.device)
        features = self.model.encode_image(inputs["pixel_values"], inputs["pixel_mask"])
        return [to_pil_image(image) for image in loaded], features

    @torch.inference_mode()
    def _fuse(self, features: ImageFeatures, texts: Sequence[str]) -> MdetrOutput:
        inputs = self.processor(text=texts).to(self.device)
        return self.model.fuse(
            features, self.model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        )


@dataclass(frozen=True)
class _Batch:
    """Pairs of image and text."""

    images: Sequence[Image.Image]
    texts: Sequence[str]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each pair's image."""
        return [(image.height, image.width) for image in self.images]


def _number_of_pairs(num_images: int, num_texts: int) -> int:
    count = max(num_images, num_texts)
    if min(num_images, num_texts) < 1 or {num_images, num_texts} - {1, count}:
        raise InvalidInputError(
            "Give one image, one text, or as many images as texts; found "
            f"{num_images} images and {num_texts} texts."
        )
    return count
