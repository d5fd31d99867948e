"""Reader of Flickr30k Entities: one record for each sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from mdetr.data.record import Phrase, Record
from mdetr.data.sources.converting import attempt, convert_entries
from mdetr.data.sources.fields import to_finite, to_text, to_whole
from mdetr.data.sources.same_boxes import merge_same_boxes
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError
from mdetr.files import parse_xml
from mdetr.processing.coordinates import Box, Span

SOURCE = "flickr30k"
NOT_VISIBLE = "0"  # the entity of phrases that nothing in the image stands for
_PHRASE = re.compile(r"\[/EN#(\d+)(/[^\s\]]*)? ([^\]]*)\]")


@dataclass(frozen=True)
class _Mention:
    """A phrase of a sentence: the entity that it names, its types, its characters."""

    entity: str
    types: tuple[str, ...]
    span: Span


@dataclass(frozen=True)
class _Picture:
    """The content of an annotation file: the size in pixels, and the boxes of each entity."""

    width: int
    height: int
    boxes: Mapping[str, Sequence[Box]]


@dataclass(frozen=True)
class _Sentence:
    """A line with its image's name, its number among the image's sentences, from 0, and the picture."""

    line: str
    image: str
    number: int
    picture: _Picture


def read_flickr30k(
    root: str | Path, split: str, on_bad: OnBad | None = None, merged_boxes: bool = False
) -> Iterator[Record]:
    """Read the sentences of one split, image after image.

    A sentence's record has a box for each thing that its phrases name; boxes that agree (IoU of 0.95 and
    more, transitively) are one, with the spans of all their phrases. `phrases` are those to
    evaluate; their types, and their boxes as annotated, are in `extra`. Images are named ID.jpg.

    Args:
        root: The folder with Sentences, Annotations and train.txt, val.txt, test.txt.
        split: "train", "val" or "test".
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        merged_boxes: Whether an entity's boxes become the one box that encloses them (MERGED-BOXES).

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A folder or the list of the split is missing.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, section 4.2.1.
    """
    folder = Path(root)
    listed = folder / f"{split}.txt"
    for part in (listed, folder / "Sentences", folder / "Annotations"):
        if not part.exists():
            raise InvalidInputError(
                f"There is no {part}; give the folder of Flickr30k Entities, which holds Sentences, "
                "Annotations and the lists train.txt, val.txt and test.txt."
            )
    try:
        images = dict.fromkeys(listed.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{listed} is not UTF-8 text ({error}); save it in UTF-8.") from None

    def convert(entry: _Sentence, where: str) -> list[Record]:
        return [_to_record(entry, split, merged_boxes)]

    yield from convert_entries(_sentences(folder, images, on_bad), convert, on_bad)


def _sentences(folder: Path, images: Iterable[str], on_bad: OnBad | None) -> Iterator[tuple[str, _Sentence]]:
    """Yield the sentences of each image with their lines; none of an image with unreadable files."""
    for image in images:
        annotations, file = folder / "Annotations" / f"{image}.xml", folder / "Sentences" / f"{image}.txt"
        picture = attempt(_read_picture, annotations, str(annotations), on_bad)
        lines = None if picture is None else attempt(_read_lines, file, str(file), on_bad)
        for number, line in enumerate(lines or ()):
            if picture is not None:
                yield f"{file}, line {number + 1}", _Sentence(line, image, number, picture)


def _read_lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InvalidInputError("it does not exist, though the split lists its image") from None
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"it is not UTF-8 text ({error}); save it in UTF-8") from None


def _read_picture(file: Path) -> _Picture:
    try:
        tree = parse_xml(file.read_bytes())
    except FileNotFoundError:
        raise InvalidInputError("it does not exist, though the split lists its image") from None
    except InvalidInputError as error:
        raise InvalidInputError(f"it is damaged ({error}); download the annotations again") from None
    width, height = (to_whole(_text(tree, f"size/{side}"), side) for side in ("width", "height"))
    if width <= 0 or height <= 0:
        raise InvalidInputError(f"its width and height must be positive, got {width} x {height}")
    boxes: dict[str, list[Box]] = {}
    for thing in tree.iter("object"):
        corner = thing.find("bndbox")
        if corner is None:  # a scene, or nothing visible
            continue
        x0, y0, x1, y1 = (to_finite(_text(corner, side), side) for side in ("xmin", "ymin", "xmax", "ymax"))
        for name in thing.iter("name"):
            entity = to_text(name.text, "name of an object").strip()
            boxes.setdefault(entity, []).append((x0, y0, x1, y1))
    return _Picture(width, height, boxes)


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise InvalidInputError(f"it has no {path}")
    return text.strip()


def _to_record(sentence: _Sentence, split: str, merged_boxes: bool) -> Record:
    """Convert a sentence to its record."""
    picture, image, number = sentence.picture, sentence.image, sentence.number
    text, mentions = _parse(sentence.line)
    visible = [m for m in mentions if m.entity != NOT_VISIBLE and picture.boxes.get(m.entity)]

    # Merge the boxes that several phrases share
    boxes: list[Box] = []
    spans: list[list[Span]] = []
    for mention in visible:
        entity_boxes = picture.boxes[mention.entity]
        for box in [_enclosing(entity_boxes)] if merged_boxes else entity_boxes:
            boxes.append(box)
            spans.append([mention.span])
    boxes, spans = merge_same_boxes(boxes, spans)

    # Look up the merged boxes of each phrase
    phrases = []
    for mention in visible:
        indices = tuple(index for index, box_spans in enumerate(spans) if mention.span in box_spans)
        phrases.append(Phrase((mention.span,), indices))

    extra = {
        "sentence_id": number,
        "original_id": image,
        "phrase_types": [mention.types for mention in visible],
        "phrase_boxes": [picture.boxes[mention.entity] for mention in visible],
    }
    return Record(
        source=SOURCE,
        split=split,
        id=f"{image}-{number}",
        image=f"{image}.jpg",
        image_id=image,
        width=picture.width,
        height=picture.height,
        text=text,
        boxes=tuple(boxes),
        spans=tuple(tuple(sorted(set(box_spans))) for box_spans in spans),
        phrases=tuple(phrases),
        extra=json.dumps(extra),
    )


def _parse(line: str) -> tuple[str, list[_Mention]]:
    """Parse a sentence with bracketed phrases into its text, with single spaces, and the phrases."""
    text, position = "", 0
    mentions: list[_Mention] = []

    def add(words: str) -> Span:
        nonlocal text
        words = " ".join(words.split())
        start = len(text) + (1 if text and words else 0)
        text += (" " if text and words else "") + words
        return start, len(text)

    for match in _PHRASE.finditer(line):
        add(line[position : match.start()])
        types = tuple(kind for kind in (match[2] or "").split("/") if kind)
        mentions.append(_Mention(match[1], types, add(match[3])))
        position = match.end()
    add(line[position:])
    if "/EN#" in text:
        raise InvalidInputError("a phrase is cut off or has no id; expected [/EN#ID/TYPE words]")
    return text, mentions


def _enclosing(boxes: Sequence[Box]) -> Box:
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)
