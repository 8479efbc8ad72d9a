"""Skipping the network in silence: when the input is silent, and the columns that stay pending.

Skipping changes no later sample: a stateful network still takes every column, later and several in
one call, and its masks afterwards are the same to the bit.
"""

from __future__ import annotations

import numpy as np

from rtden.autoencoder import Network
from rtden.model import ModelSpec
from rtden.types import Array

SILENCE_DB = -80.0
"""Input whose peaks stay below this, in dB of full scale, is silence."""
SILENCE = 10.0 ** (SILENCE_DB / 20.0)
PENDING_STEPS = 4
"""Steps of silence that a stateful network takes in one call. More would be a little cheaper, but
the step that makes the call, or the first step after silence, would take longer than two others."""


class SilenceDetector:
    """Says for each step whether everything that the network and the inverter hold is silence.

    Parameters
    ----------
    needed_samples : int
        Silence has to last as long; it is counted in whole steps, so that the answer does not
        depend on how the stream is cut.
    """

    def __init__(self, needed_samples: int) -> None:
        self.needed_samples: float = needed_samples
        self._silent_samples = 0

    def reset(self) -> None:
        """Forget the stream."""
        self._silent_samples = 0

    def push(self, samples: Array) -> bool:
        """Take in the new samples of a step; return whether it is a silent one."""
        count = len(samples)
        # The mean square is below the square of the peak, and cheaper.
        silent = float(np.dot(samples, samples)) < SILENCE**2 * count and (
            max(float(samples.max()), -float(samples.min())) < SILENCE
        )
        self._silent_samples = self._silent_samples + count if silent else 0
        return self._silent_samples >= self.needed_samples


class PendingColumns:
    """Columns that a stateful network has not taken yet because nobody needed its mask.

    Parameters
    ----------
    spec : ModelSpec
    step_columns : int
        Columns of a step.
    steps : int
        Steps that the network takes in one call.
    """

    def __init__(self, spec: ModelSpec, step_columns: int, steps: int) -> None:
        self._step, self._count = step_columns, 0
        self._step_frames = step_columns * spec.frames_per_column
        shape = (spec.n_mels, steps * step_columns, spec.input_channels)
        self._columns = np.empty(shape, np.float32)
        self._newest = np.empty((spec.n_mels, spec.input_channels), np.float32)
        self._equal_columns = 0

    def reset(self) -> None:
        """Forget the stream."""
        self._count = self._equal_columns = 0

    def hold(self, columns: Array, network: Network) -> None:
        """Take in the columns of a silent step, shape (n_mels, step_columns, input_channels)."""
        if self._settled(columns, network.memory_columns):
            return
        end = self._count + self._step
        self._columns[:, self._count : end] = columns
        self._count = end
        if end == self._columns.shape[1]:
            network.infer(self._columns)
            self._count = 0

    def _settled(self, columns: Array, memory_columns: int) -> bool:
        """Return whether columns leave the network's state as it is.

        They do where they equal all on which the state depends, as in digital silence.
        """
        if self._equal_columns and (columns == self._newest[:, None]).all():
            self._equal_columns += self._step
            return self._equal_columns > memory_columns + self._step
        self._newest[...] = columns[:, -1]
        self._equal_columns = int((columns == self._newest[:, None]).all())
        return False

    def flush(self, network: Network) -> None:
        """Let the network take what is pending."""
        for start in range(0, self._count, self._step):
            network.infer(self._columns[:, start : start + self._step])
        self._count = self._equal_columns = 0

    def infer(self, columns: Array, network: Network) -> Array:
        """Return the mask of a step's columns, after what is pending, shape (n_mels, frames)."""
        end = self._count + self._step
        if end == self._columns.shape[1]:
            self._columns[:, self._count :] = columns
            self._count = self._equal_columns = 0
            return network.infer(self._columns)[:, -self._step_frames :]
        self.flush(network)
        return network.infer(columns)
