"""Finding and loading a model: a bundled name, a folder or a Hub id in; model and processor out."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError

from mdetr.errors import CheckpointError
from mdetr.model.config import MdetrConfig
from mdetr.model.mdetr import MdetrModel
from mdetr.processor import MdetrProcessor


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
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise CheckpointError(
            f"Could not load {name!r}: {_first_sentence(error)} Give a bundled name "
            f"({', '.join(bundled_models()) or 'none'}), a folder, or a Hub id that this machine can reach."
        ) from None
    except (SafetensorError, ValueError, RuntimeError, KeyError) as error:
        raise CheckpointError(
            f"The files of {name!r} are damaged or not those of an MDETR model: {_first_sentence(error)} "
            "Get or convert the model again."
        ) from None
    model, info = loaded
    wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    if wrong:
        raise CheckpointError(
            f"The weights of {name!r} do not fit its configuration: {len(wrong)} are missing or unknown, "
            f"such as {', '.join(wrong[:3])}; get or convert the model again."
        )
    return cast(MdetrModel, model.eval()), processor


def _find(name: str) -> str:
    """Where to load from; a folder is looked at first, so that its faults are named plainly."""
    folder = Path(name)
    if not folder.is_dir():
        if name in bundled_models():
            return str(bundled_models()[name])
        if folder.is_file() or name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise CheckpointError(
                f"There is no model {name!r}: expected a bundled name "
                f"({', '.join(bundled_models()) or 'none'}), a folder that save_pretrained wrote, or a Hub "
                "id such as owner/name."
            )
        return name
    file = folder / "config.json"
    if not file.is_file():
        raise CheckpointError(f"The folder {name} holds no model: there is no config.json in it.")
    try:
        kind = json.loads(file.read_text()).get("model_type")
    except (ValueError, AttributeError):
        raise CheckpointError(f"{file} is damaged: it is not a JSON object.") from None
    if kind != MdetrConfig.model_type:
        raise CheckpointError(
            f"The folder {name} holds a model of type {kind!r}, not {MdetrConfig.model_type!r}."
        )
    return name


def _first_sentence(error: Exception) -> str:
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if line.endswith((".", "!", "?")) else line + "."
