"""Reading, checking and writing of recipes as YAML."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import yaml

from mdetr.errors import RecipeError
from mdetr.training.shipped import find_recipe

if TYPE_CHECKING:
    from pydantic import ValidationError

    from mdetr.training.recipe import Recipe

_LOG = logging.getLogger(__name__)
OLD_NAMES = {"optimiser": "optimizer"}  # of sections; they go with version 0.2
JSON_LINES = ".jsonl"  # what the names of such files end in


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a YAML file, or a name of `mdetr recipes`.
        changes: "key.in.recipe=value" entries that replace its values; values are YAML.
            "data=FILE" stands for all its stores, "model=FOLDER" for model.start_from.

    Raises:
        RecipeError: the file is missing or no YAML, a key is unknown, a value is of the wrong kind.
    """
    file = find_recipe(path)
    try:
        content = yaml.load(file.read_text(encoding="utf-8-sig"), _EachKeyOnce)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"{file} should hold keys such as data and optimizer; found {type(content).__name__}."
        )
    content = _with_field_names(content, str(file))
    changed = [_apply(content, change) for change in changes]
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        # A run has one length, so that the one given here replaces the file's.
        if f"optimizer.{length}" in changed and f"optimizer.{other}" not in changed:
            settings = content["optimizer"]
            if settings[length] is not None:
                settings.pop(other, None)
    return parse_recipe(content, str(file))


