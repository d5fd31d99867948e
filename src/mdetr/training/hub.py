"""Upload of a trained model to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from mdetr.errors import RecipeError, TrainingError

# OSError, and all errors of whichever HTTP library the Hub's client uses
_ERRORS: tuple[type[BaseException], ...] = (*HfHubHTTPError.__bases__, ValueError)


def make_repository(name: str) -> None:
    """See that a repository is there and may be written to, before a run starts.

    Raises:
        RecipeError: it cannot be made, or the Hub cannot be reached.
    """
    try:
        HfApi().create_repo(name, exist_ok=True)
    except _ERRORS as error:
        raise RecipeError(
            f"run.push_to_hub: {name} cannot be made on the Hub ({_first_line(error)}); "
            "log in with 'hf auth login', or leave it out."
        ) from None


def push(name: str, model: Path, others: list[Path]) -> str:
    """Upload a model's folder, and other files beside it, in one commit each.

    Returns:
        The address of the repository.

    Raises:
        TrainingError: it did not work; nothing here is lost.
    """
    api = HfApi()
    try:
        url = api.upload_folder(repo_id=name, folder_path=model, commit_message="Add the model")
        for file in others:
            api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id=name)
    except _ERRORS as error:
        raise TrainingError(
            f"The model is in {model}, but could not be pushed to {name} ({_first_line(error)}); try "
            f"hf upload {name} {model}"
        ) from None
    return str(url.repo_url)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
