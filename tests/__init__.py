"""Tests of mdetr; their folders mirror those of the package."""

from beartype import BeartypeConf, beartype

check_types = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""Checks the arguments and results of annotated functions; an int passes for a float, as in PEP 484."""
