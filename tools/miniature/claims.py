"""What is claimed, and which data and runs show it: the content of `recipes/miniature/claims.yaml`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import field
from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from mdetr.errors import RecipeError
from mdetr.settings import STRICT
from mdetr.training.recipe_file import find_recipe, recipe_names

ROOT = Path(__file__).parents[2]
CLAIMS_FILE = ROOT / "recipes" / "miniature" / "claims.yaml"


@dataclass(frozen=True, config=STRICT)
class DataStep:
    """A command that makes data.

    Attributes:
        makes: The file or folder, relative to the working folder, that exists only when the step is done.
        command: The command.
        needs: What other steps make that this one reads.
    """

    makes: str
    command: str
    needs: list[str] = field(default_factory=list)


@dataclass(frozen=True, config=STRICT)
class Run:
    """A training and its evaluation, or the evaluation of a model that there is.

    Attributes:
        recipe: A file beside the claims, or a name of `mdetr recipes`.
        data: What data steps make that the run reads.
        settings: Changes of the recipe, "key=value", in training and evaluation.
        evaluation: Changes of the recipe in evaluation only.
        model: Model to evaluate; null to train one.
        after: Run whose model of the same seed the training starts from.
        seeds: Seeds of the trainings.
    """

    recipe: str
    data: list[str]
    settings: list[str] = field(default_factory=list)
    evaluation: list[str] = field(default_factory=list)
    model: str | None = None
    after: str | None = None
    seeds: list[int] = field(default_factory=lambda: [1])


@dataclass(frozen=True, config=STRICT)
class Figure:
    """A figure of a run.

    Attributes:
        run: Name of the run.
        score: Validation store and score, such as "home.phrase_grounding_recall@1".
        count: Score with the number of examples that it is a fraction of.
    """

    run: str
    score: str
    count: str


@dataclass(frozen=True, config=STRICT)
class Comparison:
    """Two figures, of which the claim expects one to be higher.

    Attributes:
        says: What is compared, in words.
        higher: The figure that the claim expects to be higher.
        lower: The other figure.
        paper: Both figures in the paper; empty where it has none.
    """

    says: str
    higher: Figure
    lower: Figure
    paper: str = ""


@dataclass(frozen=True, config=STRICT)
class Claim:
    """A claim of the paper.

    Attributes:
        title: Title of its section.
        says: The claim.
        paper: Where the paper makes it, and what it compares.
        comparisons: What shows it; all of them must.
        curve: Score to draw over the steps of its runs; null for none.
        remark: What the miniature does differently, or leaves out.
    """

    title: str
    says: str
    paper: str
    comparisons: list[Comparison]
    curve: str | None = None
    remark: str = ""

    @property
    def runs(self) -> list[str]:
        """Names of the runs that it compares."""
        figures = [figure for one in self.comparisons for figure in (one.higher, one.lower)]
        return list(dict.fromkeys(figure.run for figure in figures))


@dataclass(frozen=True, config=STRICT)
class Claims:
    """All claims, and what they need.

    Attributes:
        data: Steps that make data.
        runs: Name -> run.
        claims: Name -> claim.
        folder: Folder of the file, beside which the recipes are.
    """

    data: list[DataStep]
    runs: dict[str, Run]
    claims: dict[str, Claim]
    folder: Path

    def recipe_of(self, run: str) -> str:
        """Return a run's recipe as the command takes it: a name, or the path of a file beside the claims."""
        recipe = self.runs[run].recipe
        return recipe if recipe in recipe_names() else str(self.folder / recipe)

    def digest_of(self, run: str) -> str:
        """Return a hash of all that decides a run's result: data, recipe, settings, and the run before it."""
        settings = self.runs[run]
        content = [
            [step.command for step in self.data_of([run])],
            find_recipe(self.recipe_of(run)).read_text(encoding="utf-8"),
            [settings.settings, settings.evaluation, settings.model],
            None if settings.after is None else self.digest_of(settings.after),
        ]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    def runs_of(self, names: Iterable[str]) -> list[str]:
        """List the runs of claims, each after the one that it starts from."""
        ordered: dict[str, None] = {}

        def add(run: str) -> None:
            earlier = self.runs[run].after
            if earlier is not None:
                add(earlier)
            ordered[run] = None

        for name in names:
            for run in self.claims[name].runs:
                add(run)
        return list(ordered)

    def data_of(self, runs: Iterable[str]) -> list[DataStep]:
        """List the data steps of runs, in the order of the file."""
        steps = {step.makes: step for step in self.data}
        needed: set[str] = set()

        def add(name: str) -> None:
            needed.add(name)
            for other in steps[name].needs:
                add(other)

        for run in runs:
            for name in self.runs[run].data:
                add(name)
        return [step for step in self.data if step.makes in needed]


def read_claims(path: Path = CLAIMS_FILE) -> Claims:
    """Read and check the claims.

    Args:
        path: The YAML file.

    Returns:
        The claims.

    Raises:
        RecipeError: A key or value is wrong, or a name stands for nothing.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    try:
        claims = TypeAdapter(Claims).validate_python({**content, "folder": path.resolve().parent})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise RecipeError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    made = [step.makes for step in claims.data]
    for number, step in enumerate(claims.data):
        _check_known(step.needs, made[:number], f"an earlier data step, which {step.makes} needs")
    for name, run in claims.runs.items():
        _check_known(run.data, made, f"a data step, which run {name} needs")
        _check_known([run.after] if run.after else [], [*claims.runs], f"a run, which run {name} follows")
    for name, claim in claims.claims.items():
        _check_known(claim.runs, [*claims.runs], f"a run, which claim {name} compares")
    return claims


def _check_known(names: Iterable[str], known: Sequence[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise RecipeError(f"Expected {what}, got {name}; known are {', '.join(known)}.")