def parse_recipe(content: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Nested dictionaries in, a checked recipe out; `where` is named in errors.

    Raises:
        RecipeError: a key is unknown or missing, or a value is of the wrong kind.
    """
    # Importing the settings imports their components, and with them torch: only a file that is valid YAML is
    # worth it
    from pydantic import TypeAdapter, ValidationError

    from mdetr.training.recipe import Recipe

    content = _with_field_names(content, where)
    try:
        recipe = TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from None
    _check_names(recipe, where)
    return recipe


def check_files(recipe: Recipe, training: bool = True) -> None:
    """See that every store that the recipe names is there, before anything starts.

    Args:
        recipe: what is to be run. training: whether its training stores are needed too.

    Raises:
        RecipeError: some are missing; all of them are listed.
    """
    stores = [entry.store for entry in recipe.data.train] if training else []
    stores += [entry.store for entry in recipe.data.validation.values()]
    files = [entry.classes for entry in recipe.data.validation.values() if entry.classes is not None]
    lines = [store for store in stores if is_json_lines(store)]
    folders = [store for store in stores if store not in lines]
    missing = [path for path in (*lines, *files) if not path.is_file()]
    if missing:
        raise RecipeError(
            f"There is no file {_listed(missing)}; check the path, or name another with --set data=PATH."
        )
    missing = [path for path in folders if not path.exists()]
    if missing:
        raise RecipeError(
            f"There is no store {_listed(missing)}; make it with 'mdetr data import', or name a store or a "
            f"{JSON_LINES} file with --set data=PATH."
        )
    unknown = [path for path in folders if path.is_file()]
    if unknown:
        raise RecipeError(
            f"{_listed(unknown)} is neither a store nor a {JSON_LINES} file; make a store of it with "
            "'mdetr data import', or write a JSON object on each line (docs/data.md)."
        )


def is_json_lines(path: Path) -> bool:
    """Whether a path that a recipe names as a store is a JSON Lines file, of which a store is made."""
    return path.suffix.lower() == JSON_LINES and not path.is_dir()


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(map(str, paths)))


def to_yaml(recipe: Recipe) -> str:
    """The recipe with all defaults filled in, as YAML."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(item) for item in value]
        return str(value) if isinstance(value, Path) else value

    return yaml.safe_dump(plain(asdict(recipe)), sort_keys=False)  # type: ignore[call-overload]


class _EachKeyOnce(yaml.SafeLoader):
    """YAML of which a key that is there twice is an error; PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value} is there twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _with_field_names(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The content of a recipe with `OLD_NAMES` of its sections replaced."""
    for old, name in OLD_NAMES.items():
        if old in content and name in content:
            raise RecipeError(f"{where}: {old} and {name} are the same section; keep one.")
    return {_new_name(name, where): value for name, value in content.items()}


def _new_name(section: str, where: str) -> str:
    """The name that a section has now, with a notice where an old one was used."""
    if section not in OLD_NAMES:
        return section
    _LOG.warning(
        "%s: write %s instead of %s, which goes with version 0.2.", where, OLD_NAMES[section], section
    )
    return OLD_NAMES[section]


def _apply(content: dict[str, Any], change: str) -> str:
    """Make a change, and tell its key."""
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set wants key=value, as in optimizer.lr=1e-4; found {change!r}.")
    section, *rest = key.split(".")
    key = ".".join([_new_name(section, "--set"), *rest])
    *parents, last = key.split(".")
    if key in ("data", "model") and not value.lstrip().startswith("{"):
        _name(content, key, value)
        return key
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise RecipeError(f"--set {key}: {value!r} is not valid YAML.") from None
    place: Any = content
    try:
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
        place[int(last) if isinstance(place, list) else last] = parsed
    except (IndexError, TypeError, ValueError):
        raise RecipeError(f"--set {key}: the recipe has no such place.") from None
    return key


def _name(content: dict[str, Any], key: str, value: str) -> None:
    """`data=FILE` names what is trained on and evaluated, `model=FOLDER` what is started from."""
    value = os.path.expanduser(value)  # a shell leaves the ~ of key=~/path alone
    if key == "model":
        content.setdefault("model", {})["start_from"] = value
        return
    data = content.setdefault("data", {})
    data["train"] = [{"store": value}]
    for entry in data.get("validation", {}).values():
        entry["store"] = value


def _check_names(recipe: Recipe, where: str) -> None:
    from mdetr.evaluation.metrics.registry import TASKS
    from mdetr.model.config import MdetrConfig

    known = MdetrConfig.names()
    for name in recipe.model.config if recipe.model.baseline is None else ():
        if name not in known:
            raise RecipeError(f"{where}: unknown key model.config.{name}{_near(name, sorted(known))}.")
    for name, entry in recipe.data.validation.items():
        for task in entry.tasks:
            if task not in TASKS:
                place = f"data.validation.{name}.tasks"
                raise RecipeError(f"{where}: unknown task {task!r} in {place}{_near(task, TASKS)}.")
    stopping = recipe.run.early_stopping
    if stopping is not None and not any(
        stopping.score.startswith(f"{name}_") for name in recipe.data.validation
    ):
        raise RecipeError(
            f"{where}: run.early_stopping.score should begin with the name of a validation store "
            f"({', '.join(recipe.data.validation) or 'there is none'}); found {stopping.score!r}."
        )
    brought = {"text_weights": None, "backbone_weights": None, "tokenizer": "roberta"}
    given = [name for name, value in brought.items() if getattr(recipe.model, name) != value]
    if recipe.model.start_from is not None and given:
        raise RecipeError(
            f"{where}: the model of model.start_from brings its own; leave out model.{given[0]}."
        )
    if (recipe.optimizer.epochs is None) == (recipe.optimizer.steps is None):
        raise RecipeError(f"{where}: give either optimizer.epochs or optimizer.steps.")


def _explain(error: ValidationError) -> str:
    """The first of pydantic's complaints, in one sentence."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"] if not _is_type_name(part))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        *parents, name = [part for part in first["loc"] if not _is_type_name(part)]
        return f"unknown key {place}{_near(str(name), _known_keys(parents))}."
    if first["type"] in ("missing", "missing_argument"):
        return f"the key {place} is missing."
    return f"{place}: {first['msg']}, found {first['input']!r}."


def _is_type_name(part: Any) -> bool:
    """pydantic names the member of a union among the keys: FixedSizeAugmentation, literal[...]."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part)


def _known_keys(parents: Sequence[Any]) -> list[str]:
    from mdetr.training.recipe import Recipe

    kind: Any = Recipe
    for parent in parents:
        if isinstance(parent, str) and is_dataclass(kind) and parent in _fields(kind):
            kind = _dataclass_in(_fields(kind)[parent].annotation)
    return sorted(_fields(kind)) if is_dataclass(kind) else []


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind.__pydantic_fields__)


def _dataclass_in(annotation: Any) -> Any:
    """The settings class that an annotation such as `list[TrainStore]` or `EmaSettings | None` names."""
    if is_dataclass(annotation):
        return annotation
    return next((found for item in get_args(annotation) if (found := _dataclass_in(item))), None)


def _near(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=2)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(known)})" if known else ""
