"""Handlers of the page's inputs: what the page shows after each of them."""

from __future__ import annotations

import io
import json
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from mdetr.app.predictor import MASK_THRESHOLD, CachedPredictor
from mdetr.app.viewer import Candidates, view_message, view_result
from mdetr.checkpoints.registry import BUNDLED, RELEASED, Task
from mdetr.errors import InvalidInputError, MdetrError
from mdetr.inference.queries import Query
from mdetr.processing.addresses import read_address
from mdetr.processing.detections import MAX_OVERLAP
from mdetr.processing.images import load_image

IDLE_SECONDS = 3600
"""Results and uploads are deleted after this time."""

START = "Choose an image and enter a text, or try an example."


@dataclass(frozen=True)
class TaskField:
    """Wording of a task on the page.

    Attributes:
        button: Label of the button that selects the task.
        label: Label of the text field.
        example: Example in the empty text field.
    """

    button: str
    label: str
    example: str


TASK_FIELDS = {
    Task.GROUNDING: TaskField("Ground", "Caption", "a brown cat next to a red car"),
    Task.REFERRING: TaskField("Refer", "Referring expression", "the cat on the left"),
    Task.ANSWERING: TaskField("Answer", "Question", "How many red cubes are there?"),
    Task.DETECTION: TaskField("Detect", "Class names (press Enter after each)", ""),
    Task.SEGMENTATION: TaskField("Segment", "Phrase", "the cat"),
}


@dataclass(frozen=True)
class PageConfig:
    """Settings of the page.

    Attributes:
        model: Model that is selected at first.
        device: Device to run on; None for a GPU if there is one.
        any_model: Whether visitors may enter any folder of this machine, or any Hub id, as a model.
        private_addresses: Whether images may be read from addresses in private networks.
    """

    model: str = "photo-tiny"
    device: str | None = None
    any_model: bool = True
    private_addresses: bool = False


