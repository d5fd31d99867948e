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
NUM_ATTRIBUTES = (0.1, 0.35, 0.35, 0.15, 0.05)  # probabilities of names with 0, 1, ... 4 attributes
COUNTS = (0.2, 0.24, 0.2, 0.14, 0.1, 0.07, 0.05)  # probabilities of the counts 0, 1, ...
MANY = 3  # groups of this size or larger have short names
MAX_COUNT = 6  # this count stands for all larger ones too
TRIES = 12
FORM_TRIES = 4  # forms to try before giving up on a scene
ABSENT_FRACTION = 0.2  # of groups to compare or unite that are empty
BARE_FRACTION = 0.08  # of questions without articles
IT_FRACTION = 0.25  # of questions with a relation whose anchor is introduced by a sentence before
LOWERCASE_FRACTION = 0.3  # of questions that start with a lowercase letter
UNMARKED_FRACTION = 0.15  # of questions without a question mark, and commands without a full stop
_PRONOUN = re.compile(r"\bits?\b")


@dataclass(frozen=True, slots=True)
class Form:
    """A form of question.

    Attributes:
        family: "exist", "count", "query", a comparison of counts, or "equal" for a comparison of attributes.
        kind: What leads to the group in question: "relate", "same", "and", or "or" for a union of two groups.
        hops: Number of links that lead there one after another.
    """

    family: str
    kind: str = "relate"
    hops: int = 0


def _form_weights() -> dict[Form, float]:
    """Every form with its weight; the weights need not add up to 1."""
    weights = {}

    # Questions about one group, by what leads to it
    kinds = {
        ("relate", 0): 0.24,
        ("relate", 1): 0.26,
        ("relate", 2): 0.12,
        ("relate", 3): 0.08,
        ("same", 1): 0.15,
        ("and", 1): 0.1,
    }
    for family, family_weight in (("exist", 0.19), ("count", 0.22), ("query", 0.29)):
        for (kind, hops), kind_weight in kinds.items():
            weights[Form(family, kind, hops)] = family_weight * kind_weight

    # Questions about two groups
    weights[Form("exist", "or")] = 0.01
    weights[Form("count", "or")] = 0.02
    for family in wordings.COMPARE_NUMBER:
        weights[Form(family, "relate", 0)] = 0.02
        weights[Form(family, "relate", 1)] = 0.02
    weights[Form("equal", "relate", 0)] = 0.075
    weights[Form("equal", "relate", 1)] = 0.075
    return weights


FORMS = _form_weights()


@dataclass(frozen=True, slots=True)
class _Draft:
    """A question before its words: its program, the groups that it names, and its possible wordings."""

    program: list[Step]
    groups: tuple[Group, ...]
    wordings: Sequence[str]
    attribute: str = ""


