"""Batched inference over any iterables of images and texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, repeat, zip_longest
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mdetr.errors import InvalidInputError, MdetrError
from mdetr.inference.detector import Detector, inference_mode, model_inputs
from mdetr.inference.encoded_image import EncodedImage
from mdetr.inference.fingerprint import fingerprint
from mdetr.inference.stored_image import Picture, as_picture
from mdetr.model.features import ImageFeatures, TextFeatures
from mdetr.model.predictions import Predictions
from mdetr.processing.array_processor import ArrayProcessor
from mdetr.processing.coordinates import Size
from mdetr.processing.images import ImageInput, is_single, load_image, unwrap
from mdetr.processing.layouts import ImageLayout, image_layouts
from mdetr.processing.texts import as_texts, check_text
from mdetr.processing.tokens import TokenizedText

R = TypeVar("R")

LOOK_AHEAD = 4  # batches that an image may wait for others of its shape


@dataclass(frozen=True)
class Batch:
    """Pairs of image and text that the model processes together.

    Attributes:
        images: The image of each pair, as results hold it.
        layouts: How each image lies in the batch.
        texts: The tokenized text of each pair.
    """

    images: Sequence[Picture]
    layouts: Sequence[ImageLayout]
    texts: Sequence[TokenizedText]

    @property
    def captions(self) -> list[str]:
        """The texts without their tokens."""
        return [text.text for text in self.texts]

    @property
    def sizes(self) -> list[Size]:
        """(height, width) of each image as given, in pixels."""
        return [layout.given for layout in self.layouts]


@dataclass(frozen=True)
class LoadedImage:
    """An image that is resized for the model.

    Attributes:
        picture: The image as results hold it.
        given: (height, width) before resizing, in pixels.
        pixels: (h, w, 3) uint8, resized.
    """

    picture: Picture
    given: Size
    pixels: NDArray[np.uint8]

    @property
    def resized(self) -> Size:
        """(height, width) after resizing, in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True)
class _Pair:
    """An image, its text, and their index in the input."""

    index: int
    image: LoadedImage | EncodedImage
    text: TokenizedText


