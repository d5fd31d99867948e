"""Parquet file with a row for each scored example."""

from __future__ import annotations

import json
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

SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("task", "source", "split", "id", "image_id", "text")),
        ("score", pa.float32()),
        ("prediction", pa.string()),
        ("truth", pa.string()),
    ]
)
_ROWS = 1024  # that are held before they are written


@dataclass
class ExampleTable:
    """Collects rows for one file; `score` and `count` are of this process, while it goes on."""

    writer: pq.ParquetWriter
    count: int = 0
    total: float = 0.0
    _waiting: list[dict[str, Any]] = field(default_factory=list)

    @property
    def score(self) -> float:
        """The mean score of the rows so far; NaN without any."""
        return self.total / self.count if self.count else float("nan")

    def add(self, task: str, example_scores: Sequence[ExampleScore]) -> None:
        """Add a row for each."""
        for example in example_scores:
            record = example.record
            if example.score == example.score:  # not NaN
                self.count += 1
                self.total += example.score
            self._waiting.append(
                {
                    "task": task,
                    **{name: getattr(record, name) for name in SCHEMA.names[1:6]},
                    "score": example.score,
                    "prediction": json.dumps(example.prediction()),
                    "truth": json.dumps(example.truth()),
                }
            )
        if len(self._waiting) >= _ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self.writer.write_table(pa.Table.from_pylist(self._waiting, schema=SCHEMA))
            self._waiting = []


@contextmanager
def example_table(file: Path, accelerator: Accelerator) -> Iterator[ExampleTable]:
    """A table that becomes `file` at the end, with the rows of all processes, or not at all.

    Every process must enter and leave it. Rows are in the order of task, source, split and id.
    """
    parts = [file.with_name(f".{file.stem}-{rank}.parquet") for rank in range(accelerator.num_processes)]
    mine = parts[accelerator.process_index]
    try:
        with pq.ParquetWriter(mine, SCHEMA, compression="zstd") as writer:
            table = ExampleTable(writer)
            yield table
            table.flush()
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            rows = pa.concat_tables([pq.read_table(part) for part in parts])
            with atomic_write(file) as unfinished:
                pq.write_table(rows.sort_by([(name, "ascending") for name in SCHEMA.names[:4]]), unfinished)
        accelerator.wait_for_everyone()
    finally:
        mine.unlink(missing_ok=True)


def read_groundings(content: str) -> tuple[tuple[Grounding, ...], str | None]:
    """The boxes and the answer that a cell of `prediction` or `truth` holds."""
    found = json.loads(content)
    groundings = tuple(
        Grounding(
            entry["phrase"],
            tuple((start, end) for start, end in entry["spans"]),
            tuple(entry["box"]),
            entry.get("score", float("nan")),
        )
        for entry in found["boxes"]
    )
    return groundings, found.get("answer")