class AnswerBalance:
    """Counts of the answers to earlier questions, to choose rare answers next."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)

    def rarest(self, key: tuple[Any, ...], answers: Sequence[str], random: np.random.Generator) -> list[str]:
        """The rarest answers of a kind of question, in random order.

        Args:
            key: The kind of question.
            answers: Its possible answers.
            random: Source of randomness.

        Returns:
            The answers with the lowest count, or one more where there are more than two possible answers.
        """
        counts = self._counts[key]
        limit = min(counts[answer] for answer in answers)
        if len(answers) > 2:
            limit += 1
        rare = [answer for answer in answers if counts[answer] <= limit]
        return [rare[index] for index in random.permutation(len(rare))]

    def add(self, key: tuple[Any, ...], answer: str) -> None:
        """Count an answer.

        Args:
            key: The kind of question.
            answer: Its answer.
        """
        self._counts[key][answer] += 1


class QuestionGrammar:
    """Questions about one scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        random: Source of randomness.
        balance: Counts of the answers to earlier questions, about this scene and others.
    """

    def __init__(self, scene: Mapping[str, Any], random: np.random.Generator, balance: AnswerBalance) -> None:
        self.objects: Sequence[Mapping[str, Any]] = scene["objects"]
        self.relationships: Mapping[str, Any] = scene["relationships"]
        self.random = random
        self.balance = balance
        self.sampler = GroupSampler(scene, random)

    def question(self) -> dict[str, Any] | None:
        """Sample a question.

        Yes and no are equally frequent within each form, also among questions that name as many attributes;
        so are the values of a queried attribute.

        Returns:
            An entry of CLEVR's question files (question, answer, program), with the phrases and their
            objects; None where no question was possible.
        """
        forms, weights = list(FORMS), np.array(list(FORMS.values()))
        for _ in range(FORM_TRIES):
            number = int(self.random.choice(len(forms), p=weights / weights.sum()))
            draft = self._draft(forms[number])
            if draft is not None:
                return self._entry(draft, number)
        return None

    def _draft(self, form: Form) -> _Draft | None:
        if form.family == "query":
            return self._query(form)
        if form.family == "equal":
            return self._compare_attribute(form)
        if form.family in wordings.COMPARE_NUMBER:
            return self._compare_number(form)
        return self._union(form) if form.kind == "or" else self._exist_or_count(form)

    def _exist_or_count(self, form: Form) -> _Draft | None:
        """Whether there are objects in a group, or how many."""
        num_attributes = int(self.random.choice(len(NUM_ATTRIBUTES), p=NUM_ATTRIBUTES))
        if form == Form("exist"):
            num_attributes = max(num_attributes, 1)  # "is there a thing?" is always true
        key = (form, num_attributes)
        for answer in self._target_answers(form, key):
            if answer.isdigit() and int(answer) >= MANY:
                num_attributes = min(num_attributes, 1)  # long names fit few objects
            for _ in range(TRIES):
                # Choose what leads to the group, and which attributes its name has
                links = self.sampler.links(form.kind, form.hops)
                if links is None:
                    continue
                if form.kind == "same":  # the shared attribute is not in the name too
                    names = self.sampler.names(min(num_attributes, 3), without=links[0].kind)
                else:
                    names = self.sampler.names(num_attributes)

                # Find a group with the right number of objects
                group = self._group(links, names, answer)
                if group is not None:
                    program: list[Step] = []
                    add_step(program, form.family, [add_group(program, group)])
                    self.balance.add(key, answer)
                    possible = wordings.EXIST if form.family == "exist" else wordings.COUNT
                    return _Draft(program, (group,), possible)
        return None

    def _target_answers(self, form: Form, key: tuple[Any, ...]) -> list[str]:
        if form.family == "exist":
            return self.balance.rarest(key, ("yes", "no"), self.random)
        return [str(self.random.choice(len(COUNTS), p=COUNTS))]

    def _group(self, links: tuple[Link, ...], names: Sequence[str], answer: str) -> Group | None:
        """A group for which "are there any?" or "how many?" has an answer."""
        if answer == "yes":
            return self.sampler.some(links, names)
        count = 0 if answer == "no" else int(answer)
        if count < MAX_COUNT:
            return self.sampler.counted(links, names, count)
        group = self.sampler.some(links, names)
        return group if group is not None and len(group.members) >= count else None

    def _union(self, form: Form) -> _Draft | None:
        """Whether there are objects with one name or another, or how many; objects may have both."""
        sizes = (int(self.random.integers(1, 3)), int(self.random.integers(1, 3)))
        key = (form, sizes)
        for answer in self._target_answers(form, key):
            for _ in range(TRIES):
                # Choose two groups; both are empty where the answer is no or 0
                must_be_empty = answer in ("no", "0")
                first = self._named_group(sizes[0], must_be_empty)
                second = self._named_group(sizes[1], must_be_empty)
                if first is None or second is None or first.attributes == second.attributes:
                    continue

                # Compare their union with the answer
                count = len({*first.members, *second.members})
                is_exist = form.family == "exist"
                true_answer = ("yes" if count else "no") if is_exist else str(count)
                if true_answer == answer:
                    program: list[Step] = []
                    inputs = [add_group(program, first), add_group(program, second)]
                    add_step(program, form.family, [add_step(program, "union", inputs)])
                    self.balance.add(key, answer)
                    possible = wordings.EITHER_EXIST if is_exist else wordings.EITHER_COUNT
                    return _Draft(program, (first, second), possible)
        return None

    def _named_group(self, num_attributes: int, must_be_empty: bool) -> Group | None:
        names = self.sampler.names(num_attributes)
        if must_be_empty or self.random.random() < ABSENT_FRACTION:
            return self.sampler.counted((), names, 0)
        return self.sampler.some((), names)

    def _query(self, form: Form) -> _Draft | None:
        """Which value an attribute of one object has."""
        attribute = self._choice(ATTRIBUTES)
        key = (form, attribute)
        for answer in self.balance.rarest(key, VALUES[attribute], self.random):
            for _ in range(TRIES):
                # Choose what leads to the object; "the same color" would give its color away
                links = self.sampler.links(form.kind, form.hops)
                if links is None or (links and links[0].kind == attribute):
                    continue

                # Choose the object
                pool = [n for n in self.sampler.pool(links) if self.objects[n][attribute] == answer]
                if not pool:
                    continue
                group = self.sampler.single(self._choice(pool), links, without=attribute)
                if group is not None:
                    program: list[Step] = []
                    _add_query(program, group, attribute)
                    self.balance.add(key, answer)
                    return _Draft(program, (group,), wordings.QUERY[attribute])
        return None

    def _compare_number(self, form: Form) -> _Draft | None:
        """Whether one group has more, fewer or as many objects as another."""
        least = 1 - form.hops  # a name without attributes needs a link
        sizes = (int(self.random.integers(least, 3)), int(self.random.integers(least, 3)))
        key = (form, sizes)
        answer = self.balance.rarest(key, ("yes", "no"), self.random)[0]
        for _ in range(2 * TRIES):
            first, second = self._linked_group(form, sizes[0]), self._linked_group(form, sizes[1])
            if first is None or second is None or first == second:
                continue

            # Compare their numbers with the answer
            count, other_count = len(first.members), len(second.members)
            holds = {
                "greater_than": count > other_count,
                "less_than": count < other_count,
                "equal_integer": count == other_count,
            }
            if holds[form.family] == (answer == "yes"):
                program: list[Step] = []
                inputs = []
                for group in (first, second):
                    inputs.append(add_step(program, "count", [add_group(program, group)]))
                add_step(program, form.family, inputs)
                self.balance.add(key, answer)
                return _Draft(program, (first, second), wordings.COMPARE_NUMBER[form.family])
        return None

    def _linked_group(self, form: Form, num_attributes: int) -> Group | None:
        links = self.sampler.links("relate", form.hops)
        if links is None:
            return None
        names = self.sampler.names(num_attributes)
        if self.random.random() < ABSENT_FRACTION:
            return self.sampler.counted(links, names, 0)
        return self.sampler.some(links, names)

    def _compare_attribute(self, form: Form) -> _Draft | None:
        """Whether two objects have the same value of an attribute."""
        attribute = self._choice(ATTRIBUTES)
        key = (form, attribute)
        answer = self.balance.rarest(key, ("yes", "no"), self.random)[0]
        for _ in range(2 * TRIES):
            first, second = self._single(form, attribute), self._single(form, attribute)
            if first is None or second is None or first.members == second.members:
                continue

            # Compare their values with the answer
            value = self.objects[first.members[0]][attribute]
            other_value = self.objects[second.members[0]][attribute]
            if (value == other_value) == (answer == "yes"):
                program: list[Step] = []
                inputs = [_add_query(program, first, attribute), _add_query(program, second, attribute)]
                add_step(program, f"equal_{attribute}", inputs)
                self.balance.add(key, answer)
                possible = wordings.COMPARE_ATTRIBUTE[attribute]
                return _Draft(program, (first, second), possible, attribute)
        return None

    def _single(self, form: Form, without: str) -> Group | None:
        links = self.sampler.links("relate", form.hops)
        if links is None:
            return None
        pool = self.sampler.pool(links)
        return self.sampler.single(self._choice(pool), links, without) if pool else None

    def _entry(self, draft: _Draft, number: int) -> dict[str, Any]:
        """The entry of a question file, with the draft in words."""
        # Choose a wording; one with a pronoun does not fit one whose anchor is "it"
        possible = draft.wordings
        has_one_link = len(draft.groups) == 1 and len(draft.groups[0].links) == 1
        with_it = has_one_link and self.random.random() < IT_FRACTION
        if with_it:
            possible = [wording for wording in possible if not _PRONOUN.search(wording)]

        # Fill it in
        phrasing = Phrasing(self.random, articles=self.random.random() >= BARE_FRACTION)
        marked = phrasing.fill(self._choice(possible), draft.groups, draft.attribute, with_it)
        text, phrases = unmark(marked)
        if self.random.random() < UNMARKED_FRACTION:
            text = text.rstrip("?.")
        if self.random.random() >= LOWERCASE_FRACTION:
            text = text[0].upper() + text[1:]

        # Run the program for the answer
        answer = run_program(draft.program, self.objects, self.relationships)[-1]
        if isinstance(answer, bool):
            answer = "yes" if answer else "no"
        return {
            "question": text,
            "answer": str(answer),
            "program": draft.program,
            "phrases": [{"spans": [list(span)], "objects": list(objects)} for span, objects in phrases],
            "question_family_index": number,
        }

    def _choice(self, values: Sequence[T]) -> T:
        return values[int(self.random.integers(len(values)))]


def _add_query(program: list[Step], group: Group, attribute: str) -> int:
    """Append the steps that query an attribute of a single object; returns the index of the last."""
    only = add_step(program, "unique", [add_group(program, group)])
    return add_step(program, f"query_{attribute}", [only])


def sample_questions(
    scene: Mapping[str, Any],
    count: int,
    random: np.random.Generator,
    balance: AnswerBalance | None = None,
) -> list[dict[str, Any]]:
    """Sample different questions about a scene.

    Args:
        scene: An entry of a scene file: objects with their attributes, and relationships.
        count: Maximum number of questions.
        random: Source of randomness.
        balance: Counts of the answers to questions about other scenes; None to balance only this scene's.

    Returns:
        Entries of CLEVR's question files, with the phrases and their objects.
    """
    grammar = QuestionGrammar(scene, random, balance or AnswerBalance())
    entries = {}
    for _ in range(count):
        entry = grammar.question()
        if entry is not None:
            entries[entry["question"]] = entry
    return list(entries.values())
