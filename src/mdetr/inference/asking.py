"""Batched inference over any iterables of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, zip_longest
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from mdetr.errors import InvalidInputError, MdetrError
from mdetr.inference.stored_image import Picture, as_picture
from mdetr.model.interface import MdetrOutput
from mdetr.model.mdetr import ImageFeatures, TextFeatures
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.coordinates import Size
from mdetr.processing.images import (
    ImageInput,
    Placement,
    as_list,
    is_single,
    load_image,
    placements,
    unwrapped,
)
from mdetr.processing.processor import MdetrProcessor
from mdetr.processing.texts import as_texts
from mdetr.processing.tokens import TokenizedText

R = TypeVar("R")
Progress = Callable[[int], None]

LOOK_AHEAD = 4  # batches that an image may wait for others of its shape


@dataclass(frozen=True)
class Batch:
    """Pairs of image and text, with the texts' tokens, and how the images lie in the batch."""

    images: Sequence[Picture]
    places: Sequence[Placement]
    texts: Sequence[TokenizedText]

    @property
    def captions(self) -> list[str]:
        """The texts alone."""
        return [text.text for text in self.texts]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(height, width) of each pair's image."""
        return [place.given for place in self.places]


@dataclass(frozen=True)
class LoadedImage:
    """An image on its way to the model.

    picture: What results hold of it. given: Its size as given. pixels: (3, h, w) uint8, resized.
    """

    picture: Picture
    given: Size
    pixels: Tensor

    @property
    def resized(self) -> Size:
        """(height, width) of what the model sees."""
        return self.pixels.shape[-2], self.pixels.shape[-1]


@dataclass(frozen=True)
class _Pair:
    """An image and its text. place: In the lists that were given."""

    place: int
    image: LoadedImage
    text: TokenizedText


Read = Callable[[MdetrOutput, Batch], list[R]]
"""The output of a batch -> a result for each of its pairs."""


