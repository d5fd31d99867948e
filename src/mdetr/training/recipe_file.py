"""Finding, reading, checking and writing of recipe files.

The settings are imported when a file has been read, since they import their components, and with them torch.
"""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from reprlib import Repr
from typing import TYPE_CHECKING, Any, get_args

import yaml

from mdetr.errors import InvalidInputError, RecipeError
from mdetr.files import is_file, parse_yaml

if TYPE_CHECKING:
    from pydantic import ValidationError

    from mdetr.training.recipe import Recipe

_LOG = logging.getLogger(__name__)
FOLDER = Path(__file__).parents[1] / "recipes"
OLD_NAMES = {"optimiser": "optimizer"}  # of sections; to be removed in version 0.2
JSON_LINES = ".jsonl"
_OWN_PARTS = {"text_weights": None, "backbone_weights": None, "tokenizer": "roberta"}
"""Settings of a new model, which a model to start from comes with -> their defaults."""


def recipe_names() -> list[str]:
    """Return the sorted names of the recipes in the package."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def shipped_recipe(name: str) -> Path:
    """Find a recipe in the package.

    Args:
        name: Name of the recipe, such as "finetune".

    Returns:
        The path of its file.

    Raises:
        RecipeError: No recipe has this name.
    """
    if name not in recipe_names():
        near = get_close_matches(Path(name).stem[:80], recipe_names(), n=1)
        hint = f"did you mean {near[0]}?" if near else "list the names with 'mdetr recipes'."
        raise RecipeError(f"There is no recipe {name[:200]}: {hint}")
    return FOLDER / f"{name}.yaml"


def describe_recipe(name: str) -> str:
    """Return the one-line description of a recipe in the package, which is the first comment of its file."""
    return shipped_recipe(name).read_text("utf-8").partition("\n")[0].removeprefix("#").strip()


def find_recipe(recipe: str | Path) -> Path:
    """Find the file of a recipe.

    Args:
        recipe: A path, or a name of `mdetr recipes`. If there is no file recipes/NAME.yaml, where earlier
            versions of the repository had them, that path means NAME.

    Returns:
        The path of the file.

    Raises:
        RecipeError: There is no such file or name.
    """
    file = Path(recipe)
    return file if is_file(file) else shipped_recipe(_name_of(str(recipe)))


def find_recipes(patterns: Sequence[str | Path]) -> list[Path]:
    """Find the files of several recipes.

    Args:
        patterns: Paths, names, or patterns of names, such as "lvis-*".

    Returns:
        The paths of the files, in the order of the patterns.

    Raises:
        RecipeError: A pattern matches nothing.
    """
    paths: list[Path] = []
    for pattern in patterns:
        names: list[str] = []
        if not is_file(Path(pattern)):
            names = fnmatch.filter(recipe_names(), _name_of(str(pattern)))
        paths += map(shipped_recipe, names) if names else [find_recipe(pattern)]
    return paths


def _name_of(recipe: str) -> str:
    file = Path(recipe)
    is_former_path = file.parent.name == FOLDER.name and file.suffix == ".yaml"
    return file.stem if is_former_path else recipe


def load_recipe(path: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        path: A YAML file, or a name of `mdetr recipes`.
        changes: Entries "section.key=value" that replace values of the file; values are YAML. "data=FILE"
            sets all stores, "model=FOLDER" sets model.start_from, whose model comes with its own tokenizer
            and weights.

    Returns:
        The settings.

    Raises:
        RecipeError: The file is missing or is not YAML, a key is unknown, or a value is invalid.
    """
    # Read the file
    file = find_recipe(path)
    try:
        content = parse_yaml(file.read_text(encoding="utf-8-sig"), _UniqueKeyLoader)
    except OSError as error:
        raise RecipeError(f"{file} cannot be read ({error.strerror}); check its permissions.") from None
    except (InvalidInputError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file} is not valid YAML: {error}.") from None
    if not isinstance(content, dict):
        raise RecipeError(
            f"{file}: expected keys such as data and optimizer, got a {type(content).__name__}; start from a "
            "recipe of 'mdetr recipes'."
        )
    content = _with_current_names(content, str(file))

    # Apply the changes; a length given here replaces the file's, since a run has only one
    changed = [_apply(content, change) for change in changes]
    for length, other in (("steps", "epochs"), ("epochs", "steps")):
        if f"optimizer.{length}" in changed and f"optimizer.{other}" not in changed:
            settings = content["optimizer"]
            if isinstance(settings, dict) and settings[length] is not None:
                settings.pop(other, None)
    return parse_recipe(content, str(file))


