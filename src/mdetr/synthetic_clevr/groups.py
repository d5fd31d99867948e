"""Groups of objects that a question mentions: which objects they hold, and the program that selects them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mdetr.data.sources.clevr_programs import ATTRIBUTES
from mdetr.synthetic_clevr.scenes import COLORS, MATERIALS, SHAPES, SIZES

VALUES: dict[str, tuple[str, ...]] = {
    "size": tuple(SIZES),
    "color": tuple(COLORS),
    "material": MATERIALS,
    "shape": SHAPES,
}
DIRECTIONS = ("left", "right", "behind", "front")
SHORT = 0.6  # how much less likely a name becomes with each attribute that it says
TRIES = 8
Step = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """How a group is found from one object: `kind` is a direction, or an attribute that both share."""

    kind: str
    anchor: Group


@dataclass(frozen=True, slots=True)
class Group:
    """Objects with one name.

    Attributes:
        attributes: What the name says of each object.
        members: The objects' indices in the scene, ascending.
        links: How they lie to other objects, or what they share with one; all of them hold.
    """

    attributes: Mapping[str, str]
    members: tuple[int, ...]
    links: tuple[Link, ...] = ()


class GroupSampler:
    """Draws groups of one scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        random: Where all choices come from.
    """

    def __init__(self, scene: Mapping[str, Any], random: np.random.Generator) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relationships: Mapping[str, Sequence[Sequence[int]]] = scene["relationships"]
        self.random = random

    def links(self, kind: str, hops: int) -> tuple[Link, ...] | None:
        """Links of a kind, whose anchors are themselves found by links; None where none was found.

        Args:
            kind: "relate" for one direction, "and" for two from two objects, "same" for a shared attribute.
            hops: How many links lead to the group one after another; 0 gives no link.
        """
        if kind == "and":
            first, second = self._anchor(0), self._anchor(0)
            if first is None or second is None or first.members == second.members:
                return None
            return tuple(Link(self._choice(DIRECTIONS), anchor) for anchor in (first, second))
        if hops == 0:
            return ()
        anchor = self._anchor(hops - 1)
        if anchor is None:
            return None
        return (Link(self._choice(ATTRIBUTES if kind == "same" else DIRECTIONS), anchor),)

    def pool(self, links: Iterable[Link]) -> tuple[int, ...]:
        """The objects that all links lead to, ascending."""
        pool = set(range(len(self.objects)))
        for link in links:
            pool &= set(self._linked(link))
        return tuple(sorted(pool))

    def names(self, count: int, without: str | None = None) -> tuple[str, ...]:
        """`count` attributes at random, in the order in which programs filter by them."""
        possible = [name for name in ATTRIBUTES if name != without]
        chosen = self.random.permutation(len(possible))[:count]
        return tuple(possible[place] for place in sorted(chosen))

    def group(self, values: Mapping[str, str], links: tuple[Link, ...]) -> Group:
        """All that the links lead to and that has these values."""
        return Group(values, self._fitting(self.pool(links), values), links)

    def single(self, member: int, links: tuple[Link, ...], without: str | None = None) -> Group | None:
        """A group of one object, named by as much as singles it out; None where nothing does.

        Args:
            member: The object.
            links: They must lead to it.
            without: An attribute that the name must not say.
        """
        pool, thing = self.pool(links), self.objects[member]
        possible = [name for name in ATTRIBUTES if name != without]
        fitting, weights = [], []
        for size in range(len(possible) + 1):
            for names in itertools.combinations(possible, size):
                values = {name: str(thing[name]) for name in names}
                if self._fitting(pool, values) == (member,):
                    fitting.append(values)
                    weights.append(SHORT**size)
        if not fitting:
            return None
        chosen = int(self.random.choice(len(fitting), p=np.array(weights) / sum(weights)))
        return Group(fitting[chosen], (member,), links)

    def counted(self, links: tuple[Link, ...], names: Sequence[str], count: int) -> Group | None:
        """A group of `count` objects whose name says these attributes; None where there is none."""
        pool = self.pool(links)
        present = self._shuffled({self._values(member, names) for member in pool})
        for said in present if count else self._missing(pool, names):
            group = self.group(dict(zip(names, said, strict=True)), links)
            if len(group.members) == count:
                return group
        return None

    def some(self, links: tuple[Link, ...], names: Sequence[str]) -> Group | None:
        """A group of at least one object whose name says these attributes; None where there is none."""
        pool = self.pool(links)
        if not pool:
            return None
        said = self._values(self._choice(pool), names)
        return self.group(dict(zip(names, said, strict=True)), links)

    def _missing(self, pool: Sequence[int], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Values that nothing in the pool may have: of objects elsewhere, or with one value changed."""
        elsewhere = {self._values(n, names) for n in range(len(self.objects)) if n not in pool}
        if self.random.random() < 0.7:
            yield from self._shuffled(elsewhere)
        for _ in range(TRIES):
            values = list(self._values(int(self.random.integers(len(self.objects))), names))
            if not values:
                break
            changed = int(self.random.integers(len(values)))
            values[changed] = self._choice(VALUES[names[changed]])
            yield tuple(values)
        if not names and not pool:
            yield ()

    def _anchor(self, hops: int) -> Group | None:
        links = self.links("relate", hops)
        if links is None:
            return None
        pool = self.pool(links)
        return self.single(self._choice(pool), links) if pool else None

    def _linked(self, link: Link) -> Sequence[int]:
        (anchor,) = link.anchor.members
        if link.kind in DIRECTIONS:
            return self.relationships[link.kind][anchor]
        own = self.objects[anchor][link.kind]
        return [n for n, thing in enumerate(self.objects) if n != anchor and thing[link.kind] == own]

    def _fitting(self, pool: Sequence[int], values: Mapping[str, str]) -> tuple[int, ...]:
        return tuple(
            member
            for member in pool
            if all(self.objects[member][name] == value for name, value in values.items())
        )

    def _values(self, member: int, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(str(self.objects[member][name]) for name in names)

    def _shuffled(self, values: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        ordered = sorted(values)
        return [ordered[place] for place in self.random.permutation(len(ordered))]

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]


def add_step(program: list[Step], function: str, inputs: Sequence[int], *values: str) -> int:
    """Append a step in CLEVR's notation; its number."""
    program.append({"function": function, "inputs": list(inputs), "value_inputs": list(values)})
    return len(program) - 1


def add_group(program: list[Step], group: Group) -> int:
    """Append the steps that find a group; the number of the last."""
    found = [_add_link(program, link) for link in group.links]
    if not found:
        place = add_step(program, "scene", [])
    else:
        place = found[0] if len(found) == 1 else add_step(program, "intersect", found)
    for name in ATTRIBUTES:
        if name in group.attributes:
            place = add_step(program, f"filter_{name}", [place], group.attributes[name])
    return place


def _add_link(program: list[Step], link: Link) -> int:
    anchor = add_step(program, "unique", [add_group(program, link.anchor)])
    if link.kind in DIRECTIONS:
        return add_step(program, "relate", [anchor], link.kind)
    return add_step(program, f"same_{link.kind}", [anchor])
