"""Labeling configurations of Label Studio."""

from __future__ import annotations

import pytest

from mdetr.errors import InvalidInputError
from mdetr.label_studio.config import LabelChoice, parse_label_config

CLASSES = """
<View>
  <Header value="Draw a box around each object"/>
  <Image name="photo" value="$image" zoom="true"/>
  <RectangleLabels name="objects" toName="photo" model_score_threshold="0.25">
    <Label value="Cube" predicted_values="cube, block"/>
    <Label value="ball" background="#ff0000"/>
  </RectangleLabels>
</View>
"""

CAPTIONS = """
<View>
  <Image name="image" value="$image"/>
  <RectangleLabels name="box" toName="image"><Label value="object"/></RectangleLabels>
  <TextArea name="words" toName="image" perRegion="true"/>
  <Text name="caption" value="$caption"/>
  <Labels name="phrase" toName="caption"><Label value="phrase"/></Labels>
</View>
"""


SEPARATE = """
<View>
  <Image name="image" value="$image"/>
  <Rectangle name="box" toName="image"/>
  <Labels name="class" toName="image"><Label value="cube"/><Label value="ball"/></Labels>
</View>
"""


def test_labels_of_a_project_without_a_text_are_classes() -> None:
    config = parse_label_config(CLASSES)
    assert (config.image, config.image_field, config.boxes) == ("photo", "image", "objects")
    assert config.labels == (LabelChoice("Cube", ("cube", "block")), LabelChoice("ball", ("ball",)))
    assert config.class_names == ("cube", "block", "ball")
    assert config.threshold == 0.25
    assert config.text is None and config.phrases is None and config.words is None


def test_the_text_of_a_project_has_labels_for_its_phrases() -> None:
    config = parse_label_config(CAPTIONS)
    assert (config.text, config.text_field) == ("caption", "caption")
    assert config.phrases == "phrase"
    assert config.phrase_labels == (LabelChoice("phrase", ("phrase",)),)
    assert config.words == "words"
    assert config.threshold is None


def test_the_labels_of_rectangles_may_be_a_tag_of_their_own() -> None:
    config = parse_label_config(SEPARATE)
    assert (config.box_type, config.box_labels) == ("rectangle", "class")
    assert config.class_names == ("cube", "ball")
    assert config.phrases is None


@pytest.mark.parametrize(
    ("phrase", "label"),
    [("block", "Cube"), ("a small BLOCK", "Cube"), ("two balls", None), ("a ball", "ball"), ("a cat", None)],
)
def test_a_phrase_has_the_label_whose_name_is_in_it(phrase: str, label: str | None) -> None:
    choice = parse_label_config(CLASSES).label_of(phrase)
    assert (None if choice is None else choice.value) == label


def test_the_only_label_is_that_of_every_phrase() -> None:
    choice = parse_label_config(CAPTIONS).label_of("a cat")
    assert choice is not None and choice.value == "object"


@pytest.mark.parametrize(
    ("xml", "sentence"),
    [
        ("<View>", "it is not XML"),
        ("<View/>", "has no RectangleLabels for an Image"),
        ('<View><RectangleLabels name="a" toName="b"/></View>', "has no RectangleLabels for an Image"),
        (
            '<View><Image name="b" value="$b"/><RectangleLabels name="a" toName="b"/></View>',
            "neither labels for its boxes nor a Text",
        ),
        (CLASSES.replace("$image", "http://a.b/c.png"), "Expected a field such as $image"),
        (CLASSES.replace("0.25", "25%"), "Expected model_score_threshold from 0 to 1"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><View/>', "it has a DOCTYPE, which may define entities"),
    ],
)
def test_configurations_that_predictions_cannot_fill_are_refused(xml: str, sentence: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        parse_label_config(xml)
    assert sentence in str(raised.value)
