"""Reader of YOLO label files: one record for each class of an image."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from mdetr.data.record import Record
from mdetr.data.sources.class_records import ClassBox, class_records, cut_box
from mdetr.data.sources.converting import LeftOut, attempt, convert_entries
from mdetr.data.sources.fields import inside, to_finite, to_list, to_text, to_whole
from mdetr.data.sources.image_sizes import ImageSizes, find_by_path, is_image_name
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.files import parse_yaml
from mdetr.processing.coordinates import Box

SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
CLASS_LISTS = ("classes.txt", "obj.names", "labels/classes.txt")
SPLITS = ("train", "val", "valid", "validation", "test")
_SAME_SPLITS = (("val", "valid", "validation"),)  # names that tools give to one split
_TOLERANCE = 0.01  # by which a fraction may exceed 0 and 1, as rounding makes it do


@dataclass(frozen=True, slots=True)
class _Settings:
    """Settings of a data set.

    Attributes:
        file: File with the settings.
        folder: Folder that its splits are relative to.
        names: Number -> name of each class.
        splits: Name -> folders or lists of images.
        has_keypoints: Whether keypoints follow the boxes.
    """

    file: Path
    folder: Path
    names: Mapping[int, str]
    splits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    has_keypoints: bool = False


@dataclass(frozen=True, slots=True)
class _Labels:
    """An image, relative to the folder of images, and its label file, which may not exist."""

    image: str
    file: Path | None


def read_yolo(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read the label files of one split, image after image; each class that an image shows is a record.

    The label file of `images/train/a.jpg` is `labels/train/a.txt`, or `a.txt` beside the image. A line is a
    class and x, y (of the center), width and height in fractions of the image, a class and the points of a
    polygon, of which the box around it counts, or a box followed by keypoints where data.yaml has
    `kpt_shape`. Boxes are cut at the border of their image; a duplicate box counts once.

    Args:
        root: A folder with data.yaml or classes.txt; or such a YAML file.
        split: One that data.yaml names (a folder, a list of images, or several); else the images are those of
            images/SPLIT, SPLIT/images or the list SPLIT.txt, or all of images/ where it has no folders.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder that images are relative to; the data set's own if left out.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: The names of the classes or the split are missing.
        InvalidRecordError: An image or its label file breaks a rule, and `on_bad` is None.
    """
    path = Path(root)
    folder = path if path.is_dir() else path.parent
    settings = _read_settings(path)
    image_root = images or folder
    sizes = ImageSizes(image_root)

    def convert(labels: _Labels, where: str) -> list[Record | LeftOut]:
        if labels.file is None:
            sizes.locate(labels.image, where)
            return [LeftOut("images without a label file")]
        lines = _read_lines(labels.file)
        if not lines:
            return [LeftOut("images with an empty label file")]
        image, width, height = sizes.locate(labels.image, where)
        boxes: dict[ClassBox, None] = {}
        confidences = 0
        for number, line in lines:
            with inside(f"line {number}"):
                box, has_confidence = _read_box(line, settings, width, height)
                boxes[box] = None
                confidences += has_confidence
        base = Record(folder.resolve().name, split, image, image, image, width, height, "")
        return [
            *class_records(base, list(boxes)),
            LeftOut("duplicate boxes", len(lines) - len(boxes)),
            LeftOut("confidences of boxes", confidences),
        ]

    yield from convert_entries(
        _labels(settings, folder, image_root, split, on_bad), convert, on_bad, left_out
    )


def _read_settings(path: Path) -> _Settings:
    """Read data.yaml, or the list of classes, of a file or folder."""
    file = path if path.is_file() else _find_settings(path)
    if file is not None and file.suffix.lower() in (".yaml", ".yml"):
        return _read_yaml(file)
    if file is None:
        raise InvalidInputError(
            f"There are no names of classes in {path}: expected data.yaml with `names`, or classes.txt with "
            "a name on each line."
        )
    names = [line.strip() for line in _read_text(file).splitlines()]
    while names and not names[-1]:
        names.pop()
    if not all(names):
        raise InvalidInputError(f"{file}: line {names.index('') + 1} has no name of a class.")
    return _Settings(file, path if path.is_dir() else path.parent, dict(enumerate(names)))