class Handlers:
    """Handlers of the page's inputs; each returns new values or settings for some components.

    Args:
        config: Settings of the page.
        predictor: Predictor, shared by all visitors.
        folder: Folder for the files that visitors download.
    """

    def __init__(self, config: PageConfig, predictor: CachedPredictor, folder: Path) -> None:
        self._config = config
        self._predictor = predictor
        self._folder = folder

    def predict(
        self,
        picture: str | None,
        task: str,
        text: str | None,
        names: Sequence[str] | None,
        model: str,
        threshold: float,
        overlap: float,
    ) -> tuple[Candidates | None, dict[str, Any], Any]:
        """Predict for an image and a text; an error is shown in place of the result."""
        hidden_code = gr.Code(visible=False)
        if picture is None:
            return None, view_message(START, is_error=False), hidden_code
        query = _make_query(task, text, names)
        missing = _missing_input(query)
        if missing is not None:
            return None, view_message(missing, is_error=False), hidden_code
        try:
            query.check_limits()
            self._check_model(model)
            candidates = Candidates.from_result(self._predictor.predict(model, Path(picture), query))
        except MdetrError as error:
            return None, view_message(str(error)), hidden_code
        code = gr.Code(_python_lines(model, picture, query, threshold, overlap), visible=True)
        return candidates, view_result(candidates, threshold, overlap), code

    def select(
        self,
        candidates: Candidates | None,
        picture: str | None,
        task: str,
        text: str | None,
        names: Sequence[str] | None,
        model: str,
        threshold: float,
        overlap: float,
    ) -> tuple[Any, Any]:
        """Show the candidates that other limits select; without a prediction nothing changes."""
        if candidates is None or picture is None:
            return gr.skip(), gr.skip()
        code = _python_lines(model, picture, _make_query(task, text, names), threshold, overlap)
        return view_result(candidates, threshold, overlap), code

    def write_files(
        self, candidates: Candidates | None, threshold: float, overlap: float
    ) -> tuple[Any, str | None, str | None, str | None]:
        """Write the files that can be downloaded."""
        if candidates is None:
            return gr.Row(visible=False), None, None, None
        result = candidates.select(threshold, overlap)
        folder = self._make_folder()
        picture, results, coco = folder / "result.jpg", folder / "result.json", folder / "coco-results.json"
        result.plot(picture)
        results.write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False), encoding="utf-8")
        coco.write_text(json.dumps(result.to_coco(), indent=2, ensure_ascii=False), encoding="utf-8")
        return gr.Row(visible=True), str(picture), str(results), str(coco)

    def choose_task(self, task: str, model: str) -> tuple[Any, Any, Any]:
        """Show the text field of a task, and its default threshold."""
        chosen = Task(task)
        field = TASK_FIELDS[chosen]
        is_by_name = chosen is Task.DETECTION
        return (
            gr.Textbox(label=field.label, placeholder=field.example, visible=not is_by_name),
            gr.Dropdown(visible=is_by_name),
            self._threshold_slider(model, chosen),
        )

    def choose_model(self, model: str, task: str) -> tuple[Any, Any, Any, Any, Any, Any]:
        """Load a model, and offer the tasks that it supports."""
        try:
            self._check_model(model)
            tasks = self._predictor.tasks(model)
        except MdetrError as error:
            return *(gr.skip() for _ in range(5)), view_message(str(error))  # type: ignore[return-value]
        chosen = Task(task) if task in tasks else tasks[0]
        return (
            gr.Dropdown(info=self.describe_model(model)),
            gr.Radio(self.task_choices(model), value=chosen),
            *self.choose_task(chosen, model),
            gr.skip(),
        )

    def example_photo(self) -> tuple[Any, ...]:
        """Fill in the example photo."""
        return self._example("cat.jpg", "a brown cat and a red car", "photo-tiny")

    def example_scene(self) -> tuple[Any, ...]:
        """Fill in the example of synthetic CLEVR."""
        return self._example("shapes.png", "two purple metal balls and a red cube", "clevr-tiny")

    def read_and_predict(self, address: str | None, *query: Any) -> tuple[Any, ...]:
        """Read an image from a web address, and predict for it."""
        try:
            content = read_address((address or "").strip(), public_only=not self._config.private_addresses)
            load_image(content)
        except MdetrError as error:
            return gr.skip(), gr.skip(), view_message(str(error)), gr.skip()
        image_format = Image.open(io.BytesIO(content)).format or "png"
        file = self._make_folder() / f"image.{image_format.lower()}"
        file.write_bytes(content)
        return str(file), *self.predict(str(file), *query)

    def model_choices(self) -> list[tuple[str, str]]:
        """List labels and names: the first model, the bundled ones and the released ones."""
        choices = [(f"{entry.name}: {entry.description}", entry.name) for entry in BUNDLED]
        for entry in RELEASED:
            label = f"{entry.name}: {entry.description} (downloads {entry.gigabytes:g} GB)"
            choices.append((label, entry.name))
        if self._config.model not in (name for _, name in choices):
            choices.insert(0, (self._config.model, self._config.model))
        return choices

    def describe_model(self, name: str) -> str:
        """Describe size and device of a model in one line."""
        model = self._predictor.load(name)
        millions = model.model.num_parameters() / 1e6
        line = f"{millions:.1f} million parameters, runs on {model.device}."
        return f"{line} A folder or a Hub id works too." if self._config.any_model else line

    def task_choices(self, model: str) -> list[tuple[str, str]]:
        """List labels and values of the tasks that a model supports."""
        return [(TASK_FIELDS[task].button, task.value) for task in self._predictor.tasks(model)]

    def default_threshold(self, model: str, task: Task) -> float:
        """Return the model's own threshold; 0 for referring expressions, which always have a best box."""
        if task is Task.REFERRING:
            return 0.0
        return self._predictor.load(model).processor.threshold_or_default(None)

    def _example(self, image: str, text: str, model: str) -> tuple[Any, ...]:
        path = resources.files("mdetr") / "assets" / "demo" / image
        field = TASK_FIELDS[Task.GROUNDING]
        return (
            str(path),
            gr.Textbox(text, label=field.label, placeholder=field.example, visible=True),
            gr.Dropdown(value=model, info=self.describe_model(model)),
            gr.Radio(self.task_choices(model), value=Task.GROUNDING),
            gr.Dropdown(visible=False),
            self._threshold_slider(model, Task.GROUNDING),
        )

    def _threshold_slider(self, model: str, task: Task) -> Any:
        minimum = MASK_THRESHOLD if task is Task.SEGMENTATION else 0
        return gr.Slider(minimum=minimum, value=self.default_threshold(model, task))

    def _check_model(self, name: str) -> None:
        if not self._config.any_model and name not in (known for _, known in self.model_choices()):
            raise InvalidInputError(f"This page offers only the models in its list, which lacks {name!r}.")

    def _make_folder(self) -> Path:
        """Make a folder for the files of one result, and delete old ones."""
        oldest = time.time() - IDLE_SECONDS
        for folder in self._folder.iterdir():
            if folder.stat().st_mtime < oldest:
                shutil.rmtree(folder, ignore_errors=True)
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir()
        return folder


def _make_query(task: str, text: str | None, names: Sequence[str] | None) -> Query:
    return Query(Task(task), (text or "").strip(), tuple(names or ()))


def _missing_input(query: Query) -> str | None:
    """Return what a visitor still has to enter, if anything."""
    if query.task is Task.DETECTION:
        return None if query.names else "Enter the names of the classes to detect."
    return None if query.text else "Enter a text that says what to find."


def _python_lines(model: str, picture: str, query: Query, threshold: float, overlap: float) -> str:
    """Write the Python program that gives the same result."""
    subject = list(query.names) if query.task is Task.DETECTION else query.text
    arguments = f"{Path(picture).name!r}, {subject!r}, threshold={threshold:g}"
    lines = [
        "from mdetr import Mdetr",
        "",
        f"model = Mdetr.from_pretrained({model!r})",
        f"result = model.{query.task.command}({arguments})",
    ]
    if overlap < MAX_OVERLAP or query.task is Task.SEGMENTATION:
        lines.append(f"result = result.with_nms({overlap:g})")
    lines.append('result.plot("result.png")')
    return "\n".join(lines)
