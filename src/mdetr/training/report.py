"""Report of a run: curves, scores and recipe in an HTML file, and drawings of sample predictions."""

from __future__ import annotations

import base64
import io
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from itertools import islice
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import transformers
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.v2.functional import to_pil_image

from mdetr.data.collate import Collator, records_of
from mdetr.data.examples import Example
from mdetr.data.store import Store
from mdetr.evaluation.evaluator import EVALUATED, Validation
from mdetr.evaluation.example_scores import true_groundings
from mdetr.evaluation.example_table import read_groundings
from mdetr.files import atomic_write
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.detections import Grounding
from mdetr.visualization.picture_files import save_picture
from mdetr.visualization.plot import contact_sheet, draw_comparison
from mdetr.wording import curve_in_words, is_count, score_in_words, value_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = tuple[list[int], list[float]]
"""Steps and values."""

Charts = dict[str, dict[str, Curve]]
"""Title of a chart -> label of a line in it -> curve."""

COLUMNS = 2  # pairs of ground truth and prediction in a row
STEP_DIGITS = 7  # of the files' names
PANEL_WIDTH = 480  # in pixels
PAIR_GAP = 32  # in pixels; wider than between the ground truth and its prediction
TITLE_WIDTH = 48  # characters of a line above a chart

_LAYER = re.compile(r"_(\d+|proposals)$")
_BATCH_METRICS = ("accuracy_", "cardinality_")
_SPEED = ("grad_norm", "images_per_second", "data_wait", "padding", "gpu_memory_gib")


class PredictionPictures:
    """Draws ground truth and predictions for the first text of the first images of each validation store.

    Args:
        folder: Folder of the PNG files, one for each store and evaluation.
        validations: Name -> data to draw.
        count: Number of images of each store; 0 to draw none.
        writer: Writer of a TensorBoard log that gets the drawings too; None for none.
        threshold: Boxes with lower scores are not drawn.
    """

    def __init__(
        self,
        folder: Path,
        validations: Mapping[str, Validation],
        count: int,
        writer: SummaryWriter | None = None,
        threshold: float = 0.5,
    ) -> None:
        self.folder = folder
        self.validations = validations
        self.count = count
        self.writer = writer
        self.threshold = threshold

    def __call__(self, model: MdetrForObjectDetection, step: int) -> list[Path]:
        """Draw the predictions of a model at a step, and return the files."""
        return [self._draw(name, model, step) for name in self.validations] if self.count else []

    def last(self) -> dict[str, Path]:
        """Return the last drawing of each store that has one."""
        last: dict[str, Path] = {}
        for name in self.validations:
            drawings = sorted(self.folder.glob(f"{name}-{'[0-9]' * STEP_DIGITS}.png"))
            if drawings:
                last[name] = drawings[-1]
        return last

    def _draw(self, name: str, model: MdetrForObjectDetection, step: int) -> Path:
        # Make a batch of the examples that can be read
        validation = self.validations[name]
        processor = validation.processor
        readable = filter(None, map(validation.read, range(validation.num_images)))
        examples = [_first_text(example) for example in islice(readable, self.count)]
        batch = Collator(processor, with_targets=False).prepare(examples)
        records = records_of(examples)

        # Predict boxes and answers
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            output = model(**batch.inputs.to(model.device))
        model.train(was_training)
        sizes = [layout.given for layout in batch.layouts]
        predictions = processor.post_process_grounding(output, batch.texts, sizes, threshold=self.threshold)
        answers: list[str | None] = [None] * len(records)
        if output.answer_logits is not None:
            for row, (answer, _, _) in enumerate(processor.post_process_answers(output)):
                if records[row].answer is not None:
                    answers[row] = answer

        # Draw ground truth and prediction side by side
        pairs = []
        for example, record, answer, boxes in zip(examples, records, answers, predictions, strict=True):
            truth = (_with_answer(record.text, record.answer), true_groundings(record))
            prediction = (_with_answer(record.text, answer), boxes)
            pairs.append(draw_comparison(to_pil_image(example.image), truth, prediction, PANEL_WIDTH))
        sheet = contact_sheet(pairs, COLUMNS, gap=PAIR_GAP)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}-{step:0{STEP_DIGITS}d}.png"
        save_picture(sheet, path)
        if self.writer is not None:
            self.writer.add_image(f"predictions/{name}", np.asarray(sheet), step, dataformats="HWC")
        return path


