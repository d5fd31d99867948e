"""Kinds of problems that the checks report, with severity, title and advice."""

from __future__ import annotations

from dataclasses import replace

from mdetr.data.checks.findings import Kind

SMALL_AREA = 0.0001  # fraction of the image's area
SMALL_SIDE = 2.0  # pixels

# Problems that make an import fail, by the part of the record that is invalid.
INVALID = {
    "image": Kind(
        "images",
        "error",
        "images that are missing, damaged or of another size",
        "Put them at the paths in the data, download them again, or name their folder with --images.",
    ),
    "box": Kind(
        "boxes-outside",
        "error",
        "boxes that are empty or leave their image",
        "Boxes are x0, y0, x1, y1 in pixels of the image itself, not of a resized one.",
    ),
    "text": Kind("empty-texts", "error", "empty texts", "Add a text to each record, or remove the record."),
    "span": Kind(
        "spans-outside",
        "error",
        "spans outside their text",
        "Spans count characters, not bytes or tokens, from 0, and their end is exclusive.",
    ),
    "entry": Kind(
        "unreadable",
        "error",
        "entries that cannot be read",
        "Correct them; `mdetr data import --skip-bad` leaves them out.",
    ),
}
CUT_WORDS = Kind(
    "cut-words",
    "warning",
    "spans that cut words or hold spaces at their ends",
    "Extend them to whole words: a span that cuts a token trains on a part of a word, or on nothing.",
)
BOXES_WITHOUT_WORDS = Kind(
    "boxes-without-words",
    "warning",
    "boxes that belong to no words",
    "Link each to its words (`phrases`), or remove it: the model learns nothing from it.",
)
PHRASES_WITHOUT_BOXES = Kind(
    "phrases-without-boxes",
    "warning",
    "phrases without a box",
    "Annotate their boxes: without boxes, the model learns that these objects are absent.",
)
TEXTS_WITHOUT_BOXES = Kind(
    "texts-without-boxes",
    "warning",
    "texts without a box",
    "Correct if the image does not show the objects; otherwise annotate their boxes.",
)
NOTHING_REFERRED = Kind(
    "nothing-referred",
    "warning",
    "expressions of which no box is marked as what they refer to",
    "Mark one with `is_referred`, or leave the field out.",
)
FRACTIONS = Kind(
    "fractions",
    "error",
    "records whose boxes look like fractions of the image",
    "Multiply x by the image's width and y by its height: boxes are in pixels.",
)
IN_A_CORNER = Kind(
    "boxes-in-a-corner",
    "warning",
    "boxes that all lie in the upper left of their images",
    "They may belong to smaller versions of the images: inspect some with `mdetr data view`.",
)
SMALL_BOXES = Kind(
    "small-boxes",
    "note",
    f"very small boxes (a side under {SMALL_SIDE:g} pixels, or under {SMALL_AREA:.2%} of the image)",
    "The model hardly learns them: remove those that are annotation errors.",
)
LONG_TEXTS = Kind(
    "long-texts",
    "error",
    "texts of more than {limit} tokens",
    "Shorten or split them: the model cannot process them.",
)
MANY_BOXES = Kind(
    "many-boxes",
    "warning",
    "texts with more than {limit} boxes",
    "The model has {limit} queries and learns {limit} boxes of each such text: split the texts, or raise "
    "num_queries.",
)
SIDES = Kind(
    "sides",
    "note",
    "texts that name a side, such as left or right",
    "If training mirrors images, set `flip_languages: [{languages}]` to swap these words; otherwise images "
    "with such texts are never mirrored.",
)
FIXED_SIDES = Kind(
    "fixed-sides",
    "note",
    "texts that name a side in words that cannot be swapped",
    "Images with such texts are never mirrored in training, for any `flip_languages`.",
)


def with_limit(kind: Kind, limit: int) -> Kind:
    """Insert a limit into the title and advice of a kind."""
    return replace(kind, title=kind.title.format(limit=limit), advice=kind.advice.format(limit=limit))
