"""One pass over the images of a command: batches in, results written as they come, failures listed last."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import typer
from rich.console import Console

from mdetr.cli.inputs import ImageSource, Query, image_address, image_name
from mdetr.cli.outputs import JsonWriter
from mdetr.cli.printing import plain, printable
from mdetr.cli.progress import image_progress
from mdetr.errors import MdetrError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class Result(Protocol):
    """A result that can be drawn and written."""

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Convert it to what JSON can hold."""
        ...


@dataclass(frozen=True)
class Pair:
    """An image and a text of a command line.

    Attributes:
        source: The image.
        image_index: Index of the image on the command line.
        text_index: Index of the text.
    """

    source: ImageSource
    image_index: int
    text_index: int

    @property
    def image_name(self) -> str:
        """Name of the image as it is printed."""
        return image_name(self.source)


@dataclass
class PairBatch:
    """Pairs that the model processes in one call, in the form that the batch methods of `Mdetr` take.

    Attributes:
        images: Images (height, width, 3) uint8 for one text, or one image for several texts.
        texts: The one text, or the several texts.
        pairs: For each result, in order, what it belongs to.
    """

    images: list[NDArray[np.uint8]] | NDArray[np.uint8]
    texts: str | list[str]
    pairs: list[Pair]


class PredictionRun:
    """Reads the images of a command, and prints, writes and draws its results.

    Images that cannot be used, and pictures that cannot be written, are skipped and listed when the context
    ends; the command then exits with code 1. Results are written at once, so that a run that is interrupted
    keeps them.

    Args:
        query: The images, the texts and where the results go.

    Attributes:
        console: Console to print results to: standard error while standard output takes JSON.
    """

    def __init__(self, query: Query) -> None:
        self.console = Console(stderr=query.outputs.is_stdout_json)
        self._query = query
        self._writer = JsonWriter(query.outputs.json_file, query.outputs.is_one)
        self._progress = image_progress(len(query.sources), self.console, query.outputs.is_stdout_json)
        self._task = self._progress.add_task("images", total=len(query.sources))
        self._unreadable_images: list[str] = []
        self._unwritten_pictures: list[str] = []

    def __enter__(self) -> PredictionRun:
        self._writer.__enter__()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        try:
            self._writer.__exit__(kind, error, trace)
        finally:
            self._list_failures()
        if error is None and (self._unreadable_images or self._unwritten_pictures):
            raise typer.Exit(1)

    def batches(self, batch_size: int) -> Iterator[PairBatch]:
        """Read the images, and combine them with the texts.

        One text is combined with `batch_size` images at once. Several texts come with one image at a time,
        which the model then encodes only once.

        Args:
            batch_size: Number of images to read at once if there is one text.

        Yields:
            Batches; their images are released when the next one is requested.
        """
        texts = list(self._query.texts)
        if len(texts) > 1:
            for index, pixels in self._read_images():
                source = self._query.sources[index]
                pairs = [Pair(source, index, text_index) for text_index in range(len(texts))]
                batch = PairBatch(pixels, texts, pairs)
                del pixels
                yield batch
                batch.images = []
            return

        batch = PairBatch([], texts[0], [])
        for index, pixels in self._read_images():
            assert isinstance(batch.images, list)
            batch.images.append(pixels)
            batch.pairs.append(Pair(self._query.sources[index], index, 0))
            del pixels
            if len(batch.pairs) == batch_size:
                yield batch
                batch.images, batch.pairs = [], []
        if batch.pairs:
            yield batch

    def write(self, pair: Pair, result: Result) -> None:
        """Write a result to the JSON file, and draw its picture, if the command asks for them.

        Args:
            pair: What the result belongs to.
            result: The result.
        """
        self._writer.add({"image": image_address(pair.source)} | result.to_dict())
        picture = self._query.outputs.picture(pair.image_index, pair.text_index)
        if picture is not None:
            self._draw(result, picture)

    def _read_images(self) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Read the images that can be used, each when it is needed, with their indices."""
        from mdetr.processing.images import load_image

        for index, source in enumerate(self._query.sources):
            try:
                pixels = load_image(source)
            except MdetrError as error:
                self._unreadable_images.append(str(error))
            else:
                yield index, pixels
                del pixels
            self._progress.advance(self._task)

    def _draw(self, result: Result, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            result.plot(path)
        except (MdetrError, OSError, ValueError) as error:  # ValueError: too large for the image format
            self._unwritten_pictures.append(f"{path}: {error}")
        else:
            self.console.print(plain(f"picture: {path}"), soft_wrap=True)

    def _list_failures(self) -> None:
        """Print every failure to standard error."""
        num_images = len(self._query.sources)
        self._list_messages(self._unreadable_images, f"of {num_images:,} images could not be used:")
        self._list_messages(self._unwritten_pictures, f"of {num_images:,} images could not be drawn:")

    def _list_messages(self, messages: Sequence[str], summary: str) -> None:
        if not messages:
            return
        if len(self._query.sources) == 1:
            lines = [f"mdetr: {' '.join(messages)}"]
        else:
            lines = [f"mdetr: {len(messages):,} {summary}", *(f"  {message}" for message in messages)]
        for line in lines:
            typer.echo(printable(line), err=True)
