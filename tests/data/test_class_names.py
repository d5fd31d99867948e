"""Names of everyday things: their plurals, and which names may stand for which classes."""

from __future__ import annotations

import itertools

import pytest

from mdetr.data.class_names import (
    GARMENTS,
    KIND_NAMES,
    KINDS,
    LOOKALIKES,
    SIMILAR,
    class_name,
    is_lookalike,
    similar_groups,
)
from mdetr.data.sources.photo_files import COCO_NAMES

KNOWN = sorted({*COCO_NAMES, *GARMENTS, "raccoon"})


@pytest.mark.parametrize(
    ("name", "singular", "plural"),
    [
        ("dog", ("dog", "doggy"), ("dogs", "doggies")),
        ("person", ("person", "human"), ("people", "persons", "humans")),
        ("sheep", ("sheep",), ("sheep",)),
        ("mouse", ("mouse", "computer mouse"), ("mice", "computer mice")),
        ("wine glass", ("wine glass", "glass of wine"), ("wine glasses", "glasses of wine")),
        ("bus", ("bus",), ("buses",)),
        ("toothbrush", ("toothbrush",), ("toothbrushes",)),
        ("watch", ("watch",), ("watches",)),
        ("toy", ("toy",), ("toys",)),
        ("knife", ("knife",), ("knives",)),
        ("jeans", (), ("jeans", "denim pants")),
        ("shoes", ("shoe",), ("shoes",)),
        ("hair", ("hair",), ("hair",)),
        ("animal", ("animal",), ("animals",)),
        ("kitchen knife", ("kitchen knife",), ("kitchen knives",)),  # names that are not known
        ("snow man", ("snow man",), ("snow men",)),
        ("potato", ("potato",), ("potatoes",)),
        ("berry", ("berry",), ("berries",)),
        ("quartz", ("quartz",), ("quartzes",)),
        ("y", ("y",), ("ys",)),
    ],
)
def test_a_class_has_names_for_one_and_for_several(
    name: str, singular: tuple[str, ...], plural: tuple[str, ...]
) -> None:
    words = class_name(name)
    assert (words.singular, words.plural) == (singular, plural)


def test_a_name_that_two_classes_share_makes_them_lookalikes() -> None:
    """Else a text could call absent what another class's boxes show under the same name."""
    words = {name: {*class_name(name).singular, *class_name(name).plural} for name in KNOWN}
    for one, other in itertools.combinations(KNOWN, 2):
        if words[one] & words[other]:
            assert is_lookalike(one, frozenset((other,))), (one, other)
    assert words["handbag"] & words["purse"] == {"purse", "purses"}


def test_lookalikes_are_mutual_and_a_class_is_like_itself() -> None:
    for one, other in itertools.product(KNOWN, KNOWN):
        assert is_lookalike(one, frozenset((other,))) == is_lookalike(other, frozenset((one,)))
    assert is_lookalike("kite", frozenset(("kite",)))
    assert is_lookalike("car", frozenset(("dog", "truck")))
    assert not is_lookalike("cat", frozenset(("dog", "car")))
    assert not is_lookalike("cat", frozenset())


def test_every_group_and_kind_is_of_known_classes() -> None:
    assert set().union(*LOOKALIKES, *SIMILAR, *KINDS.values()) <= set(KNOWN)
    assert KINDS.keys() == KIND_NAMES.keys()


def test_similar_things_are_of_the_same_corner_of_life() -> None:
    def similar(name: str) -> set[str]:
        return set().union(*similar_groups(name)) - {name}

    assert {"cat", "sheep", "horse", "cow", "bird"} <= similar("dog")
    assert {"truck", "bus", "bicycle", "airplane"} <= similar("car")
    assert {"bottle", "bowl", "wine glass"} <= similar("cup")
    assert {"pants", "dress"} <= similar("skirt")
    assert "apple" not in similar("dog") | similar("car") | similar("skirt")
    assert similar("zeppelin") == set()


def test_most_pairs_of_a_kind_are_similar_and_few_other_pairs_are() -> None:
    """Similar things are what a model must look at closely, so they must not be most of all classes."""
    pairs = list(itertools.combinations(KNOWN, 2))
    are_similar = {pair for pair in pairs if any(pair[1] in group for group in similar_groups(pair[0]))}
    of_a_kind = {pair for pair in pairs if any(set(pair) <= members for members in KINDS.values())}
    assert len(are_similar & of_a_kind) > 0.8 * len(of_a_kind)
    assert len(are_similar) < 0.1 * len(pairs)