def _find_settings(folder: Path) -> Path | None:
    files = [folder / name for name in SETTINGS]
    files += sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")])
    files += [folder / name for name in CLASS_LISTS]
    return next((file for file in files if file.is_file()), None)


def _read_yaml(file: Path) -> _Settings:
    text = _read_text(file)
    try:
        # All scalars as texts, whatever they look like: a class may be called "no".
        content: Any = parse_yaml(text, yaml.BaseLoader)
    except InvalidInputError as error:
        raise InvalidInputError(f"{file} is not YAML ({error}).") from None
    if not isinstance(content, dict) or not isinstance(content.get("names"), list | dict):
        raise InvalidInputError(f"{file} has no `names`: a list of the classes, or a name for each number.")
    names = content["names"]
    with inside(str(file)):
        numbered = names.items() if isinstance(names, dict) else enumerate(names)
        classes: dict[int, str] = {}
        for number, name in numbered:
            classes[to_whole(number, "number of a class")] = to_text(name, "name of a class")
        splits: dict[str, list[str]] = {}
        for name in SPLITS:
            if content.get(name):
                splits[name] = _to_paths(content[name], name)
    if isinstance(content.get("nc"), str) and content["nc"].strip() != str(len(classes)):
        raise InvalidInputError(f"{file} says nc: {content['nc']}, but names {len(classes)} classes.")
    base = content.get("path")
    folder = file.parent / base if isinstance(base, str) else file.parent
    return _Settings(
        file, folder if os.path.isdir(folder) else file.parent, classes, splits, "kpt_shape" in content
    )


def _to_paths(value: Any, split: str) -> list[str]:
    paths = [value] if isinstance(value, str) else to_list(value, split)
    return [to_text(path, split) for path in paths]


def _labels(
    settings: _Settings, folder: Path, image_root: Path, split: str, on_bad: OnBad | None
) -> Iterator[tuple[str, _Labels]]:
    """Yield each image of a split with its label file, and report the label files that have no image."""
    used: set[Path] = set()
    for source in _image_sources(settings, folder, image_root, split):
        for where, name in _read_images(source, settings, image_root, on_bad):
            file = _label_file(name, folder, image_root, split)
            if file is not None:
                used.add(file)
            yield (where if file is None else str(file)), _Labels(name, file)
        if source.is_dir():
            for file in _files_without_image(source, folder, image_root, used):
                attempt(_refuse_label_file, file, str(file), on_bad)


def _image_sources(settings: _Settings, folder: Path, image_root: Path, split: str) -> list[Path]:
    """Find the folders or lists with the images of a split."""
    roots = list(dict.fromkeys((image_root, settings.folder, folder)))
    names = [split]
    for synonyms in _SAME_SPLITS:
        if split in synonyms:
            names += synonyms

    # Prefer the paths in the settings
    for name in names:
        if name in settings.splits:
            return [_resolve(path, roots, settings.file, name) for path in settings.splits[name]]

    # Try the usual layouts
    for name in names:
        for pattern in ("images/{}", "{}/images", "{}", "{}.txt", "images/{}.txt"):
            for root in roots:
                source = root / pattern.format(name)
                if source.is_file() if source.suffix == ".txt" else source.is_dir():
                    return [source]

    # Without any splits, read all images
    if not settings.splits:
        for root in roots:
            for source in (root / "images", root):
                if _has_images(source):
                    return [source]
    known = ", ".join(settings.splits)
    raise InvalidInputError(
        f"There is no split {split!r} in {folder}: "
        + (f"{settings.file} names {known}." if known else "there is no folder or list of this name.")
    )


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(is_image_name(file.name) for file in folder.iterdir())


def _resolve(path: str, roots: Sequence[Path], settings: Path, split: str) -> Path:
    """Find the folder or list that the settings name for a split."""
    # Some tools write "../train/images" for a folder beside data.yaml.
    for candidate in (path, path.removeprefix("../")):
        for root in roots:
            if os.path.exists(root / candidate):  # unlike Path.exists, accepts names that no file can have
                return root / candidate
    raise InvalidInputError(f"{settings} names {path} for {split}, but there is no such file or folder.")


