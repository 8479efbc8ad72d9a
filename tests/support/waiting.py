"""Waiting for what is to happen, however slow and busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 180.0
"""After which something hangs. No test measures time by it."""

Found = TypeVar("Found")


def until(condition: Callable[[], Found], complain: Callable[[], object] = str) -> Found:
    """Wait until a condition holds and return its value; AssertionError after the limit.

    It is checked more and more rarely: some conditions start a program, or ask a browser.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited_seconds = time.monotonic() - began
        assert waited_seconds < LIMIT_SECONDS, complain()
        time.sleep(min(0.02 + waited_seconds / 8, 0.25))
    return found
