"""What a training step asks of the GPU that a CUDA graph cannot hold.

python gpu_step.py
"""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import torch
from gpu import DEVICE, BatchMaker, Steps, keep_constants
from torch.utils._python_dispatch import TorchDispatchMode

from rtden.model import load_spec
from rtden.training import batches
from rtden.training.recipe import Recipe

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")
"""Operations whose result the processor waits for, or whose shape depends on values."""
RECIPE = Recipe(
    precision="float32", mixtures=2, seconds=1.5, pesq=0.1, stoi=0.1, distortion=0.1, p808=0.1
)


class Operations(TorchDispatchMode):  # type: ignore[misc]
    """Counts operations, and keeps the names of those that a graph cannot hold."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.refused = 0, set[str]()

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += 1
        name = func._schema.name.removeprefix("aten::")
        # A new constant, "lift_fresh", is copied from the processor's memory.
        if name in (*WAITS, "lift_fresh"):
            self.refused.add(name)
        return func(*args, **(kwargs or {}))


def operations() -> dict[str, Any]:
    """Return the number of operations of a step, and what a graph cannot hold."""
    spec = load_spec(None)
    steps = Steps(spec, dataclasses.replace(RECIPE, dnsmos=0.1), None)
    shape = RECIPE.mixtures, batches.mixture_samples(spec, RECIPE.seconds)
    clean = torch.randn(shape, device=DEVICE, generator=torch.Generator(DEVICE).manual_seed(0))
    levels, ends_hz = (torch.full(shape[:1], value, device=DEVICE) for value in (1.0, 11000.0))
    batch = BatchMaker(spec).finish(0.1 * clean, 0.2 * clean, levels, ends_hz, [512] * shape[0])
    for costly in (False, True):  # the first step makes what is kept
        steps.gradients(*batch, costly=costly)
    with Operations() as counted:
        for costly in (False, True):
            steps.gradients(*batch, costly=costly)
    return {"count": counted.count, "refused": sorted(counted.refused)}


if __name__ == "__main__":
    keep_constants()
    sys.stdout.write(json.dumps(operations()))
