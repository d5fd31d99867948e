"""Location of the cache of downloaded models, and the offline mode."""

from __future__ import annotations

import os
from pathlib import Path

from huggingface_hub import constants

_FALSE = frozenset({"", "0", "false", "no", "off"})


def cache_folder() -> Path:
    """The folder of the released models: `MDETR_HOME`, or a part of the Hugging Face cache."""
    home = os.environ.get("MDETR_HOME")
    return Path(home).expanduser() if home else Path(constants.HF_ASSETS_CACHE) / "mdetr"


def model_folder(name: str) -> Path:
    """Where the converted files of a released model are, or will be."""
    return cache_folder() / "models" / name


def download_path(file: str) -> Path:
    """Where a released file is while it is needed, or for good if it is kept."""
    return cache_folder() / "downloads" / file


def offline_variable() -> str | None:
    """The environment variable that forbids downloads, if one does."""
    if os.environ.get("MDETR_OFFLINE", "").strip().lower() not in _FALSE:
        return "MDETR_OFFLINE"
    return "HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else None
