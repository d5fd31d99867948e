"""The backbone: its norms, its stride, what trains."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from mdetr.errors import InvalidInputError
from mdetr.model.backbone import Backbone
from mdetr.model.folding import fold_frozen_norms
from tests.model.models import small_config


def test_frozen_norms_are_constants() -> None:
    backbone = Backbone(small_config()).train()
    names = {name for name, _ in backbone.named_parameters()}
    assert not any("bn" in name for name in names)
    before = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
    backbone(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(before[name], buffer) for name, buffer in backbone.named_buffers())


def test_trained_norms_follow_the_data() -> None:
    backbone = Backbone(small_config(backbone_norm="batch")).train()
    before = backbone.body.layer2[0].bn1.running_mean.clone()
    backbone(torch.randn(2, 3, 64, 64))
    assert not torch.equal(before, backbone.body.layer2[0].bn1.running_mean)


@pytest.mark.parametrize("name", ["resnet10t", "tf_efficientnet_lite0"])
def test_group_norms_replace_all_batch_norms_and_keep_the_activation(name: str) -> None:
    backbone = Backbone(small_config(backbone=name, backbone_norm="group"))
    kinds = {type(module).__name__ for module in backbone.modules()}
    assert not any("BatchNorm" in kind for kind in kinds)
    assert kinds & {"GroupNorm", "GroupNormAct"}
    if name == "tf_efficientnet_lite0":
        assert isinstance(backbone.body.bn1.act, nn.ReLU6)


@pytest.mark.parametrize(("stride", "channels"), [(8, 40), (16, 112), (32, 320)])
def test_stride_and_channels_of_an_efficientnet(stride: int, channels: int) -> None:
    backbone = Backbone(small_config(backbone="tf_efficientnet_lite0", backbone_stride=stride))
    (features,) = backbone(torch.randn(1, 3, 64, 96))
    assert features.shape == (1, channels, 64 // stride, 96 // stride)
    assert backbone.channels == channels


def test_no_parameter_lies_behind_the_feature_map() -> None:
    backbone = Backbone(small_config(backbone="tf_efficientnet_lite0", backbone_stride=16))
    backbone(torch.randn(1, 3, 64, 64))[0].sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_a_resnets_first_stage_is_fixed_unless_the_configuration_says_otherwise() -> None:
    published, trained = Backbone(small_config()), Backbone(small_config(backbone_fixed_stages=0))
    assert not any(parameter.requires_grad for parameter in published.body.conv1.parameters())
    assert not any(parameter.requires_grad for parameter in published.body.layer1.parameters())
    assert all(parameter.requires_grad for parameter in published.body.layer2.parameters())
    assert all(parameter.requires_grad for parameter in trained.parameters())


def test_as_many_stages_of_an_efficientnet_are_fixed_as_the_configuration_says() -> None:
    names = {"backbone": "tf_efficientnet_lite0", "backbone_stride": 16}
    body = Backbone(small_config(**names, backbone_fixed_stages=2)).body
    trains = [any(p.requires_grad for p in stage.parameters()) for stage in body.blocks]
    assert trains == [False, False, True, True, True]
    assert not body.conv_stem.weight.requires_grad
    published = Backbone(small_config(**names))
    assert all(parameter.requires_grad for parameter in published.parameters())


def test_a_stride_without_a_feature_map_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="strides"):
        Backbone(small_config(backbone_stride=64))


@pytest.mark.parametrize(
    ("name", "channels"), [("resnet10t", [256, 512]), ("tf_efficientnet_lite0", [112, 320])]
)
def test_a_feature_pyramid_adds_the_map_of_twice_the_stride_in_front(name: str, channels: list[int]) -> None:
    backbone = Backbone(small_config(backbone=name, backbone_stride=16, feature_pyramid=True))
    coarse, features = backbone(torch.randn(1, 3, 64, 96))
    assert coarse.shape == (1, channels[1], 2, 3)
    assert features.shape == (1, channels[0], 4, 6)
    assert [backbone.channels, backbone.coarse_channels] == channels
    assert Backbone(small_config(backbone=name)).coarse_channels == 0


def test_a_feature_pyramid_needs_a_map_of_twice_the_stride() -> None:
    with pytest.raises(InvalidInputError, match="feature_pyramid needs a map of stride 64; resnet10t has"):
        Backbone(small_config(backbone_stride=32, feature_pyramid=True))


@pytest.mark.parametrize("name", ["resnet10t", "resnet50", "tf_efficientnet_lite0", "mobilenetv3_small_050"])
def test_folded_norms_give_the_same_features_without_norms(name: str) -> None:
    backbone = Backbone(small_config(backbone=name, backbone_stride=16)).eval()
    _vary_norms(backbone)
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        (expected,) = backbone(image)
        backbone.folds_norms = True
        (actual,) = backbone(image)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    folded = fold_frozen_norms(backbone.body)
    assert not any("Norm" in type(module).__name__ for module in folded.modules())
    assert not any("folded" in name for name in backbone.state_dict())


def test_folded_norms_follow_the_weights() -> None:
    backbone = Backbone(small_config()).eval()
    _vary_norms(backbone)
    backbone.folds_norms = True
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = backbone(image)[0]
        backbone.body.layer4[0].bn2.bias.add_(1.0)
        changed = backbone(image)[0]
        backbone.folds_norms = False
        torch.testing.assert_close(changed, backbone(image)[0], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(before, changed, atol=1e-2)


@pytest.mark.parametrize("name", ["resnet10t", "resnet50", "tf_efficientnet_lite0"])
def test_folded_norms_train_the_same_weights(name: str) -> None:
    backbone = Backbone(small_config(backbone=name, backbone_stride=16, backbone_fixed_stages=1)).train()
    backbone.double()  # in float32, activations near zero may fall on either side
    _vary_norms(backbone)
    image = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(1)).double()
    maps, gradients = [], []
    for folds in (False, True):
        backbone.folds_norms = folds
        backbone.zero_grad()
        (features,) = backbone(image)
        features.square().sum().backward()
        maps.append(features.detach())
        gradients.append({key: weight.grad for key, weight in backbone.named_parameters()})
    torch.testing.assert_close(maps[1], maps[0])
    plain, folded = gradients
    assert {key for key, gradient in plain.items() if gradient is None} == {
        key for key, gradient in folded.items() if gradient is None
    }
    for key, gradient in plain.items():
        if gradient is not None:
            scale = gradient.abs().max().item()
            torch.testing.assert_close(folded[key], gradient, rtol=1e-6, atol=1e-9 * scale)


def test_folded_norms_train_with_loaded_weights_and_loaded_norms() -> None:
    backbone = Backbone(small_config()).train()
    backbone.folds_norms = True
    image = torch.randn(1, 3, 64, 64)
    backbone(image)
    _vary_norms(backbone)
    (changed,) = backbone(image)
    assert changed.requires_grad
    backbone.folds_norms = False
    torch.testing.assert_close(changed, backbone(image)[0], rtol=1e-4, atol=1e-5)


def test_a_body_without_frozen_norms_trains_as_it_is() -> None:
    backbone = Backbone(small_config(backbone_norm="group")).train()
    image = torch.randn(1, 3, 64, 64)
    (expected,) = backbone(image)
    backbone.folds_norms = True
    assert torch.equal(backbone(image)[0], expected)


def test_norms_that_are_trained_or_in_another_order_are_not_folded() -> None:
    trained = Backbone(small_config(backbone_norm="batch")).eval().body
    folded = fold_frozen_norms(trained)
    assert [type(module) for module in folded.modules()] == [type(module) for module in trained.modules()]

    class Reversed(nn.Sequential):
        def forward(self, input: torch.Tensor) -> list[torch.Tensor]:
            return [self[0](self[1](input))]

    norm = FrozenBatchNorm2d(3)
    norm.bias.fill_(2.0)
    body = Reversed(nn.Conv2d(3, 3, 3, padding=1), norm)
    assert fold_frozen_norms(body) is body


def _vary_norms(backbone: Backbone) -> None:
    """Give the norms constants as after training; new ones change nothing."""
    generator = torch.Generator().manual_seed(0)
    for name, buffer in backbone.named_buffers():
        if name.endswith(("weight", "running_var")):
            buffer.uniform_(0.5, 1.5, generator=generator)
        else:
            buffer.uniform_(-0.5, 0.5, generator=generator)