def draw_worst(store: Store, table: Path, count: int, output: Path) -> int:
    """Draw the records with the lowest scores, ground truth beside prediction.

    Args:
        store: Store of the records.
        table: Parquet file of their scores that `mdetr.evaluation.example_table` wrote.
        count: Largest number of records to draw.
        output: Image file to write; none is written if all scores are perfect.

    Returns:
        The number of records in the drawing.
    """
    # Select the rows with the lowest scores
    rows = pq.read_table(table).sort_by([("score", "ascending")])
    rows = rows.filter(pc.less(rows["score"], 1.0)).slice(0, count).to_pylist()
    if not rows:
        return 0

    # Draw each with the image of its record
    names = store.columns(["source", "split", "id"]).to_pydict()
    index = {key: row for row, key in enumerate(zip(*names.values(), strict=True))}
    pairs = []
    for row in rows:
        image = to_pil_image(store.load_image(store[index[row["source"], row["split"], row["id"]]]))
        truth, prediction = _panel(row["text"], row["truth"]), _panel(row["text"], row["prediction"])
        pairs.append(draw_comparison(image, truth, prediction, PANEL_WIDTH))
    save_picture(contact_sheet(pairs, COLUMNS, gap=PAIR_GAP), output)
    return len(rows)


def _panel(text: str, content: str) -> tuple[str, tuple[Grounding, ...]]:
    """Return the text to show and the boxes that a cell of the table holds."""
    groundings, answer = read_groundings(content)
    return _with_answer(text, answer), groundings


def _with_answer(text: str, answer: str | None) -> str:
    return text if answer is None else f"{text} Answer: {answer}"


def _first_text(example: Example) -> Example:
    return Example(example.image, example.records[:1])


def write_report(
    path: Path, title: str, history: Sequence[Mapping[str, float]], recipe: str, pictures: Mapping[str, Path]
) -> None:
    """Write the report of a run; constant curves are left out.

    Args:
        path: HTML file to write.
        title: Heading of the report.
        history: Entries of the log, each with its step.
        recipe: The recipe as YAML.
        pictures: Name of a validation store -> PNG file of its sample predictions.
    """
    from jinja2 import Environment

    # Sort the curves into sections
    curves = _curves(history)
    scores: dict[str, Curve] = {}
    losses: dict[str, Curve] = {}
    batch_metrics: dict[str, Curve] = {}
    rates: dict[str, Curve] = {}
    for name, curve in curves.items():
        if name.startswith(EVALUATED):
            scores[name.removeprefix(EVALUATED)] = curve
        elif name.startswith("lr_"):
            rates[name.removeprefix("lr_")] = curve
        elif name.startswith(_BATCH_METRICS):
            batch_metrics[name] = curve
        elif "loss" in name and not name.startswith("train_"):
            losses[name] = curve
    speed = {name: {name: curves[name]} for name in _SPEED if name in curves}
    sections: list[tuple[str, Charts]] = [
        ("Scores over the run", _by_rank(scores)),
        ("Losses", _in_words(_by_layer(losses))),
        ("In training batches", _in_words(_by_layer(batch_metrics))),
        ("Rates", {"learning rate": rates}),
        ("Speed", _in_words(speed)),
    ]

    # Draw the charts
    drawn: list[tuple[str, list[tuple[str, str]]]] = []
    for heading, charts in sections:
        images = [(name, _draw(name, lines)) for name, lines in charts.items() if _changes(lines)]
        if images:
            drawn.append((heading, images))

    # Fill the template
    template = Environment(autoescape=True, trim_blocks=True).from_string(
        files("mdetr").joinpath("assets", "report.html.jinja").read_text("utf-8")
    )
    text = template.render(
        title=title,
        summary=_summary(history),
        scores=[_score_row(name, curve) for name, curve in scores.items()],
        sections=drawn,
        pictures=[(name, _base64(picture.read_bytes())) for name, picture in pictures.items()],
        recipe=recipe,
    )
    with atomic_write(path) as file:
        file.write_text(text, encoding="utf-8")


