"""What `export_model` writes, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.export import Dim

from mdetr.checkpoints.loading import load
from mdetr.errors import CheckpointError, InvalidInputError, MissingDependencyError
from mdetr.export.exporting import export_model
from mdetr.export.graphs import Graph, replace_same_padding
from mdetr.export.layout import ExportFormat, ExportPrecision
from mdetr.export.onnx import to_onnx
from mdetr.export.quantization import Calibration
from tests.export.conftest import Exported, Original


def test_the_folder_has_the_graphs_the_processor_and_a_description(exported: Exported) -> None:
    names = {file.name for file in exported("openvino", "fp32").iterdir()}
    assert {"image.xml", "image.bin", "text.xml", "fusion.xml", "export.json", "config.json"} < names
    assert {"README.md", "processor_config.json", "tokenizer.json"} < names
    assert not any(name.startswith("float32") or name.endswith(".onnx") for name in names)
    readme = (exported("openvino", "fp32") / "README.md").read_text()
    assert "for OpenVINO in fp32" in readme and "mdetr[openvino]" in readme


def test_an_exported_model_is_not_exported_or_trained_again(exported: Exported) -> None:
    with pytest.raises(CheckpointError, match="exported model, which runs but has no weights"):
        load(exported("onnx", "fp32"))


def test_a_folder_with_other_content_is_kept(original: Original, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InvalidInputError, match="already exists; choose another output folder"):
        export_model(original.model, original.processor, tmp_path, ExportFormat.ONNX)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("calibration", [None, Calibration([])])
def test_int8_without_images_is_refused(
    calibration: Calibration | None, original: Original, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError, match="--calibrate FOLDER"):
        export_model(
            *(original.model, original.processor, tmp_path / "new"),
            *(ExportFormat.ONNX, ExportPrecision.INT8, calibration),
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("library", ["onnxscript", "openvino", "nncf"])
def test_a_missing_library_is_named_before_anything_is_written(
    library: str, original: Original, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"{library}; install it .*mdetr\[export\]"):
        export_model(
            *(original.model, original.processor, tmp_path / "new"),
            *(ExportFormat.OPENVINO, ExportPrecision.INT8, Calibration(images)),
        )
    assert not list(tmp_path.iterdir())


def test_the_padding_of_tensorflow_is_exact_for_odd_and_even_sizes(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    layers = [Conv2dSame(3, 4, 3, stride=2), Conv2dSame(4, 5, 5, stride=2), nn.Conv2d(5, 6, 3, 2)]
    exact, constant = nn.Sequential(*layers).eval(), nn.Sequential(*layers).eval()
    names = replace_same_padding(constant)
    assert names == ["0", "1"]
    graph = Graph(
        name="image",
        module=constant,
        inputs={"pixels": torch.randn(2, 3, 40, 48)},
        outputs=("maps",),
        dynamic={"pixels": {2: Dim("height", min=32), 3: Dim("width", min=32)}},
        same_convolutions=frozenset(f"{name}.weight" for name in names),
    )
    session = onnxruntime.InferenceSession(to_onnx(graph).SerializeToString())
    for height, width in ((64, 64), (65, 66), (67, 71)):
        pixels = torch.randn(2, 3, height, width)
        (got,) = session.run(None, {"pixels": pixels.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), exact(pixels), atol=1e-5, rtol=1e-5)
