"""The shapes in annotations are checked in the tests, and nowhere else."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from jaxtyping import TypeCheckError

from mdetr.losses.boxes import generalized_iou
from mdetr.model.features import TextFeatures
from mdetr.model.heads import DotProductTokenHead
from tests.model.models import small_config


def test_boxes_of_integers_are_refused() -> None:
    integers = torch.tensor([[0, 0, 2, 2]])
    with pytest.raises(TypeCheckError, match=r"boxes_a"):
        generalized_iou(integers, integers)


def test_boxes_with_a_fifth_coordinate_are_refused() -> None:
    with pytest.raises(TypeCheckError, match=r"boxes_b"):
        generalized_iou(torch.rand(3, 4), torch.rand(3, 5))


def test_a_size_with_one_name_must_be_the_same_in_all_arguments() -> None:
    head = DotProductTokenHead(small_config())
    queries, text = torch.rand(2, 5, 32), torch.rand(2, 7, 32)
    head(queries, text, torch.zeros(2, 7, dtype=torch.bool))
    with pytest.raises(TypeCheckError, match=r"text_padding"):
        head(queries, text, torch.zeros(2, 6, dtype=torch.bool))


def test_the_fields_of_a_dataclass_must_fit_one_another() -> None:
    with pytest.raises(TypeCheckError, match=r"padding"):
        TextFeatures(torch.rand(2, 7, 32), torch.zeros(2, 7))


def test_a_program_that_imports_the_model_checks_nothing() -> None:
    program = """
import sys
import torch
from mdetr.losses.boxes import generalized_iou
import mdetr.modeling
assert "beartype" not in sys.modules
integers = torch.tensor([[0, 0, 2, 2]])  # which the annotations do not allow
assert generalized_iou(integers, integers) == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)
