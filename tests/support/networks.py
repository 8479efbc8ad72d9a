"""Networks for tests of the signal path: anything with the methods of one may be injected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtden.model import ModelSpec


class MadeUpNetwork:
    """A network whose masks are a function of the frame's number, equal in all bands."""

    runtime, stateful, memory_columns = "made up", True, 1

    def __init__(self, spec: ModelSpec, mask: Callable[[np.ndarray], np.ndarray]) -> None:
        self.spec, self._mask, self.calls = spec, mask, 0
        self.reset()

    def infer(self, columns: np.ndarray) -> np.ndarray:
        self.calls += 1
        new = columns.shape[1]
        frames = np.arange(self.frames, self.frames + new)
        self.frames += new
        masks = self._mask(frames).astype(np.float32)
        return np.broadcast_to(masks, (self.spec.n_mels, new))

    def reset(self) -> None:
        self.frames = 0
