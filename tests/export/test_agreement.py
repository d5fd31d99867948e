"""The comparison of a quantized model with the original."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdetr.export.agreement import Agreement, compare
from mdetr.export.layout import ExportFormat
from mdetr.export.model import GraphRunner, graph_runner
from mdetr.export.quantization import Calibration
from tests.export.conftest import Exported, Original


class Moved:
    """Graphs whose boxes are moved by some fraction of the image."""

    def __init__(self, graphs: GraphRunner, distance: float) -> None:
        self._graphs = graphs
        self._distance = distance

    def run(self, graph: str, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        outputs = self._graphs.run(graph, inputs)
        if graph == "fusion":
            outputs["pred_boxes"] = outputs["pred_boxes"] + np.float32([self._distance, 0, 0, 0])
        return outputs


def test_all_boxes_are_kept_by_the_same_model_and_none_where_they_move_away(
    exported: Exported, original: Original, images: list[Path]
) -> None:
    graphs = graph_runner(exported("onnx", "fp32"), ExportFormat.ONNX)
    calibration = Calibration(images, ["a red ball", "two cats"])
    same = compare(calibration, original.processor, graphs, graphs)
    assert same.num_kept == same.num_boxes > 0
    assert compare(calibration, original.processor, graphs, Moved(graphs, 1.5)).num_kept == 0


def test_the_agreement_is_a_sentence(exported: Exported) -> None:
    assert str(Agreement(1200, 1150)).startswith("int8 keeps 1,150 of the 1,200 boxes that fp32 finds")
    assert "give texts like yours with --texts" in str(Agreement(0, 0))
    assert "int8 keeps " in (exported("onnx", "int8") / "README.md").read_text()
