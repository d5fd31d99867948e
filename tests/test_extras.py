"""Commands that install optional packages: with torch by the extra, without torch the packages alone."""

from __future__ import annotations

import pytest

from mdetr import extras
from mdetr.extras import install_command


def test_the_extra_is_named_where_torch_is_installed() -> None:
    assert install_command("openvino") == "`pip install 'mdetr[openvino]'`"


def test_only_the_packages_are_named_where_torch_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        extras, "find_spec", lambda name: None if name == "torch" else importlib.util.find_spec(name)
    )
    command = install_command("serve")
    assert "fastapi" in command and "litserve" in command and "mdetr" not in command
    assert install_command("nothing") == "`pip install 'mdetr[nothing]'`"
