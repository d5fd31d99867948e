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
INSIDE = 0.5  # share of an object that lies in a region that may describe it
UNINFORMATIVE = frozenset({"wall", "side", "building"})
OUTSIDE = "regions outside their image"
SAYS_NOTHING = "regions whose phrase is empty, or of nothing but wall, side or building"
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
    """file: relative to the folder that holds VG_100K and VG_100K_2. width, height: in pixels."""

    file: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class _Region:
    """id, cleaned phrase, own box; objects: box and spans of each thing that the phrase names, and how many
    more there are that have no area in the image.
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
    and whose name the phrase says once; of several, those with an attribute that the phrase says. In both
    cases objects that meet the root noun phrase are what the phrase is about; if there are none, it is the
    region's own box. Boxes that agree are one. Of regions of one image with the same words and overlapping
    boxes, the one with most boxes stands for all. Phrases of nothing but wall, side or building, empty ones,
    and regions outside their image are left out.

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
            number = _image_of(fields, regions)
            if number is None:  # an image without regions
                return []
            if number not in images:
                raise InvalidRecordError(f"{where}: image {number} is not in {folder / 'image_data.json'}.")
            image, things = images[number], objects.of(number)
            return _to_records(
                [_to_region(region, things, image) for region in regions], number, image, split
            )

        entries = numbered(iterate_entries(regions_file), f"{regions_file}, entry")
        yield from convert_entries(entries, convert, on_bad, left_out)


def _read_images(file: Path, on_bad: OnBad | None) -> dict[str, _Image]:
    return dict(read_entries(numbered(iterate_entries(file), f"{file}, entry"), _read_image, on_bad))


def _read_image(entry: Any) -> tuple[str, _Image]:
    fields = Fields(entry)
    number = fields.identifier("image_id")
    found = _FILE.search(fields.text("url"))
    return number, _Image(found[0] if found else f"VG_100K/{number}.jpg", *fields.size())


def _objects(folder: Path, on_bad: OnBad | None) -> Iterator[tuple[str, Any]]:
    """Objects with the id of their image; those of attributes.json also say how they look."""
    name = next((name for name in ("attributes", "objects") if (folder / f"{name}.json").is_file()), None)
    if name is None:
        return

    def read(entry: Any) -> tuple[str, list[Any]]:
        fields = Fields(entry)
        return fields.identifier("image_id"), fields.items(name)

    file = folder / f"{name}.json"
    for number, things in read_entries(numbered(iterate_entries(file), f"{file}, entry"), read, on_bad):
        yield from ((number, thing) for thing in things)


def _image_of(entry: Fields, regions: Sequence[Any]) -> str | None:
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
        text, places = _clean(phrase)
        bbox = [fields.value(key) for key in ("x", "y", "width", "height")]
        box = clamp_box(bbox, image.width, image.height)
        if "synsets" in fields:
            named = _named_by_synset(fields, phrase, places)
        else:
            named = _named_by_word(things, text, box)
        objects = []
        without_area = 0
        for thing, span in named:
            own = clamp_box([thing.value(key) for key in "xywh"], image.width, image.height)
            spans = consolidate_spans([span], text)
            if own is None:
                without_area += 1
            elif spans:
                objects.append((own, spans))
        return _Region(fields.identifier("region_id"), text, box, objects, without_area)


def _clean(phrase: str) -> tuple[str, list[int]]:
    """Single spaces and no repeated punctuation; and where each character, and the end, went."""
    text = ""
    places = []
    for character in phrase:
        places.append(len(text))
        if character.isspace():
            text += " " if text and text[-1] != " " else ""
        elif character.isalnum() or text[-1:] != character:
            text += character
    text = text.rstrip()
    return text, [min(place, len(text)) for place in (*places, len(text))]


def _named_by_synset(entry: Fields, phrase: str, places: Sequence[int]) -> Iterator[tuple[Fields, Span]]:
    synsets = [Fields(synset) for synset in entry.items("synsets")]
    counts = Counter(synset.text("synset_name") for synset in synsets)
    spans = {
        synset.text("synset_name"): (synset.whole("entity_idx_start"), synset.whole("entity_idx_end"))
        for synset in synsets
        if counts[synset.text("synset_name")] == 1
    }
    for thing in map(Fields, entry.items("objects")):
        for name in thing.items("synsets"):
            start, end = spans.get(to_text(name, '"synsets"'), (0, 0))
            if 0 <= start < end <= len(phrase):
                yield thing, (places[start], places[end])


def _named_by_word(things: Sequence[Any], text: str, region: Box | None) -> Iterator[tuple[Fields, Span]]:
    if region is None:
        return
    words = [_lemma(word) for word in _WORD.findall(text.lower())]
    named: dict[Span, list[Fields]] = defaultdict(list)
    for thing in map(Fields, things):
        for name in (to_text(name, '"names"').strip() for name in thing.items("names")):
            found = list(re.finditer(rf"\b{re.escape(name)}\b", text, re.IGNORECASE)) if name else []
            if len(found) == 1 and _share_inside(thing, region) >= INSIDE:
                named[found[0].span()].append(thing)
    for span, candidates in named.items():
        described = [
            thing for thing in candidates if any(look.strip().lower() in words for look in _looks_of(thing))
        ]
        yield from ((thing, span) for thing in described or candidates)


def _looks_of(thing: Fields) -> list[str]:
    return [
        to_text(look, '"attributes"')
        for look in to_list(thing.value("attributes", None) or [], '"attributes"')
    ]


def _share_inside(thing: Fields, region: Box) -> float:
    x, y, width, height = (to_finite(thing.value(key), f'"{key}"') for key in "xywh")
    shared_width = min(x + width, region[2]) - max(x, region[0])
    shared_height = min(y + height, region[3]) - max(y, region[1])
    return max(shared_width, 0.0) * max(shared_height, 0.0) / max(width * height, 1.0)


def _to_records(regions: Sequence[_Region], number: str, image: _Image, split: str) -> list[Record | LeftOut]:
    told = [region for region in regions if not _content(region.text) <= UNINFORMATIVE]
    records = []
    for region, root in zip(told, root_spans_of([region.text for region in told]), strict=True):
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
                    spans=tuple(consolidate_spans(own, region.text) for own in spans),
                )
            )
    kept = _without_repetitions(records, {region.id: region.box for region in told})
    return [
        *kept,
        LeftOut(SAYS_NOTHING, len(regions) - len(told)),
        LeftOut(OUTSIDE, len(told) - len(records)),
        LeftOut(REPEATED, len(records) - len(kept)),
        LeftOut(NO_AREA, sum(region.without_area for region in told)),
    ]


def _boxes_of(region: _Region, root: Spans) -> tuple[list[Box], list[list[Span]]]:
    """The boxes of what a phrase is about, with the words of its root; and of what else it names."""
    about = [_meet(spans, root) for _, spans in region.objects]
    boxes = [box for box, _ in region.objects]
    spans: list[list[Span]] = [
        [*own, *(root if is_root else ())] for (_, own), is_root in zip(region.objects, about, strict=True)
    ]
    if not any(about) and region.box is not None:
        boxes, spans = [region.box, *boxes], [list(root), *spans]
    return merge_same_boxes(boxes, spans)


def _meet(first: Spans, second: Spans) -> bool:
    return any(start < stop and begin < end for start, end in first for begin, stop in second)


def _without_repetitions(records: Sequence[Record], region_boxes: Mapping[str, Box | None]) -> list[Record]:
    """Of records with the same content words and overlapping regions, only the one with most boxes."""
    groups: dict[frozenset[str], list[Record]] = defaultdict(list)
    for record in records:
        groups[_content(record.text)].append(record)
    kept: set[str] = set()
    for group in groups.values():
        standing: list[Box] = []
        for record in sorted(group, key=lambda record: -len(record.boxes)):
            box = region_boxes[record.id] or record.boxes[0]
            if not standing or box_iou(tensor([box]), tensor(standing)).max() <= SAME_REGION:
                standing.append(box)
                kept.add(record.id)
    return [record for record in records if record.id in kept]


def _content(text: str) -> frozenset[str]:
    """The words that say something, without their endings."""
    return frozenset(_lemma(word) for word in _WORD.findall(text.lower()) if word not in STOP_WORDS)


@cache
def _lemma(word: str) -> str:
    """A noun's singular, by its ending."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) <= 3 or not word.endswith("s") or word.endswith(_UNCHANGED):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]
