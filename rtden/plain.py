"""Figures for JSON."""

from __future__ import annotations

import math
from typing import Any


def for_json(value: Any, digits: int = 4) -> Any:
    """Return figures rounded; JSON has neither NaN nor infinity, and null stands for them."""
    if isinstance(value, dict):
        return {name: for_json(each, digits) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(each, digits) for each in value]
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
