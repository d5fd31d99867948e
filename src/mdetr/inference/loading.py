"""Finding and loading a model: a bundled name, a folder or a Hub id in; model and processor out."""

from __future__ import annotations

import json
from difflib import get_close_matches
from importlib import resources
from pathlib import Path, PurePosixPath
from shlex import quote
from typing import Any, cast

import torch
from safetensors import SafetensorError

from mdetr.errors import CheckpointError
from mdetr.inference.hub import hub_folder
from mdetr.inference.published import PUBLISHED
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor

_FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".json", ".yaml", ".zip")
_DAMAGED = (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)


def bundled_models() -> dict[str, Path]:
    """The models that ship with the package: name -> folder."""
    folder = Path(str(resources.files("mdetr"))) / "assets" / "models"
    return {path.parent.name: path.parent for path in sorted(folder.glob("*/config.json"))}


def load(name: str | Path, dtype: torch.dtype = torch.float32) -> tuple[MdetrModel, MdetrProcessor]:
    """Load a model, in evaluation mode on the CPU, and its processor.

    Args:
        name: a bundled name, a folder that `save_pretrained` wrote, or a Hub id.
        dtype: what the weights are converted to.

    Raises:
        CheckpointError: there is no such model, its files are damaged, or it is not an MDETR.
    """
    source = _find(str(name))
    try:
        loaded: Any = MdetrModel.from_pretrained(
            source, dtype=dtype, output_loading_info=True, use_safetensors=True
        )
        processor = MdetrProcessor.from_pretrained(source)
    except _DAMAGED as error:
        raise CheckpointError(
            f"The files of {str(name)!r} are damaged or not those of an MDETR model: "
            f"{_first_sentence(error)} Get or convert the model again."
        ) from None
    model, info = loaded
    wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    if wrong:
        raise CheckpointError(
            f"The weights of {str(name)!r} do not fit its configuration: {len(wrong)} are missing or "
            f"unknown, such as {', '.join(wrong[:3])}; get or convert the model again."
        )
    return cast(MdetrModel, model.eval()), processor


def _find(name: str) -> Path:
    """The folder to load from; local ones are looked at first, so that their faults are named plainly."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = bundled_models().get(name) or _from_hub(name)
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"The folder {folder} holds no model: there is no config.json in it.")
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise CheckpointError(f"{file} is damaged: it is not a JSON object.") from None
    if kind != MdetrConfig.model_type:
        raise CheckpointError(
            f"The folder {folder} holds a model of type {kind!r}, not {MdetrConfig.model_type!r}."
        )
    return folder


def _from_hub(name: str) -> Path:
    """The copy of a repository, for a name that can be meant as nothing else."""
    last = PurePosixPath(name.replace("\\", "/")).name
    if Path(name).is_file():
        raise CheckpointError(
            f"{name} is a file, not the folder of a model; if it is a released checkpoint, type: "
            f"mdetr convert {quote(name)} {quote(f'models/{Path(name).stem}')}"
        )
    if last in bundled_models():
        raise CheckpointError(
            f"There is no folder {name!r}; the model that comes with the package is {last!r}."
        )
    released = next((entry for entry in PUBLISHED if last in (entry.name, entry.file)), None)
    if released is not None:
        raise CheckpointError(
            f"There is no folder {name!r}: {released.name} is a released checkpoint, which is converted "
            f"first. Download {released.file} (mdetr models {released.name} says how) and type: "
            f"{released.commands[1]}"
        )
    known = f"a bundled name ({', '.join(bundled_models()) or 'none'})"
    if name.count("/") != 1 or _looks_like_a_path(name):
        raise CheckpointError(
            f"There is no model {name!r}: expected {known}, a folder that save_pretrained wrote, or a Hub id "
            f"such as owner/name.{_hint(name)}"
        )
    try:
        return hub_folder(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} Give {known}, a folder, or a Hub id that this machine can reach."
        ) from None


def _looks_like_a_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~"))
        or name.endswith("/")
        or "\\" in name
        or PurePosixPath(name).suffix.lower() in _FILE_SUFFIXES
        or Path(name.split("/")[0]).is_dir()
    )


def _hint(name: str) -> str:
    """What may have been meant, or which models are where the name points to."""
    beside = {file.parent.name: file.parent for file in sorted(Path(name).parent.glob("*/config.json"))}
    known = [*beside, *bundled_models(), *(entry.name for entry in PUBLISHED)]
    near = get_close_matches(Path(name).name, known, n=1)
    if near:
        return f" Did you mean {beside.get(near[0], near[0])}?"
    return f" There are {', '.join(map(str, [*beside.values()][:10]))}." if beside else ""


def _first_sentence(error: Exception) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if line.endswith((".", "!", "?")) else line + "."
