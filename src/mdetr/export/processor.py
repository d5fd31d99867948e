"""`ExportedProcessor`: the processor of an exported model, without transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mdetr.errors import CheckpointError, first_line
from mdetr.export.layout import check_exists
from mdetr.files import read_json_object
from mdetr.processing.array_processor import ArrayProcessor
from mdetr.processing.pixels import PixelProcessor
from mdetr.processing.tokens import TokenizedText, unpadded_texts

T = TypeVar("T")

PROCESSOR_FILE, TOKENIZER_FILE, TOKENIZER_SETTINGS = (
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
_PIXEL_SETTINGS = ("do_resize", "size", "image_mean", "image_std", "pad_to_multiple")


class ExportedProcessor(ArrayProcessor):
    """Processor of an exported model, from the files that `MdetrProcessor.save_pretrained` writes.

    It does without transformers, which imports torch wherever torch is installed and takes seconds to do so.
    Tokens are those of `MdetrProcessor`, since transformers tokenizes with the same library and file.

    Args:
        folder: Folder of the exported model.

    Raises:
        CheckpointError: A file is missing or damaged.
    """

    def __init__(self, folder: Path) -> None:
        _read(folder / PROCESSOR_FILE, self._read_settings)
        self.tokenizer: Tokenizer = _read(folder / TOKENIZER_FILE, _read_tokenizer)
        _read(folder / TOKENIZER_SETTINGS, self._read_padding)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore what a pickled tokenizer lacks."""
        self.__dict__.update(state)
        self.tokenizer.encode_special_tokens = True

    def tokenize_each(self, texts: Sequence[str]) -> list[TokenizedText]:
        self.check_texts(texts)
        tokenized = unpadded_texts(self.tokenizer.encode_batch(list(texts)), texts)
        self.check_lengths(texts, [len(text.input_ids) for text in tokenized])
        return tokenized

    def pad_texts(self, texts: Sequence[TokenizedText]) -> dict[str, NDArray[np.int64]]:
        multiple = self.pad_text_to_multiple or 1
        length = math.ceil(max(len(text.input_ids) for text in texts) / multiple) * multiple
        input_ids = np.full((len(texts), length), self._padding, np.int64)
        attention_mask = np.zeros_like(input_ids)
        for text, ids, mask in zip(texts, input_ids, attention_mask, strict=True):
            count = len(text.input_ids)
            tokens = slice(length - count, length) if self._pads_left else slice(count)
            ids[tokens], mask[tokens] = text.input_ids, 1
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def _read_settings(self, file: Path) -> None:
        fields = read_json_object(file)
        pixels = fields["image_processor"]
        self.image_processor = PixelProcessor(
            **{name: pixels[name] for name in _PIXEL_SETTINGS if name in pixels}
        )
        self.max_text_tokens = fields["max_text_tokens"]
        self.pad_text_to_multiple = fields["pad_text_to_multiple"]
        self.answer_types = fields["answer_types"]
        self.answer_vocabulary = fields["answer_vocabulary"]
        self.default_threshold = fields["default_threshold"]
        self.check_settings()

    def _read_padding(self, file: Path) -> None:
        fields = read_json_object(file)
        token: Any = fields["pad_token"]
        padding = self.tokenizer.token_to_id(token["content"] if isinstance(token, dict) else token)
        if padding is None:
            raise ValueError(f"{TOKENIZER_FILE} has no token {token!r}")
        self._padding = padding
        self._pads_left = fields.get("padding_side") == "left"


def _read_tokenizer(file: Path) -> Tokenizer:
    """Read a tokenizer, without the padding and truncation of its last use."""
    tokenizer = Tokenizer.from_str(file.read_text(encoding="utf-8"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True  # as ordinary text
    return tokenizer


def _read(file: Path, read: Callable[[Path], T]) -> T:
    """Read a file.

    Args:
        file: The file.
        read: Reads it.

    Returns:
        What it gives.

    Raises:
        CheckpointError: The file is missing or damaged.
    """
    check_exists(file)
    try:
        return read(file)
    except KeyError as error:
        reason = f"it has no {error}"
    except Exception as error:  # tokenizers raises plain exceptions, and a wrong value any other
        reason = first_line(error).rstrip(".")
    raise CheckpointError(f"{file} is damaged ({reason}); export the model again.")
