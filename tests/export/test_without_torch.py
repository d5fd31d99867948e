"""Exported models run without torch, with the packages that docs/export.md lists and no others."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import mdetr
from mdetr import Mdetr
from mdetr.checkpoints.loading import load
from mdetr.export.exporting import export_model
from mdetr.export.layout import ExportFormat
from tests.export.conftest import Exported, Original
from tests.export.every_method import summary_of

ROOT = Path(__file__).parents[2]
DEMO = Path(mdetr.__file__).parent / "assets" / "demo" / "shapes.png"
CAPTION = "two purple metal balls and a red cube"
NEEDS_TORCH = "needs PyTorch, which is not installed; install it"

# Every finder of modules finds as before, but for the missing ones
WITHOUT = """
import json, sys

missing, *arguments = sys.argv[1:]
missing = set(json.loads(missing))

class Finder:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in missing else self.finder.find_spec(name, path, target)

sys.meta_path[:] = map(Finder, sys.meta_path)
"""
METHODS = (
    WITHOUT
    + """
from mdetr import Mdetr

tests, folder, picture = arguments
sys.path.append(tests)
from every_method import summary_of

print(json.dumps(summary_of(Mdetr.from_pretrained(folder), picture)))
"""
)
GROUND = (
    WITHOUT
    + """
from mdetr import Mdetr

folder, picture, caption = arguments
print(json.dumps(Mdetr.from_pretrained(folder).ground(picture, caption).to_dict()))
"""
)
IMPORTED = """
import sys
from mdetr import Mdetr
from mdetr.cli.main import main

tests, folder, picture, found = sys.argv[1:]
assert main(["ground", picture, "a red ball", "--threshold", "0", "--model", folder, "--json", found]) == 0
sys.path.append(tests)
from every_method import summary_of

summary_of(Mdetr.from_pretrained(folder), picture)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
SLOW_PACKAGES = {"torch", "torchvision", "transformers", "timm", "accelerate", "datasets", "pyarrow", "scipy"}
PROCESSOR = (
    WITHOUT
    + """
from mdetr import MdetrProcessor
from mdetr.errors import MissingDependencyError

folder, picture = arguments
processor = MdetrProcessor.from_pretrained(folder)
print(*processor(images=picture, text="a ball", return_tensors="np"))
for call in (
    lambda: processor(images=picture, text="a ball"),
    lambda: processor.tokenize(["a ball"]),
    lambda: processor.image_processor(picture),
):
    try:
        call()
    except MissingDependencyError as error:
        print(error)
"""
)
SERVER = WITHOUT + "import mdetr.server.serving, mdetr.server.worker, mdetr.server.predictor"
COMMAND = (
    WITHOUT
    + """
from mdetr.cli.main import main

sys.exit(main(arguments))
"""
)


def listed_packages() -> list[Requirement]:
    """The packages that docs/export.md lists for running without torch."""
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    section = page.partition("## Without PyTorch")[2]
    (line,) = [line for line in section.splitlines() if line.startswith("pip install numpy")]
    return [Requirement(word) for word in shlex.split(line)[2:]]


def missing_modules(*more: str) -> list[str]:
    """The modules that this environment has and the listed packages, with what they need, do not bring."""
    waiting = [package.name for package in listed_packages()] + list(more)
    brought = {"mdetr"}
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in brought:
            continue
        brought.add(name)
        try:
            needed = map(Requirement, requires(name) or ())
        except PackageNotFoundError:  # for another system
            continue
        waiting += [
            package.name
            for package in needed
            if package.marker is None or package.marker.evaluate({"extra": ""})
        ]
    modules = set()
    for module, distributions in packages_distributions().items():
        if module not in sys.stdlib_module_names and not brought & set(map(canonicalize_name, distributions)):
            modules.add(module)
    return sorted(modules)


