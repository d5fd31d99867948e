"""Groups of objects that a question mentions, and the program steps that select them."""

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
ATTRIBUTE_WEIGHT = 0.6  # factor of a name's probability for each of its attributes
ELSEWHERE_FRACTION = 0.7  # of absent names that fit objects outside of the pool
TRIES = 8
Step = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Link:
    """Relation of a group to one object.

    Attributes:
        kind: A direction, or an attribute that both share.
        anchor: The object, as a group of one.
    """

    kind: str
    anchor: Group


@dataclass(frozen=True, slots=True)
class Group:
    """Objects with one name.

    Attributes:
        attributes: Attributes in the name -> their values.
        members: Indices of the objects in the scene, ascending.
        links: Relations to other objects; all of them hold.
    """

    attributes: Mapping[str, str]
    members: tuple[int, ...]
    links: tuple[Link, ...] = ()


class GroupSampler:
    """Samples groups of one scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        random: Source of randomness.
    """

    def __init__(self, scene: Mapping[str, Any], random: np.random.Generator) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relationships: Mapping[str, Sequence[Sequence[int]]] = scene["relationships"]
        self.random = random

    def links(self, kind: str, hops: int) -> tuple[Link, ...] | None:
        """Sample links of a kind, whose anchors may have links themselves.

        Args:
            kind: "relate" for one direction, "and" for two from two objects, "same" for a shared attribute.
            hops: Number of links that lead to the group one after another; 0 gives no link.

        Returns:
            The links; None where the sampled anchors do not work.
        """
        # Two directions from two different objects
        if kind == "and":
            first, second = self._anchor(0), self._anchor(0)
            if first is None or second is None or first.members == second.members:
                return None
            return (Link(self._choice(DIRECTIONS), first), Link(self._choice(DIRECTIONS), second))

        # One direction, or one shared attribute
        if hops == 0:
            return ()
        anchor = self._anchor(hops - 1)
        if anchor is None:
            return None
        return (Link(self._choice(ATTRIBUTES if kind == "same" else DIRECTIONS), anchor),)

    def pool(self, links: Iterable[Link]) -> tuple[int, ...]:
        """Objects that all links lead to.

        Args:
            links: The links; without any, all objects of the scene.

        Returns:
            Indices, ascending.
        """
        pool = set(range(len(self.objects)))
        for link in links:
            pool &= set(self._linked(link))
        return tuple(sorted(pool))

    def names(self, count: int, without: str | None = None) -> tuple[str, ...]:
        """Sample attributes for a name.

        Args:
            count: Number of attributes.
            without: Attribute to leave out.

        Returns:
            The attributes, in the order in which programs filter by them.
        """
        possible = [name for name in ATTRIBUTES if name != without]
        chosen = self.random.permutation(len(possible))[:count]
        return tuple(possible[index] for index in sorted(chosen))

    def group(self, values: Mapping[str, str], links: tuple[Link, ...]) -> Group:
        """Group of all objects that the links lead to and that have some values.

        Args:
            values: Attribute -> value.
            links: The links.

        Returns:
            The group, which may be empty.
        """
        return Group(values, self._fitting(self.pool(links), values), links)

    def single(self, member: int, links: tuple[Link, ...], without: str | None = None) -> Group | None:
        """Sample a group of one object, with a name that singles it out.

        Args:
            member: Index of the object.
            links: Links that lead to it.
            without: Attribute that the name must not have.

        Returns:
            The group; None where no name singles the object out.
        """
        # List the names that fit the object alone
        pool, thing = self.pool(links), self.objects[member]
        possible = [name for name in ATTRIBUTES if name != without]
        candidates, weights = [], []
        for size in range(len(possible) + 1):
            for names in itertools.combinations(possible, size):
                values = {name: str(thing[name]) for name in names}
                if self._fitting(pool, values) == (member,):
                    candidates.append(values)
                    weights.append(ATTRIBUTE_WEIGHT**size)
        if not candidates:
            return None

        # Choose one, preferring short names
        chosen = int(self.random.choice(len(candidates), p=np.array(weights) / sum(weights)))
        return Group(candidates[chosen], (member,), links)

    def counted(self, links: tuple[Link, ...], names: Sequence[str], count: int) -> Group | None:
        """Sample a group with a number of objects.

        Args:
            links: Links that lead to the group.
            names: Attributes in its name.
            count: Number of objects.

        Returns:
            The group; None where there is none.
        """
        pool = self.pool(links)
        present = self._shuffled({self._values(member, names) for member in pool})
        for values in present if count else self._absent(pool, names):
            group = self.group(dict(zip(names, values, strict=True)), links)
            if len(group.members) == count:
                return group
        return None

    def some(self, links: tuple[Link, ...], names: Sequence[str]) -> Group | None:
        """Sample a group with at least one object.

        Args:
            links: Links that lead to the group.
            names: Attributes in its name.

        Returns:
            The group; None where the links lead to no object.
        """
        pool = self.pool(links)
        if not pool:
            return None
        values = self._values(self._choice(pool), names)
        return self.group(dict(zip(names, values, strict=True)), links)

    def _absent(self, pool: Sequence[int], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
        """Candidates for values that no object in the pool has."""
        # Values of objects outside of the pool
        elsewhere = {self._values(n, names) for n in range(len(self.objects)) if n not in pool}
        if self.random.random() < ELSEWHERE_FRACTION:
            yield from self._shuffled(elsewhere)

        # Values of any object, with one of them changed
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
        shared = self.objects[anchor][link.kind]
        return [n for n, thing in enumerate(self.objects) if n != anchor and thing[link.kind] == shared]

    def _fitting(self, pool: Sequence[int], values: Mapping[str, str]) -> tuple[int, ...]:
        """The objects of a pool that have all these values."""
        names = tuple(values)
        expected = tuple(values.values())
        return tuple(member for member in pool if self._values(member, names) == expected)

    def _values(self, member: int, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(str(self.objects[member][name]) for name in names)

    def _shuffled(self, values: Iterable[tuple[str, ...]]) -> list[tuple[str, ...]]:
        ordered = sorted(values)
        return [ordered[index] for index in self.random.permutation(len(ordered))]

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]


def add_step(program: list[Step], function: str, inputs: Sequence[int], *values: str) -> int:
    """Append a step in CLEVR's notation.

    Args:
        program: The steps before it.
        function: CLEVR's function.
        inputs: Indices of the steps that it takes the results of.
        *values: Its other arguments.

    Returns:
        Index of the step.
    """
    program.append({"function": function, "inputs": list(inputs), "value_inputs": list(values)})
    return len(program) - 1


def add_group(program: list[Step], group: Group) -> int:
    """Append the steps that select a group.

    Args:
        program: The steps before them.
        group: The group.

    Returns:
        Index of the last step.
    """
    # Follow the links, if any
    linked = [_add_link(program, link) for link in group.links]
    if not linked:
        last = add_step(program, "scene", [])
    elif len(linked) == 1:
        last = linked[0]
    else:
        last = add_step(program, "intersect", linked)

    # Filter by each attribute
    for name in ATTRIBUTES:
        if name in group.attributes:
            last = add_step(program, f"filter_{name}", [last], group.attributes[name])
    return last


def _add_link(program: list[Step], link: Link) -> int:
    anchor = add_step(program, "unique", [add_group(program, link.anchor)])
    if link.kind in DIRECTIONS:
        return add_step(program, "relate", [anchor], link.kind)
    return add_step(program, f"same_{link.kind}", [anchor])
