"""Download of models from the Hugging Face Hub."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import cast

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
)

from mdetr.checkpoints.cache import offline_variable
from mdetr.errors import CheckpointError, first_line
from mdetr.logs import quiet_loggers

FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")  # of a model and its processor
TIMEOUT = 5  # seconds until an answer
# OSError, and all errors of whichever HTTP library the Hub's client uses
HTTP_ERRORS = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
_ERRORS: tuple[type[Exception], ...] = (*HTTP_ERRORS, ValueError)


def hub_folder(name: str) -> Path:
    """Local copy of a repository, updated from the Hub if possible.

    Args:
        name: Id of the repository, such as "owner/name".

    Returns:
        The folder of the copy.

    Raises:
        CheckpointError: There is no such repository, or the Hub cannot be reached and there is no local copy.
    """
    forbidden = offline_variable()
    reason = f"it is not on this machine, and {forbidden} forbids to download it" if forbidden else None
    with without_notices():
        try:
            if not forbidden:
                # One request without retries shows whether the Hub can be reached at all
                HfApi().model_info(name, timeout=TIMEOUT)
        except HFValidationError:
            raise CheckpointError(f"There is no model {name!r}: it is no folder and no Hub id.") from None
        except (RepositoryNotFoundError, GatedRepoError):
            reason = "there is no such repository that you may read (log in with `hf auth login`)"
        except _ERRORS:
            reason = "it is not on this machine, and the Hub cannot be reached"
        try:
            copy = snapshot_download(
                name, allow_patterns=list(FILES), ignore_patterns="*/*", local_files_only=bool(reason)
            )
            return Path(copy)
        except _ERRORS as error:
            reason = reason or first_line(error).rstrip(".")
    raise CheckpointError(f"Could not load {name!r} from the Hugging Face Hub: {reason}.")


def without_notices() -> AbstractContextManager[None]:
    """Silence the client's log of its attempts; failures are reported once, in an error."""
    return quiet_loggers("huggingface_hub")
