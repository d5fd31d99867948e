"""Questions about a scene, in all of CLEVR's forms, with their programs, answers and phrases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from mdetr.data.sources.clevr_programs import ATTRIBUTES, run_program
from mdetr.synthetic_clevr import wordings
from mdetr.synthetic_clevr.groups import VALUES, Group, GroupSampler, Link, Step, add_group, add_step
from mdetr.synthetic_clevr.phrasing import Phrasing, unmark

T = TypeVar("T")
SAID = (0.1, 0.35, 0.35, 0.15, 0.05)  # how often a name says none, one ... all four of the attributes
COUNT_SHARES = (0.2, 0.24, 0.2, 0.14, 0.1, 0.07, 0.05)  # of the numbers from 0 that are asked for
MANY = 3  # names of so many things and more are short
MORE = 6  # this number and all above are asked for as one
TRIES = 12
FORM_TRIES = 4  # forms that are tried before a scene is given up
BARE_SHARE = 0.08  # of questions without articles
IT_SHARE = 0.25  # of questions with a relation whose first object has a sentence of its own
SMALL_SHARE = 0.3  # of questions that start with a small letter
UNMARKED_SHARE = 0.15  # of questions without a question mark, and commands without a full stop
_PRONOUN = re.compile(r"\bits?\b")


@dataclass(frozen=True, slots=True)
class Form:
    """A kind of question.

    Attributes:
        asked: "exist", "count", "query", a comparison of numbers or "equal" for attributes.
        kind: What leads to the group in question: "relate", "same", "and", or "or" for two groups together.
        hops: How many links lead there one after another.
    """

    asked: str
    kind: str = "relate"
    hops: int = 0


_REACHED = {
    ("relate", 0): 0.24,
    ("relate", 1): 0.26,
    ("relate", 2): 0.12,
    ("relate", 3): 0.08,
    ("same", 1): 0.15,
    ("and", 1): 0.1,
}
_FAMILIES = {"exist": 0.19, "count": 0.22, "query": 0.29}
FORMS: dict[Form, float] = {
    **{Form(asked, *how): share * _REACHED[how] for asked, share in _FAMILIES.items() for how in _REACHED},
    Form("exist", "or"): 0.01,
    Form("count", "or"): 0.02,
    **{Form(name, "relate", hops): 0.02 for name in wordings.COMPARE_NUMBER for hops in (0, 1)},
    **{Form("equal", "relate", hops): 0.075 for hops in (0, 1)},
}
"""Every form with its share, which need not add up to 1."""


@dataclass(frozen=True, slots=True)
class _Draft:
    """A question before its words: the last steps of its program and the groups that it names."""

    program: list[Step]
    groups: tuple[Group, ...]
    wordings: Sequence[str]
    attribute: str = ""


class AnswerBalance:
    """Which answers were asked for how often, so that the rarest of a form can be asked for next."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)

    def rarest(self, key: tuple[Any, ...], answers: Sequence[str], random: np.random.Generator) -> list[str]:
        """The answers that came least often, or once more, in random order."""
        counts = self._counts[key]
        least = min(counts[answer] for answer in answers)
        slack = 0 if len(answers) == 2 else 1
        rare = [answer for answer in answers if counts[answer] <= least + slack]
        return [rare[place] for place in random.permutation(len(rare))]

    def add(self, key: tuple[Any, ...], answer: str) -> None:
        """Count an answer."""
        self._counts[key][answer] += 1