def parse_recipe(content: Mapping[str, Any], where: str = "the recipe") -> Recipe:
    """Check nested dictionaries and convert them to a recipe.

    Args:
        content: Section -> key -> value.
        where: Name of the recipe in errors.

    Returns:
        The settings.

    Raises:
        RecipeError: A key is unknown or missing, or a value is invalid.
    """
    from pydantic import TypeAdapter, ValidationError

    from mdetr.training.recipe import Recipe

    content = _with_current_names(content, where)
    try:
        recipe = TypeAdapter(Recipe).validate_python(content)
    except ValidationError as error:
        raise RecipeError(f"{where}: {_explain(error)}") from None
    _check_names(recipe, where)
    _check_combinations(recipe, where)
    return recipe


def to_yaml(recipe: Recipe) -> str:
    """Format a recipe with all defaults as YAML."""
    return yaml.safe_dump(_plain(asdict(recipe)), sort_keys=False)  # type: ignore[call-overload]


def _plain(value: Any) -> Any:
    """Convert a value to types that YAML has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def check_files(recipe: Recipe, training: bool = True) -> None:
    """Check that every store and file of a recipe exists, before anything starts.

    Args:
        recipe: Settings of the run.
        training: Check the training stores too.

    Raises:
        RecipeError: Some are missing or have a wrong type; the message lists all of them.
    """
    # Collect the paths that are missing or have a wrong type
    missing_files: list[Path] = []
    missing_stores: list[Path] = []
    other_files: list[Path] = []
    stores = [entry.store for entry in recipe.data.train] if training else []
    stores += [entry.store for entry in recipe.data.validation.values()]
    for path in stores:
        if is_json_lines(path):
            missing_files += [] if path.is_file() else [path]
        elif path.is_file():
            other_files.append(path)
        elif not path.exists():
            missing_stores.append(path)
    for validation in recipe.data.validation.values():
        if validation.classes is not None and not validation.classes.is_file():
            missing_files.append(validation.classes)

    # Report one kind at a time
    if missing_files:
        raise RecipeError(
            f"There is no file {_listed(missing_files)}; check the path, or name another with "
            "--set data=PATH."
        )
    if missing_stores:
        raise RecipeError(
            f"There is no store {_listed(missing_stores)}; make it with 'mdetr data import', or name a store "
            f"or a {JSON_LINES} file with --set data=PATH."
        )
    if other_files:
        raise RecipeError(
            f"Expected a store or a {JSON_LINES} file, got {_listed(other_files)}; convert it with "
            "'mdetr data import', or write a JSON object on each line (docs/data.md)."
        )


def is_json_lines(path: Path) -> bool:
    """Return whether a path given as a store is a JSON Lines file, which is converted to a store."""
    return path.suffix.lower() == JSON_LINES and not path.is_dir()


def _listed(paths: Sequence[Path]) -> str:
    return ", ".join(dict.fromkeys(map(str, paths)))


class _UniqueKeyLoader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys, of which PyYAML takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[Any] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"duplicate key {key.value}", problem_mark=key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep)


def _with_current_names(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Replace the `OLD_NAMES` of sections."""
    for old, name in OLD_NAMES.items():
        if old in content and name in content:
            raise RecipeError(f"{where}: {old} and {name} are the same section; keep one.")
    return {_current_name(name, where): value for name, value in content.items()}


def _current_name(section: str, where: str) -> str:
    """Return the current name of a section, and log a notice if the name is an old one."""
    if section not in OLD_NAMES:
        return section
    _LOG.warning(
        "%s: write %s instead of %s, which will be removed in version 0.2.",
        where,
        OLD_NAMES[section],
        section,
    )
    return OLD_NAMES[section]


def _apply(content: dict[str, Any], change: str) -> str:
    """Apply a change to the content, and return its key."""
    # Split it into key and value
    key, separator, value = change.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set: expected key=value, such as optimizer.lr=1e-4, got {change!r}.")
    section, *rest = key.split(".")
    key = ".".join([_current_name(section, "--set"), *rest])
    if key in ("data", "model") and not value.lstrip().startswith("{"):
        _set_source(content, key, value)
        return key
    try:
        parsed = parse_yaml(value, yaml.SafeLoader)
    except InvalidInputError:
        raise RecipeError(f"--set {key}: {value!r:.80} is not valid YAML; quote it.") from None

    # Walk to the section, list or dictionary that holds the key
    *parents, last = key.split(".")
    parent: Any = content
    try:
        for name in parents:
            parent = parent.setdefault(name, {}) if isinstance(parent, dict) else parent[int(name)]
        parent[int(last) if isinstance(parent, list) else last] = parsed
    except (IndexError, TypeError, ValueError):
        raise RecipeError(f"--set {key}: the recipe has no such key; list them with --dry-run.") from None
    return key


