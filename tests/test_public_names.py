"""Tests of the names that users import, and of what `import mdetr` makes possible."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import mdetr

LOAD = """
import sys
{imports}
from transformers import AutoConfig, AutoModel, AutoModelForZeroShotObjectDetection, AutoProcessor

folder = sys.argv[1]
print(type(AutoConfig.from_pretrained(folder)).__name__)
print(type(AutoModel.from_pretrained(folder)).__name__)
print(type(AutoModelForZeroShotObjectDetection.from_pretrained(folder)).__name__)
print(type(AutoProcessor.from_pretrained(folder)).__name__)
"""


@pytest.mark.parametrize("name", mdetr.__all__)
def test_public_name_can_be_imported(name: str) -> None:
    assert getattr(mdetr, name) is not None
    assert name in dir(mdetr)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="MdetrMadel"):
        _ = mdetr.MdetrMadel


def test_version_is_that_of_the_installed_package() -> None:
    assert mdetr.__version__ == version("mdetr")


def test_package_tells_type_checkers_that_it_is_typed() -> None:
    assert (Path(mdetr.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(
    "imports",
    [
        "import mdetr",
        "from transformers import AutoModel, AutoProcessor\nimport mdetr",
        # which imports AutoModel before it is whole
        "import mdetr\nimport transformers.models.bert.modeling_bert",
    ],
    ids=["before", "after", "between"],
)
def test_auto_classes_load_a_saved_model_after_importing_mdetr(imports: str, tiny_model_folder: Path) -> None:
    program = LOAD.format(imports=imports)
    run = subprocess.run(
        [sys.executable, "-c", program, str(tiny_model_folder)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["MdetrConfig", "MdetrModel", "MdetrForObjectDetection", "MdetrProcessor"]


def test_importing_mdetr_leaves_the_parts_that_only_some_need() -> None:
    names = (
        "{'gradio', 'mujoco', 'pyarrow', 'supervision', 'faster_coco_eval', 'tensorboard', 'mdetr.training'}"
    )
    code = f"import sys; import mdetr; print(*sorted({names} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_auto_class_of_image_processors_knows_ours(tiny_model_folder: Path) -> None:
    program = """
import sys, mdetr
from transformers import AutoImageProcessor

print(type(AutoImageProcessor.from_pretrained(sys.argv[1])).__name__)
"""
    run = subprocess.run(
        [sys.executable, "-c", program, str(tiny_model_folder)], capture_output=True, text=True, check=False
    )
    assert run.stdout.split() == ["MdetrImageProcessor"], run.stderr
