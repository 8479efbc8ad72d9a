"""Figures for JSON."""

from __future__ import annotations

import dataclasses
import math
from typing import Any


class Figures:
    """A dataclass of figures; its properties are figures, too."""

    def to_dict(self) -> dict[str, Any]:
        """Return all figures by name, for JSON: rounded, and None where one is not finite."""
        properties = [name for name, of in vars(type(self)).items() if isinstance(of, property)]
        names = *vars(self), *properties
        return {name: for_json(getattr(self, name)) for name in names}


def for_json(value: Any, digits: int = 6) -> Any:
    """Return figures rounded; JSON has neither NaN nor infinity, and null stands for them."""
    if dataclasses.is_dataclass(value):
        value = vars(value)
    if isinstance(value, dict):
        return {name: for_json(each, digits) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [for_json(each, digits) for each in value]
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value
