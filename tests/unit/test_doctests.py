"""The examples in the docstrings are what a reader tries first."""

from __future__ import annotations

import doctest
import importlib

import numpy as np
import pytest


@pytest.mark.parametrize("module", ["model", "denoiser", "stream", "frames"])
def test_the_examples_of_a_module_run(module: str) -> None:
    failed, tried = doctest.testmod(
        importlib.import_module(f"rtden.{module}"), extraglobs={"np": np}
    )
    assert tried > 0
    assert failed == 0
