"""Waiting for what is to happen, however slow and busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

LIMIT_SECONDS = 180.0
"""After which something hangs. No test measures time by it."""

Found = TypeVar("Found")


def until(condition: Callable[[], Found], complain: Callable[[], object] = str) -> Found:
    """Wait until a condition holds and return its value; AssertionError after the limit."""
    ends_at = time.monotonic() + LIMIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < ends_at, complain()
        time.sleep(0.02)
    return found
