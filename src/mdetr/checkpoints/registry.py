"""Registry of the models that have names: bundled with the package, or released with the paper.

This is the one table of names: the command line, the messages, the downloads and the documentation use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from importlib import resources
from pathlib import Path
from urllib.parse import quote

RELEASE = "https://zenodo.org/record/4721981/files"
ANNOTATIONS = "https://zenodo.org/record/4729015/files/mdetr_annotations.tar.gz"


class Task(StrEnum):
    """What a model was trained for."""

    GROUNDING = "grounding"
    REFERRING = "referring"
    ANSWERING = "answering"
    SEGMENTATION = "segmentation"
    DETECTION = "detection"

    @property
    def command(self) -> str:
        """The command of `mdetr`, and the method of `Mdetr`, that does it."""
        return {"grounding": "ground", "referring": "refer", "answering": "answer"}.get(
            self.value, "segment" if self is Task.SEGMENTATION else "detect"
        )


@dataclass(frozen=True)
class BundledModel:
    """A model that comes with the package.

    Attributes:
        name: What `from_pretrained` and the command line call it.
        task: What it was trained for.
        description: What it is, in a few words.
    """

    name: str
    task: Task
    description: str

    @property
    def folder(self) -> Path:
        """Its files."""
        return Path(str(resources.files("mdetr"))) / "assets" / "models" / self.name


@dataclass(frozen=True)
class ReleasedModel:
    """A file of the original release.

    Attributes:
        name: What `from_pretrained` and the command line call it.
        task: What it was trained for.
        backbone: The network that reads images.
        data: What it was trained on.
        file: The name of the file.
        gigabytes: The size of the file as the release states it, with all that training stored in it.
        figures: The paper's, in percent.
        size: The exact size in bytes, where it is known.
        sha256: The checksum of the file, where it is known.
    """

    name: str
    task: Task
    backbone: str
    data: str
    file: str
    gigabytes: float
    figures: str
    size: int | None = None
    sha256: str | None = None

    @property
    def has_gqa_answers(self) -> bool:
        """Whether it gives answers whose words are not in the file."""
        return self.data == "GQA"

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        return f"{self.backbone}, {self.data}"

    def address(self, mirror: str | None = None) -> str:
        """Address to download the file from.

        Args:
            mirror: Address of a folder with the released files, or of this file itself.

        Returns:
            The address.
        """
        if mirror and mirror.partition("?")[0].endswith(".pth"):
            return mirror
        return f"{(mirror or RELEASE).rstrip('/')}/{quote(self.file)}"


BUNDLED = (
    BundledModel("photo-tiny", Task.GROUNDING, "small, everyday photos"),
    BundledModel("clevr-tiny", Task.GROUNDING, "very small, synthetic CLEVR"),
)

_R101, _R18, _B3, _B5 = "ResNet-101", "ResNet-18", "EfficientNet-B3", "EfficientNet-B5"

# Source: arXiv 2104.12763, tables 1 to 7, and the release that goes with it.
RELEASED = (
    ReleasedModel(
        "pretrained-r101",
        Task.GROUNDING,
        _R101,
        "pre-trained",
        "pretrained_resnet101_checkpoint.pth",
        3.0,
        "Flickr30k ANY-BOX R@1 val 82.5, test 83.4",
    ),
    ReleasedModel(
        "pretrained-b3",
        Task.GROUNDING,
        _B3,
        "pre-trained",
        "pretrained_EB3_checkpoint.pth",
        2.4,
        "Flickr30k ANY-BOX R@1 val 82.9, test 84.0",
    ),
    ReleasedModel(
        "pretrained-b5",
        Task.GROUNDING,
        _B5,
        "pre-trained",
        "pretrained_EB5_checkpoint.pth",
        2.7,
        "Flickr30k ANY-BOX R@1 val 83.6, test 84.3",
    ),
    ReleasedModel(
        "flickr30k-merged-r101",
        Task.GROUNDING,
        _R101,
        "Flickr30k merged",
        "flickr_merged_resnet101_checkpoint.pth",
        3.0,
        "Flickr30k MERGED-BOXES R@1 val 82.3, test 83.8",
    ),
    ReleasedModel(
        "refcoco-r101",
        Task.REFERRING,
        _R101,
        "RefCOCO",
        "refcoco_resnet101_checkpoint.pth",
        3.0,
        "RefCOCO val 86.75, testA 89.58, testB 81.41",
    ),
    ReleasedModel(
        "refcoco-b3",
        Task.REFERRING,
        _B3,
        "RefCOCO",
        "refcoco_EB3_checkpoint.pth",
        2.4,
        "RefCOCO val 87.51, testA 90.40, testB 82.67",
    ),
    ReleasedModel(
        "refcoco+-r101",
        Task.REFERRING,
        _R101,
        "RefCOCO+",
        "refcoco+_resnet101_checkpoint.pth",
        3.0,
        "RefCOCO+ val 79.52, testA 84.09, testB 70.62",
    ),
    ReleasedModel(
        "refcoco+-b3",
        Task.REFERRING,
        _B3,
        "RefCOCO+",
        "refcoco+_EB3_checkpoint.pth",
        2.4,
        "RefCOCO+ val 81.13, testA 85.52, testB 72.96",
    ),
    ReleasedModel(
        "refcocog-r101",
        Task.REFERRING,
        _R101,
        "RefCOCOg",
        "refcocog_resnet101_checkpoint.pth",
        3.0,
        "RefCOCOg val 81.64, test 80.89",
    ),
    ReleasedModel(
        "refcocog-b3",
        Task.REFERRING,
        _B3,
        "RefCOCOg",
        "refcocog_EB3_checkpoint.pth",
        2.4,
        "RefCOCOg val 83.35, test 83.31",
    ),
    ReleasedModel(
        "gqa-r101",
        Task.ANSWERING,
        _R101,
        "GQA",
        "gqa_resnet101_checkpoint.pth",
        3.0,
        "GQA test-dev 62.48, test-std 61.99",
    ),
    ReleasedModel(
        "gqa-b5",
        Task.ANSWERING,
        _B5,
        "GQA",
        "gqa_EB5_checkpoint.pth",
        2.7,
        "GQA test-dev 62.95, test-std 62.45",
    ),
    ReleasedModel(
        "phrasecut-r101",
        Task.SEGMENTATION,
        _R101,
        "PhraseCut",
        "phrasecut_resnet101_checkpoint.pth",
        1.5,
        "PhraseCut M-IoU 53.1, Pr@0.5/0.7/0.9 56.1 38.9 11.9",
    ),
    ReleasedModel(
        "phrasecut-b3",
        Task.SEGMENTATION,
        _B3,
        "PhraseCut",
        "phrasecut_EB3_checkpoint.pth",
        1.2,
        "PhraseCut M-IoU 53.7, Pr@0.5/0.7/0.9 57.5 39.9 11.9",
    ),
    ReleasedModel(
        "lvis1-r101",
        Task.DETECTION,
        _R101,
        "1 % of LVIS",
        "lvis1_checkpoint.pth",
        3.0,
        "LVIS fixed AP 16.7, APr 11.2, APc 14.6, APf 19.5",
    ),
    ReleasedModel(
        "lvis10-r101",
        Task.DETECTION,
        _R101,
        "10 % of LVIS",
        "lvis10_checkpoint.pth",
        3.0,
        "LVIS fixed AP 24.2, APr 20.9, APc 24.9, APf 24.3",
    ),
    ReleasedModel(
        "lvis100-r101",
        Task.DETECTION,
        _R101,
        "all of LVIS",
        "lvis100_checkpoint.pth",
        3.0,
        "LVIS fixed AP 22.5, APr 7.4, APc 22.7, APf 25.0",
    ),
    ReleasedModel(
        "clevr-r18",
        Task.ANSWERING,
        _R18,
        "CLEVR",
        "clevr_checkpoint.pth",
        0.45,
        "CLEVR accuracy 99.7",
    ),
    ReleasedModel(
        "clevr-humans-r18",
        Task.ANSWERING,
        _R18,
        "CLEVR-Humans",
        "clevr_humans_checkpoint.pth",
        0.45,
        "CLEVR-Humans accuracy 81.7",
    ),
    ReleasedModel(
        "clevr-cogent-r18",
        Task.ANSWERING,
        _R18,
        "CLEVR-CoGenT",
        "clevr_cogent_checkpoint.pth",
        0.45,
        "CLEVR-CoGenT accuracy A 99.8, B 76.7",
    ),
)


def bundled_model(name: str) -> BundledModel | None:
    """The bundled model of this name, if there is one."""
    return next((entry for entry in BUNDLED if entry.name == name), None)


def released_model(name: str) -> ReleasedModel | None:
    """The released model of this name, if there is one."""
    return next((entry for entry in RELEASED if entry.name == name), None)


def model_names() -> list[str]:
    """All names, those of bundled models first."""
    return [entry.name for entry in (*BUNDLED, *RELEASED)]


def nearest_name(name: str) -> str | None:
    """The name that may have been meant."""
    return next(iter(get_close_matches(name, model_names(), n=1)), None)
