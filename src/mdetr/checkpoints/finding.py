"""Resolution of model names to folders: bundled, released, a local folder, or a Hub id."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from shlex import quote

from mdetr.checkpoints.registry import (
    BUNDLED,
    RELEASED,
    model_names,
    released_model,
)
from mdetr.errors import CheckpointError, InvalidInputError
from mdetr.files import is_file, is_folder, read_json_object
from mdetr.model import MODEL_TYPE

EXPORT_FILE = "export.json"
"""File that describes an exported model, in its folder."""

_OWN_FOLDERS = ("models/", "runs/")  # where the documentation puts models, and commands write them
_LONGEST_ID = 96  # characters of an id of the Hub
_FILE_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".safetensors", ".onnx", ".json", ".yaml", ".zip")


def is_exported(folder: Path) -> bool:
    """Return whether a folder holds a model that `mdetr export` wrote."""
    return (folder / EXPORT_FILE).is_file()


def bundled_models() -> dict[str, Path]:
    """The models that ship with the package: name -> folder."""
    return {entry.name: entry.folder for entry in BUNDLED}


def find_model(name: str, mirror: str | None = None, keep_download: bool = False) -> Path:
    """Find the folder of a model; local folders first, then released models and the Hub.

    Args:
        name: A name of `mdetr models`, a folder that `save_pretrained` wrote, or a Hub id. What is not on
            this machine yet is downloaded.
        mirror: Where a released file is downloaded from; see `get_released`.
        keep_download: Whether a released file stays after it is converted.

    Returns:
        The folder with its files.

    Raises:
        CheckpointError: There is no such model, or it is not an MDETR.
    """
    folder = Path(name).expanduser()
    if not is_folder(folder):
        folder = bundled_models().get(name) or _downloaded(name, mirror, keep_download)
    file = folder / "config.json"
    if not is_file(file):
        raise CheckpointError(f"The folder {folder} holds no model: there is no config.json in it.")
    try:
        kind = read_json_object(file).get("model_type")
    except InvalidInputError as error:
        raise CheckpointError(f"{file} is damaged: {error}.") from None
    if kind != MODEL_TYPE:
        raise CheckpointError(f"The folder {folder} holds a model of type {kind!r}, not {MODEL_TYPE!r}.")
    return folder


def _downloaded(name: str, mirror: str | None, keep_download: bool) -> Path:
    """The folder of a released model, or the copy of a repository of the Hub."""
    released = released_model(name)
    if released is None:
        return _from_hub(name)
    from mdetr.checkpoints.released import get_released  # slow to load, and a local model does not need it

    return get_released(released, mirror, keep_download)


def _from_hub(name: str) -> Path:
    """The copy of a repository, for a name that can be meant as nothing else."""
    last = PurePosixPath(name.replace("\\", "/")).name
    if is_file(Path(name)):
        raise CheckpointError(
            f"{name} is a file, not the folder of a model; if it is a released checkpoint, type: "
            f"mdetr convert {quote(name)} {quote(f'models/{Path(name).stem}')}"
        )
    if last in bundled_models():
        raise CheckpointError(
            f"There is no folder {name!r}; the model that comes with the package is {last!r}."
        )
    released = next((entry for entry in RELEASED if last in (entry.name, entry.file)), None)
    if released is not None:
        raise CheckpointError(
            f"There is no folder {name!r}; the released model, which is downloaded and converted, is "
            f"{released.name!r}."
        )
    known = "a name that `mdetr models` lists"
    if name.count("/") != 1 or len(name) > _LONGEST_ID or _looks_like_a_path(name):
        kind = "model" if last == name else "folder"
        raise CheckpointError(
            f"There is no {kind} {name!r:.100}: expected {known}, a folder that save_pretrained wrote, or a "
            f"Hub id such as owner/name.{_hint(name)}"
        )
    from mdetr.checkpoints.hub import hub_folder  # slow to load, and a local model does not need it

    try:
        return hub_folder(name)
    except CheckpointError as error:
        raise CheckpointError(
            f"There is no folder {name!r}. {error} Give {known}, a folder, or a Hub id that this machine can "
            "reach."
        ) from None


def _looks_like_a_path(name: str) -> bool:
    return (
        name.startswith((".", "/", "~", *_OWN_FOLDERS))
        or name.endswith("/")
        or "\\" in name
        or PurePosixPath(name).suffix.lower() in _FILE_SUFFIXES
        or is_folder(Path(name.split("/")[0]))
    )


def _hint(name: str) -> str:
    """What may have been meant, or which models are where the name points to."""
    beside = {file.parent.name: file.parent for file in sorted(Path(name).parent.glob("*/config.json"))}
    known = [*beside, *model_names()]
    near = get_close_matches(Path(name).name, known, n=1)
    if near:
        return f" Did you mean {beside.get(near[0], near[0])}?"
    return f" There are {', '.join(map(str, [*beside.values()][:10]))}." if beside else ""
