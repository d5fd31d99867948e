"""Parquet file with a row for each scored example."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from accelerate import Accelerator

from mdetr.evaluation.example_scores import ExampleScore
from mdetr.files import atomic_write
from mdetr.processing.detections import Grounding

_RECORD_FIELDS = ("source", "split", "id", "image_id", "text")
SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        *((name, pa.string()) for name in _RECORD_FIELDS),
        ("score", pa.float32()),
        ("prediction", pa.string()),
        ("truth", pa.string()),
    ]
)
_ROWS = 1024  # to buffer before writing


@dataclass
class ExampleTable:
    """Rows of one file; `count` and `score` are running values of this process.

    Attributes:
        writer: Writer of this process's part of the file.
        count: Number of rows whose score is known.
        total: Sum of their scores.
    """

    writer: pq.ParquetWriter
    count: int = 0
    total: float = 0.0
    _buffer: list[dict[str, Any]] = field(default_factory=list)

    @property
    def score(self) -> float:
        """Mean score so far; NaN without any rows."""
        return self.total / self.count if self.count else float("nan")

    def add(self, task: str, example_scores: Sequence[ExampleScore]) -> None:
        """Add a row per example.

        Args:
            task: Task that the scores are of.
            example_scores: Scores of the examples.
        """
        for example in example_scores:
            if not math.isnan(example.score):
                self.count += 1
                self.total += example.score
            row: dict[str, Any] = {
                "task": task,
                "score": example.score,
                "prediction": json.dumps(example.prediction()),
                "truth": json.dumps(example.truth()),
            }
            for name in _RECORD_FIELDS:
                row[name] = getattr(example.record, name)
            self._buffer.append(row)
        if len(self._buffer) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write the buffered rows."""
        if self._buffer:
            self.writer.write_table(pa.Table.from_pylist(self._buffer, schema=SCHEMA))
            self._buffer = []


@contextmanager
def example_table(file: Path, accelerator: Accelerator) -> Iterator[ExampleTable]:
    """Write a table with the rows of all processes, ordered by task, source, split and id.

    Every process must enter and leave this context. The file appears at the end, whole, or not at all.

    Args:
        file: Parquet file to write.
        accelerator: The processes.

    Yields:
        The table to add rows to.
    """
    # Each process writes a part
    parts = [file.with_name(f".{file.stem}-{rank}.parquet") for rank in range(accelerator.num_processes)]
    own_part = parts[accelerator.process_index]
    try:
        with pq.ParquetWriter(own_part, SCHEMA, compression="zstd") as writer:
            table = ExampleTable(writer)
            yield table
            table.flush()

        # The first combines them
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            rows = pa.concat_tables([pq.read_table(part) for part in parts])
            with atomic_write(file) as unfinished:
                pq.write_table(rows.sort_by([(name, "ascending") for name in SCHEMA.names[:4]]), unfinished)
        accelerator.wait_for_everyone()
    finally:
        own_part.unlink(missing_ok=True)


def read_groundings(content: str) -> tuple[tuple[Grounding, ...], str | None]:
    """Read a cell of the columns "prediction" or "truth".

    Args:
        content: The JSON text of the cell.

    Returns:
        The boxes, with NaN as score where they have none, and the answer, if any.
    """
    entry = json.loads(content)
    groundings = []
    for box in entry["boxes"]:
        spans = tuple((start, end) for start, end in box["spans"])
        score = box.get("score", math.nan)
        groundings.append(Grounding(box["phrase"], spans, tuple(box["box"]), score))
    return tuple(groundings), entry.get("answer")
