"""The examples in the docstrings of corefile and analysis give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import stillframe.analysis
import stillframe.corefile

MODULES = [
    f"{package.__name__}.{module.name}"
    for package in (stillframe.corefile, stillframe.analysis)
    for module in pkgutil.iter_modules(package.__path__)
    if module.name != "__main__"
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples() -> None:
    modules = map(importlib.import_module, MODULES)
    assert sum(doctest.testmod(module).attempted for module in modules) > 12
