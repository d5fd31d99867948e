"""Parameter groups of the optimizer, and their learning rates."""

from __future__ import annotations

from typing import Any

from torch import nn

from mdetr.training.recipe import OptimizerSettings

PUBLISHED_RATE, PUBLISHED_SIZE = 1e-4, 100_000_000  # all published models are larger
HIGHEST_RATE = 1e-3


def suited_rate(parameters: int) -> float:
    """The learning rate for a model with so many parameters.

    It is the published rate for models of the published size. Smaller models learn at higher rates: with the
    square root of the size this comes near to those that the bundled models were trained with.
    """
    return min(HIGHEST_RATE, PUBLISHED_RATE * max(1.0, PUBLISHED_SIZE / parameters) ** 0.5)


def parameter_groups(model: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The three groups of the optimizer: names with "backbone", with "text_encoder", the rest.

    Rates that the settings leave open suit the model's size.

    Source: arXiv 2104.12763, appendix A.
    """
    parameters: dict[str, list[nn.Parameter]] = {"backbone": [], "text_encoder": [], "rest": []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((key for key in ("backbone", "text_encoder") if key in name), "rest")
            parameters[group].append(parameter)
    rates = _rates(model, settings)
    return [
        {"name": name, "params": parameters[name], "lr": rates[name]}
        for name in parameters
        if parameters[name]
    ]


def _rates(model: nn.Module, settings: OptimizerSettings) -> dict[str, float]:
    """The learning rate of each group; those that the settings leave open suit the sizes."""
    total = sum(parameter.numel() for parameter in model.parameters())
    of_text = sum(p.numel() for name, p in model.named_parameters() if "text_encoder" in name)
    if settings.lr is None:
        lr = suited_rate(total)
        # A text encoder of the published size gets half; a small one has as much to learn as the rest.
        text_lr = min(lr, suited_rate(of_text) / 2) if of_text else lr / 2
    else:
        lr, text_lr = settings.lr, settings.lr / 2
    return {
        "backbone": lr / 10 if settings.lr_backbone is None else settings.lr_backbone,
        "text_encoder": text_lr if settings.lr_text_encoder is None else settings.lr_text_encoder,
        "rest": lr,
    }