@dataclass(frozen=True)
class Predictor(Generic[R]):
    """Runs a model on pairs of image and text, and turns its outputs into results.

    The images of a batch have one shape, because padding would change the predictions: the result for a pair
    does not depend on the other pairs.

    Args:
        model: The model.
        processor: Its processor.
        to_results: Makes the results of a batch, one for each pair, from the model's output.
        batch_size: Number of pairs in a batch, at least 1.
        channel_order: Channel order of arrays and tensors, "rgb" or "bgr".

    Raises:
        InvalidInputError: The batch size is less than 1.
    """

    model: Detector
    processor: ArrayProcessor
    to_results: Callable[[Predictions, Batch], list[R]]
    batch_size: int = 1
    channel_order: str = "rgb"

    def __post_init__(self) -> None:
        """Check the batch size."""
        if self.batch_size < 1:
            raise InvalidInputError(f"Expected a batch_size of at least 1, got {self.batch_size}.")

    def predict(self, image: ImageInput | EncodedImage, text: str) -> R:
        """Predict the result for one image and one text.

        Args:
            image: One image, as for `load_image`, or an encoded one.
            text: One text.

        Returns:
            The result, which holds the pixels of the image.

        Raises:
            InvalidInputError: The image or the text cannot be used.
        """
        texts = self.processor.tokenize_each([text])
        ((result,),) = self._predict_texts(image, texts)
        return result

    def predict_batch(
        self,
        images: ImageInput | EncodedImage | Iterable[ImageInput | EncodedImage],
        texts: str | Iterable[str],
    ) -> Iterator[R]:
        """Predict the results for any number of pairs, in batches, reading a few batches ahead.

        Args:
            images: An iterable of images, or one image, which is encoded once for all texts. Encoded images
                are not encoded again.
            texts: An iterable of texts, one for each image, or one text for all images.

        Returns:
            An iterator over the results, in the order of the pairs.

        Raises:
            InvalidInputError: An image or a text cannot be used, or the numbers of images and texts differ.
                The iterator raises it after the results for the pairs before.
        """
        # Tokenize a single text here, so that the call itself refuses an invalid one.
        tokenized: Iterable[TokenizedText]
        if isinstance(texts, str):
            tokenized = self.processor.tokenize_each([texts])
        elif isinstance(texts, Iterable) and not isinstance(texts, bytes | Mapping):
            tokenized = self._tokenize(texts)
        else:
            tokenized = self.processor.tokenize_each(as_texts(texts))

        batches: Iterator[list[R]]
        if is_single(images):
            batches = self._predict_texts(cast(ImageInput | EncodedImage, images), tokenized)
        elif isinstance(texts, str):
            shared = repeat(next(iter(tokenized)))
            batches = self._predict_pairs(
                zip(cast(Iterable[ImageInput | EncodedImage], images), shared, strict=False)
            )
        else:
            batches = self._predict_pairs(
                _match_lengths(cast(Iterable[ImageInput | EncodedImage], images), tokenized)
            )
        return (result for results in batches for result in results)

    def _tokenize(self, texts: Iterable[str]) -> Iterator[TokenizedText]:
        for text in texts:
            yield from self.processor.tokenize_each([text])

    def _predict_texts(
        self, image: ImageInput | EncodedImage, texts: Iterable[TokenizedText]
    ) -> Iterator[list[R]]:
        """Results for the texts of one image, which is encoded once, batch by batch."""
        encoded = encode_image(self.model, self.processor, image, self.channel_order)
        remaining = iter(texts)
        while batch_texts := list(islice(remaining, self.batch_size)):
            count = len(batch_texts)
            repeated = encoded.features.select([0] * count)
            batch = Batch([encoded.picture] * count, [encoded.layout] * count, batch_texts)
            yield self._predict_features(repeated, batch)

    def _predict_pairs(
        self, pairs: Iterable[tuple[ImageInput | EncodedImage, TokenizedText]]
    ) -> Iterator[list[R]]:
        """Results for pairs of image and text, in the order of the pairs, as they become ready."""
        groups: dict[Size, list[_Pair]] = {}  # incomplete batches by shape, the oldest first
        ready: dict[int, R] = {}  # results that wait for those of earlier pairs
        next_index = 0
        remaining = self._load_pairs(pairs)
        failure: MdetrError | None = None
        while True:
            # On an invalid pair, stop reading but finish the pairs before it.
            try:
                pair = next(remaining, None)
            except MdetrError as error:
                pair, failure = None, error
            if pair is None:
                break

            # Predict a batch when it is full
            group = groups.setdefault(pair.image.resized, [])
            group.append(pair)
            if len(group) == self.batch_size:
                ready |= self._predict_group(groups.pop(pair.image.resized))

            # Predict incomplete batches that waited too long, which bounds the memory
            oldest = pair.index - LOOK_AHEAD * self.batch_size
            while groups and next(iter(groups.values()))[0].index <= oldest:
                ready |= self._predict_group(groups.pop(next(iter(groups))))

            # Release the results whose predecessors are all released
            results = _pop_in_order(ready, next_index)
            next_index += len(results)
            if results:
                yield results

        # Predict the remaining incomplete batches
        for group in groups.values():
            ready |= self._predict_group(group)
        yield _pop_in_order(ready, next_index)
        if failure is not None:
            raise failure

    def _load_pairs(
        self, pairs: Iterable[tuple[ImageInput | EncodedImage, TokenizedText]]
    ) -> Iterator[_Pair]:
        for index, (image, text) in enumerate(pairs):
            if isinstance(image, EncodedImage):
                image.check_use(self.model, self.channel_order)
                yield _Pair(index, image, text)
            else:
                loaded = load_for_model(self.processor, image, channel_order=self.channel_order)
                yield _Pair(index, loaded, text)

    def _predict_group(self, group: Sequence[_Pair]) -> dict[int, R]:
        """Results for pairs with images of one shape, by their indices."""
        layouts, features = self._encode_group([pair.image for pair in group])
        batch = Batch([pair.image.picture for pair in group], layouts, [pair.text for pair in group])
        results = self._predict_features(features, batch)
        return {pair.index: result for pair, result in zip(group, results, strict=True)}

    def _encode_group(
        self, images: Sequence[LoadedImage | EncodedImage]
    ) -> tuple[list[ImageLayout], ImageFeatures]:
        """Features of images of one shape; those that are encoded are not encoded again."""
        loaded = [image for image in images if isinstance(image, LoadedImage)]
        if len(loaded) == len(images):
            return encode_images(self.model, self.processor, loaded)
        fresh = iter(encode_loaded(self.model, self.processor, loaded))
        encoded = [image if isinstance(image, EncodedImage) else next(fresh) for image in images]
        features = ImageFeatures.concatenate([image.features for image in encoded])
        return [image.layout for image in encoded], features

    def _predict_features(self, features: ImageFeatures, batch: Batch) -> list[R]:
        texts = encode_texts(self.model, self.processor, batch.texts)
        with inference_mode(self.model):
            output = self.model.fuse(features, texts)
        return self.to_results(output, batch)


def _pop_in_order(ready: dict[int, R], index: int) -> list[R]:
    """Remove and return the results from an index on, up to the first that is missing."""
    results: list[R] = []
    while index in ready:
        results.append(ready.pop(index))
        index += 1
    return results


def _match_lengths(
    images: Iterable[ImageInput | EncodedImage], texts: Iterable[TokenizedText]
) -> Iterator[tuple[ImageInput | EncodedImage, TokenizedText]]:
    """Pairs of image and text; an error at the end if one of the iterables is longer."""
    missing: Any = object()
    for index, (image, text) in enumerate(zip_longest(images, texts, fillvalue=missing)):
        if image is missing or text is missing:
            fewer, more = ("images", "texts") if image is missing else ("texts", "images")
            raise InvalidInputError(f"Expected one text for each image, got {index} {fewer} and more {more}.")
        yield image, text


