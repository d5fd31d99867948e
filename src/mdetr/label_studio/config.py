"""Labeling configurations of Label Studio: which of their tags a prediction can fill."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from mdetr.errors import InvalidInputError
from mdetr.files import parse_xml

_VARIABLE = re.compile(r"^\$(\w+)$")
_SEPARATOR = re.compile(r"\s*,\s*")


@dataclass(frozen=True)
class LabelChoice:
    """A label of a project.

    Attributes:
        value: The label, as regions contain it.
        names: Words that stand for it: its `predicted_values`, as in Label Studio's own backends, or itself.
    """

    value: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class LabelConfig:
    """The tags of a labeling configuration that a prediction fills.

    Attributes:
        image: Name of the Image tag.
        image_field: Field of a task's data that holds the address of the image.
        boxes: Name of the RectangleLabels or Rectangle tag of the image.
        box_type: Type of its regions, "rectanglelabels" or "rectangle".
        labels: Labels of the boxes.
        box_labels: Name of the Labels tag of the image that holds the labels of a Rectangle, if there is one.
        threshold: Minimum score, from the attribute `model_score_threshold` of the tag.
        text: Name of the Text tag, if there is one.
        text_field: Field of a task's data that holds the text.
        phrases: Name of the Labels tag of the text, if there is one.
        phrase_labels: Its labels.
        words: Name of a TextArea tag for each region of the image, if there is one.
    """

    image: str
    image_field: str
    boxes: str
    box_type: str
    labels: tuple[LabelChoice, ...]
    box_labels: str | None = None
    threshold: float | None = None
    text: str | None = None
    text_field: str | None = None
    phrases: str | None = None
    phrase_labels: tuple[LabelChoice, ...] = ()
    words: str | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all labels, each once."""
        return tuple(name for name, _ in self.names_and_labels)

    @property
    def names_and_labels(self) -> tuple[tuple[str, str], ...]:
        """Each name of `class_names`, with its label."""
        label_of: dict[str, str] = {}
        for label in self.labels:
            for name in label.names:
                label_of.setdefault(name, label.value)
        return tuple(label_of.items())

    def label_of(self, phrase: str) -> LabelChoice | None:
        """Find the label of a phrase: the one that occurs in it as whole words.

        Args:
            phrase: The words of a box, or its label.

        Returns:
            The label; the only one if there is one; None if no label fits.
        """
        # A label, or one of its names
        for label in self.labels:
            if phrase == label.value or phrase in label.names:
                return label

        # A phrase with the name of a label, such as "a brown cat" for "cat"
        for label in self.labels:
            for name in label.names:
                if re.search(rf"\b{re.escape(name)}\b", phrase, re.IGNORECASE):
                    return label
        return self.labels[0] if len(self.labels) == 1 else None


def parse_label_config(xml: str) -> LabelConfig:
    """Read a labeling configuration.

    Args:
        xml: The configuration, in XML.

    Returns:
        Its tags that a prediction fills.

    Raises:
        InvalidInputError: It is not XML, or has no boxes of an image; the sentence says what to add.
    """
    root = _parse(xml)

    # Find the boxes, and their image
    images = {tag.get("name"): tag for tag in root.iter("Image")}
    boxes = _find_control(root, ("RectangleLabels", "Rectangle"), set(images))
    if boxes is None:
        raise InvalidInputError(
            "The labeling configuration has no RectangleLabels for an Image; add "
            '<RectangleLabels name="label" toName="image"> with a Label for each class.'
        )
    image = images[boxes.get("toName")]
    separate = None
    if boxes.tag == "Rectangle":  # its labels are a tag of their own
        separate = _find_control(root, ("Labels",), {image.get("name")})
    labels = _read_labels(boxes if separate is None else separate)
    texts = {tag.get("name"): tag for tag in root.iter("Text") if _variable(tag) is not None}
    if not labels and not texts:
        raise InvalidInputError(
            "The labeling configuration has neither labels for its boxes nor a Text; add a Label for each "
            "class, or a Text with the caption."
        )

    # Find the text, and the labels of its phrases
    phrases = _find_control(root, ("Labels",), set(texts))
    text = texts[phrases.get("toName")] if phrases is not None else next(iter(texts.values()), None)
    words = None
    for tag in root.iter("TextArea"):
        if tag.get("toName") == image.get("name") and tag.get("perRegion", "").lower() == "true":
            words = tag.get("name")

    return LabelConfig(
        image=_name(image),
        image_field=_required_variable(image),
        boxes=_name(boxes),
        box_type=boxes.tag.lower(),
        labels=labels,
        box_labels=None if separate is None else _name(separate),
        threshold=_read_threshold(boxes),
        text=None if text is None else _name(text),
        text_field=None if text is None else _variable(text),
        phrases=None if phrases is None else _name(phrases),
        phrase_labels=() if phrases is None else _read_labels(phrases),
        words=words,
    )


def _parse(xml: str) -> ET.Element:
    try:
        return parse_xml(xml)
    except InvalidInputError as error:
        raise InvalidInputError(f"The labeling configuration cannot be used: {error}; correct it.") from None


def _find_control(root: ET.Element, tags: tuple[str, ...], objects: set[str | None]) -> ET.Element | None:
    """Find the first tag of some kinds that belongs to one of the objects."""
    for tag in tags:
        for control in root.iter(tag):
            if control.get("toName") in objects and control.get("name"):
                return control
    return None


def _read_labels(control: ET.Element) -> tuple[LabelChoice, ...]:
    labels: list[LabelChoice] = []
    for label in control.iter("Label"):
        value = label.get("value", "").strip()
        predicted = label.get("predicted_values", "").strip()
        names = tuple(_SEPARATOR.split(predicted)) if predicted else (value,)
        if value:
            labels.append(LabelChoice(value, names))
    return tuple(labels)


def _read_threshold(control: ET.Element) -> float | None:
    value = control.get("model_score_threshold")
    if value is None:
        return None
    try:
        threshold = float(value)
    except ValueError:
        threshold = -1
    if not 0 <= threshold <= 1:
        raise InvalidInputError(
            f"Expected model_score_threshold from 0 to 1 in the labeling configuration, got {value!r}."
        )
    return threshold


def _name(tag: ET.Element) -> str:
    return tag.get("name", "")


def _variable(tag: ET.Element) -> str | None:
    """Return the field of a task's data that a tag shows, such as "image" for "$image"."""
    match = _VARIABLE.match(tag.get("value", ""))
    return None if match is None else match.group(1)


def _required_variable(tag: ET.Element) -> str:
    field = _variable(tag)
    if field is None:
        raise InvalidInputError(
            f"Expected a field such as $image as the value of {tag.tag} {_name(tag)}, got "
            f"{tag.get('value')!r}."
        )
    return field