def _curves(history: Sequence[Mapping[str, float]]) -> dict[str, Curve]:
    curves: dict[str, Curve] = {}
    for entry in history:
        for name, value in entry.items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)):
                steps, values = curves.setdefault(name, ([], []))
                steps.append(int(entry["step"]))
                values.append(float(value))
    return curves


def _by_layer(losses: Mapping[str, Curve]) -> Charts:
    """Make one chart for each loss, with a line for each decoder layer that has it."""
    charts: Charts = {}
    for name, curve in losses.items():
        layer = _LAYER.search(name)
        kind = name[: layer.start()] if layer else name
        charts.setdefault(kind, {})[_layer_in_words(layer[1] if layer else None)] = curve
    return charts


def _layer_in_words(layer: str | None) -> str:
    """Name a decoder layer; logs number layers from 0 and have no number for the last one."""
    if layer is None:
        return "last layer"
    return f"layer {int(layer) + 1}" if layer.isdigit() else layer


def _by_rank(scores: Mapping[str, Curve]) -> Charts:
    """Make one chart for each score, with a line for each "@k" of it."""
    charts: Charts = {}
    for name, curve in sorted(scores.items(), key=lambda pair: len(pair[0])):  # @5 before @10
        kind, at, rank = name.partition("@")
        charts.setdefault(score_in_words(kind), {})[at + rank] = curve
    return charts


def _in_words(charts: Charts) -> Charts:
    return {curve_in_words(name): lines for name, lines in charts.items()}


def _changes(lines: Mapping[str, Curve]) -> bool:
    """Return whether a chart has a line with different values."""
    return any(len(set(values)) > 1 for _, values in lines.values())


def _draw(name: str, lines: Mapping[str, Curve]) -> str:
    """Draw a chart as SVG, encoded in base64."""
    from matplotlib import rc_context

    # Letters instead of their outlines are smaller and faster; names with $ are no formulas
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none", "text.parse_math": False}):
        _make_chart(name, lines).savefig(buffer, format="svg")
    return _base64(buffer.getvalue())


def _make_chart(name: str, lines: Mapping[str, Curve]) -> Figure:
    """Draw lines, each with its label, below the name of the chart."""
    from matplotlib.figure import Figure  # pyplot would keep all figures, and need a display

    # Set up the figure; given margins take half the time of an automatic layout, for some twenty charts
    title = wrap(name, TITLE_WIDTH)
    figure = Figure(figsize=(5, 3))
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.15, top=0.97 - 0.06 * len(title))
    axes = figure.add_subplot()
    axes.set_title("\n".join(title), fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)

    # Draw the lines
    for label, (steps, values) in lines.items():
        axes.plot(steps, values, label=label, linewidth=1.2, marker="." if len(steps) < 20 else None)
    axes.locator_params(nbins=5)
    if len(lines) > 1:
        axes.legend(fontsize=8)
    return figure


def _score_row(name: str, curve: Curve) -> tuple[str, str, str, str]:
    """Return the name of a score, its last value, its best value and the step of that, all in words."""
    steps, values = curve
    if is_count(name):
        return name, value_in_words(name, values[-1]), "", ""
    best = max(range(len(values)), key=values.__getitem__)
    last, highest = value_in_words(name, values[-1]), value_in_words(name, values[best])
    return score_in_words(name), last, highest, f"{steps[best]:,}"


def _summary(history: Sequence[Mapping[str, float]]) -> str:
    steps = max((int(entry["step"]) for entry in history), default=0)
    seconds = sum(entry.get("train_runtime", 0.0) for entry in history)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "a CPU"
    return (
        f"{steps:,} steps, {timedelta(seconds=round(seconds))} since the run was last started, on {device}, "
        f"with torch {torch.__version__} and transformers {transformers.__version__}."
    )


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
