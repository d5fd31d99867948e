"""Tensors and arrays, told apart and converted."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from mdetr.errors import MissingDependencyError
from mdetr.model.tensors import import_torch, is_tensor, sigmoid, softmax, to_array


def test_a_tensor_is_known_by_its_type() -> None:
    assert is_tensor(torch.ones(2)) and is_tensor(torch.nn.Parameter(torch.ones(2)))
    assert not is_tensor(np.ones(2)) and not is_tensor([1.0])


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
)
def test_a_tensor_of_any_type_becomes_an_array(dtype: torch.dtype) -> None:
    tensor = torch.tensor([0.0, 1.0, 0.5]).to(dtype)
    array = to_array(tensor)
    assert isinstance(array, np.ndarray)
    assert array.tolist() == tensor.tolist()
    assert to_array(torch.ones(2, requires_grad=True)).tolist() == [1, 1]


def test_an_array_stays_the_same_and_numbers_become_one() -> None:
    array = np.ones(3)
    assert to_array(array) is array
    assert to_array([1, 2]).tolist() == [1, 2]


def test_probabilities_are_those_of_torch_also_for_large_logits() -> None:
    logits = np.array([[-1000, 0, 1000], [-3, 2, 0.5], [80, 90, -120]], np.float32)
    tensor = torch.from_numpy(logits)
    with np.errstate(over="raise", invalid="raise"):
        np.testing.assert_allclose(softmax(logits), tensor.softmax(-1), atol=1e-7)
        np.testing.assert_allclose(sigmoid(logits), tensor.sigmoid(), rtol=1e-5, atol=1e-38)
    assert softmax(logits.astype(np.float16)).dtype == sigmoid(logits.astype(np.float16)).dtype == np.float32


def test_small_probabilities_keep_their_order() -> None:
    small = sigmoid(np.array([-40, -30, -20], np.float32))
    assert 0 < small[0] < small[1] < small[2]


def test_without_torch_an_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match="pip install torch torchvision timm"):
        import_torch()
