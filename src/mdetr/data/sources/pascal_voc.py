"""Reader of Pascal VOC: one record for each class of an image."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

from mdetr.data.record import Record
from mdetr.data.sources.class_records import ClassBox, class_records, cut_box
from mdetr.data.sources.converting import LeftOut, convert_entries
from mdetr.data.sources.fields import inside, to_finite, to_text, to_whole
from mdetr.data.sources.image_sizes import IMAGE_SUFFIXES, ImageSizes, find_image
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.files import parse_xml

IMAGE_FOLDERS = ("JPEGImages", "images", "")
_FLAG = re.compile(r"\s+(-1|0|1)$")  # behind an image's name in the lists of single classes


@dataclass(frozen=True, slots=True)
class _Object:
    """What an XML file says of a thing: its class, its box as written, whether it is hard to recognize."""

    name: str
    corners: tuple[float, float, float, float]
    is_difficult: bool


@dataclass(frozen=True, slots=True)
class _Annotation:
    """What an XML file says of its image: its name, its size if any (width, height), its objects."""

    filename: str
    size: tuple[int, int] | None
    objects: tuple[_Object, ...]


def read_voc(
    root: str | Path,
    split: str,
    on_bad: OnBad | None = None,
    images: Path | None = None,
    left_out: Counter[str] | None = None,
) -> Iterator[Record]:
    """Read the XML files of one split, image after image; each class that an image shows is a record.

    Boxes count pixels from 1 and hold their last pixel, as Pascal VOC defines them; they are cut at the
    border of the image where they leave it by one pixel. Objects that are marked difficult, and parts of
    objects, are left out.

    Args:
        root: The folder with Annotations/, and with JPEGImages/ or images/ unless `images` names another. XML
            files may also lie in SPLIT/, or in the folder itself, beside their images.
        split: A list of ImageSets/Main, such as train; all files where there are no lists.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        images: The folder in which images are looked for, and its JPEGImages/ and images/.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: There are no annotations, or not this list.
        InvalidRecordError: An annotation breaks a rule, and `on_bad` is None.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise InvalidInputError(f"{folder} is no folder; give the folder that holds Annotations.")
    image_root = images or folder
    sizes = ImageSizes(image_root)

    def convert(file: Path, where: str) -> list[Record | LeftOut]:
        annotation = _read_annotation(file)
        image, width, height = sizes.locate(_find_image(annotation, file, image_root), where)
        if annotation.size not in (None, (width, height)):
            raise InvalidInputError(
                f"it says that its image has {annotation.size[0]} x {annotation.size[1]} pixels, but {image} "
                f"has {width} x {height}: its boxes belong to another version of the image"
            )
        boxes = []
        for number, thing in enumerate(annotation.objects):
            x0, y0, x1, y1 = thing.corners
            with inside(f"object {number} ({thing.name})"):
                box = cut_box((x0 - 1, y0 - 1, x1, y1), width, height, slack=1)
            if not thing.is_difficult:
                boxes.append(ClassBox(thing.name, box))
        base = Record(folder.resolve().name, split, _image_id(file, folder), image, image, width, height, "")
        difficult = LeftOut("objects marked difficult", len(annotation.objects) - len(boxes))
        empty = LeftOut("images without objects", not annotation.objects)
        return [*class_records(base, boxes), difficult, empty]

    entries = ((str(file), file) for file in _annotation_files(folder, split))
    yield from convert_entries(entries, convert, on_bad, left_out)


def _image_id(file: Path, folder: Path) -> str:
    """Name an image by its XML; in subfolders of Annotations, files of one name may be of several images."""
    try:
        return file.relative_to(folder / "Annotations").with_suffix("").as_posix()
    except ValueError:
        return file.stem


def _annotation_files(folder: Path, split: str) -> list[Path]:
    annotations, lists = folder / "Annotations", folder / "ImageSets" / "Main"
    if lists.is_dir():
        file = lists / f"{split}.txt"
        if not file.is_file():
            known = ", ".join(sorted(path.stem for path in lists.glob("*.txt"))) or "none"
            raise InvalidInputError(f"There is no list {file}; the splits of this folder are: {known}.")
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InvalidInputError(f"{file} is not UTF-8 text ({error}); save it in UTF-8.") from None
        names = dict.fromkeys(_FLAG.sub("", line.strip()) for line in lines if line.strip())
        return [annotations / f"{name}.xml" for name in names]
    for parent in (annotations, folder / split, folder):
        files = sorted(parent.rglob("*.xml") if parent == annotations else parent.glob("*.xml"))
        if files:
            return files
    raise InvalidInputError(f"There is no XML file in {annotations}; give the folder that holds Annotations.")


def _find_image(annotation: _Annotation, file: Path, image_root: Path) -> str:
    """Find the file that the XML names, else one with the name of the XML, relative to the folder."""
    named = PureWindowsPath(annotation.filename).name  # accepts both kinds of slashes
    names = [named] if named else []
    names += [f"{file.stem}{suffix}" for suffix in IMAGE_SUFFIXES]
    names += [f"{file.stem}{suffix.upper()}" for suffix in IMAGE_SUFFIXES]
    try:
        beside = file.parent.relative_to(image_root)
    except ValueError:  # images are elsewhere
        beside = Path()

    # Images may be in subfolders like those of the annotations, or beside the annotations
    subfolders = list(IMAGE_FOLDERS)
    if beside.parts[:1] == ("Annotations",) and len(beside.parts) > 1:
        inner = "/".join(beside.parts[1:])
        subfolders = [f"{folder}/{inner}".lstrip("/") for folder in IMAGE_FOLDERS] + subfolders
    for name in names:
        for subfolder in dict.fromkeys((*subfolders, beside.as_posix())):
            path = name if subfolder in ("", ".") else f"{subfolder}/{name}"
            image = find_image(image_root, path)
            if image is not None:
                return image
    raise InvalidInputError(
        f"its image {named or file.stem} is not in {image_root}, nor in its JPEGImages or images; name the "
        "folder of the images with --images"
    )


def _read_annotation(file: Path) -> _Annotation:
    try:
        tree = parse_xml(file.read_bytes())
    except FileNotFoundError:
        raise InvalidInputError("it does not exist, though the list of its split names it") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"{error}; download the annotations again") from None
    if tree.tag != "annotation":
        raise InvalidInputError(f"expected an <annotation>, got <{tree.tag}>")
    objects = []
    for number, thing in enumerate(tree.findall("object")):
        with inside(f"object {number}"):
            objects.append(_read_object(thing))
    size = tree.find("size")
    width = height = 0
    if size is not None:
        width, height = to_whole(_text(size, "width"), "width"), to_whole(_text(size, "height"), "height")
    filename = (tree.findtext("filename") or "").strip()
    return _Annotation(filename, (width, height) if width and height else None, tuple(objects))


def _read_object(thing: ElementTree.Element) -> _Object:
    name = to_text(_text(thing, "name"), "name")
    if not name:
        raise InvalidInputError("its name is empty")
    corner = thing.find("bndbox")
    if corner is None:
        raise InvalidInputError("it has no bndbox")
    x0, y0, x1, y1 = (to_finite(_text(corner, side), side) for side in ("xmin", "ymin", "xmax", "ymax"))
    is_difficult = to_whole((thing.findtext("difficult") or "0").strip(), "difficult") != 0
    return _Object(name, (x0, y0, x1, y1), is_difficult)


def _text(element: ElementTree.Element, name: str) -> str:
    text = element.findtext(name)
    if text is None:
        raise InvalidInputError(f"it has no {name}")
    return text.strip()
