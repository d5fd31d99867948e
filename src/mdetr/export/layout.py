"""The folder of an exported model: its files, and `export.json`, which describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import Any

from mdetr.checkpoints.finding import EXPORT_FILE
from mdetr.errors import CheckpointError, InvalidInputError, MissingDependencyError
from mdetr.extras import install_command
from mdetr.files import read_json_object

GRAPH_NAMES = ("image", "text", "fusion")
_GRAPH_INPUTS = {"image": "pixel_values", "text": "input_ids", "fusion": "text_features"}
ANSWER_PREFIX = "answer_logits_"  # of outputs of the fusion graph, before the name of an answer head
FINE_MAP_PREFIX = "fine_map_"  # of the finer maps of the backbone, before their number


class ExportFormat(StrEnum):
    """Formats of exported models."""

    ONNX = "onnx"
    OPENVINO = "openvino"

    @property
    def runtime(self) -> str:
        """Name of the library that runs the format."""
        return "ONNX Runtime" if self is ExportFormat.ONNX else "OpenVINO"


class ExportPrecision(StrEnum):
    """Precisions of exported models."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


@dataclass(frozen=True)
class ExportInfo:
    """What `export.json` says about an exported model.

    Attributes:
        format: The format of the graphs.
        precision: The precision of their weights.
        num_parameters: Number of parameters of the model.
        version: Version of mdetr that exported it.
        fingerprint: Checksum of the graphs.
    """

    format: ExportFormat
    precision: ExportPrecision
    num_parameters: int
    version: str
    fingerprint: str

    def write(self, folder: Path) -> None:
        """Write `export.json` into a folder."""
        fields = {
            "format": self.format.value,
            "precision": self.precision.value,
            "num_parameters": self.num_parameters,
            "mdetr_version": self.version,
            "fingerprint": self.fingerprint,
            "graphs": {name: graph_file(folder, name, self.format).name for name in GRAPH_NAMES},
        }
        (folder / EXPORT_FILE).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ExportInfo:
        """Read the `export.json` of a folder.

        Args:
            folder: Folder of an exported model.

        Returns:
            What the file says.

        Raises:
            CheckpointError: The file is damaged.
        """
        file = folder / EXPORT_FILE
        try:
            fields = read_json_object(file)
            export_format = ExportFormat(fields["format"])
            return cls(
                export_format,
                ExportPrecision(fields["precision"]),
                int(fields["num_parameters"]),
                str(fields["mdetr_version"]),
                # Folders of earlier versions have none
                str(fields.get("fingerprint") or graphs_fingerprint(folder, export_format)),
            )
        except KeyError as error:
            raise CheckpointError(f"{file} is damaged (it has no {error}); export the model again.") from None
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{file} is damaged ({error}); export the model again.") from None


def graph_file(folder: Path, graph: str, export_format: ExportFormat) -> Path:
    """Return the file of a graph; that of OpenVINO has its weights in a .bin file beside it."""
    return folder / f"{graph}.{'onnx' if export_format is ExportFormat.ONNX else 'xml'}"


def graph_files(folder: Path, export_format: ExportFormat) -> list[Path]:
    """List the files of all graphs, with those of their weights."""
    files = [graph_file(folder, graph, export_format) for graph in GRAPH_NAMES]
    if export_format is ExportFormat.OPENVINO:
        files += [file.with_suffix(".bin") for file in files]
    return files


def graphs_fingerprint(folder: Path, export_format: ExportFormat) -> str:
    """Compute the SHA-256 checksum of all graphs of an exported model.

    Args:
        folder: Folder of the exported model.
        export_format: Format of the graphs.

    Returns:
        Hexadecimal digits.

    Raises:
        CheckpointError: A file is missing.
    """
    digest = hashlib.sha256()
    for file in graph_files(folder, export_format):
        check_exists(file)
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def check_exists(file: Path) -> None:
    """Check that a file of an exported model exists.

    Args:
        file: The file.

    Raises:
        CheckpointError: It does not.
    """
    if not file.is_file():
        raise CheckpointError(f"There is no file {file}; export the model again.")


def check_inputs(file: Path, graph: str, names: Collection[str]) -> None:
    """Check that a file holds the graph that its name says.

    Args:
        file: The file.
        graph: One of `GRAPH_NAMES`.
        names: Names of the inputs of the graph in the file.

    Raises:
        CheckpointError: It is another graph.
    """
    if _GRAPH_INPUTS[graph] not in names:
        raise CheckpointError(
            f"{file} has other inputs than the {graph} graph of a model; export the model again."
        )


def check_export(
    folder: Path,
    export_format: ExportFormat,
    precision: ExportPrecision,
    images: Sequence[Path] | None,
) -> None:
    """Check what an export needs, before the model is loaded or downloaded.

    Args:
        folder: Folder to create.
        export_format: Format of the graphs.
        precision: Precision of the weights.
        images: Images to calibrate int8 with; None if none are given.

    Raises:
        InvalidInputError: The folder exists and is not empty, or the precision and the images do not fit.
        MissingDependencyError: A library for this format or precision is not installed.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInputError(f"{folder} already exists; choose another output folder.")
    if precision is ExportPrecision.INT8 and not images:
        raise InvalidInputError(
            "int8 is calibrated with images like those that the model will see; give some tens of them with "
            "--calibrate FOLDER."
        )
    if precision is not ExportPrecision.INT8 and images is not None:
        raise InvalidInputError("Only int8 is calibrated; leave out --calibrate, or add --precision int8.")
    libraries = ["onnx", "onnxscript"]
    libraries += ["nncf"] if precision is ExportPrecision.INT8 else []
    libraries += ["openvino"] if export_format is ExportFormat.OPENVINO else []
    for library in libraries:
        import_library(library, "export")


def import_library(name: str, extra: str) -> Any:
    """Import an optional library.

    Args:
        name: Name of the library.
        extra: Extra of this package that installs it.

    Returns:
        The module.

    Raises:
        MissingDependencyError: It is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise MissingDependencyError(
            f"This needs the package {name}; install it with {install_command(extra)}."
        ) from None
