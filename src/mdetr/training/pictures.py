"""Sample predictions beside the truth, during a run and of the worst examples."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch.utils.tensorboard import SummaryWriter
from torchvision.transforms.v2.functional import to_pil_image

from mdetr.data.collate import Collator, records_of
from mdetr.data.examples import Example
from mdetr.data.store import Store
from mdetr.evaluation.evaluator import Validation
from mdetr.evaluation.example_scores import true_groundings
from mdetr.evaluation.example_table import read_groundings
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.detections import Grounding
from mdetr.visualization.picture_files import save_picture
from mdetr.visualization.plot import contact_sheet, draw_comparison

COLUMNS = 2  # pairs of truth and prediction in a row
STEP_DIGITS = 7  # of the files' names
PANEL_WIDTH = 480  # in pixels
PAIR_GAP = 32  # wider than between the truth and its prediction


class PredictionPictures:
    """Draws the truth and what a model finds, for the first text of the first images of each store.

    Args:
        folder: where PNGs go, one an evaluation. validations: what is shown. count: pictures of each store.
        writer: of TensorBoard, if the pictures are to be there too.
        threshold: boxes less certain than this are not drawn.
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
        """Draw and write; returns the files."""
        return [self._draw(name, model, step) for name in self.validations] if self.count else []

    def drawn(self, name: str) -> list[Path]:
        """The pictures of a validation store that there are, the earliest first."""
        return sorted(self.folder.glob(f"{name}-{'[0-9]' * STEP_DIGITS}.png"))

    def _draw(self, name: str, model: MdetrForObjectDetection, step: int) -> Path:
        validation = self.validations[name]
        read = filter(None, map(validation.read, range(validation.num_images)))
        examples = [_first_text(example) for example in islice(read, self.count)]
        batch = Collator(validation.processor, with_targets=False).prepare(examples)
        records = records_of(examples)
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            output = model(**batch.inputs.to(model.device))
        model.train(was_training)
        sizes = [layout.given for layout in batch.layouts]
        processor = validation.processor
        found = processor.post_process_grounding(output, batch.texts, sizes, threshold=self.threshold)
        answers: list[str | None] = [None] * len(records)
        if output.answer_logits is not None:
            given = [answer for answer, _, _ in validation.processor.post_process_answers(output)]
            answers = [None if r.answer is None else answer for r, answer in zip(records, given, strict=True)]
        pairs = [
            draw_comparison(
                to_pil_image(example.image),
                (_with_answer(record.text, record.answer), true_groundings(record)),
                (_with_answer(record.text, answer), groundings),
                PANEL_WIDTH,
            )
            for example, record, answer, groundings in zip(examples, records, answers, found, strict=True)
        ]
        sheet = contact_sheet(pairs, COLUMNS, gap=PAIR_GAP)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{name}-{step:0{STEP_DIGITS}d}.png"
        save_picture(sheet, path)
        if self.writer is not None:
            self.writer.add_image(f"predictions/{name}", np.asarray(sheet), step, dataformats="HWC")
        return path


def draw_worst(store: Store, table: Path, count: int, output: Path) -> int:
    """Draw the records with the lowest scores: the truth at the left, what the model said at the right.

    Args:
        store: with the records. table: the rows that `example_table` wrote of them.
        count: at most how many. output: the picture to write.

    Returns:
        How many were drawn; without any that is less than wholly right there is no picture.
    """
    rows = pq.read_table(table).sort_by([("score", "ascending")])
    rows = rows.filter(pc.less(rows["score"], 1.0)).slice(0, count).to_pylist()
    if not rows:
        return 0
    names = store.columns(["source", "split", "id"]).to_pydict()
    place = {key: row for row, key in enumerate(zip(*names.values(), strict=True))}
    pairs = []
    for row in rows:
        image = to_pil_image(store.load_image(store[place[row["source"], row["split"], row["id"]]]))
        truth, prediction = (_panel(row["text"], row[column]) for column in ("truth", "prediction"))
        pairs.append(draw_comparison(image, truth, prediction, PANEL_WIDTH))
    save_picture(contact_sheet(pairs, COLUMNS, gap=PAIR_GAP), output)
    return len(rows)


def _panel(text: str, content: str) -> tuple[str, tuple[Grounding, ...]]:
    """The text to show and the boxes that a cell of the table holds."""
    groundings, answer = read_groundings(content)
    return _with_answer(text, answer), groundings


def _with_answer(text: str, answer: str | None) -> str:
    return text if answer is None else f"{text} Answer: {answer}"


def _first_text(example: Example) -> Example:
    return Example(example.image, example.records[:1])
