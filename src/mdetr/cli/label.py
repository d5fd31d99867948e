"""`mdetr label`: label a collection of images, as a data set in a common format."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from mdetr.cli.options import GROUNDING_MODEL, Device, Dtype, ModelName, Precision, Threshold
from mdetr.cli.printing import counted, plain, printable
from mdetr.cli.progress import progress_bar
from mdetr.errors import InvalidInputError
from mdetr.files import is_address, remove_temporaries
from mdetr.labeling.label_format import LabelFormat, check_format
from mdetr.processes import locked

if TYPE_CHECKING:
    from mdetr.labeling.class_phrases import ClassPhrase
    from mdetr.labeling.engines import ProcessGroup
    from mdetr.labeling.plan import LabelPlan, LabelSettings, PlannedImage
    from mdetr.labeling.report import LabelReport

_LISTED_CLASSES = 30


class Engine(StrEnum):
    """What runs the labeling."""

    LOCAL = "local"
    RAY = "ray"


def label(
    images_and_output: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES... OUTPUT",
            help="Images, folders, lists (.txt), archives (.tar, .zip), Parquet files or addresses of these; "
            "then the folder to create.",
        ),
    ],
    classes: Annotated[str | None, typer.Option(help="Classes to detect, separated by commas.")] = None,
    phrases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML file with the classes, each with its phrases."),
    ] = None,
    text_from: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="JSON Lines file with the image and text of each caption."),
    ] = None,
    to: Annotated[
        list[LabelFormat] | None,
        typer.Option(help="Format to write; repeatable.", show_default="coco, or jsonl with captions"),
    ] = None,
    model: ModelName = GROUNDING_MODEL,
    threshold: Threshold = None,
    overlap: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Of two boxes of an image that overlap more (intersection over union), keep the better one, "
            "whatever their classes.",
        ),
    ] = 0.7,
    margin: Annotated[
        float,
        typer.Option(min=0, max=1, help="List boxes whose score is this close to the threshold as unsure."),
    ] = 0.1,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy local images instead of linking them.")
    ] = False,
    engine: Annotated[
        Engine, typer.Option(help="local: this process, or those of torchrun; ray: a Ray cluster.")
    ] = Engine.LOCAL,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of workers on the Ray cluster.",
            show_default="one per GPU, or per two CPU cores",
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = Precision.FLOAT32,
) -> None:
    """Label a collection of images; repeat the command to continue after an interruption.

    Example: mdetr label photos labels --classes "dog, cat" --to coco
    """
    # Check the arguments
    if len(images_and_output) < 2:
        raise InvalidInputError("Give at least one image or folder and then the folder for the labels.")
    *sources, output = images_and_output
    formats = to or [LabelFormat.COCO if text_from is None else LabelFormat.JSONL]
    for label_format in formats:
        check_format(label_format, text_from is not None)
    if workers is not None and engine is Engine.LOCAL:
        raise InvalidInputError(
            "--workers is for --engine ray; on one machine, start several processes with torchrun instead."
        )
    class_phrases = _read_phrases(classes, phrases, text_from)

    from mdetr.labeling.engines import ProcessGroup, import_ray
    from mdetr.labeling.plan import LabelSettings, check_output_folder

    if engine is Engine.RAY:
        import_ray()  # before anything is written

    # Collect the settings
    folder = Path(output).expanduser()
    group = ProcessGroup.from_environment()
    if group.rank == 0:  # the first process may be writing its plan while the others start
        check_output_folder(folder)
        _check_is_outside(folder, sources)
    settings = LabelSettings(
        sources=tuple(_absolute(source) for source in sources),
        model=_model_address(model),
        phrases=tuple(class_phrases),
        captions=None if text_from is None else str(text_from.absolute()),
        threshold=_default_threshold(model) if threshold is None else threshold,
        max_overlap=overlap,
        margin=margin,
        dtype=dtype.value,
        copy_images=copy_images,
    )

    # Label the images, and write the formats
    try:
        with _used_alone(folder) if group.rank == 0 else nullcontext():
            plan = _open_plan(folder, settings, is_first=group.rank == 0)
            _label_images(plan, group, engine, workers, device)
            if group.rank == 0:
                _export(plan, formats)
                remove_temporaries(folder)  # of a run that was killed; all processes have written theirs
    except BrokenPipeError:  # the reader of the output has stopped
        raise
    except OSError as error:
        raise InvalidInputError(
            f"The labels cannot be written to {folder} ({error.strerror or error}); make it writable or free "
            "some space, and repeat the command to continue."
        ) from None


@contextmanager
def _used_alone(folder: Path) -> Iterator[None]:
    """Keep another run out of a folder; the processes of one run share the lock of the first one."""
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".lock") as is_alone:
        if not is_alone:
            raise InvalidInputError(
                f"Another run writes labels to {folder}; wait until it ends, or choose another folder."
            )
        yield


def _read_phrases(classes: str | None, phrases: Path | None, text_from: Path | None) -> list[ClassPhrase]:
    """Read the classes to detect.

    Args:
        classes: Value of `--classes`.
        phrases: Value of `--phrases`.
        text_from: Value of `--text-from`.

    Returns:
        The phrases of all classes; none if there are captions.

    Raises:
        InvalidInputError: Not exactly one of the three is given, or it is invalid.
    """
    from mdetr.labeling.class_phrases import ClassPhrase, check_phrases, read_class_phrases

    given = [value is not None for value in (classes, phrases, text_from)]
    if sum(given) != 1:
        raise InvalidInputError(
            'Give one of --classes "dog, cat", --phrases FILE (several phrases for a class) or '
            "--text-from FILE (captions)."
        )
    if phrases is not None:
        return read_class_phrases(phrases)
    if classes is None:
        return []
    names = dict.fromkeys(name.strip() for name in classes.split(",") if name.strip())
    class_phrases = [ClassPhrase(name, name) for name in names]
    check_phrases(class_phrases)
    return class_phrases


def _open_plan(folder: Path, settings: LabelSettings, is_first: bool) -> LabelPlan:
    """Open the plan of an earlier run or of the first process, or make a new one."""
    from mdetr.labeling.plan import LabelPlan

    if LabelPlan.exists(folder):
        plan = LabelPlan.open(folder, settings)
        if is_first:
            images = counted(plan.num_images, "image")
            typer.echo(f"Continuing with the {images} that the first run listed in {folder}.", err=True)
        return plan
    if not is_first:
        return LabelPlan.wait_for(folder, settings)
    return LabelPlan.create(folder, settings, _list_images(settings))


def _list_images(settings: LabelSettings) -> list[PlannedImage]:
    """List the images, with their captions if there are any, and report what does not match."""
    from mdetr.labeling.captions import match_captions, read_captions
    from mdetr.labeling.image_list import list_images
    from mdetr.labeling.plan import PlannedImage

    # Read the captions first, since listing the images may take long
    captions = None if settings.captions is None else read_captions(Path(settings.captions))
    references = list_images(settings.sources)
    if captions is None:
        return [PlannedImage(reference) for reference in references]
    captioned = match_captions(references, captions)
    if captioned.num_without_caption:
        missing = counted(captioned.num_without_caption, "image has", "images have")
        typer.echo(f"{missing} no caption and will be left out.", err=True)
    if captioned.unused:
        unused = counted(len(captioned.unused), "image with a caption is", "images with captions are")
        typer.echo(
            f"{unused} not among the images, such as {printable(captioned.unused[0])}.",
            err=True,
        )
    return captioned.images


def _label_images(
    plan: LabelPlan, group: ProcessGroup, engine: Engine, workers: int | None, device: str | None
) -> None:
    """Label the missing images, with a progress bar in the first process."""
    from mdetr.labeling.engines import label_locally, label_with_ray

    with progress_bar() as progress:
        task = progress.add_task("Labeling", total=plan.num_images, visible=group.rank == 0)

        def on_progress(images_done: int) -> None:
            progress.update(task, completed=images_done)

        if engine is Engine.RAY:
            label_with_ray(plan, workers, device, on_progress)
        else:
            label_locally(plan, group, device, on_progress)


def _export(plan: LabelPlan, formats: list[LabelFormat]) -> None:
    """Write the formats and the report, and print a summary."""
    from mdetr.labeling.export import export_labels
    from mdetr.labeling.labeled_data import LabeledData
    from mdetr.labeling.report import write_report

    data = LabeledData(plan)
    report = write_report(data)
    if not report.num_images:
        name, error = report.failures[0]
        raise InvalidInputError(f"None of the images could be used: {name}: {error}")
    written = [export_labels(data, label_format) for label_format in dict.fromkeys(formats)]

    _print_counts(report, data.class_names)
    for name in written:
        typer.echo(f"labels: {plan.folder / name}")
    if report.sheets:
        typer.echo(f"contact sheets: {plan.folder / 'sheets'}")
    if report.num_unsure:
        typer.echo(f"unsure boxes: {report.num_unsure:,}, in {plan.folder / 'unsure.csv'}")
    if report.num_failed:
        images = counted(report.num_failed, "image")
        typer.echo(
            f"mdetr: {images} could not be used, see {plan.folder / 'failed.csv'} (to try them again, choose "
            "another folder):",
            err=True,
        )
        for name, error in report.failures:
            typer.echo(printable(f"  {name}: {error}"), err=True)


def _print_counts(report: LabelReport, class_names: tuple[str, ...]) -> None:
    """Print the number of boxes of each class, or of the most frequent phrases."""
    names = list(class_names) or [name for name, _ in report.num_boxes.most_common(_LISTED_CLASSES)]
    table = Table("class" if class_names else "phrase", "boxes", "images")
    for name in names[:_LISTED_CLASSES]:
        table.add_row(plain(name), f"{report.num_boxes[name]:,}", f"{report.num_images_with[name]:,}")
    if len(names) > _LISTED_CLASSES:
        table.add_row("...", "", "")
    Console().print(table)
    boxes = counted(report.num_boxes.total(), "box", "boxes")
    typer.echo(f"{boxes} in {counted(report.num_images, 'image')}")


def _check_is_outside(folder: Path, sources: Sequence[str]) -> None:
    """Check that the output is not within a folder of images, which a later run would label again."""
    for source in sources:
        is_local_folder = not is_address(source) and Path(source).expanduser().is_dir()
        inner, outer = map(os.path.realpath, (folder, Path(source).expanduser()))
        if is_local_folder and Path(inner).is_relative_to(outer):
            raise InvalidInputError(f"{folder} is within the images in {source}; choose a folder outside.")


def _absolute(source: str) -> str:
    """Make a path absolute, since the command may continue in another folder."""
    return source if is_address(source) else str(Path(source).expanduser().absolute())


def _model_address(model: str) -> str:
    """Make the path of a model's folder absolute; other names stay."""
    return str(Path(model).absolute()) if Path(model).is_dir() else model


def _default_threshold(model: str) -> float:
    """Read the default threshold of a model from its processor's configuration."""
    from mdetr.checkpoints.finding import find_model, is_exported

    folder = find_model(model)
    if is_exported(folder):
        from mdetr.export.processor import ExportedProcessor

        return ExportedProcessor(folder).default_threshold
    from mdetr.processing.processor import MdetrProcessor

    return float(MdetrProcessor.from_pretrained(folder).default_threshold)
