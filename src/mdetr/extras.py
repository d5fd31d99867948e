"""How to install the optional packages, for messages."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec

_OF_EXTRA = re.compile(r"([^;]+);.*extra == ['\"](.+)['\"]")


def install_command(extra: str) -> str:
    """Return the command that installs the packages of an extra.

    Where torch is not installed, because only exported models run there, the command names the packages
    alone: the extra would install torch, too.

    Args:
        extra: Name of the extra.

    Returns:
        The command in backticks.
    """
    with_all = f"`pip install 'mdetr[{extra}]'`"
    if find_spec("torch") is not None:
        return with_all
    try:
        declared = requires("mdetr") or []
    except PackageNotFoundError:  # run from its source
        return with_all
    matches = [match for match in map(_OF_EXTRA.match, declared) if match is not None]
    packages = [match[1].strip() for match in matches if match[2] == extra]
    return f"`pip install {' '.join(map(repr, packages))}`" if packages else with_all