class QuestionGrammar:
    """Asks about one scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        random: Where all choices come from.
        balance: What was asked before, about this scene and others.
    """

    def __init__(self, scene: Mapping[str, Any], random: np.random.Generator, balance: AnswerBalance) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relationships: Mapping[str, Any] = scene["relationships"]
        self.random = random
        self.balance = balance
        self.sampler = GroupSampler(scene, random)

    def question(self) -> dict[str, Any] | None:
        """A question as CLEVR's files hold it: question, answer, program, and the phrases with their objects.

        Yes and no come equally often within each form, also among questions whose names say equally much;
        so do the values of an attribute that is asked for. None where nothing was found.
        """
        forms, shares = list(FORMS), np.array(list(FORMS.values()))
        for _ in range(FORM_TRIES):
            number = int(self.random.choice(len(forms), p=shares / shares.sum()))
            draft = self._draft(forms[number])
            if draft is not None:
                return self._entry(draft, number)
        return None

    def _draft(self, form: Form) -> _Draft | None:
        if form.asked == "query":
            return self._query(form)
        if form.asked == "equal":
            return self._compare_attribute(form)
        if form.asked in wordings.COMPARE_NUMBER:
            return self._compare_number(form)
        return self._either(form) if form.kind == "or" else self._exist_or_count(form)

    def _exist_or_count(self, form: Form) -> _Draft | None:
        said = int(self.random.choice(len(SAID), p=SAID))
        if form == Form("exist"):
            said = max(said, 1)  # "is there a thing?" asks nothing
        key = (form, said)
        for wanted in self._wanted(form, key):
            if wanted.isdigit() and int(wanted) >= MANY:
                said = min(said, 1)  # much that is said fits few
            for _ in range(TRIES):
                links = self.sampler.links(form.kind, form.hops)
                if links is None:
                    continue
                # What is shared is not said as well.
                shared = links[0].kind if form.kind == "same" else None
                names = self.sampler.names(min(said, 3) if shared else said, without=shared)
                group = self._group(form, links, names, wanted)
                if group is not None:
                    program: list[Step] = []
                    add_step(program, form.asked, [add_group(program, group)])
                    self.balance.add(key, wanted)
                    possible = wordings.EXIST if form.asked == "exist" else wordings.COUNT
                    return _Draft(program, (group,), possible)
        return None

    def _wanted(self, form: Form, key: tuple[Any, ...]) -> list[str]:
        if form.asked == "exist":
            return self.balance.rarest(key, ("yes", "no"), self.random)
        return [str(self.random.choice(len(COUNT_SHARES), p=COUNT_SHARES))]

    def _group(self, form: Form, links: tuple[Link, ...], names: Sequence[str], wanted: str) -> Group | None:
        if wanted == "yes":
            return self.sampler.some(links, names)
        number = 0 if wanted == "no" else int(wanted)
        if number < MORE:
            return self.sampler.counted(links, names, number)
        group = self.sampler.some(links, names)
        return group if group is not None and len(group.members) >= number else None

    def _either(self, form: Form) -> _Draft | None:
        """Things of one name or another; the names may share objects."""
        says = tuple(int(self.random.integers(1, 3)) for _ in range(2))
        key = (form, says)
        for wanted in self._wanted(form, key):
            for _ in range(TRIES):
                # Where nothing may be found, both must be missing; else at least one is there.
                absent = wanted in ("no", "0")
                first, second = (
                    self.sampler.counted((), names, 0)
                    if absent or self.random.random() < 0.2
                    else self.sampler.some((), names)
                    for names in map(self.sampler.names, says)
                )
                if first is None or second is None or first.attributes == second.attributes:
                    continue
                program: list[Step] = []
                both = add_step(program, "union", [add_group(program, group) for group in (first, second)])
                add_step(program, form.asked, [both])
                found = len({*first.members, *second.members})
                if (bool(found) == (wanted == "yes")) if form.asked == "exist" else (str(found) == wanted):
                    self.balance.add(key, wanted)
                    possible = wordings.EITHER_EXIST if form.asked == "exist" else wordings.EITHER_COUNT
                    return _Draft(program, (first, second), possible)
        return None

    def _query(self, form: Form) -> _Draft | None:
        asked = self._choice(ATTRIBUTES)
        key = (form, asked)
        for wanted in self.balance.rarest(key, VALUES[asked], self.random):
            for _ in range(TRIES):
                links = self.sampler.links(form.kind, form.hops)
                if links is None or (links and links[0].kind == asked):  # "the same color" tells it
                    continue
                pool = [n for n in self.sampler.pool(links) if self.objects[n][asked] == wanted]
                group = self.sampler.single(self._choice(pool), links, without=asked) if pool else None
                if group is not None:
                    program: list[Step] = []
                    only = add_step(program, "unique", [add_group(program, group)])
                    add_step(program, f"query_{asked}", [only])
                    self.balance.add(key, wanted)
                    return _Draft(program, (group,), wordings.QUERY[asked])
        return None

    def _compare_number(self, form: Form) -> _Draft | None:
        says = tuple(int(self.random.integers(1 - form.hops, 3)) for _ in range(2))
        key = (form, says)
        (wanted,) = self.balance.rarest(key, ("yes", "no"), self.random)[:1]
        for _ in range(2 * TRIES):
            groups = [self._numbered(form, said) for said in says]
            if None in groups or groups[0] == groups[1]:
                continue
            first, second = (group for group in groups if group is not None)
            own, other = len(first.members), len(second.members)
            holds = {"greater_than": own > other, "less_than": own < other, "equal_integer": own == other}
            if holds[form.asked] == (wanted == "yes"):
                program: list[Step] = []
                counts = [
                    add_step(program, "count", [add_group(program, group)]) for group in (first, second)
                ]
                add_step(program, form.asked, counts)
                self.balance.add(key, wanted)
                return _Draft(program, (first, second), wordings.COMPARE_NUMBER[form.asked])
        return None

    def _numbered(self, form: Form, said: int) -> Group | None:
        links = self.sampler.links("relate", form.hops)
        if links is None:
            return None
        names = self.sampler.names(said)
        if self.random.random() < 0.2:
            return self.sampler.counted(links, names, 0)
        return self.sampler.some(links, names)

    def _compare_attribute(self, form: Form) -> _Draft | None:
        asked = self._choice(ATTRIBUTES)
        key = (form, asked)
        (wanted,) = self.balance.rarest(key, ("yes", "no"), self.random)[:1]
        for _ in range(2 * TRIES):
            first, second = (self._one(form, asked) for _ in range(2))
            if first is None or second is None or first.members == second.members:
                continue
            values = [self.objects[group.members[0]][asked] for group in (first, second)]
            if (values[0] == values[1]) == (wanted == "yes"):
                program: list[Step] = []
                queried = []
                for group in (first, second):
                    only = add_step(program, "unique", [add_group(program, group)])
                    queried.append(add_step(program, f"query_{asked}", [only]))
                add_step(program, f"equal_{asked}", queried)
                self.balance.add(key, wanted)
                return _Draft(program, (first, second), wordings.COMPARE_ATTRIBUTE[asked], asked)
        return None

    def _one(self, form: Form, without: str) -> Group | None:
        links = self.sampler.links("relate", form.hops)
        pool = self.sampler.pool(links) if links is not None else ()
        return self.sampler.single(self._choice(pool), links or (), without) if pool else None

    def _entry(self, draft: _Draft, number: int) -> dict[str, Any]:
        possible = draft.wordings
        links = draft.groups[0].links
        it = len(links) == 1 and len(draft.groups) == 1 and self.random.random() < IT_SHARE
        if it:
            possible = [wording for wording in possible if not _PRONOUN.search(wording)]
        phrasing = Phrasing(self.random, articles=self.random.random() >= BARE_SHARE)
        found = unmark(phrasing.fill(self._choice(possible), draft.groups, draft.attribute, it))
        text = found.text
        if self.random.random() < UNMARKED_SHARE:
            text = text.rstrip("?.")
        if self.random.random() >= SMALL_SHARE:
            text = text[0].upper() + text[1:]
        answer = run_program(draft.program, self.objects, self.relationships)[-1]
        if isinstance(answer, bool):
            answer = "yes" if answer else "no"
        return {
            "question": text,
            "answer": str(answer),
            "program": draft.program,
            "phrases": [{"spans": [list(span)], "objects": list(objects)} for span, objects in found.phrases],
            "question_family_index": number,
        }

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]


def ask_about(
    scene: Mapping[str, Any],
    count: int,
    random: np.random.Generator,
    balance: AnswerBalance | None = None,
) -> list[dict[str, Any]]:
    """Up to `count` different questions about a scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        count: How many at most.
        random: Where all choices come from.
        balance: What was asked about other scenes; left out, only this one's answers are balanced.
    """
    grammar = QuestionGrammar(scene, random, balance or AnswerBalance())
    found = {entry["question"]: entry for _ in range(count) if (entry := grammar.question()) is not None}
    return list(found.values())
