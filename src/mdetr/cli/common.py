"""Options, inputs and the batch loop that the image commands share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mdetr.cli.outputs import JsonWriter, Outputs, plan_outputs
from mdetr.cli.printing import plain, printable
from mdetr.errors import InvalidInputError, MdetrError
from mdetr.files import address_name, is_address, is_data_address
from mdetr.processing.texts import check_text

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from mdetr.checkpoints.registry import Task
    from mdetr.inference.grounder import Mdetr
    from mdetr.processing.detections import Grounding


class Result(Protocol):
    """What a command prints, draws and writes."""

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        ...


class Precision(StrEnum):
    """Types of numbers that a model runs in, by torch's names."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


R = TypeVar("R", bound=Result)
Source = Path | str
"""An image of a call: a path, or an address."""


def model_names() -> list[str]:
    """What the shell completes a model with; paths are what it falls back on."""
    from mdetr.checkpoints import registry

    return registry.model_names()


GROUNDING_MODEL = "photo-tiny"  # of the bundled models the one for photos
ANSWERING_MODEL = "clevr-tiny"  # the one that answers questions

# The options of every command that asks a model about images.
ImagesAndText = Annotated[
    list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the text.")
]
OptionalImagesAndText = Annotated[
    list[str] | None, typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the text.")
]
Also = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Another text for the same images; repeatable.")
]
ModelName = Annotated[
    str, typer.Option(help="A name of mdetr models, a folder or a Hub id.", autocompletion=model_names)
]
NeededModel = Annotated[
    str,
    typer.Option("--model", help="A name of mdetr models, a folder or a Hub id.", autocompletion=model_names),
]
Device = Annotated[
    str | None, typer.Option(help="Where the model runs, such as cpu or cuda:1; a GPU where there is one.")
]
Dtype = Annotated[
    Precision, typer.Option(help="Type of the model's numbers; those of 16 bits need half the memory.")
]
Output = Annotated[
    str | None,
    typer.Option(
        metavar="PATH", help="The picture to write; a folder where there are several images or texts."
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option(
        "--json",
        metavar="FILE",
        help="Write the results to this file, as lines where it ends in .jsonl; - prints them.",
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Boxes that are less certain than this are left out.",
        show_default="the model's own, mostly 0.7",
    ),
]
ReferringThreshold = Annotated[
    float,
    typer.Option(
        "--threshold", min=0, max=1, help="Nothing is found where the best box is less certain than this."
    ),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pairs of image and text that the model sees at once.")]

Ask = Callable[[Sequence["Tensor"]], Sequence[Sequence[R]]]
"""Images (3, H, W) uint8 -> for each image a result for each text."""

PredictBatch = Callable[["Tensor | Sequence[Tensor]", str | Sequence[str]], Iterator[R]]
"""Images (3, H, W) uint8 and one text, or one image and several texts -> a result for each pair."""


@dataclass(frozen=True)
class Query:
    """What a command is asked: texts about images, and where the results go.

    sources: the images. texts: asked of each of them. outputs: checked already.
    """

    sources: Sequence[Source]
    texts: Sequence[str]
    outputs: Outputs

    def run(
        self,
        predict: PredictBatch[R],
        show: Callable[[Console, str, R], None],
        batch_size: int,
    ) -> None:
        """Predict the results, and write, print and draw them; see `answer_images`.

        Args:
            predict: Calls a method of `Mdetr`, such as `ground_batch`, with the command's options.
            show: Prints the result of an image of this name.
            batch_size: Number of pairs of image and text that the model processes at once.
        """

        def ask(images: Sequence[Tensor]) -> list[list[R]]:
            if len(self.texts) == 1:
                return [[result] for result in predict(images, self.texts[0])]
            return [list(predict(image, self.texts)) for image in images]  # encodes each image once

        images_at_once = batch_size if len(self.texts) == 1 else 1
        answer_images(self.sources, self.outputs, ask, show, images_at_once)


def read_query(
    arguments: Sequence[str], also: Sequence[str] | None, output: str | None, json_file: str | None
) -> Query:
    """Read and check a call: the last argument is the first text, a folder means its images.

    Raises:
        InvalidInputError: There is no image or no text, a text cannot be read, or an output not be written.
    """
    if len(arguments) < 2:
        raise InvalidInputError("Give at least one image and then the text, in quotes.")
    *names, text = arguments
    refuse_image_as_text(text)
    texts = [text, *(also or [])]
    sources = find_images(names)
    outputs = plan_outputs(sources, len(texts), output, json_file, has_folder(names))
    for one in texts:
        check_text(one)
    return Query(sources, texts, outputs)


def refuse_image_as_text(text: str) -> None:
    """See that the last argument, which is a text, is not the name of an image.

    Raises:
        InvalidInputError: It is the name of an image that is there.
    """
    from mdetr.visualization.picture_files import is_picture_name

    if is_picture_name(Path(text)) and os.path.isfile(text):
        raise InvalidInputError(f"The last argument should be a text, and {text} is an image; add the text.")


def load_model(
    name: str, device: str | None, dtype: Precision = Precision.FLOAT32, task: Task | None = None
) -> Mdetr:
    """The model that a command asks; what is wrong with the call is told before anything slow is loaded.

    Args:
        name: A name of `mdetr models`, a folder or a Hub id.
        device: Where it runs; a GPU where there is one, if None.
        dtype: Type of its numbers.
        task: What it must have a head for, if anything.
    """
    from mdetr.checkpoints.abilities import check_ability, check_ability_of_release, read_config
    from mdetr.checkpoints.finding import find_model

    if task is not None:
        check_ability_of_release(name, task)  # which spares a download
    if device is not None:
        from mdetr.inference.devices import choose_device

        choose_device(device)
    folder = find_model(name)
    if task is not None:
        check_ability(read_config(folder), task, name)
    import torch

    from mdetr.inference.grounder import Mdetr

    return Mdetr.from_pretrained(folder, device, getattr(torch, dtype))


@dataclass(frozen=True)
class _Call(Generic[R]):
    """What a command was told to do.

    sources: the images. outputs: where results go. ask: images -> a result for each text of each.
    show: prints the result of an image of this name.
    """

    sources: Sequence[Source]
    outputs: Outputs
    ask: Ask[R]
    show: Callable[[Console, str, R], None]


def answer_images(
    sources: Sequence[Source],
    outputs: Outputs,
    ask: Ask[R],
    show: Callable[[Console, str, R], None],
    batch_size: int,
) -> None:
    """Ask about images, batch by batch: results are written, shown and drawn before the next images are read.

    Images that cannot be used, and pictures that cannot be written, are left out and listed at the end.

    Args:
        sources: The images.
        outputs: Where results go.
        ask: Images (3, H, W) uint8 -> for each a result for each text.
        show: Prints the result of an image of this name.
        batch_size: Images that are read at once.

    Raises:
        typer.Exit: An image could not be used, or a picture could not be written.
    """
    call = _Call(sources, outputs, ask, show)
    console = Console(stderr=outputs.is_stdout_json)
    failures = _Failures(len(sources))
    try:
        with (
            JsonWriter(outputs.json_file, outputs.is_one) as writer,
            progress_over(len(sources), console, outputs.is_stdout_json) as on_progress,
        ):
            readable = _read_images(sources, failures, on_progress)
            while batch := list(islice(readable, batch_size)):
                _answer_batch(batch, call, writer, console, failures)
                batch.clear()  # before the next images are read
    finally:
        failures.tell()
    if failures:
        raise typer.Exit(1)


def find_images(names: Sequence[str]) -> list[Source]:
    """The images that are named, and those in the folders that are named.

    Raises:
        InvalidInputError: A folder cannot be read or holds no image, or none of the images is there.
    """
    sources: list[Source] = []
    for name in names:
        if is_address(name):
            sources.append(name)
        elif os.path.isdir(name):
            sources += _images_in(Path(name))
        else:
            sources.append(Path(name))
    if not any(isinstance(source, str) or os.path.lexists(source) for source in sources):
        raise InvalidInputError(f"There is no image at {sources[0]}; check the path.")
    return sources


def has_folder(names: Sequence[str]) -> bool:
    """Whether one of the arguments is a folder."""
    return any(os.path.isdir(name) for name in names)


@contextmanager
def progress_over(total: int, console: Console, is_quiet: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar for more than one image, which what is printed meanwhile does not disturb.

    Args:
        total: The number of images.
        console: Where results are printed.
        is_quiet: Whether there is no bar in a terminal that something else is printed to.
    """
    place = console if console.is_terminal else Console(stderr=True)
    disable = total < 2 or not place.is_interactive or (is_quiet and Console().is_terminal)
    with Progress(
        console=place, transient=True, disable=disable, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        bar = progress.add_task("images", total=total)
        yield lambda done: progress.advance(bar, done)


def print_groundings(console: Console, title: str | None, groundings: Sequence[Grounding]) -> None:
    """Print a table of phrases, boxes and scores."""
    table = Table(
        "phrase",
        "box (x0 y0 x1 y1)",
        "score",
        title=None if title is None else plain(title),
        title_justify="left",
    )
    for found in groundings:
        table.add_row(plain(found.phrase), format_box(found.box), f"{found.score:.2f}")
    console.print(table)


def format_box(box: Sequence[float]) -> str:
    """A box in whole pixels."""
    return " ".join(f"{value:.0f}" for value in box)


class _Failures:
    """What was left out of a call, told at its end."""

    def __init__(self, num_images: int) -> None:
        self._num_images = num_images
        self.images: list[str] = []
        self.pictures: list[str] = []

    def __bool__(self) -> bool:
        return bool(self.images or self.pictures)

    def tell(self) -> None:
        """List everything on standard error."""
        for messages, what in ((self.images, "used"), (self.pictures, "drawn")):
            if messages and self._num_images == 1:
                _warn(f"mdetr: {' '.join(messages)}")
            elif messages:
                _warn(f"mdetr: {len(messages):,} of {self._num_images:,} images could not be {what}:")
                for message in messages:
                    _warn(f"  {message}")


def _warn(line: str) -> None:
    typer.echo(printable(line), err=True)


def _read_images(
    sources: Sequence[Source], failures: _Failures, on_progress: Callable[[int], None]
) -> Iterator[tuple[int, Tensor]]:
    """The places and the pixels of the images that can be used, each read when it is needed."""
    from mdetr.processing.images import load_image

    for place, source in enumerate(sources):
        try:
            pixels = load_image(source)
        except MdetrError as error:
            failures.images.append(str(error))
        else:
            yield place, pixels
        on_progress(1)


def _answer_batch(
    batch: Sequence[tuple[int, Tensor]],
    call: _Call[R],
    writer: JsonWriter,
    console: Console,
    failures: _Failures,
) -> None:
    """Ask about some images; write, show and draw their results."""
    answers = call.ask([pixels for _, pixels in batch])
    for (place, _), results in zip(batch, answers, strict=True):
        source = call.sources[place]
        for number, result in enumerate(results):
            writer.add({"image": _full_name(source)} | result.to_dict())
            call.show(console, image_name(source), result)
            picture = call.outputs.picture(place, number)
            if picture is not None:
                _draw(result, picture, console, failures)


def _draw(result: Result, path: Path, console: Console, failures: _Failures) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        result.plot(path)
    except (MdetrError, OSError, ValueError) as error:  # Pillow's own: too large for the format, a full disk
        failures.pictures.append(f"{path}: {error}")
    else:
        console.print(plain(f"picture: {path}"), soft_wrap=True)


def image_name(source: Source) -> str:
    """What an image is called where it is shown: a file by its name, an address by its beginning."""
    if isinstance(source, Path):
        return source.name
    return f"{source[:24]}..." if is_data_address(source) else address_name(source)


def _full_name(source: Source) -> str:
    return image_name(source) if is_data_address(source) else str(source)


def _images_in(folder: Path) -> list[Source]:
    """The image files of a folder by name; hidden files, folders and other kinds of files are passed over.

    Raises:
        InvalidInputError: The folder cannot be read, or holds no image.
    """
    from mdetr.visualization.picture_files import readable_suffixes

    suffixes = readable_suffixes()
    try:
        images = sorted(
            file
            for file in folder.iterdir()
            if file.suffix.lower() in suffixes and not file.name.startswith(".") and not _is_special(file)
        )
    except OSError as error:
        raise InvalidInputError(f"The folder {folder} cannot be read ({error.strerror}).") from None
    if not images:
        raise InvalidInputError(
            f"There is no image in the folder {folder}; folders inside it are not looked into, so name them."
        )
    return list(images)


def _is_special(path: Path) -> bool:
    """Whether something is there that is no file: a folder, a pipe or a device."""
    return path.exists() and not path.is_file()
