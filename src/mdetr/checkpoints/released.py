"""Released models by name: downloaded once, verified, converted and cached as folders."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock, Timeout

from mdetr.checkpoints.cache import download_path, model_folder, offline_variable
from mdetr.checkpoints.registry import ANNOTATIONS, ReleasedModel
from mdetr.checkpoints.released_file import check_released_file
from mdetr.errors import CheckpointError
from mdetr.files import atomic_write

_LOG = logging.getLogger(__name__)


def is_downloaded(model: ReleasedModel) -> bool:
    """Whether the converted model is on this machine."""
    return (model_folder(model.name) / "config.json").is_file()


def get_released(
    model: ReleasedModel,
    mirror: str | None = None,
    keep_download: bool = False,
    force: bool = False,
    answers: str | Path | None = None,
) -> Path:
    """Folder of a released model, downloaded and converted on first use.

    Several processes may call this at once: one does the work, the others wait.

    Args:
        model: An entry of the registry.
        mirror: The address of a folder that holds the release's files, or of this file itself; what
            `MDETR_MIRROR` names, or the release's own, if left out.
        keep_download: Whether the released file stays after it is converted.
        force: Whether to download and convert again.
        answers: The folder of the released annotations, which name GQA's answers; also for a model that is
            here already.

    Returns:
        The folder of the converted model.

    Raises:
        CheckpointError: The file cannot be downloaded, verified or converted, or downloads are forbidden.
    """
    folder = model_folder(model.name)
    if is_downloaded(model) and not force and answers is None:
        return folder
    address = model.address(mirror or os.environ.get("MDETR_MIRROR"))
    if force or not is_downloaded(model):
        _check_that_it_may_be_downloaded(model, address, force)
    with _alone(folder):
        if force or not is_downloaded(model):  # another process may have been first
            file = _downloaded(model, address, force)
            _convert(model, file, folder, answers)
            if not keep_download and offline_variable() is None:  # else it could not be had again
                file.unlink()
        elif answers is not None:
            from mdetr.checkpoints.conversion import name_answers  # slow to load

            name_answers(folder, answers)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock a model against other processes during conversion."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        _LOG.warning("Another process is making %s; waiting for it.", folder)
        lock.acquire()
    except OSError as error:
        raise CheckpointError(
            f"{folder.parent} cannot be written ({error.strerror}); set MDETR_HOME to another folder."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _check_that_it_may_be_downloaded(model: ReleasedModel, address: str, force: bool) -> None:
    forbidden = offline_variable()
    file = download_path(model.file)
    if forbidden and (force or not file.is_file()):
        raise CheckpointError(
            f"{model.name} is not on this machine, and {forbidden} forbids to download it. Unset "
            f"{forbidden}, or put {model.file} into {file.parent}; it comes from {address}."
            if not force
            else f"{forbidden} forbids to download {model.name} again; unset it, or leave out --force."
        )


def _downloaded(model: ReleasedModel, address: str, force: bool) -> Path:
    """The verified released file."""
    file = download_path(model.file)
    expected = model.sha256 or _recorded_checksum(model)
    if force:
        for old in (file, file.with_name(file.name + ".part")):
            old.unlink(missing_ok=True)
    if not file.is_file():
        from mdetr.checkpoints.download import download  # slow to load
        from mdetr.checkpoints.zenodo import read_statement

        stated = read_statement(address)
        download(address, file, model.size or (stated.size if stated else None))
        if stated is not None and _digest(file, "md5") != stated.md5:
            file.unlink()
            raise CheckpointError(
                f"{address} did not arrive as it should: its MD5 is not {stated.md5}, which the record there "
                "states; the file was deleted. Try again."
            )
    try:
        _verify(model, file, address, expected)
    except CheckpointError:
        file.unlink()  # so that the next call does not find it
        raise
    return file


def _verify(model: ReleasedModel, file: Path, address: str, expected: str | None) -> None:
    """Check a file against its known size and checksum.

    Args:
        model: Entry of the registry.
        file: Path of the downloaded file.
        address: Address it came from, for messages.
        expected: SHA-256 of the file, or None if unknown.

    Raises:
        CheckpointError: The file is not a checkpoint, or another one.
    """
    check_released_file(file)
    size = file.stat().st_size
    if model.size is not None and size != model.size:
        raise CheckpointError(
            f"{model.file} has {size:,} bytes instead of {model.size:,}; it was deleted. Try again; it comes "
            f"from {address}."
        )
    if expected is None:
        return
    found = _digest(file, "sha256")
    if found != expected:
        record = _record(model)
        where = "the one that is known" if model.sha256 else f"the one of the first download ({record})"
        advice = "" if model.sha256 else f" If the file there was replaced on purpose, delete {record} first."
        raise CheckpointError(
            f"The SHA-256 of {model.file} from {address} is {found}, not {where}, {expected}; the file was "
            f"deleted. Try again, or from another mirror.{advice}"
        )


def _convert(model: ReleasedModel, file: Path, folder: Path, answers: str | Path | None) -> None:
    """Put the converted folder in place, and what is now known of the file beside it."""
    from mdetr.checkpoints.conversion import convert, has_numbered_answers  # slow to load

    for left in folder.parent.glob(f".{folder.name}.*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    try:
        with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            made = convert(file, Path(temporary) / folder.name, answers=answers)
            _write_record(model, file)
            if folder.exists():
                os.replace(folder, Path(temporary) / "old")
            os.replace(made, folder)
    except (CheckpointError, OSError) as error:
        raise CheckpointError(
            f"{model.name} was not converted. {error} The download is kept: {file}; to download it again, "
            f"run: mdetr download {model.name} --force"
        ) from None
    if has_numbered_answers(folder):
        _LOG.warning(
            "The released file of %s does not hold the words of its answers: they are numbered (#0, ...). "
            "To have them in words, unpack %s and type: mdetr download %s --answers FOLDER",
            model.name,
            ANNOTATIONS,
            model.name,
        )


def _record(model: ReleasedModel) -> Path:
    """Where the checksum of the first download stands; it outlives the folder."""
    folder = model_folder(model.name)
    return folder.with_name(f"{folder.name}.json")


def _recorded_checksum(model: ReleasedModel) -> str | None:
    record = _record(model)
    try:
        return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        raise CheckpointError(
            f"{record}, which holds the checksum of the first download, cannot be read; delete it."
        ) from None


def _write_record(model: ReleasedModel, file: Path) -> None:
    record = _record(model)
    if record.exists():
        return
    checksum = _digest(file, "sha256")
    content = {"file": model.file, "size": file.stat().st_size, "sha256": checksum}
    with atomic_write(record) as path:
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if model.sha256 is None:
        _LOG.warning(
            "The SHA-256 of %s was not known before. It is %s; it was written to %s, and later downloads "
            "must have it.",
            model.file,
            checksum,
            record,
        )


def _digest(file: Path, algorithm: str) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, algorithm).hexdigest()
