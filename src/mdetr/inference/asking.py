"""Images and texts, as lists of any common kind, in; the model's output for them, batch after batch, out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from mdetr.errors import InvalidInputError
from mdetr.images import ImageInput, Placement, as_list, load_image, placements
from mdetr.inference.stored_image import Picture, as_picture
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import ImageFeatures, MdetrModel, TextFeatures
from mdetr.processor import MdetrProcessor, as_texts

R = TypeVar("R")
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Batch:
    """Pairs of image and text, and how the images lie in the batch."""

    images: Sequence[Picture]
    places: Sequence[Placement]
    texts: Sequence[str]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each pair's image."""
        return [place.given for place in self.places]


def ask(
    model: MdetrModel,
    processor: MdetrProcessor,
    image: ImageInput | Sequence[ImageInput],
    text: str | Sequence[str],
    batch_size: int,
    on_progress: Progress | None,
    read: Callable[[MdetrOutput, Batch], list[R]],
) -> R | list[R]:
    """Put texts to images in batches, and read each batch's output.

    Two lists of one length are asked pairwise; one image with several texts is encoded once; one text is
    asked of every image.

    Args:
        read: the output and its batch -> a result for each pair.
        on_progress: called with the number of pairs that were finished since the last call.

    Raises:
        InvalidInputError: an image or a text cannot be used, or the lists differ in length.
    """
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1; found {batch_size}.")
    single = not isinstance(image, list | tuple) and isinstance(text, str)
    images = as_list(image)
    texts = as_texts(text)
    count = _number_of_pairs(len(images), len(texts))
    results: list[R] = []
    shared: tuple[Picture, Placement, ImageFeatures] | None = None
    for start in range(0, count, batch_size):
        places = range(start, min(start + batch_size, count))
        asked = [texts[0 if len(texts) == 1 else place] for place in places]
        if len(images) == 1:
            if shared is None:
                pictures, where, features = encode_images(model, processor, images, keep=True)
                shared = pictures[0], where[0], features
            pictures, where = [shared[0]] * len(asked), [shared[1]] * len(asked)
            features = shared[2].select(torch.zeros(len(asked), dtype=torch.long, device=model.device))
        else:
            pictures, where, features = encode_images(model, processor, [images[place] for place in places])
        results += read(_fuse(model, processor, features, asked), Batch(pictures, where, asked))
        if on_progress is not None:
            on_progress(len(asked))
    return results[0] if single else results


@torch.inference_mode()
def encode_images(
    model: MdetrModel, processor: MdetrProcessor, images: Sequence[ImageInput], keep: bool = False
) -> tuple[list[Picture], list[Placement], ImageFeatures]:
    """Encode images.

    Args:
        images: I images.
        keep: Whether pictures keep their pixels even where these can be read again.

    Returns:
        The pictures, how they lie in the batch, and their features.
    """
    loaded = [load_image(image) for image in images]
    inputs = processor(images=loaded)
    where = placements([(image.shape[-2], image.shape[-1]) for image in loaded], inputs["pixel_mask"])
    inputs = inputs.to(model.device)
    features = model.encode_image(inputs["pixel_values"], inputs["pixel_mask"])
    pictures = [as_picture(image, pixels, keep) for image, pixels in zip(images, loaded, strict=True)]
    return pictures, where, features


@torch.inference_mode()
def encode_texts(model: MdetrModel, processor: MdetrProcessor, texts: Sequence[str]) -> TextFeatures:
    """B texts -> their features."""
    inputs = processor(text=texts).to(model.device)
    return model.encode_text(inputs["input_ids"], inputs["attention_mask"])


@torch.inference_mode()
def _fuse(
    model: MdetrModel, processor: MdetrProcessor, features: ImageFeatures, texts: Sequence[str]
) -> MdetrOutput:
    return model.fuse(features, encode_texts(model, processor, texts))


def _number_of_pairs(num_images: int, num_texts: int) -> int:
    count = max(num_images, num_texts)
    if min(num_images, num_texts) < 1 or {num_images, num_texts} - {1, count}:
        raise InvalidInputError(
            "Give one image, one text, or as many images as texts; found "
            f"{num_images} images and {num_texts} texts."
        )
    return count