def check_single(image: Any, text: Any, batch_method: str) -> None:
    """Check that a call has one image and one text.

    Args:
        image: The image of the call.
        text: The text of the call.
        batch_method: The method that takes several of them.

    Raises:
        InvalidInputError: There are several images or texts, or the text is invalid.
    """
    check_single_image(image, batch_method)
    if isinstance(text, Iterable) and not isinstance(text, str | bytes):
        raise InvalidInputError(f"Expected one text, got {_describe(text)}; call {batch_method} for several.")
    check_text(text)


def check_single_image(image: Any, batch_method: str) -> None:
    """Check that a call has one image.

    Args:
        image: The image of the call.
        batch_method: The method that takes several images.

    Raises:
        InvalidInputError: There are several images.
    """
    if not is_single(image):
        raise InvalidInputError(
            f"Expected one image, got {_describe(image)}; call {batch_method} for several."
        )


def _describe(values: Any) -> str:
    kind = type(values).__name__
    return f"a {kind} of {len(values)}" if hasattr(values, "__len__") else f"a {kind}"


def encode_image(
    model: Detector,
    processor: ArrayProcessor,
    image: ImageInput | EncodedImage,
    channel_order: str = "rgb",
    keep: bool = True,
) -> EncodedImage:
    """Encode one image; an encoded image is returned unchanged.

    Args:
        model: The model.
        processor: Its processor.
        image: One image, as for `load_image`, or an encoded one.
        channel_order: Channel order of arrays and tensors, "rgb" or "bgr".
        keep: Whether to keep the original pixels even if they can be read again.

    Returns:
        The encoded image.

    Raises:
        InvalidInputError: The image cannot be used, was encoded by another model, or is encoded already and
            its channels are to be reordered.
    """
    if isinstance(image, EncodedImage):
        image.check_use(model, channel_order)
        return image
    loaded = load_for_model(processor, image, keep, channel_order)
    return encode_loaded(model, processor, [loaded])[0]


def load_for_model(
    processor: ArrayProcessor, image: ImageInput, keep: bool = False, channel_order: str = "rgb"
) -> LoadedImage:
    """Read an image and resize it for the model.

    Args:
        processor: The model's processor.
        image: One image, as for `load_image`.
        keep: Whether to keep the original pixels even if they can be read again.
        channel_order: Channel order of arrays and tensors, "rgb" or "bgr".

    Returns:
        The resized image.

    Raises:
        InvalidInputError: The image cannot be used.
    """
    image = unwrap(image)
    pixels = load_image(image, channel_order)
    given = (pixels.shape[0], pixels.shape[1])
    resized = processor.image_processor.resize(pixels)  # before the picture, to hold fewer copies at once
    return LoadedImage(as_picture(image, pixels, keep), given, resized)


def encode_images(
    model: Detector, processor: ArrayProcessor, images: Sequence[LoadedImage]
) -> tuple[list[ImageLayout], ImageFeatures]:
    """Encode a batch of images.

    Args:
        model: The model.
        processor: Its processor.
        images: The images of the batch.

    Returns:
        The layout of each image in the batch, and the features of all images.
    """
    arrays = processor.image_processor.pad([image.pixels for image in images])
    layouts = image_layouts([image.given for image in images], arrays["pixel_mask"])
    inputs = model_inputs(model, arrays)
    with inference_mode(model):
        return layouts, model.encode_image(inputs["pixel_values"], inputs["pixel_mask"])


def encode_loaded(
    model: Detector, processor: ArrayProcessor, images: Sequence[LoadedImage]
) -> list[EncodedImage]:
    """Encode images of any shapes; those of one shape are encoded together.

    Args:
        model: The model.
        processor: Its processor.
        images: The images.

    Returns:
        The encoded images, in the same order.
    """
    # Group the images by shape, because padding would change the predictions
    groups: dict[Size, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.resized, []).append(index)

    # Encode each group, and give each image its own features
    encoded: dict[int, EncodedImage] = {}
    for group in groups.values():
        layouts, features = encode_images(model, processor, [images[index] for index in group])
        for row, index in enumerate(group):
            own = features.select([row])
            encoded[index] = EncodedImage(images[index].picture, layouts[row], own, fingerprint(model))
    return [encoded[index] for index in range(len(images))]


def encode_texts(model: Detector, processor: ArrayProcessor, texts: Sequence[TokenizedText]) -> TextFeatures:
    """Encode a batch of texts.

    Args:
        model: The model.
        processor: Its processor.
        texts: The tokenized texts of the batch.

    Returns:
        The features of all texts, padded to one length.
    """
    inputs = model_inputs(model, processor.pad_texts(texts))
    with inference_mode(model):
        return model.encode_text(inputs["input_ids"], inputs["attention_mask"])
