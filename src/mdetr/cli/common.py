"""What the commands that look into images share: their images, their progress and their output."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mdetr.errors import InvalidInputError

if TYPE_CHECKING:
    from PIL import Image

    from mdetr.inference.grounder import Mdetr
    from mdetr.post_processing import Grounding


class Result(Protocol):
    """What a command prints, draws and writes."""

    def plot(self, path: str | Path | None = None) -> Image.Image:
        """Draw it."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        ...


R = TypeVar("R", bound=Result)


def model_names() -> list[str]:
    """What the shell completes a model with; paths are what it falls back on."""
    from mdetr.checkpoints.finding import bundled_models

    return list(bundled_models())


# The options of every command that asks a model about images.
ImagesAndText = Annotated[
    list[str], typer.Argument(metavar="IMAGE... TEXT", help="Images or folders, and last the text.")
]
Also = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="Another text for the same images; repeatable.")
]
ModelName = Annotated[
    str, typer.Option(help="A bundled name, a folder or a Hub id.", autocompletion=model_names)
]
Output = Annotated[
    Path | None,
    typer.Option(help="The picture to write; a folder where there are several images or texts."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the results to this file.")]
NeededModel = Annotated[
    str,
    typer.Option("--model", help="A folder or a Hub id; see mdetr models.", autocompletion=model_names),
]
Threshold = Annotated[
    float, typer.Option(min=0, max=1, help="Boxes that are less certain than this are left out.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Pairs of image and text that the model sees at once.")]


def read_question(arguments: Sequence[str], also: Sequence[str] | None) -> tuple[list[Path], list[str]]:
    """The images and the texts of a call: the last argument is the first text, a folder means its images.

    Raises:
        InvalidInputError: there is no text or none of the images, or a folder holds no image.
    """
    if len(arguments) < 2:
        raise InvalidInputError("Give at least one image and then the text, in quotes.")
    *names, text = arguments
    return find_images(names), [text, *(also or [])]


def ask_all(ask: Callable[..., R | list[R]], images: list[Path], texts: list[str]) -> list[tuple[Path, R]]:
    """Every text about every image, with a progress bar; the results of the first text come first.

    `ask` is a question of `Mdetr`, such as `ground`, with its options bound.
    """
    with progress_over(len(images) * len(texts)) as on_progress:
        # One image is encoded once for all its texts.
        calls = [texts] if len(images) == 1 else [[text] for text in texts]
        results: list[R] = []
        for asked in calls:
            answers = ask(images, asked, on_progress=on_progress)
            assert isinstance(answers, list)
            results += answers
    return list(zip(images * len(texts), results, strict=True))


def run_question(
    question: str,
    images_and_text: Sequence[str],
    also: Sequence[str] | None,
    model: str,
    output: Path | None,
    json_file: Path | None,
    show: Callable[[Console, Path, R], None],
    **options: Any,
) -> None:
    """Ask a model a question about images; show the results, draw them and write them.

    Args:
        question: the name of the method of `Mdetr` that is asked, with `options`.
        images_and_text, also, model, output, json_file: as the commands take them.
        show: prints one image's result.
    """
    images, texts = read_question(images_and_text, also)
    paths = picture_paths(images, len(texts), output)
    loaded = load_model(model)
    results: list[tuple[Path, R]] = ask_all(partial(getattr(loaded, question), **options), images, texts)
    finish(results, paths, json_file, show)


def load_model(name: str) -> Mdetr:
    """The model that a command asks."""
    from mdetr.checkpoints.finding import find_model

    folder = find_model(name)  # a wrong name is told before torch is loaded
    from mdetr.inference.grounder import Mdetr

    return Mdetr.from_pretrained(folder)


def finish(
    results: Sequence[tuple[Path, R]],
    paths: Sequence[Path | None],
    json_file: Path | None,
    show: Callable[[Console, Path, R], None],
) -> None:
    """Show results, draw each to its path where it has one, and write them all to a file."""
    console = Console()
    for (image, result), path in zip(results, paths, strict=True):
        show(console, image, result)
        if path is not None:
            result.plot(path)
            console.print(f"picture: {path}", soft_wrap=True)
    if json_file is not None:
        write_json(json_file, results)


def print_groundings(console: Console, title: str | None, groundings: Sequence[Grounding]) -> None:
    """Print a table of phrases, boxes and scores."""
    table = Table("phrase", "box (x0 y0 x1 y1)", "score", title=title, title_justify="left")
    for found in groundings:
        table.add_row(found.phrase, format_box(found.box), f"{found.score:.2f}")
    console.print(table)


def find_images(names: Sequence[str]) -> list[Path]:
    """The images that are named, and those of the folders that are.

    Raises:
        InvalidInputError: none of them is there, which is told before the model is loaded.
    """
    images = [image for name in names for image in images_of(Path(name))]
    if images and not any(image.exists() for image in images):
        raise InvalidInputError(f"There is no image at {images[0]}; check the path.")
    return images


def images_of(path: Path) -> list[Path]:
    """An image, or the images of a folder.

    Raises:
        InvalidInputError: the folder holds no image.
    """
    if not path.is_dir():
        return [path]
    from PIL import Image

    known = Image.registered_extensions()
    images = sorted(file for file in path.iterdir() if file.suffix.lower() in known)
    if not images:
        raise InvalidInputError(f"There is no image in the folder {path}.")
    return images


@contextmanager
def progress_over(total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error, for more than one question."""
    with Progress(console=Console(stderr=True), transient=True, disable=total < 2) as progress:
        bar = progress.add_task("questions", total=total)
        yield lambda done: progress.advance(bar, done)


def picture_paths(images: Sequence[Path], num_texts: int, output: Path | None) -> list[Path | None]:
    """Where each picture goes, text after text: to `output` for one, into the folder `output` for several.

    Raises:
        InvalidInputError: two images of the same name would overwrite each other's picture.
    """
    if output is None:
        return [None] * (len(images) * num_texts)
    if len(images) == num_texts == 1 and not output.is_dir():
        output.parent.mkdir(parents=True, exist_ok=True)
        return [output]
    endings = [""] if num_texts == 1 else [f"-{number}" for number in range(1, num_texts + 1)]
    paths = [output / f"{image.stem}{ending}.png" for ending in endings for image in images]
    if len(set(paths)) < len(paths):
        raise InvalidInputError(
            f"Some of the images have the same name, so their pictures in {output} would overwrite each "
            "other; run the command once for each of their folders."
        )
    output.mkdir(parents=True, exist_ok=True)
    return list(paths)


def write_json(path: Path, results: Sequence[tuple[Path, Result]]) -> None:
    """One result as an object, several as a list; each says which image it is of."""
    entries = [{"image": str(image)} | result.to_dict() for image, result in results]
    if not path.parent.is_dir():
        raise InvalidInputError(f"There is no folder {path.parent} to write {path.name} to; make it first.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(entries[0] if len(entries) == 1 else entries, indent=1))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def format_box(box: Sequence[float]) -> str:
    """A box in whole pixels."""
    return " ".join(f"{value:.0f}" for value in box)
