"""Every released variant: its file converts, loads, and gives the released program's recorded numbers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from mdetr.checkpoints.conversion import convert
from mdetr.checkpoints.loading import load
from mdetr.evaluation.metrics.phrase_grounding import phrase_scores
from mdetr.losses.criterion import compute_loss
from mdetr.losses.matcher import assign, matching_cost
from mdetr.model.config import MdetrConfig
from mdetr.model.interface import MdetrOutput
from mdetr.modeling import MdetrForObjectDetection
from mdetr.processing.layouts import image_layouts
from mdetr.processing.processor import MdetrProcessor
from mdetr.processing.tokens import token_ranges, tokenized_texts
from tests.model.reference import (
    FOLDER,
    captions,
    recorded_losses,
    recorded_outputs,
    reference_inputs,
    released_state,
)

VARIANTS = [
    "pretrain_r101",
    "pretrain_eb3",
    "pretrain_eb5",
    "gqa_r101",
    "gqa_unified_r101",
    "phrasecut_r101",
    "phrasecut_eb3",
    "clevr_r18",
    "clevrref_r18",
]
SIZES = [(480, 640), (300, 225), (400, 500)]  # (height, width) that results were recorded for

# What the released program calls the parts of a model.
GRADIENT_GROUPS = {
    "backbone": "backbone",
    "text_encoder": "text_encoder",
    "resizer": "text_projection",
    "encoder": "encoder.",
    "decoder": "decoder",
    "input_proj": "input_projection",
    "query_embed": "queries",
    "qa_embed": "answers.positions",
    "class_embed": "token_head",
    "bbox_embed": "box_head",
    "contrastive_image": "query_alignment",
    "contrastive_text": "token_alignment",
    "isfinal": "referred_head",
    "answer": "answers.heads",
    "mask": "mask_",
}


@dataclass(frozen=True)
class Noise:
    """Ten times what two correct runs differ by: absolute of outputs, relative of losses and norms."""

    logits: float = 1e-3
    boxes: float = 1e-4
    losses: float = 4e-5
    gradients: float = 6e-4


@dataclass(frozen=True)
class Published:
    """A converted variant, and what it says of the recorded inputs."""

    variant: str
    model: MdetrForObjectDetection
    processor: MdetrProcessor
    inputs: dict[str, Any]
    targets: Any
    output: MdetrOutput
    recorded: dict[str, np.ndarray]
    recorded_losses: dict[str, Any]
    noise: Noise


@pytest.fixture(scope="module", params=VARIANTS)
def published(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Published]:
    variant = request.param
    folder = tmp_path_factory.mktemp(variant)
    layout = json.loads((FOLDER / "layout" / f"{variant}.json").read_text())
    state = released_state(variant)
    args = argparse.Namespace(**layout["args"])
    torch.save(
        {"model": state, "model_ema": state, "optimizer": {}, "epoch": 1, "args": args}, folder / "file.pth"
    )
    del state
    model, processor = load(convert(folder / "file.pth", folder / "model"))
    for file in [folder / "file.pth", *(folder / "model").iterdir()]:
        file.unlink()  # hundreds of megabytes each
    answers = recorded_losses(variant)["answers"]
    inputs = reference_inputs(model.config, answers)
    targets = inputs.pop("targets")
    yield Published(
        variant,
        model,
        processor,
        inputs,
        targets,
        model(**inputs),
        recorded_outputs(variant),
        recorded_losses(variant),
        Noise(2e-2, 2e-3, 1e-4) if "eb5" in variant else Noise(),
    )


def _distance(found: torch.Tensor, expected: np.ndarray) -> float:
    assert found.shape == expected.shape
    return float(np.abs(found.detach().numpy() - expected).max())


def test_outputs(published: Published) -> None:
    output, recorded, noise = published.output, published.recorded, published.noise
    first = output.auxiliary_outputs[0]
    assert _distance(output.logits, recorded["pred_logits"]) < noise.logits
    assert _distance(output.pred_boxes, recorded["pred_boxes"]) < noise.boxes
    assert _distance(first.logits[:, :5], recorded["aux0_pred_logits_q5"]) < noise.logits
    assert _distance(first.pred_boxes, recorded["aux0_pred_boxes"]) < noise.boxes
    assert (output.query_embeddings is None) == ("proj_queries" not in recorded)
    if output.query_embeddings is not None:
        assert _distance(output.query_embeddings, recorded["proj_queries"]) < noise.logits
        assert _distance(output.token_embeddings, recorded["proj_tokens"]) < noise.logits
    assert (output.referred_logits is None) == ("pred_isfinal" not in recorded)
    if output.referred_logits is not None:
        assert _distance(output.referred_logits[..., None], recorded["pred_isfinal"]) < noise.logits
    assert (output.pred_masks is None) == ("pred_masks_q3" not in recorded)
    if output.pred_masks is not None:
        assert _distance(output.pred_masks[:, :3], recorded["pred_masks_q3"]) < noise.logits


def test_answers(published: Published) -> None:
    expected = {
        name.removeprefix("pred_").removeprefix("answer_"): values.reshape(3, -1)
        for name, values in published.recorded.items()
        if name.startswith("pred_answer")
    }
    found = published.output.answer_logits or {}
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert _distance(found[name], values) < published.noise.logits, name
    if found:
        for answer, kind, probability in published.processor.post_process_answers(published.output):
            assert answer in published.model.config.answer_vocabulary[kind or "answer"]
            assert 0 < probability <= 1


def test_losses(published: Published) -> None:
    for kind, name in (("binary", "losses"), ("uniform", "losses_with_uniform_map")):
        config = MdetrConfig.from_dict(published.model.config.to_dict() | {"token_targets": kind})
        with torch.no_grad():
            _, losses = compute_loss(published.output, published.targets, config)
        expected = published.recorded_losses[name]
        if kind == "uniform":  # recorded without answers, which do not depend on it
            losses = {key: value for key, value in losses.items() if "answer" not in key}
        assert losses.keys() == expected.keys()
        for key, value in expected.items():
            assert losses[key].item() == pytest.approx(value, rel=published.noise.losses, abs=1e-6), key


def test_matches(published: Published) -> None:
    output, targets = published.output, published.targets
    cost = matching_cost(
        output.logits[None], output.pred_boxes[None], targets["positive_map"].float(), targets["boxes"]
    )
    matches = assign([cost], targets["box_mask"], [1])[0]
    for text, (queries, boxes) in enumerate(published.recorded_losses["matches"]):
        here = matches.text == text
        assert matches.query[here].tolist() == queries
        assert matches.target[here].tolist() == boxes


def test_total_and_gradients(published: Published) -> None:
    loss, _ = compute_loss(published.output, published.targets, published.model.config)
    assert loss.item() == pytest.approx(published.recorded_losses["total"], rel=published.noise.losses)
    published.model.zero_grad()
    loss.backward()
    expected = published.recorded_losses["gradient_norms"]
    norms = {}
    for group in expected:
        gradients = [
            parameter.grad.double().norm()  # summing 100 million squares in float32 loses a percent
            for name, parameter in published.model.named_parameters()
            if name.startswith(GRADIENT_GROUPS[group]) and parameter.grad is not None
        ]
        norms[group] = torch.stack(gradients).norm().item()
    published.model.zero_grad(set_to_none=True)
    assert norms == pytest.approx(expected, rel=published.noise.gradients)


def test_results(published: Published) -> None:
    recorded, output, noise = published.recorded, published.output, published.noise
    with torch.no_grad():
        results = published.processor.post_process_boxes(output, SIZES)
    pixels = noise.boxes * 640
    for row, found in enumerate(results):
        assert _distance(torch.from_numpy(found.scores), recorded["post_scores"][row]) < noise.logits
        assert _distance(torch.from_numpy(found.boxes_xyxy), recorded["post_boxes"][row]) < pixels
        if "post_scores_refexp" in recorded:
            referred = torch.from_numpy(found.referred_scores)
            assert _distance(referred, recorded["post_scores_refexp"][row]) < noise.logits
    if "flickr_top10" in recorded:
        _assert_ranked(published, [torch.from_numpy(found.boxes_xyxy) for found in results], pixels)
    if output.pred_masks is not None:
        given = image_layouts(SIZES, published.inputs["pixel_mask"].numpy())
        every = [np.arange(100)] * 3
        masks = published.processor.post_process_masks(output, every, given)
        for found, area in zip(masks, recorded["segm_area"], strict=True):
            # A pixel whose probability is a half may fall on either side.
            assert np.abs(found.sum((1, 2)) - area).max() <= 10


def _assert_ranked(published: Published, boxes: list[torch.Tensor], pixels: float) -> None:
    """The ten best boxes of each phrase, in order."""
    texts = tokenized_texts(published.processor.tokenize(captions()).encodings, captions())
    probabilities = published.output.logits.detach().softmax(-1)
    spans = json.loads((FOLDER / "inputs.json").read_text())["targets"]
    asked = [(row, phrase) for row, target in enumerate(spans) for phrase in target["spans"]]
    for (row, phrase), expected in zip(asked, published.recorded["flickr_top10"], strict=True):
        scores = phrase_scores(probabilities[row], token_ranges(texts[row], phrase))
        best = scores.argsort(descending=True, stable=True)[:10]
        assert _distance(boxes[row][best], expected) < pixels
