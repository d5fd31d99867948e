"""Reader of Visual Genome: one record for each region."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import tensor
from torchvision.ops import box_iou

from mdetr.data.record import Record
from mdetr.data.root_phrase import root_spans_of
from mdetr.data.sources.annotations import NO_AREA, clamp_box
from mdetr.data.sources.converting import LeftOut, convert_entries, numbered, read_entries
from mdetr.data.sources.entry_index import EntryIndex
from mdetr.data.sources.fields import Fields, inside, to_finite, to_list, to_text
from mdetr.data.sources.json_lists import iterate_entries
from mdetr.data.sources.same_boxes import merge_same_boxes
from mdetr.data.spans import consolidate_spans
from mdetr.data.store import OnBad
from mdetr.errors import InvalidInputError, InvalidRecordError
from mdetr.processing.coordinates import Box, Span, Spans

SOURCE = "visual_genome"
SAME_REGION = 0.5  # IoU over which two regions with the same words are one
INSIDE = 0.5  # fraction of an object's area in a region that may describe it
UNINFORMATIVE = frozenset({"wall", "side", "building"})
OUTSIDE = "regions outside their image"
NO_CONTENT = "regions whose phrase is empty, or of nothing but wall, side or building"
REPEATED = "regions that repeat another of their image"
_WORD = re.compile(r"\w+")
STOP_WORDS = frozenset(
    _WORD.findall(
        """
        a about above after again against all along also am an and any are around as at away back be
        because been before behind being below beneath beside between both but by can could did do does
        doing down each few for from further had has have having he her here hers herself him himself his
        how i if in inside into is it its itself just made me more most my myself near next no nor not of
        off on once only onto or other our ours ourselves out outside over own part past same seen she
        should shown so some such than that the their theirs them themselves then there these they this
        those through to too toward towards under underneath until up upon very visible was we were what
        when where which while who whom whose why will with within without you your yours yourself
        yourselves
        """
    )
)
_IRREGULAR = {
    **{"men": "man", "women": "woman", "people": "person", "children": "child", "feet": "foot"},
    **{"teeth": "tooth", "mice": "mouse", "geese": "goose", "leaves": "leaf", "knives": "knife"},
    **{"shelves": "shelf", "loaves": "loaf", "wolves": "wolf", "halves": "half", "scarves": "scarf"},
}
_UNCHANGED = ("ss", "us", "is")
_FILE = re.compile(r"VG_100K(?:_2)?/[^/]+$")


@dataclass(frozen=True, slots=True)
class _Image:
    """An image.

    Attributes:
        file: Its path relative to the folder that holds VG_100K and VG_100K_2.
        width: Its width in pixels.
        height: Its height in pixels.
    """

    file: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Region:
    """A region of an image.

    Attributes:
        id: Its id.
        text: Its phrase, cleaned.
        box: The box of the region; None without area in the image.
        objects: Box and spans of each object that the phrase names.
        without_area: Number of further objects that have no area in the image.
    """

    id: str
    text: str
    box: Box | None
    objects: Sequence[tuple[Box, Spans]]
    without_area: int


def read_visual_genome(
    root: str | Path, split: str, on_bad: OnBad | None = None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """Read the regions of all images, image after image.

    With region_graphs.json, a synset that a phrase has once ties the objects of that synset to its words.
    Without it, objects are tied by name: those of attributes.json (or objects.json) that lie in the region
    and whose name the phrase mentions once; of several, those with an attribute that it mentions. In both
    cases the phrase refers to the objects that overlap its root noun phrase; without any, it refers to the
    box of the region. Boxes that agree are merged. Of regions of one image with the same words and
    overlapping boxes, the one with most boxes is kept. Phrases of nothing but wall, side or building, empty
    phrases, and regions outside their image are left out.

    Args:
        root: The folder with image_data.json and region_graphs.json, or region_descriptions.json.
        split: The name that the records get; Visual Genome itself is not split.
        on_bad: Called with the error of each invalid entry, which is then skipped; None to raise it.
        left_out: Counts what is left out on purpose, by kind.

    Yields:
        Valid records.

    Raises:
        InvalidInputError: A file is missing or damaged.
        InvalidRecordError: An entry breaks a rule, and `on_bad` is None.

    Source: arXiv 2104.12763, appendix B.
    """
    folder = Path(root)
    images = _read_images(folder / "image_data.json", on_bad)
    graphs = folder / "region_graphs.json"
    regions_file = graphs if graphs.is_file() else folder / "region_descriptions.json"
    if not regions_file.is_file():
        raise InvalidInputError(
            f"There is neither {graphs} nor {regions_file}; the phrases are in one of these."
        )
    with EntryIndex(() if graphs.is_file() else _objects(folder, on_bad)) as objects:

        def convert(entry: Any, where: str) -> list[Record | LeftOut]:
            fields = Fields(entry)
            regions = fields.items("regions")
            number = _image_id(fields, regions)
            if number is None:  # an image without regions
                return []
            if number not in images:
                raise InvalidRecordError(f"{where}: image {number} is not in {folder / 'image_data.json'}.")
            image, objects_of_image = images[number], objects.of(number)
            converted = [_to_region(region, objects_of_image, image) for region in regions]
            return _to_records(converted, number, image, split)

        entries = numbered(iterate_entries(regions_file), f"{regions_file}, entry")
        yield from convert_entries(entries, convert, on_bad, left_out)


def _read_images(file: Path, on_bad: OnBad | None) -> dict[str, _Image]:
    return dict(read_entries(numbered(iterate_entries(file), f"{file}, entry"), _read_image, on_bad))


def _read_image(entry: Any) -> tuple[str, _Image]:
    fields = Fields(entry)
    number = fields.identifier("image_id")
    match = _FILE.search(fields.text("url"))
    return number, _Image(match[0] if match else f"VG_100K/{number}.jpg", *fields.size())


def _objects(folder: Path, on_bad: OnBad | None) -> Iterator[tuple[str, Any]]:
    """Yield objects with the id of their image; those of attributes.json have attributes too."""
    name = "attributes" if (folder / "attributes.json").is_file() else "objects"
    file = folder / f"{name}.json"
    if not file.is_file():
        return

    def read(entry: Any) -> tuple[str, list[Any]]:
        fields = Fields(entry)
        return fields.identifier("image_id"), fields.items(name)

    entries = numbered(iterate_entries(file), f"{file}, entry")
    for number, objects in read_entries(entries, read, on_bad):
        for thing in objects:
            yield number, thing


def _image_id(entry: Fields, regions: Sequence[Any]) -> str | None:
    if not regions:
        return None
    for fields, name in ((entry, "image_id"), (entry, "id"), (Fields(regions[0]), "image_id")):
        if name in fields:
            return fields.identifier(name)
    raise InvalidInputError('it has no "image_id"')


def _to_region(entry: Any, things: Sequence[Any], image: _Image) -> _Region:
    with inside(f"region {entry.get('region_id')!r:.40}" if isinstance(entry, dict) else "a region"):
        fields = Fields(entry)
        phrase = fields.text("phrase")
        text, offsets = _clean(phrase)
        bbox = [fields.value(key) for key in ("x", "y", "width", "height")]
        box = clamp_box(bbox, image.width, image.height)
        if "synsets" in fields:
            mentions = _match_synsets(fields, phrase, offsets)
        else:
            mentions = _match_names(things, text, box)

        # Keep the objects that have an area in the image
        objects = []
        without_area = 0
        for thing, span in mentions:
            object_box = clamp_box([thing.value(key) for key in "xywh"], image.width, image.height)
            spans = consolidate_spans([span], text)
            if object_box is None:
                without_area += 1
            elif spans:
                objects.append((object_box, spans))
        return _Region(fields.identifier("region_id"), text, box, objects, without_area)


def _clean(phrase: str) -> tuple[str, list[int]]:
    """Reduce white space and repeated punctuation; also return each character's new offset, and the end's."""
    text = ""
    offsets = []
    for character in phrase:
        offsets.append(len(text))
        if character.isspace():
            text += " " if text and text[-1] != " " else ""
        elif character.isalnum() or text[-1:] != character:
            text += character
    text = text.rstrip()
    return text, [min(offset, len(text)) for offset in (*offsets, len(text))]


def _match_synsets(entry: Fields, phrase: str, offsets: Sequence[int]) -> Iterator[tuple[Fields, Span]]:
    """Yield the objects whose synset occurs once in a phrase, each with its span in the cleaned phrase."""
    # Which of several words an object belongs to is unknown, so that only a synset's single word counts
    synsets = list(map(Fields, entry.items("synsets")))
    counts = Counter(synset.text("synset_name") for synset in synsets)
    spans: dict[str, Span] = {}
    for synset in synsets:
        name = synset.text("synset_name")
        if counts[name] == 1:
            spans[name] = synset.whole("entity_idx_start"), synset.whole("entity_idx_end")

    for thing in map(Fields, entry.items("objects")):
        for name in thing.items("synsets"):
            start, end = spans.get(to_text(name, '"synsets"'), (0, 0))
            if 0 <= start < end <= len(phrase):
                yield thing, (offsets[start], offsets[end])


def _match_names(things: Sequence[Any], text: str, region: Box | None) -> Iterator[tuple[Fields, Span]]:
    """Yield the objects in a region whose name occurs once in its text, each with the span of the name."""
    if region is None:
        return

    # Group the objects by the words that name them
    candidates_by_span: dict[Span, list[Fields]] = defaultdict(list)
    for thing in map(Fields, things):
        for value in thing.items("names"):
            name = to_text(value, '"names"').strip()
            matches = list(re.finditer(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)) if name else []
            if len(matches) == 1 and _fraction_inside(thing, region) >= INSIDE:
                candidates_by_span[matches[0].span()].append(thing)

    # Of several objects, prefer those with an attribute that the text mentions
    words = [_lemma(word) for word in _WORD.findall(text.lower())]
    for span, candidates in candidates_by_span.items():
        described = [thing for thing in candidates if _has_attribute_in(thing, words)]
        for thing in described or candidates:
            yield thing, span


def _has_attribute_in(thing: Fields, words: Sequence[str]) -> bool:
    for attribute in to_list(thing.value("attributes", None) or [], '"attributes"'):
        if to_text(attribute, '"attributes"').strip().lower() in words:
            return True
    return False


def _fraction_inside(thing: Fields, region: Box) -> float:
    x, y, width, height = (to_finite(thing.value(key), f'"{key}"') for key in "xywh")
    shared_width = min(x + width, region[2]) - max(x, region[0])
    shared_height = min(y + height, region[3]) - max(y, region[1])
    return max(shared_width, 0.0) * max(shared_height, 0.0) / max(width * height, 1.0)


def _to_records(regions: Sequence[_Region], number: str, image: _Image, split: str) -> list[Record | LeftOut]:
    """Convert the regions of an image to records, and count those that are left out."""
    # Find the root noun phrases of all texts in one batch
    informative = [region for region in regions if not _content(region.text) <= UNINFORMATIVE]
    roots = root_spans_of([region.text for region in informative])

    records = []
    for region, root in zip(informative, roots, strict=True):
        boxes, spans = _boxes_of(region, root)
        if boxes:
            records.append(
                Record(
                    source=SOURCE,
                    split=split,
                    id=region.id,
                    image=image.file,
                    image_id=number,
                    width=image.width,
                    height=image.height,
                    text=region.text,
                    boxes=tuple(boxes),
                    spans=tuple(consolidate_spans(box_spans, region.text) for box_spans in spans),
                )
            )

    kept = _without_repetitions(records, {region.id: region.box for region in informative})
    return [
        *kept,
        LeftOut(NO_CONTENT, len(regions) - len(informative)),
        LeftOut(OUTSIDE, len(informative) - len(records)),
        LeftOut(REPEATED, len(records) - len(kept)),
        LeftOut(NO_AREA, sum(region.without_area for region in informative)),
    ]


def _boxes_of(region: _Region, root: Spans) -> tuple[list[Box], list[list[Span]]]:
    """Return the boxes of the objects that a phrase refers to, with its root, and of others that it names."""
    boxes: list[Box] = []
    spans: list[list[Span]] = []
    has_referent = False
    for box, object_spans in region.objects:
        is_referent = _overlap(object_spans, root)
        boxes.append(box)
        spans.append([*object_spans, *root] if is_referent else list(object_spans))
        has_referent = has_referent or is_referent

    # Without such an object, the phrase refers to the region as a whole
    if not has_referent and region.box is not None:
        boxes.insert(0, region.box)
        spans.insert(0, list(root))
    return merge_same_boxes(boxes, spans)


def _overlap(first: Spans, second: Spans) -> bool:
    """Tell whether a span of the first overlaps one of the second."""
    for start, end in first:
        for other_start, other_end in second:
            if start < other_end and other_start < end:
                return True
    return False


def _without_repetitions(records: Sequence[Record], region_boxes: Mapping[str, Box | None]) -> list[Record]:
    """Keep, of records with the same content words and overlapping regions, the one with most boxes."""
    groups: dict[frozenset[str], list[Record]] = defaultdict(list)
    for record in records:
        groups[_content(record.text)].append(record)
    kept: set[str] = set()
    for group in groups.values():
        kept_boxes: list[Box] = []
        for record in sorted(group, key=lambda record: -len(record.boxes)):
            box = region_boxes[record.id] or record.boxes[0]
            if not kept_boxes or box_iou(tensor([box]), tensor(kept_boxes)).max() <= SAME_REGION:
                kept_boxes.append(box)
                kept.add(record.id)
    return [record for record in records if record.id in kept]


def _content(text: str) -> frozenset[str]:
    """Return the words of a text that are not stop words, as lemmas."""
    return frozenset(_lemma(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS)


@cache
def _lemma(word: str) -> str:
    """Return the singular of a noun, by its ending."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(_UNCHANGED):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]
