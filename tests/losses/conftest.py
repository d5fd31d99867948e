"""Outputs and targets for the losses: recorded ones of the published program, and random ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from mdetr.model.interface import MdetrOutput, Targets

FIXTURES = Path(__file__).parents[1] / "fixtures" / "official"


@dataclass(frozen=True)
class Recorded:
    """The last decoder layer's output of a published variant with made-up weights, and its scores."""

    output: MdetrOutput
    targets: Targets
    matches: list[list[list[int]]]
    losses: dict[str, dict[str, float]]


@pytest.fixture(params=["pretrain_r101", "clevrref_r18"])
def recorded(request: pytest.FixtureRequest) -> Recorded:
    forward = {
        name: torch.from_numpy(array)
        for name, array in np.load(FIXTURES / "forward" / f"{request.param}.npz").items()
    }
    asked = json.loads((FIXTURES / "inputs.json").read_text())["targets"]
    expected = json.loads((FIXTURES / "loss" / f"{request.param}.json").read_text())
    output = MdetrOutput(
        logits=forward["pred_logits"],
        pred_boxes=forward["pred_boxes"],
        query_embeddings=forward["proj_queries"],
        token_embeddings=forward["proj_tokens"],
        referred_logits=forward["pred_isfinal"][..., 0] if "pred_isfinal" in forward else None,
    )
    counts = [len(target["spans"]) for target in asked]
    positive_map = pad([rows > 0 for rows in forward["positive_map"].split(counts)])
    targets = Targets(
        boxes=pad([torch.tensor(target["boxes_cxcywh"]).reshape(-1, 4) for target in asked]),
        box_mask=pad([torch.ones(count, dtype=torch.bool) for count in counts]),
        positive_map=positive_map,
        alignment_map=positive_map[..., : output.token_embeddings.shape[1]],
        is_referred=pad([torch.tensor(target["is_referred"]) for target in asked]),
        referred_mask=torch.ones(len(asked), dtype=torch.bool),
    )
    losses = {
        kind: {name: value for name, value in expected[field].items() if not name[-1].isdigit()}
        for kind, field in (("binary", "losses"), ("uniform", "losses_with_uniform_map"))
    }
    return Recorded(output, targets, expected["matches"], losses)


def pad(rows: list[torch.Tensor]) -> torch.Tensor:
    return pad_sequence(rows, batch_first=True)


def random_layer(generator: torch.Generator, texts: int, queries: int, length: int) -> MdetrOutput:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return MdetrOutput(
        logits=3 * normal(texts, queries, 256),
        pred_boxes=normal(texts, queries, 4).sigmoid(),
        query_embeddings=torch.nn.functional.normalize(normal(texts, queries, 64), dim=-1),
        token_embeddings=torch.nn.functional.normalize(normal(texts, length, 64), dim=-1),
        referred_logits=normal(texts, queries),
    )


def random_targets(generator: torch.Generator, box_counts: list[int], length: int) -> Targets:
    texts, most = len(box_counts), max(box_counts)
    box_mask = torch.arange(most) < torch.tensor(box_counts)[:, None]
    boxes = torch.rand(texts, most, 4, generator=generator) * 0.4 + 0.1
    tokens = torch.rand(texts, most, length, generator=generator) < 0.3
    positive_map = torch.zeros(texts, most, 256, dtype=torch.bool)
    positive_map[..., :length] = tokens
    return Targets(
        boxes=boxes * box_mask[..., None],
        box_mask=box_mask,
        positive_map=positive_map & box_mask[..., None],
        alignment_map=tokens & box_mask[..., None],
        is_referred=(torch.rand(texts, most, generator=generator) < 0.5).float() * box_mask,
        referred_mask=torch.arange(texts) % 2 == 0,
    )


@pytest.fixture
def random_batch() -> Callable[..., tuple[MdetrOutput, Targets]]:
    """A maker of an output of several decoder layers, and targets for it."""

    def make(
        box_counts: list[int],
        queries: int = 8,
        layers: int = 3,
        length: int = 11,
        proposals: int = 0,
        seed: int = 0,
    ) -> tuple[MdetrOutput, Targets]:
        generator = torch.Generator().manual_seed(seed)
        outputs = [random_layer(generator, len(box_counts), queries, length) for _ in range(layers)]
        output = outputs[-1]
        for layer in outputs:
            layer.token_embeddings = output.token_embeddings  # one text memory for all layers
        output.auxiliary_outputs = outputs[:-1]
        if proposals:
            made = random_layer(generator, len(box_counts), proposals, length)
            output.proposals = MdetrOutput(logits=made.logits, pred_boxes=made.pred_boxes)
        return output, random_targets(generator, box_counts, length)

    return make
