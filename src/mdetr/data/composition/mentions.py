"""Mentions of objects, by class, kind, color, position and relation, and of absent ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from mdetr.data.class_names import KINDS, UNCOUNTABLE, class_name, similar_groups
from mdetr.data.colors import COLORS, SIMILAR_COLORS
from mdetr.data.composition.scene import COLORED, FUR, FURRY, Mention, Scene, Thing

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")
WRONG_COLORS = 0.3  # fraction of absent mentions with the wrong color of a class in the image
SIMILAR_FRACTION = 0.6  # fraction of other absent mentions that are similar to a class in the image
LEFT, RIGHT = ("to the left of", "left of"), ("to the right of", "right of")
ABOVE, BELOW = ("above",), ("below", "under")


def any_mention(scene: Scene, rng: Random, name: str | None = None) -> Mention | None:
    """Mention objects of the scene by class, kind, color, or position."""
    groups = scene.by_name()
    if not groups:
        return None
    name = name or rng.choice(list(groups))
    forms: tuple[Callable[[Scene, Random, str], Mention | None], ...] = (
        by_class,
        by_color,
        by_position,
        by_kind,
    )
    form = rng.choices(forms, weights=(50, 25, 20, 5))[0]
    return form(scene, rng, name) or by_class(scene, rng, name)


def by_class(scene: Scene, rng: Random, name: str) -> Mention:
    """Mention all objects of a class by one of its names."""
    things = scene.by_name()[name]
    return Mention(_noun_phrase(rng, name, len(things)), things)


def by_kind(scene: Scene, rng: Random, name: str) -> Mention | None:
    """Mention all objects of the kind of a class, such as all animals."""
    kinds = [kind for kind, members in KINDS.items() if name in members]
    if not kinds:
        return None
    kind = rng.choice(kinds)
    things = tuple(i for i, thing in enumerate(scene.things) if thing.name in KINDS[kind])
    return Mention(_noun_phrase(rng, kind, len(things)), things)


def by_color(scene: Scene, rng: Random, name: str) -> Mention | None:
    """Mention the objects of a class with one color, if all of its objects have a clear color."""
    group = scene.by_name()[name]
    colors = {scene.things[i].color for i in group}
    if None in colors:
        return None
    color = rng.choice(sorted(color for color in colors if color is not None))
    if any(other in SIMILAR_COLORS[color] for other in colors if other is not None):
        return None
    things = tuple(i for i in group if scene.things[i].color == color)
    return Mention(_noun_phrase(rng, name, len(things), adjective=color), things)


def by_position(scene: Scene, rng: Random, name: str) -> Mention | None:
    """Mention one object of a class by its position or size relative to the others."""
    # Choose an object, and a word that distinguishes it
    group = scene.by_name()[name]
    choices: list[tuple[str, int]] = []
    for i in group:
        choices.extend((word, i) for word in distinguishing_words(scene, group, i))
    if not choices:
        return None
    word, index = rng.choice(choices)
    noun = _one(rng, name)
    if noun is None:
        return None

    # Choose a phrase that suits the word
    if word in ("left", "right", "top", "bottom"):
        where = "in" if word in ("top", "bottom") else "on"
        behind = f"at the {word}" if where == "in" else f"on the {word}"
        text = rng.choice((f"the {noun} {behind}", f"the {word} {noun}", f"{noun} {behind}"))
        if word in ("left", "right"):
            text = rng.choice((text, f"the {word}most {noun}", f"the {noun} on the {word} side"))
    elif word == "middle":
        text = rng.choice((f"the {noun} in the middle", f"the middle {noun}", f"the {noun} in the center"))
    else:
        text = rng.choice((f"the {word} {noun}", f"{word} {noun}"))
    return Mention(text, (index,))


def distinguishing_words(scene: Scene, group: Sequence[int], index: int) -> list[str]:
    """List the words that distinguish an object from the others of its class: "left", "top", "largest" ..."""
    thing, others = scene.things[index], [scene.things[i] for i in group if i != index]
    x, y = thing.center[0] / scene.width, thing.center[1] / scene.height
    words = []

    # An object alone in its class needs a clear position in the image
    if not others:
        if x < 0.35:
            words.append("left")
        elif x > 0.65:
            words.append("right")
        return words

    # Compare the position with those of the others, with a margin
    horizontal = [other.center[0] / scene.width for other in others]
    vertical = [other.center[1] / scene.height for other in others]
    gap = 0.1
    if all(x < value - gap for value in horizontal):
        words.append("left")
    if all(x > value + gap for value in horizontal):
        words.append("right")
    if all(y < value - gap for value in vertical):
        words.append("top")
    if all(y > value + gap for value in vertical):
        words.append("bottom")
    if len(others) == 2 and min(horizontal) + gap < x < max(horizontal) - gap:
        words.append("middle")

    # Compare the size
    if all(thing.area > 1.6 * other.area for other in others):
        words += ["largest", "biggest"] if len(others) > 1 else ["bigger", "larger", "biggest"]
    if all(thing.area * 1.6 < other.area for other in others):
        words += ["smallest"] if len(others) > 1 else ["smaller", "smallest"]
    return words


def relation(scene: Scene, rng: Random) -> Mention | None:
    """Mention an object by its position relative to another one: "the dog left of the chair"."""
    # Choose an anchor, alone in its class, and another class
    groups = scene.by_name()
    anchors = [indices[0] for indices in groups.values() if len(indices) == 1]
    rng.shuffle(anchors)
    for anchor in anchors:
        other = scene.things[anchor]
        names = [name for name in groups if name != other.name]
        rng.shuffle(names)
        for name in names:
            for words, holds in (
                (LEFT, lambda a, b: a.center[0] < b.center[0] - 0.15 * scene.width),
                (RIGHT, lambda a, b: a.center[0] > b.center[0] + 0.15 * scene.width),
                (ABOVE, lambda a, b: a.box[3] < b.center[1] and _overlap(a, b) > 0),
                (BELOW, lambda a, b: a.box[1] > b.center[1] and _overlap(a, b) > 0),
            ):
                things = [i for i in groups[name] if holds(scene.things[i], other)]
                if len(things) != 1 or rng.random() < 0.4:
                    continue
                noun, anchor_noun = _one(rng, name), _one(rng, other.name)
                if noun is None or anchor_noun is None:
                    continue
                root, middle = f"the {noun}", f" {rng.choice(words)} "
                end = f"the {anchor_noun}"
                text = root + middle + end
                anchor_span = (len(text) - len(end), len(text))
                return Mention(text, (things[0],), (0, len(root)), ((anchor_span, (anchor,)),))
    return None


def _overlap(a: Thing, b: Thing) -> float:
    """Compute the horizontal overlap of two objects in pixels; negative if there is none."""
    return min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])


def absent_mention(scene: Scene, rng: Random, like: str | None = None) -> Mention | None:
    """Mention something absent: another class, or a class of the image with the wrong color.

    Args:
        scene: Description of the image.
        rng: Random number generator.
        like: Class to which the absent class is often similar; a class of the image if None.

    Returns:
        The mention; None if no absent class is known.
    """
    wrong_color = _wrong_color(scene, rng) if rng.random() < WRONG_COLORS else None
    if wrong_color is not None:
        return wrong_color
    if not scene.absent:
        return None
    similar = _similar_absent(scene, rng, like) if rng.random() < SIMILAR_FRACTION else ()
    name = rng.choice(similar or scene.absent)
    adjective = rng.choice(COLORS) if name in COLORED and rng.random() < 0.15 else None
    return Mention(_noun_phrase(rng, name, rng.choice((1, 1, 1, 2)), adjective), ())


def _similar_absent(scene: Scene, rng: Random, like: str | None) -> tuple[str, ...]:
    """List the absent classes of a group that also has a class of the image; empty if there is none."""
    names = [like] if like is not None else list(scene.by_name())
    rng.shuffle(names)
    for name in names:
        # Choose one group at random: in all groups together, the many wild animals would outnumber the pets
        groups = list(similar_groups(name))
        rng.shuffle(groups)
        for group in groups:
            similar = tuple(absent for absent in scene.absent if absent in group)
            if similar:
                return similar
    return ()


def _wrong_color(scene: Scene, rng: Random) -> Mention | None:
    """Mention a class of the image with a color that none of its objects has."""
    # Choose a class whose objects all have a clear color
    groups = scene.by_name()
    names = [name for name, group in groups.items() if all(scene.things[i].color for i in group)]
    if not names:
        return None
    name = rng.choice(names)

    # Choose a color unlike all of theirs
    excluded: set[str | None] = set()
    for i in groups[name]:
        color = scene.things[i].color
        excluded.add(color)
        excluded.update(SIMILAR_COLORS[color] if color else ())
    palette = sorted(FUR) if name in FURRY else COLORS
    others = [color for color in palette if color not in excluded]
    return Mention(_noun_phrase(rng, name, 1, rng.choice(others)), ()) if others else None


def _one(rng: Random, name: str) -> str | None:
    """Choose a name for one object of a class; None if the class has only plural names."""
    singular = class_name(name).singular
    return (singular[0] if rng.random() < 0.6 else rng.choice(singular)) if singular else None


def _noun_phrase(rng: Random, name: str, count: int, adjective: str | None = None) -> str:
    """Choose a name with or without article, number and adjective."""
    words = class_name(name)
    lead = f"{adjective} " if adjective else ""

    # Several objects are named in the plural, or in the singular as the class
    is_plural = not words.singular or (count > 1 and bool(words.plural) and rng.random() < 0.6)
    if is_plural:
        noun = words.plural[0] if rng.random() < 0.6 else rng.choice(words.plural)
        determiners = ["", "", "the ", "all ", "all the ", "some "]
        if 1 < count <= len(NUMBERS) and words.singular:
            determiners += [f"{NUMBERS[count - 1]} ", f"the {NUMBERS[count - 1]} "]
        if not words.singular and count == 1:
            determiners += ["a pair of "]
        return rng.choice(determiners) + lead + noun
    noun = words.singular[0] if rng.random() < 0.6 else rng.choice(words.singular)
    phrase = lead + noun
    if name in UNCOUNTABLE:
        return rng.choice(("", "", "the ")) + phrase
    article = "an " if phrase[0] in "aeiou" else "a "
    return rng.choice(("", "", article, article, "the ")) + phrase
