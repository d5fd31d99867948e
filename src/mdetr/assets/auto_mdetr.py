"""The classes of mdetr, for Auto classes of transformers with `trust_remote_code=True`."""

try:
    from mdetr import MdetrConfig, MdetrForObjectDetection, MdetrImageProcessor, MdetrModel, MdetrProcessor
except ModuleNotFoundError as error:
    if error.name != "mdetr":  # something that the package itself needs
        raise
    raise ImportError(
        "This model runs with the Python package mdetr, which is not installed here: install it from its "
        "repository (pip install .), then load the model again."
    ) from None

__all__ = ["MdetrConfig", "MdetrForObjectDetection", "MdetrImageProcessor", "MdetrModel", "MdetrProcessor"]
