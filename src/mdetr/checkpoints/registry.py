"""The checkpoints of the original release: what each is for, what the paper says of it, where it is."""

from __future__ import annotations

from dataclasses import dataclass

RELEASE = "https://zenodo.org/record/4721981/files"


@dataclass(frozen=True)
class ReleasedCheckpoint:
    """A file of the original release.

    figures: the paper's, in percent. gigabytes: of the file, with all that training stored in it.
    """

    name: str
    task: str
    backbone: str
    file: str
    gigabytes: float
    figures: str

    @property
    def address(self) -> str:
        """Where the file is downloaded."""
        return f"{RELEASE}/{self.file.replace('+', '%2B')}"

    @property
    def commands(self) -> tuple[str, str]:
        """What to type to get the file, and to convert it."""
        answers = " --answers mdetr_annotations" if self.name.startswith("gqa") else ""
        return (
            f'curl -L -o "{self.file}" "{self.address}?download=1"',
            f'mdetr convert "{self.file}" models/{self.name}{answers}',
        )


_R101, _B3, _B5 = "ResNet-101", "EfficientNet-B3", "EfficientNet-B5"
_PRE, _EXPRESSIONS = "phrase grounding (pre-trained)", "referring expressions"

# Source: arXiv 2104.12763, tables 1 to 7, and the release that goes with it.
RELEASED = (
    ReleasedCheckpoint(
        "pretrained-r101",
        _PRE,
        _R101,
        "pretrained_resnet101_checkpoint.pth",
        3.0,
        "Flickr30k ANY-BOX R@1 val 82.5, test 83.4",
    ),
    ReleasedCheckpoint(
        "pretrained-b3",
        _PRE,
        _B3,
        "pretrained_EB3_checkpoint.pth",
        2.4,
        "Flickr30k ANY-BOX R@1 val 82.9, test 84.0",
    ),
    ReleasedCheckpoint(
        "pretrained-b5",
        _PRE,
        _B5,
        "pretrained_EB5_checkpoint.pth",
        2.7,
        "Flickr30k ANY-BOX R@1 val 83.6, test 84.3",
    ),
    ReleasedCheckpoint(
        "flickr30k-merged-r101",
        "phrase grounding (merged boxes)",
        _R101,
        "flickr_merged_resnet101_checkpoint.pth",
        3.0,
        "Flickr30k MERGED-BOXES R@1 val 82.3, test 83.8",
    ),
    ReleasedCheckpoint(
        "refcoco-r101",
        _EXPRESSIONS,
        _R101,
        "refcoco_resnet101_checkpoint.pth",
        3.0,
        "RefCOCO val 86.75, testA 89.58, testB 81.41",
    ),
    ReleasedCheckpoint(
        "refcoco-b3",
        _EXPRESSIONS,
        _B3,
        "refcoco_EB3_checkpoint.pth",
        2.4,
        "RefCOCO val 87.51, testA 90.40, testB 82.67",
    ),
    ReleasedCheckpoint(
        "refcoco+-r101",
        _EXPRESSIONS,
        _R101,
        "refcoco+_resnet101_checkpoint.pth",
        3.0,
        "RefCOCO+ val 79.52, testA 84.09, testB 70.62",
    ),
    ReleasedCheckpoint(
        "refcoco+-b3",
        _EXPRESSIONS,
        _B3,
        "refcoco+_EB3_checkpoint.pth",
        2.4,
        "RefCOCO+ val 81.13, testA 85.52, testB 72.96",
    ),
    ReleasedCheckpoint(
        "refcocog-r101",
        _EXPRESSIONS,
        _R101,
        "refcocog_resnet101_checkpoint.pth",
        3.0,
        "RefCOCOg val 81.64, test 80.89",
    ),
    ReleasedCheckpoint(
        "refcocog-b3",
        _EXPRESSIONS,
        _B3,
        "refcocog_EB3_checkpoint.pth",
        2.4,
        "RefCOCOg val 83.35, test 83.31",
    ),
    ReleasedCheckpoint(
        "gqa-r101",
        "question answering",
        _R101,
        "gqa_resnet101_checkpoint.pth",
        3.0,
        "GQA test-dev 62.48, test-std 61.99",
    ),
    ReleasedCheckpoint(
        "gqa-b5",
        "question answering",
        _B5,
        "gqa_EB5_checkpoint.pth",
        2.7,
        "GQA test-dev 62.95, test-std 62.45",
    ),
    ReleasedCheckpoint(
        "phrasecut-r101",
        "segmentation",
        _R101,
        "phrasecut_resnet101_checkpoint.pth",
        1.5,
        "PhraseCut M-IoU 53.1, Pr@0.5/0.7/0.9 56.1 38.9 11.9",
    ),
    ReleasedCheckpoint(
        "phrasecut-b3",
        "segmentation",
        _B3,
        "phrasecut_EB3_checkpoint.pth",
        1.2,
        "PhraseCut M-IoU 53.7, Pr@0.5/0.7/0.9 57.5 39.9 11.9",
    ),
    ReleasedCheckpoint(
        "lvis1-r101",
        "detection, 1 % of LVIS",
        _R101,
        "lvis1_checkpoint.pth",
        3.0,
        "LVIS fixed AP 16.7, APr 11.2, APc 14.6, APf 19.5",
    ),
    ReleasedCheckpoint(
        "lvis10-r101",
        "detection, 10 % of LVIS",
        _R101,
        "lvis10_checkpoint.pth",
        3.0,
        "LVIS fixed AP 24.2, APr 20.9, APc 24.9, APf 24.3",
    ),
    ReleasedCheckpoint(
        "lvis100-r101",
        "detection, all of LVIS",
        _R101,
        "lvis100_checkpoint.pth",
        3.0,
        "LVIS fixed AP 22.5, APr 7.4, APc 22.7, APf 25.0",
    ),
    ReleasedCheckpoint(
        "clevr-r18",
        "question answering",
        "ResNet-18",
        "clevr_checkpoint.pth",
        0.45,
        "CLEVR accuracy 99.7",
    ),
    ReleasedCheckpoint(
        "clevr-humans-r18",
        "question answering",
        "ResNet-18",
        "clevr_humans_checkpoint.pth",
        0.45,
        "CLEVR-Humans accuracy 81.7",
    ),
    ReleasedCheckpoint(
        "clevr-cogent-r18",
        "question answering",
        "ResNet-18",
        "clevr_cogent_checkpoint.pth",
        0.45,
        "CLEVR-CoGenT accuracy A 99.8, B 76.7",
    ),
)
