"""Conversion of a released checkpoint to a folder that `from_pretrained` reads."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mdetr.checkpoints.hub import hub_folder
from mdetr.checkpoints.key_mapping import config_from_released, rename_key
from mdetr.checkpoints.released_file import check_released_file
from mdetr.errors import CheckpointError
from mdetr.files import give_ordinary_permissions
from mdetr.model.answer_space import NUMBERED, UNIFIED
from mdetr.model.config import MdetrConfig
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.processor import MdetrImageProcessor, MdetrProcessor, roberta_tokenizer

Weights = Literal["ema", "model"]
ENTRIES = {"ema": "model_ema", "model": "model"}
ANSWER_FILES = ("gqa_answer2id.json", "gqa_answer2id_by_type.json")
WEIGHTS = "model.safetensors"
NAMED = 10  # keys in a message


def convert(
    checkpoint: str | Path,
    folder: str | Path,
    weights: Weights | None = None,
    tokenizer: str | Path | None = None,
    answers: str | Path | None = None,
) -> Path:
    """Turn a released file into a folder with weights, configuration and processor.

    The file is mapped, not read, so that memory holds little more than one set of weights; only tensors,
    plain values and `argparse.Namespace` are unpickled.

    Args:
        checkpoint: Path of the released file.
        folder: Path of the new folder; it appears only when it is complete.
        weights: "ema", the averaged weights that the paper's numbers come from, or "model", the last ones;
            the averaged if omitted and the file has them.
        tokenizer: A folder or Hub id; RoBERTa's tokenizer, which is bundled, if omitted.
        answers: The folder with the released annotations' `gqa_answer2id.json` and
            `gqa_answer2id_by_type.json`, which name GQA's answers; numbered if omitted.

    Returns:
        The new folder.

    Raises:
        CheckpointError: The file is missing, damaged or not a released MDETR; or the folder already exists.
    """
    # Read the file
    target = Path(folder)
    if target.exists():
        raise CheckpointError(f"{target} already exists; choose another folder.")
    content = _read(Path(checkpoint))
    args, state = _parts(content, Path(checkpoint), weights)

    # Derive the configuration from the stored arguments and shapes
    try:
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        config = config_from_released(args, shapes, read_answers(answers) if answers else None)
    except KeyError as error:
        raise CheckpointError(
            f"{checkpoint} is not a released MDETR checkpoint: its arguments are without {error}."
        ) from None
    except CheckpointError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"{checkpoint} is not a released MDETR checkpoint: its arguments describe no model "
            f"({_line(error)})."
        ) from None
    config.architectures = [MdetrForObjectDetection.__name__]

    # Rename the weights, and compare them with those of a model without memory
    with torch.device("meta"):
        expected = MdetrForObjectDetection(config).state_dict()
    renamed = _renamed(state, expected, Path(checkpoint))

    # Write to a temporary folder first, and rename it when it is complete
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        config.save_pretrained(temporary)
        _processor(args, config, tokenizer).save_pretrained(temporary)
        save_file(renamed, temporary / WEIGHTS, metadata={"format": "pt"})
        give_ordinary_permissions(temporary / WEIGHTS)
        os.replace(temporary, target)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The folder {target} could not be written ({_line(error)}); name another, or make room."
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def has_numbered_answers(folder: str | Path) -> bool:
    """Whether a model gives answers that have numbers instead of words."""
    words = MdetrConfig.from_pretrained(folder).answer_vocabulary or {}
    return any(kind[0].startswith(NUMBERED) for kind in words.values())


def name_answers(folder: str | Path, answers: str | Path) -> None:
    """Give the answers of a converted GQA model their words.

    Args:
        folder: What `convert` wrote.
        answers: The folder of the released annotations.

    Raises:
        CheckpointError: The model gives no such answers, or another number of them.
    """
    config = MdetrConfig.from_pretrained(folder)
    given = read_answers(answers)
    wanted = config.answer_vocabulary or {}
    counts = {kind: len(words) for kind, words in wanted.items()}
    found = {kind: len(given.get(kind, ())) for kind in wanted}
    if not counts or counts != found:
        raise CheckpointError(
            f"The model in {folder} has {counts or 'no answers'}, the annotations in {answers} have {found}: "
            "give the folder of the annotations that it was trained on."
        )
    config.answer_vocabulary = {kind: given[kind] for kind in wanted}
    processor = MdetrProcessor.from_pretrained(folder)
    processor.answer_vocabulary = config.answer_vocabulary
    with TemporaryDirectory(prefix=f".{Path(folder).name}.", dir=Path(folder).parent) as temporary:
        processor.save_pretrained(temporary)
        config.save_pretrained(temporary)
        for name in ("processor_config.json", "config.json"):
            os.replace(Path(temporary) / name, Path(folder) / name)


def _read(file: Path) -> Any:
    check_released_file(file)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        raise CheckpointError(
            f"{file} is not opened: a released checkpoint holds tensors and settings only, this one "
            f"{f'also {foreign[1]}' if foreign else 'something else'}."
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise CheckpointError(
            f"{file} is damaged or no PyTorch checkpoint; download it again: {_line(error)}"
        ) from None


def _parts(
    content: Any, file: Path, weights: Weights | None
) -> tuple[Mapping[str, Any], Mapping[str, Tensor]]:
    """The stored arguments and the wanted state."""
    if not isinstance(content, Mapping) or not isinstance(content.get("args"), argparse.Namespace):
        raise CheckpointError(
            f"{file} is not a released MDETR checkpoint: it holds no arguments of the original program."
        )
    chosen: Weights = weights or ("ema" if content.get(ENTRIES["ema"]) else "model")
    entry = ENTRIES[chosen]
    state = content.get(entry)
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        other = "model" if chosen == "ema" else "ema"
        raise CheckpointError(f"{file} has no weights {entry!r}; try --weights {other}.")
    return vars(content["args"]), state


def _renamed(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """The weights under our names, checked one by one against what the model needs."""
    renamed: dict[str, Tensor] = {}
    wrong: list[str] = []
    for key, tensor in state.items():
        name = rename_key(key)
        if name is None:
            continue
        if name not in expected:
            wrong.append(f"{key} is unknown")
        elif tensor.shape != expected[name].shape:
            wrong.append(f"{key} is {tuple(tensor.shape)} instead of {tuple(expected[name].shape)}")
        renamed[name] = tensor.contiguous()
    wrong += [f"{name} is missing" for name in expected if name not in renamed]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise CheckpointError(
            f"The weights in {file} do not fit the model that its arguments describe: "
            f"{'; '.join(wrong[:NAMED])}{more}."
        )
    return renamed


def read_answers(folder: str | Path) -> dict[str, list[str]]:
    """GQA's answers by type ("obj", ...) and of the unified head ("answer"), in the order of their ids.

    Args:
        folder: Folder with `gqa_answer2id.json` and `gqa_answer2id_by_type.json` of the released annotations.

    Returns:
        Type -> answers.

    Raises:
        CheckpointError: A file is missing or has other content.
    """
    unified, by_type = (_read_ids(Path(folder) / name) for name in ANSWER_FILES)
    try:
        kinds = {kind.removeprefix("answer_"): _by_id(ids) for kind, ids in by_type.items()}
        return kinds | {UNIFIED: _by_id(unified)}
    except (AttributeError, TypeError, ValueError):
        raise CheckpointError(
            f"The answer files in {folder} should give each answer its number, counted from 0; get the "
            "released annotations again."
        ) from None


def _read_ids(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8-sig")))
    except OSError:
        raise CheckpointError(
            f"There is no file {file}; --answers wants the folder of the released annotations."
        ) from None
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{file} is damaged ({error}); get the annotations again.") from None


def _by_id(ids: Mapping[str, int]) -> list[str]:
    words = sorted(ids, key=lambda word: ids[word])
    if [ids[word] for word in words] != list(range(len(words))):
        raise ValueError("numbers are missing")
    return words


def _processor(args: Mapping[str, Any], config: MdetrConfig, tokenizer: str | Path | None) -> MdetrProcessor:
    # CLEVR's images are not resized; all others are, as in the paper
    keep_size = any(name.startswith("clevr") for name in args.get("combine_datasets", ()))
    images = MdetrImageProcessor(size=None) if keep_size else MdetrImageProcessor()
    words = roberta_tokenizer() if tokenizer is None else _tokenizer(str(tokenizer))
    return MdetrProcessor(
        images,
        cast(PreTrainedTokenizerFast, words),
        max_text_tokens=config.num_token_positions,
        answer_types=config.answer_types,
        answer_vocabulary=config.answer_vocabulary,
    )


def _tokenizer(name: str) -> Any:
    folder = Path(name) if Path(name).is_dir() else hub_folder(name)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{name} holds no tokenizer that can be read: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