def ask(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    image: ImageInput | Sequence[ImageInput],
    text: str | Sequence[str],
    batch_size: int,
    on_progress: Progress | None,
    read: Read[R],
    channel_order: str = "rgb",
) -> R | list[R]:
    """Put texts to images in batches, and read each batch's output.

    Two lists of one length are asked pairwise; one image with several texts is encoded once; one text is
    asked of every image. The images of a batch have one shape, since padding would sway what is found: the
    result for a pair does not depend on what else is in the lists.

    Args:
        read: The output and its batch -> a result for each pair.
        on_progress: Called with the number of pairs that were finished since the last call.
        channel_order: Of arrays and tensors: "rgb" or "bgr".

    Returns:
        A result for each pair, in the order of the lists, and an empty list for empty ones; one result for
        one image and one text.

    Raises:
        InvalidInputError: An image or a text cannot be used, or the lists differ in length.
    """
    _check_batch_size(batch_size)
    single = is_single(image) and isinstance(text, str)
    images = as_list(image)
    texts = as_texts(text)
    count = _number_of_pairs(len(images), len(texts))
    tokenized: list[TokenizedText] = []
    for start in range(0, len(texts), 1000):  # refuses what cannot be read before any work is done
        tokenized += processor.tokenize_each(texts[start : start + 1000])
    if not count:
        return []
    steps: Iterator[list[R]]
    if len(images) == 1:
        steps = _ask_one_image(model, processor, images[0], tokenized, batch_size, read, channel_order)
    else:
        pairs = zip(images, tokenized * (count // len(tokenized)), strict=True)
        steps = _ask_images(model, processor, pairs, batch_size, read, channel_order)
    results: list[R] = []
    for step in steps:
        results += step
        if on_progress is not None:
            on_progress(len(step))
    return results[0] if single else results


def ask_each(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    images: ImageInput | Iterable[ImageInput],
    texts: str | Iterable[str],
    batch_size: int,
    read: Read[R],
    channel_order: str = "rgb",
) -> Iterator[R]:
    """Put texts to images as `ask` does, and give each result as soon as those before it are there.

    Images and texts are taken when they are needed, a few batches ahead, so that any number of them can be
    asked. Where one cannot be used, the results before it are given first.

    Returns:
        An iterator over the results, in the order of the pairs.

    Raises:
        InvalidInputError: An image or a text cannot be used, or there are more of one than of the other.
    """
    _check_batch_size(batch_size)
    steps: Iterator[list[R]]
    several: Iterable[TokenizedText]
    if isinstance(texts, str):
        several = processor.tokenize_each([texts])
    else:
        if not isinstance(texts, Iterable):
            as_texts(texts)  # refuses it
        several = _tokenized(processor, texts)
    if is_single(images):
        image = cast(ImageInput, images)
        steps = _ask_one_image(model, processor, image, several, batch_size, read, channel_order)
    else:
        given = cast(Iterable[ImageInput], images)
        pairs: Iterable[tuple[ImageInput, TokenizedText]]
        if isinstance(texts, str):
            pairs = zip(given, repeat(next(iter(several))), strict=False)
        else:
            pairs = _paired(given, several)
        steps = _ask_images(model, processor, pairs, batch_size, read, channel_order)
    return (result for step in steps for result in step)


def _check_batch_size(batch_size: int) -> None:
    if batch_size < 1:
        raise InvalidInputError(f"batch_size must be at least 1; found {batch_size}.")


def _tokenized(processor: MdetrProcessor, texts: Iterable[str]) -> Iterator[TokenizedText]:
    for text in texts:
        yield from processor.tokenize_each([text])


def _paired(
    images: Iterable[ImageInput], texts: Iterable[TokenizedText]
) -> Iterator[tuple[ImageInput, TokenizedText]]:
    """Images and texts of one number, which shows at the end."""
    missing: Any = object()
    for place, (image, text) in enumerate(zip_longest(images, texts, fillvalue=missing)):
        if image is missing or text is missing:
            fewer, more = ("images", "texts") if image is missing else ("texts", "images")
            raise InvalidInputError(f"There are only {place} {fewer}, and more {more}; give as many of each.")
        yield image, text


def _ask_one_image(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    image: ImageInput,
    texts: Iterable[TokenizedText],
    batch_size: int,
    read: Read[R],
    channel_order: str,
) -> Iterator[list[R]]:
    """The results for the texts about one image, which is encoded once, batch by batch."""
    loaded = load_for_model(processor, image, keep=True, channel_order=channel_order)
    (place,), features = encode_images(model, processor, [loaded])
    waiting = iter(texts)
    while asked := list(islice(waiting, batch_size)):
        count = len(asked)
        shared = features.select(torch.zeros(count, dtype=torch.long, device=model.device))
        yield read(
            _fuse(model, processor, shared, asked), Batch([loaded.picture] * count, [place] * count, asked)
        )


def _ask_images(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    pairs: Iterable[tuple[ImageInput, TokenizedText]],
    batch_size: int,
    read: Read[R],
    channel_order: str,
) -> Iterator[list[R]]:
    """The results for pairs of image and text, in their order, as they become ready."""
    groups: dict[Size, list[_Pair]] = {}  # waiting for more of their shape, the longest wait first
    ready: dict[int, R] = {}
    given = 0

    def run(group: Sequence[_Pair]) -> None:
        places, features = encode_images(model, processor, [pair.image for pair in group])
        batch = Batch([pair.image.picture for pair in group], places, [pair.text for pair in group])
        results = read(_fuse(model, processor, features, batch.texts), batch)
        ready.update(zip([pair.place for pair in group], results, strict=True))

    def in_order() -> list[R]:
        nonlocal given
        found: list[R] = []
        while given in ready:
            found.append(ready.pop(given))
            given += 1
        return found

    def loaded_pairs() -> Iterator[_Pair]:
        for place, (image, text) in enumerate(pairs):
            yield _Pair(place, load_for_model(processor, image, channel_order=channel_order), text)

    waiting, failure = loaded_pairs(), None
    while True:
        # What was given before something that cannot be used is still answered.
        try:
            pair = next(waiting, None)
        except MdetrError as error:
            pair, failure = None, error
        if pair is None:
            break
        group = groups.setdefault(pair.image.resized, [])
        group.append(pair)
        if len(group) == batch_size:
            run(groups.pop(pair.image.resized))
        # No pair waits for ever, or what comes after it would pile up.
        while groups and pair.place - next(iter(groups.values()))[0].place >= LOOK_AHEAD * batch_size:
            run(groups.pop(next(iter(groups))))
        if found := in_order():
            yield found
    for group in groups.values():
        run(group)
    if found := in_order():
        yield found
    if failure is not None:
        raise failure


def load_for_model(
    processor: MdetrProcessor, image: ImageInput, keep: bool = False, channel_order: str = "rgb"
) -> LoadedImage:
    """Read an image and resize it.

    Args:
        image: As for `load_image`.
        keep: Whether its picture keeps the pixels even where these can be read again.
        channel_order: Of arrays and tensors: "rgb" or "bgr".
    """
    image = unwrapped(image)
    pixels = load_image(image, channel_order)
    given = (pixels.shape[-2], pixels.shape[-1])
    return LoadedImage(as_picture(image, pixels, keep), given, processor.image_processor.resize(pixels))


@torch.inference_mode()
def encode_images(
    model: MdetrForObjectDetection, processor: MdetrProcessor, images: Sequence[LoadedImage]
) -> tuple[list[Placement], ImageFeatures]:
    """How images lie in their batch, and their features."""
    inputs = processor.image_processor.pad([image.pixels for image in images])
    where = placements([image.given for image in images], inputs["pixel_mask"])
    inputs = inputs.to(model.device)
    return where, model.encode_image(inputs["pixel_values"], inputs["pixel_mask"])


@torch.inference_mode()
def encode_texts(
    model: MdetrForObjectDetection, processor: MdetrProcessor, texts: Sequence[TokenizedText]
) -> TextFeatures:
    """The features of texts."""
    inputs = processor.pad_texts(texts).to(model.device)
    return model.encode_text(inputs["input_ids"], inputs["attention_mask"])


@torch.inference_mode()
def _fuse(
    model: MdetrForObjectDetection,
    processor: MdetrProcessor,
    features: ImageFeatures,
    texts: Sequence[TokenizedText],
) -> MdetrOutput:
    return model.fuse(features, encode_texts(model, processor, texts))


def _number_of_pairs(num_images: int, num_texts: int) -> int:
    """How many are asked; none where one of the lists is empty and the other is too, or holds but one."""
    if num_images != num_texts and 1 not in (num_images, num_texts):
        raise InvalidInputError(
            f"{num_images:,} images and {num_texts:,} texts do not go together; give one image, one text, or "
            "as many images as texts."
        )
    return num_texts if num_images == 1 else num_images