def _read_images(
    source: Path, settings: _Settings, image_root: Path, on_bad: OnBad | None
) -> Iterator[tuple[str, str]]:
    """Yield the place of each image of a folder or list, and its path relative to the folder of images."""
    if source.is_dir():
        for file in sorted(source.rglob("*")):
            if is_image_name(file.name) and file.is_file():
                yield str(file), _relative(file, image_root)
        return
    seen: set[str] = set()
    for number, line in enumerate(_read_text(source).splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{source}, line {number}"
        name = attempt(
            lambda line: _find_listed(line, source, settings.folder, image_root), line.strip(), where, on_bad
        )
        if name is not None and name not in seen:
            seen.add(name)
            yield where, name


def _find_listed(line: str, file: Path, folder: Path, image_root: Path) -> str:
    """Find the image that a line of a list names, relative to the folder of images."""
    for root in (image_root, folder, file.parent):
        if os.path.isfile(root / line):
            return _relative(root / line, image_root)
    image = find_by_path(image_root, line)
    if image is None:
        raise InvalidInputError(
            f"there is no image {line} in {image_root}; name the folder of the images with --images"
        )
    return image


def _relative(file: Path, image_root: Path) -> str:
    return PurePosixPath(os.path.relpath(file, image_root).replace(os.sep, "/")).as_posix()


def _label_file(image: str, folder: Path, image_root: Path, split: str) -> Path | None:
    """Find the label file of an image; None if there is none."""
    name = PurePosixPath(image).with_suffix(".txt")
    candidates = (
        _beside_images(image_root / name),
        folder / _beside_images(Path(name)),
        folder / "labels" / name,
        folder / "labels" / split / name.name,
        folder / "labels" / name.name,
        image_root / name,
    )
    return next((file for file in candidates if file.is_file()), None)


def _beside_images(path: Path) -> Path:
    """Replace the last folder called "images" in a path by "labels"."""
    parts = list(path.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            return Path(*parts[:index], "labels", *parts[index + 1 :])
    return path


def _files_without_image(source: Path, folder: Path, image_root: Path, used: set[Path]) -> list[Path]:
    """List label files of a folder of images that belong to none of them."""
    labels = _beside_images(source / "name.txt").parent
    if labels == source or not labels.is_dir():
        return []
    lists = {Path(name).name for name in CLASS_LISTS}
    return [file for file in sorted(labels.rglob("*.txt")) if file not in used and file.name not in lists]


def _refuse_label_file(file: Path) -> None:
    raise InvalidInputError("there is no image of its name")


def _read_lines(file: Path) -> list[tuple[int, str]]:
    """Read the lines of a label file that are not blank, with their numbers."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InvalidInputError("it is not UTF-8 text") from None
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{file} is not UTF-8 text ({error}); save it in UTF-8.") from None


def _read_box(line: str, settings: _Settings, width: int, height: int) -> tuple[ClassBox, bool]:
    """Read the class and box, in pixels, of a line, and whether a confidence follows."""
    values = line.split()
    numbers = [to_finite(value, f"number {index}") for index, value in enumerate(values)][1:]
    category = to_whole(values[0], "class")
    if category not in settings.names:
        raise InvalidInputError(
            f"its class {category} is not among the {len(settings.names)} of {settings.file.name}"
        )

    # Four numbers are a box, which a confidence or keypoints may follow; others are a polygon
    is_box = len(numbers) in (4, 5) or (settings.has_keypoints and len(numbers) > 5)
    if not is_box and (len(numbers) < 6 or len(numbers) % 2):
        raise InvalidInputError(
            "it must be a class and four numbers x, y, width, height, or a class and the points of a "
            f"polygon, got {len(values)} numbers"
        )

    # Convert fractions of the image to pixels
    fractions = numbers[:4] if is_box else numbers
    for value in fractions:
        if not -_TOLERANCE <= value <= 1 + _TOLERANCE:
            raise InvalidInputError(
                f"its numbers must be fractions of the image's width and height, from 0 to 1, got {value:g}"
            )
    x0, y0, x1, y1 = _corners(fractions) if is_box else _around(fractions)
    box = x0 * width, y0 * height, x1 * width, y1 * height
    slack = float(max(width, height))  # the center is inside, so that a border is all that can be cut
    return ClassBox(settings.names[category], cut_box(box, width, height, slack), category), len(numbers) == 5


def _corners(numbers: Sequence[float]) -> Box:
    x, y, w, h = numbers
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


def _around(points: Sequence[float]) -> Box:
    return min(points[::2]), min(points[1::2]), max(points[::2]), max(points[1::2])