def run(program: str, *arguments: object, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run a program where only the listed packages can be imported, and those of `more`."""
    missing = json.dumps(missing_modules(*more))
    line = [sys.executable, "-c", program, missing, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)


@pytest.mark.parametrize("export_format", ["onnx", "openvino"])
def test_every_method_gives_the_results_of_torch(
    export_format: str, exported: Exported, original: Original, images: list[Path]
) -> None:
    done = run(
        METHODS, Path(__file__).parent, exported(export_format, "fp32"), images[0], more=("onnxruntime",)
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    expected = summary_of(Mdetr(original.model, original.processor), str(images[0]))
    assert got.keys() == expected.keys()
    for method, values in expected.items():
        assert got[method]["phrases"] == values["phrases"], method
        assert got[method]["answer"] == values["answer"], method
        for name, tolerance in (("boxes", 0.05), ("scores", 1e-3), ("covered", 1e-2)):
            np.testing.assert_allclose(
                got[method][name], values[name], atol=tolerance, rtol=1e-4, err_msg=f"{method} {name}"
            )


@pytest.mark.parametrize("export_format", ["onnx", "openvino"])
def test_what_an_exported_model_does_not_need_is_not_imported(
    export_format: str, exported: Exported, images: list[Path], tmp_path: Path
) -> None:
    folder = exported(export_format, "fp32")
    line = [sys.executable, "-c", IMPORTED, Path(__file__).parent, folder, images[0], tmp_path / "found.json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.splitlines()[-1].split())
    assert {
        "mdetr",
        "numpy",
        "tokenizers",
        "onnxruntime" if export_format == "onnx" else "openvino",
    } <= imported
    assert not SLOW_PACKAGES & imported


def test_the_bundled_model_grounds_the_demo_and_the_command_draws_it(tmp_path: Path) -> None:
    folder = tmp_path / "exported"
    model, processor = load("clevr-tiny")
    export_model(model, processor, folder, ExportFormat.OPENVINO)

    # In Python
    done = run(GROUND, folder, DEMO, CAPTION)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    expected = Mdetr.from_pretrained("clevr-tiny").ground(DEMO, CAPTION).to_dict()
    assert len(expected["groundings"]) == 3
    for ours, theirs in zip(got["groundings"], expected["groundings"], strict=True):
        assert (ours["phrase"], ours["spans"]) == (theirs["phrase"], [list(span) for span in theirs["spans"]])
        np.testing.assert_allclose(ours["box"], theirs["box"], atol=0.05)
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-3)

    # On the command line
    picture, results = tmp_path / "found.png", tmp_path / "found.json"
    options = ("--model", folder, "--output", picture, "--json", results)
    done = run(COMMAND, "ground", DEMO, CAPTION, *options)
    assert done.returncode == 0, done.stderr
    assert picture.stat().st_size
    assert json.loads(results.read_text())["groundings"] == got["groundings"]


def test_the_processor_of_transformers_says_what_its_tensors_need(tiny_model_folder: Path) -> None:
    done = run(PROCESSOR, tiny_model_folder, DEMO, more=("transformers",))
    assert done.returncode == 0, done.stderr
    names, *messages = done.stdout.splitlines()
    assert names == "pixel_values pixel_mask input_ids attention_mask"
    assert len(messages) == 3 and all(NEEDS_TORCH in message for message in messages)


def test_a_folder_is_labeled_without_torch(exported: Exported, images: list[Path], tmp_path: Path) -> None:
    options = ("--classes", "ball, cube", "--threshold", 0, "--model", exported("openvino", "fp32"))
    arguments = ("label", images[0].parent, tmp_path / "labels", *options, "--to", "coco")
    done = run(COMMAND, *arguments, more=("jinja2", "pyarrow"))
    assert done.returncode == 0, done.stderr
    labels = json.loads((tmp_path / "labels" / "coco.json").read_text())
    assert len(labels["images"]) == 2 and labels["annotations"]


def test_an_exported_model_refuses_another_type_for_its_own_reason(exported: Exported) -> None:
    folder = exported("openvino", "fp32")
    done = run(COMMAND, "ground", DEMO, CAPTION, "--model", folder, "--dtype", "bfloat16")
    assert done.returncode == 1
    assert "An exported model has the precision of its export" in done.stderr


def test_the_server_is_imported_without_torch() -> None:
    done = run(SERVER, more=("fastapi", "litserve", "python-multipart"))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("ground", DEMO, CAPTION, "--model", "clevr-tiny"),
            "needs PyTorch, which is not installed; install it",
        ),
        (("ground", DEMO, CAPTION, "--device", "cuda"), "needs PyTorch, which is not installed; install it"),
        (("train", "clevr-tiny", "--dry-run"), "install all that mdetr needs: `pip install mdetr`"),
    ],
    ids=["a model of torch", "a GPU", "training"],
)
def test_what_needs_torch_says_so_in_a_sentence(
    arguments: tuple[object, ...], told: str, tmp_path: Path
) -> None:
    done = run(COMMAND, *arguments)
    assert done.returncode == 1
    assert told in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_listed_packages_are_dependencies_with_the_same_versions() -> None:
    listed = {canonicalize_name(package.name): package.specifier for package in listed_packages()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = [*project["dependencies"], *project["optional-dependencies"]["openvino"]]
    own = {canonicalize_name(r.name): r.specifier for r in map(Requirement, every)}
    assert not {"torch", "transformers"} & set(listed)
    for name, specifier in listed.items():
        assert name in own and (not str(specifier) or specifier == own[name]), name
