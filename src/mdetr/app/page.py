"""Layout of the page, and which handler each input calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from mdetr.app.handlers import (
    IDLE_SECONDS,
    TASK_FIELDS,
    Handlers,
    PageConfig,
)
from mdetr.app.viewer import make_viewer
from mdetr.checkpoints.registry import Task
from mdetr.inference.queries import MAX_CHARACTERS
from mdetr.processing.detections import MAX_OVERLAP

TITLE = "mdetr: find what a text mentions"

HEADER = """
<h1>mdetr</h1>
<p>Find in an image the things that a text mentions, and the words that refer to each of them.</p>
"""

CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto; }
.gradio-container h1 { margin: 0; font-size: 1.6rem; }
"""

EVENT: dict[str, Any] = {"trigger_mode": "always_last", "api_visibility": "private"}
"""Options of all events: by default, Gradio ignores what is entered while the page is still working."""

PREDICTION: dict[str, Any] = {**EVENT, "concurrency_id": "predict", "concurrency_limit": 1}
"""Options of all events that predict: they share a queue, so the last one's result is the last to appear."""


def build_page(config: PageConfig, handlers: Handlers) -> gr.Blocks:
    """Build the page.

    Args:
        config: Settings of the page.
        handlers: Handlers of its inputs.

    Returns:
        The page, without a server.
    """
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(IDLE_SECONDS, IDLE_SECONDS)
    ) as page:
        candidates = gr.State(None, time_to_live=IDLE_SECONDS)
        gr.HTML(HEADER, padding=False)
        with gr.Row():
            # What to predict
            with gr.Column(scale=2, min_width=320):
                picture = _make_image_input()
                with gr.Row():
                    photo = gr.Button("Example: a photo", size="sm", elem_id="example-photo")
                    scene = gr.Button("Example: a scene", size="sm", elem_id="example-scene")
                with gr.Accordion("Read an image from an address", open=False, elem_id="from-address"):
                    address = gr.Textbox(label="Address", placeholder="https://", elem_id="address")
                    fetch = gr.Button("Read", size="sm", elem_id="fetch")
                task = gr.Radio(
                    handlers.task_choices(config.model), value=Task.GROUNDING, label="Task", elem_id="task"
                )
                text = gr.Textbox(
                    label=TASK_FIELDS[Task.GROUNDING].label,
                    placeholder=TASK_FIELDS[Task.GROUNDING].example,
                    lines=2,
                    max_lines=4,
                    max_length=MAX_CHARACTERS,
                    elem_id="text",
                )
                names = gr.Dropdown(
                    [],
                    multiselect=True,
                    allow_custom_value=True,
                    label=TASK_FIELDS[Task.DETECTION].label,
                    visible=False,
                    elem_id="names",
                )
                run = gr.Button("Find", variant="primary", elem_id="run")
                model = gr.Dropdown(
                    handlers.model_choices(),
                    value=config.model,
                    allow_custom_value=config.any_model,
                    label="Model",
                    info=handlers.describe_model(config.model),
                    elem_id="model",
                )
            # The result
            with gr.Column(scale=5, min_width=320):
                viewer = make_viewer()
                with gr.Row():
                    threshold = gr.Slider(
                        0,
                        1,
                        value=handlers.default_threshold(config.model, Task.GROUNDING),
                        step=0.01,
                        label="Threshold",
                        info="Show boxes with a higher score.",
                        elem_id="threshold",
                    )
                    overlap = gr.Slider(
                        0,
                        MAX_OVERLAP,
                        value=MAX_OVERLAP,
                        step=0.05,
                        label="Overlap",
                        info="Hide boxes that overlap a better one of the same phrase by more than this.",
                        elem_id="overlap",
                    )
                with gr.Row(visible=False) as downloads:
                    as_picture = gr.DownloadButton("Download picture", size="sm", elem_id="as-picture")
                    as_json = gr.DownloadButton("Download JSON", size="sm", elem_id="as-json")
                    as_coco = gr.DownloadButton("Download COCO results", size="sm", elem_id="as-coco")
                code = gr.Code(
                    label="The same in Python",
                    language=None,  # the colors of its syntax have too little contrast
                    wrap_lines=True,
                    show_line_numbers=False,
                    visible=False,
                    elem_id="code",
                )

        files = [downloads, as_picture, as_json, as_coco]
        query = [picture, task, text, names, model]
        limits = [threshold, overlap]

        def write_files_after(shown: Any) -> None:
            """Write the files of a result once it is shown."""
            shown.then(handlers.write_files, [candidates, *limits], files, show_progress="hidden", **EVENT)

        def predict_after(event: Callable[..., Any]) -> None:
            """Predict after an event, show the result, and then write the files."""
            shown = event(
                handlers.predict,
                [*query, *limits],
                [candidates, viewer, code],
                show_progress_on=viewer,
                **PREDICTION,
            )
            write_files_after(shown)

        # Predict when something is entered
        for trigger in (run.click, text.submit, names.change, picture.input, picture.clear):
            predict_after(trigger)
        for button, example in ((photo, handlers.example_photo), (scene, handlers.example_scene)):
            chosen = button.click(
                example,
                None,
                [picture, text, model, task, names, threshold],
                show_progress_on=viewer,
                **EVENT,
            )
            predict_after(chosen.success)

        # Filter the candidates when a slider moves, without running the model
        for slider in (threshold, overlap):
            shown = slider.change(
                handlers.select,
                [candidates, *query, *limits],
                [viewer, code],
                show_progress="hidden",
                **EVENT,
            )
            write_files_after(shown)

        # Change the task or the model
        task.input(handlers.choose_task, [task, model], [text, names, threshold], **EVENT)
        loaded = model.input(
            handlers.choose_model,
            [model, task],
            [model, task, text, names, threshold, viewer],
            show_progress_on=viewer,
            **EVENT,
        )
        predict_after(loaded.success)

        # Read an image from an address
        for trigger in (fetch.click, address.submit):
            shown = trigger(
                handlers.read_and_predict,
                [address, *query[1:], *limits],
                [picture, candidates, viewer, code],
                show_progress_on=viewer,
                **PREDICTION,
            )
            write_files_after(shown)
    return page


def _make_image_input() -> gr.Image:
    """Make the image input, which hands on the uploaded file without decoding it.

    Gradio decodes uploads with Pillow and reports a damaged file with its own words. `load_image` checks the
    size before decoding, and says what is wrong.
    """
    image = gr.Image(
        label="Image",
        type="filepath",
        image_mode=None,
        sources=["upload", "clipboard", "webcam"],
        height=260,
        elem_id="picture",
    )
    decode = image.preprocess

    def preprocess(payload: ImageData | None) -> Any:
        return decode(payload) if payload is None or payload.path is None else payload.path

    image.preprocess = preprocess  # type: ignore[method-assign]
    return image
