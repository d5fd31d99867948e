"""Loading a model and its processor by name: a bundled or released one, a folder, or a Hub id."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import Tensor

from mdetr.checkpoints.bars import without_bars
from mdetr.checkpoints.finding import find_model, is_exported
from mdetr.checkpoints.registry import released_model
from mdetr.errors import CheckpointError, first_line
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrProcessor

_DAMAGED = (SafetensorError, OSError, ValueError, RuntimeError, LookupError, TypeError, AttributeError)


def load(
    name: str | Path,
    dtype: torch.dtype = torch.float32,
    mirror: str | None = None,
    keep_download: bool = False,
) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Load a model, in evaluation mode on the CPU, and its processor.

    Args:
        name: A name of `mdetr models`, a folder that `save_pretrained` wrote, or a Hub id.
        dtype: Data type of the weights.
        mirror: Where a released file is downloaded from; see `get_released`.
        keep_download: Whether a released file stays after it is converted.

    Returns:
        The model and its processor.

    Raises:
        CheckpointError: There is no such model, its files are damaged, or it is not an MDETR.
    """
    return load_folder(find_model(str(name), mirror, keep_download), name, dtype)


def load_folder(
    source: Path, name: str | Path, dtype: torch.dtype | Literal["auto"] = torch.float32
) -> tuple[MdetrForObjectDetection, MdetrProcessor]:
    """Load a model, in evaluation mode on the CPU, and its processor from a folder.

    Args:
        source: Folder of the model; see `find_model`.
        name: Name of the model, for messages.
        dtype: Data type of the weights; "auto" for that of the file.

    Returns:
        The model and its processor.

    Raises:
        CheckpointError: Its files are damaged, it is not an MDETR, or it is an exported model.
    """
    if is_exported(source):
        raise CheckpointError(
            f"{source} is an exported model, which runs but has no weights to train or to export; name the "
            "model that it was exported from."
        )
    try:
        with without_bars():
            loaded: Any = MdetrForObjectDetection.from_pretrained(
                source, dtype=dtype, output_loading_info=True, use_safetensors=True
            )
        processor = MdetrProcessor.from_pretrained(source)
    except _DAMAGED as error:
        raise _damaged(name, error) from None

    # Refuse weights that are missing or unknown, which transformers only logs
    model, info = loaded
    wrong = sorted(info["missing_keys"]) + sorted(info["unexpected_keys"])
    if wrong:
        raise CheckpointError(
            f"The weights of {str(name)!r} do not fit its configuration: {len(wrong)} are missing or "
            f"unknown, such as {', '.join(wrong[:3])}. {_advice(name)}"
        )

    # Refuse what would fail, or find nothing, only when it is used
    if name_of_weights := not_finite(model.state_dict()):
        raise CheckpointError(
            f"The weights of {str(name)!r} are not finite in {name_of_weights}, as after a training that "
            f"diverged. {_advice(name)}"
        )
    num_tokens, vocab_size = len(processor.tokenizer), model.config.text_config.vocab_size
    if num_tokens > vocab_size:
        raise CheckpointError(
            f"The tokenizer of {str(name)!r} is that of another model: it has {num_tokens} tokens, and the "
            f"model {vocab_size}. {_advice(name)}"
        )
    return cast(MdetrForObjectDetection, model.eval()), processor


def load_processor(name: str | Path) -> tuple[MdetrProcessor, MdetrConfig]:
    """Load a model's processor and configuration, without its weights.

    Args:
        name: A name of `mdetr models`, a folder that `save_pretrained` wrote, or a Hub id.

    Returns:
        The processor and the configuration.

    Raises:
        CheckpointError: There is no such model, its files are damaged, or it is not an MDETR.
    """
    source = find_model(str(name))
    try:
        return MdetrProcessor.from_pretrained(source), MdetrConfig.from_pretrained(source)
    except _DAMAGED as error:
        raise _damaged(name, error) from None


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Return the name of the first tensor that has NaN or an infinite value; None if there is none."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def _damaged(name: str | Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The files of {str(name)!r} are damaged or not those of an MDETR model: "
        f"{_first_sentence(error)} {_advice(name)}"
    )


def _advice(name: str | Path) -> str:
    if released_model(str(name)) is not None:
        return f"To download it again, run: mdetr download {name} --force"
    return "Get or convert the model again."


def _first_sentence(error: Exception) -> str:
    line = first_line(error)
    return line if line.endswith((".", "!", "?")) else line + "."
