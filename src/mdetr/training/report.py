"""HTML report of a run: curves, scores, sample predictions and recipe."""

from __future__ import annotations

import base64
import io
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from textwrap import wrap

import torch
import transformers

from mdetr.evaluation.evaluator import EVALUATED
from mdetr.files import atomic_write
from mdetr.wording import curve_in_words, is_count, score_in_words, value_in_words

Curve = tuple[list[int], list[float]]
"""Steps and values."""

_LAYER = re.compile(r"_(\d+|proposals)$")
TITLE_WIDTH = 48  # characters of a line above a chart
_ALSO_LOGGED = ("accuracy_", "cardinality_")
_SPEED = ("grad_norm", "images_per_second", "data_wait", "padding", "gpu_memory_gib")


def write_report(
    path: Path, title: str, history: Sequence[Mapping[str, float]], recipe: str, pictures: Mapping[str, Path]
) -> None:
    """Write the report of a run; curves in which nothing changes are left out.

    Args:
        path: the HTML file. title: its heading. history: the entries of the log, each with its step.
        recipe: as YAML. pictures: name -> PNG of what the model finds.
    """
    from jinja2 import Environment

    curves = _curves(history)
    scores = {name.removeprefix(EVALUATED): c for name, c in curves.items() if name.startswith(EVALUATED)}
    losses = [name for name in curves if "loss" in name and not name.startswith((EVALUATED, "train_"))]
    also = {name: curve for name, curve in curves.items() if name.startswith(_ALSO_LOGGED)}
    sections = [
        ("Scores over the run", _by_rank(scores)),
        ("Losses", _in_words(_by_layer({name: curves[name] for name in losses}))),
        ("In training batches", _in_words(_by_layer(also))),
        ("Rates", {"learning rate": {n[3:]: c for n, c in curves.items() if n.startswith("lr_")}}),
        ("Speed", _in_words({name: {name: curves[name]} for name in _SPEED if name in curves})),
    ]
    sections = [
        (heading, {name: lines for name, lines in charts.items() if _changes(lines)})
        for heading, charts in sections
    ]
    template = Environment(autoescape=True, trim_blocks=True).from_string(
        files("mdetr").joinpath("assets", "report.html.jinja").read_text("utf-8")
    )
    text = template.render(
        title=title,
        summary=_summary(history),
        scores=[_best(name, curve) for name, curve in scores.items()],
        sections=[
            (heading, [(name, _draw(name, lines)) for name, lines in charts.items()])
            for heading, charts in sections
            if charts
        ],
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


def _by_layer(losses: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """One chart for each loss, with a line for each decoder layer that has it."""
    charts: dict[str, dict[str, Curve]] = {}
    for name, curve in losses.items():
        layer = _LAYER.search(name)
        kind = name[: layer.start()] if layer else name
        charts.setdefault(kind, {})[_layer_in_words(layer[1] if layer else None)] = curve
    return charts


def _layer_in_words(layer: str | None) -> str:
    """What a decoder layer is called, which logs number from 0 and leave out for the last."""
    if layer is None:
        return "last layer"
    return f"layer {int(layer) + 1}" if layer.isdigit() else layer


def _by_rank(scores: Mapping[str, Curve]) -> dict[str, dict[str, Curve]]:
    """One chart for each score, with a line for each "@k" of it."""
    charts: dict[str, dict[str, Curve]] = {}
    for name, curve in sorted(scores.items(), key=lambda pair: len(pair[0])):  # @5 before @10
        kind, at, rank = name.partition("@")
        charts.setdefault(score_in_words(kind), {})[at + rank] = curve
    return charts


def _in_words(charts: Mapping[str, dict[str, Curve]]) -> dict[str, dict[str, Curve]]:
    return {curve_in_words(name): lines for name, lines in charts.items()}


def _changes(lines: Mapping[str, Curve]) -> bool:
    """Whether a chart has a line that is not level; a single point is."""
    return any(len(set(values)) > 1 for _, values in lines.values())


def _draw(name: str, lines: Mapping[str, Curve]) -> str:
    """A chart as SVG in base64."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure  # not pyplot, which keeps figures and wants a display

    title = wrap(name, TITLE_WIDTH)
    figure = Figure(figsize=(5, 3))
    # Margins that are given take half the time of a layout that is found; a run has some twenty charts.
    figure.subplots_adjust(left=0.14, right=0.97, bottom=0.15, top=0.97 - 0.06 * len(title))
    axes = figure.add_subplot()
    for label, (steps, values) in lines.items():
        axes.plot(steps, values, label=label, linewidth=1.2, marker="." if len(steps) < 20 else None)
    axes.set_title("\n".join(title), fontsize=10)
    axes.set_xlabel("step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.locator_params(nbins=5)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(fontsize=8)
    buffer = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):  # letters, not their outlines: smaller and faster
        figure.savefig(buffer, format="svg")
    return _base64(buffer.getvalue())


def _best(name: str, curve: Curve) -> tuple[str, str, str, str]:
    steps, values = curve
    best = max(range(len(values)), key=values.__getitem__)
    if is_count(name):
        return name, value_in_words(name, values[-1]), "", ""
    last, highest = (value_in_words(name, value) for value in (values[-1], values[best]))
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
