"""Gains of the mel bands, from the network's masks; and the mix of denoised sound and input.

In silence the network is skipped. That changes no later sample: a stateful network takes the
skipped columns before the next sound, and its masks are then the same to the bit.
"""

from __future__ import annotations

import numpy as np

from rtden.autoencoder import Network
from rtden.geometry import Geometry
from rtden.model import ModelSpec
from rtden.types import Array

SILENCE_DB = -80.0
"""Input whose peaks stay below this, in dB of full scale, is silence."""
SILENCE = 10.0 ** (SILENCE_DB / 20.0)
OTHERS_WEIGHT = 0.2
"""Weight of a second estimate of the masks. From 0.15 to 0.25 PESQ-WB rises and DNSMOS falls."""


class SilenceDetector:
    """Finds the steps at which the network and the inverter hold nothing but silence.

    The silence has lasted for `needed_samples` then. It is counted in whole steps, so that the
    result does not depend on how the stream is cut into blocks.
    """

    def __init__(self, needed_samples: int) -> None:
        self.needed_samples: float = needed_samples
        self.reset()

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


class BandGains:
    """The gains of a block's frames, and the columns that the network has not taken yet.

    In silence the mask is not needed: the columns for a stateful network stay pending, until there
    are as many as in the largest block. `values`, shape (frames, n_mels), are the linear gains of
    the newest block's frames; `floor`, the smallest gain, may be set at any time.
    """

    def __init__(self, spec: ModelSpec, sizes: Geometry, floor: float) -> None:
        self.floor, self._sizes = floor, sizes
        self._block = np.empty((sizes.most_frames, spec.n_mels), np.float32)
        shape = (spec.n_mels, sizes.most_frames, len(spec.channels))
        self._pending = np.empty(shape, np.float32)
        self._last_column = np.empty((spec.n_mels, 1, len(spec.channels)), np.float32)
        self._none = np.empty((0, spec.n_mels), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self.values = self._block[:1]
        self.values[...] = 1.0
        self.expected = self._others = self._none
        self._count = self._equal_count = 0

    def expect(self, masks: Array) -> None:
        """Take in a second estimate of the masks of frames to come, shape (frames, n_mels).

        The next call continues where this one ends. The estimate is mixed with the network's.
        """
        self.expected = np.concatenate([self.expected, masks])

    def begin(self, columns: Array, steps: int) -> None:
        """Begin a block of steps; `columns` are what the network reads in them."""
        frames = steps * self._sizes.hops_per_step
        self._columns, self._before = columns, self.values[-1]
        self.values = self._block[:frames]
        if len(self.expected):
            self._others, self.expected = self.expected[:frames], self.expected[frames:]
        else:
            self._others = self._none

    def of_step(self, step: int) -> Array:
        """Return the gains of a step of the block, shape (hops_per_step, n_mels)."""
        frames = self._sizes.hops_per_step
        return self.values[step * frames : (step + 1) * frames]

    def estimate(self, step: int, count: int, network: Network) -> None:
        """Let the network estimate the gains of some steps."""
        if network.stateful and count > 1:
            self._flush(network)
            self._set(network.infer(self._window(step, count)), step, count)
            return
        for at in range(step, step + count):
            window = self._window(at, 1)
            mask = self._infer(window, network) if network.stateful else network.infer(window)
            self._set(mask[:, -self._sizes.hops_per_step :], at, 1)

    def keep(self, step: int, network: Network) -> float:
        """Give a silent step the gains of the frame before; return their mean."""
        if network.stateful:
            self._hold(self._window(step, 1), network)
        before = self.of_step(step - 1)[-1] if step else self._before
        self.of_step(step)[...] = before
        return float(before.mean())

    def _window(self, step: int, count: int) -> Array:
        """Return the columns that the network takes at some steps."""
        start = step * self._sizes.hops_per_step
        return self._columns[:, start : start + self._sizes.columns_of(count)]

    def _set(self, mask: Array, step: int, count: int) -> None:
        frames = self._sizes.hops_per_step
        first, behind = step * frames, (step + count) * frames
        rows, shares = self.values[first:behind], mask.T
        if len(self._others) > first:
            others = self._others[first:behind]
            shares = shares.copy()
            shares[: len(others)] = mixed(shares[: len(others)], others)
        np.maximum(shares, self.floor, out=rows)

    def _hold(self, columns: Array, network: Network) -> None:
        """Make the columns of a silent step pending, shape (n_mels, step_columns, channels)."""
        if self._settled(columns, network.memory_columns):
            return
        end = self._count + columns.shape[1]
        self._pending[:, self._count : end] = columns
        self._count = end
        if end == self._pending.shape[1]:
            network.infer(self._pending)
            self._count = 0

    def _settled(self, columns: Array, memory_columns: int) -> bool:
        """Return whether columns leave the network's state as it is.

        They do if all columns in its memory equal them, as in digital silence.
        """
        if self._equal_count and (columns == self._last_column).all():
            self._equal_count += columns.shape[1]
            return bool(self._equal_count > memory_columns + columns.shape[1])
        self._last_column[...] = columns[:, -1:]
        self._equal_count = int((columns == self._last_column).all())
        return False

    def _flush(self, network: Network) -> None:
        """Pass the pending columns to the network."""
        hops = self._sizes.hops_per_step
        for start in range(0, self._count, hops):
            network.infer(self._pending[:, start : start + hops])
        self._count = self._equal_count = 0

    def _infer(self, columns: Array, network: Network) -> Array:
        """Pass the pending columns and a step's; return the step's mask, (n_mels, frames)."""
        if self._count + columns.shape[1] == self._pending.shape[1]:
            self._pending[:, self._count :] = columns
            self._count = self._equal_count = 0
            return network.infer(self._pending)[:, -self._sizes.hops_per_step :]
        self._flush(network)
        return network.infer(columns)


def mixed(masks: Array, others: Array) -> Array:
    """Return the mixture of two estimates of masks: the weighted mean of their logits."""
    first, second = (np.clip(each, 1e-4, 1.0 - 1e-4) for each in (masks, others))
    odds: Array = np.power(first / (1.0 - first), np.float32(1.0 - OTHERS_WEIGHT))
    odds *= np.power(second / (1.0 - second), np.float32(OTHERS_WEIGHT))
    return odds / (1.0 + odds)


class Mix:
    """The last stage: the denoised signal and the input.

    `strength` is the wet share, 0 to 1. A new one is reached within a step, in a straight line.
    """

    def __init__(self, strength: float, step_samples: int) -> None:
        self.strength, self._dry = strength, np.empty(step_samples, np.float32)
        ramp = np.arange(1, step_samples + 1, dtype=np.float32)
        self._glide = ramp / np.float32(step_samples)
        self.reset()

    def reset(self) -> None:
        """Begin a stream with the strength that is set."""
        self._reached = self.strength

    def apply(self, wet: Array, dry: Array) -> tuple[float, float]:
        """Mix a step in place; return the strengths at its beginning and at its end."""
        old, new = self._reached, self.strength  # read once: another thread may set it
        if not old == new == 1.0:
            self._reached = new
            share: Array | np.float32 = np.float32(new)
            if old != new:
                share = np.float32(old) + np.float32(new - old) * self._glide
            np.multiply(dry, np.float32(1.0) - share, out=self._dry)
            wet *= share
            wet += self._dry
        return old, new