def _set_source(content: dict[str, Any], key: str, value: str) -> None:
    """Set the data to train and evaluate on (`data=FILE`), or the model to start from (`model=FOLDER`)."""
    value = os.path.expanduser(value)  # a shell does not expand the ~ of key=~/path
    section = content.get(key) or {}
    validation = section.get("validation") or {} if isinstance(section, dict) else None
    if not isinstance(validation, dict) or not all(isinstance(entry, dict) for entry in validation.values()):
        raise RecipeError(
            f"--set {key}: the recipe's section {key} is not one of keys with values; correct it."
        )
    content[key] = section
    if key == "model":
        section["start_from"] = value
        for part in _OWN_PARTS:
            section.pop(part, None)
        return
    section["train"] = [{"store": value}]
    for entry in validation.values():
        entry["store"] = value


def _check_names(recipe: Recipe, where: str) -> None:
    """Check the names of the model's fields and of tasks."""
    from mdetr.evaluation.metrics.registry import TASKS
    from mdetr.model.config import MdetrConfig

    known = MdetrConfig.names()
    for name in recipe.model.config if recipe.model.baseline is None else ():
        if name not in known:
            raise RecipeError(f"{where}: unknown key model.config.{name}{_hint(name, sorted(known))}.")
    for name, entry in recipe.data.validation.items():
        for task in entry.tasks:
            if task not in TASKS:
                key = f"data.validation.{name}.tasks"
                raise RecipeError(f"{where}: unknown task {task!r} in {key}{_hint(task, TASKS)}.")


def _check_combinations(recipe: Recipe, where: str) -> None:
    """Check settings that depend on each other."""
    # The scores of a validation store start with its name
    stopping, stores = recipe.run.early_stopping, recipe.data.validation
    if stopping is not None and not stopping.score.startswith(tuple(f"{name}_" for name in stores)):
        raise RecipeError(
            f"{where}: run.early_stopping.score: expected a name that starts with that of a validation store "
            f"({', '.join(stores) or 'there is none'}), got {stopping.score!r}."
        )

    # A model to start from has its own parts
    for name, default in _OWN_PARTS.items():
        if recipe.model.start_from is not None and getattr(recipe.model, name) != default:
            raise RecipeError(
                f"{where}: the model of model.start_from comes with its own; leave out model.{name}."
            )

    # A text about one image may be wrong about four
    if recipe.data.mosaic and not recipe.data.compose_texts:
        raise RecipeError(f"{where}: data.mosaic needs data.compose_texts: true.")

    # A run has one length
    lengths = (recipe.optimizer.epochs, recipe.optimizer.steps)
    if lengths.count(None) != 1:
        number = "both" if None not in lengths else "neither"
        raise RecipeError(f"{where}: expected either optimizer.epochs or optimizer.steps, got {number}.")


def _explain(error: ValidationError) -> str:
    """Describe the first error of pydantic in one sentence."""
    # Find the keys that lead to the value
    first = error.errors(include_url=False)[0]
    keys = [part for part in first["loc"] if not _is_type_name(part)]
    path = ".".join(map(str, keys))

    # Describe the error; an unknown key may look like the name of a type
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        *parents, name = first["loc"]
        parents = [part for part in parents if not _is_type_name(part)]
        path = ".".join(map(str, (*parents, name)))
        return f"unknown key {path}{_hint(str(name), _known_keys(parents))}."
    if first["type"] in ("missing", "missing_argument"):
        return f"the key {path} is missing."
    return f"{path}: {first['msg']}, got {_shown(first['input'])}."


def _shown(value: Any) -> str:
    """Format a value for a message, which shows the beginning of a long one."""
    shown = Repr()
    shown.maxstring = shown.maxother = 80
    return f"{shown.repr(value):.200}"


def _is_type_name(part: Any) -> bool:
    """Return whether a part of pydantic's path is a type and no key: FixedSizeAugmentation, literal[...]."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part)


def _known_keys(parents: Sequence[Any]) -> list[str]:
    """Return the keys of the section that a path of keys leads to."""
    from mdetr.training.recipe import Recipe

    kind: Any = Recipe
    for parent in parents:
        if isinstance(parent, str) and is_dataclass(kind) and parent in _fields(kind):
            kind = _settings_class(_fields(kind)[parent].annotation)
    return sorted(_fields(kind)) if is_dataclass(kind) else []


def _fields(kind: Any) -> dict[str, Any]:
    return dict(kind.__pydantic_fields__)


def _settings_class(annotation: Any) -> Any:
    """Return the settings class in an annotation such as `list[TrainStore]` or `EmaSettings | None`."""
    if is_dataclass(annotation):
        return annotation
    for argument in get_args(annotation):
        kind = _settings_class(argument)
        if kind is not None:
            return kind
    return None


def _hint(name: str, known: Sequence[str]) -> str:
    """Name the known names closest to a wrong one, or all of them."""
    close = get_close_matches(name, known, n=2)
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    return f" (known: {', '.join(known)})" if known else ""
