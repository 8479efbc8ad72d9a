"""The signal path, end to end: ring, frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine,
files, benchmarks, evaluation and tests all run it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder, Network
from rtden.errors import InputError
from rtden.geometry import Latency, algorithmic_latency, default_model, settings_for_latency
from rtden.model import Model
from rtden.path import SignalPath
from rtden.resting import PENDING_STEPS
from rtden.samples import check_floating, finite
from rtden.settings import Settings, check_limit_db, check_strength, gain_floor
from rtden.types import Array

__all__ = ["Denoiser", "Latency", "algorithmic_latency", "default_model", "settings_for_latency"]


class Denoiser(SignalPath):
    """A denoiser of one stream of mono audio at the model's rate.

    Streams of one model share what is loaded. A further one takes 1 ms and less than 1 MiB. One
    object is for one thread at a time; only `strength` and `limit_db` may be set from others.

    >>> denoiser = Denoiser()
    >>> noisy = np.zeros(2205, np.float32)
    >>> clean = [*map(denoiser.feed, np.split(noisy, 5)), denoiser.flush()]
    >>> len(np.concatenate(clean))
    2205

    Parameters
    ----------
    model : str, Path or Model, optional
        The name of a shipped model, the path of a ``.tflite`` file or a loaded model; the default
        model if None.
    settings : Settings, optional
        What the user chose.
    batch_steps : int
        Steps to compute together, for files: the same samples for less, but later by as many steps.
    network : Network, optional
        A network to use in place of the model's; `model` is not loaded then.

    Raises
    ------
    ModelError
        If the model cannot be used.
    InputError
        If the model does not return masks for `hops_per_step` columns at once.
    SettingsError
        If the model's frames have no such overlap.

    Attributes
    ----------
    frames, features, network, inverter, mix
        The stages of a step, in order; any may be replaced by an object with the same methods.
    silence : SilenceDetector
        Finds the steps for which the network is skipped.
    high_band : HighBandGain
        The gain for sound above the model's band.
    latency : Latency
        Of the algorithm and of the steps that are computed together.
    """

    STAGES: ClassVar[dict[str, str]] = {
        "frames": "transform",
        "features": "push",
        "network": "infer",
        "inverter": "push",
        "mix": "apply",
    }
    """The attribute of each stage and the method that does its work, in order."""

    def __init__(
        self,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        *,
        batch_steps: int = 1,
        network: Network | None = None,
    ) -> None:
        self.settings = settings = settings or Settings()
        if network is None:
            hops, pending = (
                settings.hops_per_step,
                batch_steps if batch_steps > 1 else PENDING_STEPS,
            )
            network = Autoencoder(model, threads=settings.threads, columns=(hops, pending * hops))
        super().__init__(network, settings, batch_steps)
        samples = self.geometry.delay_samples + self.geometry.block_samples
        self.latency = Latency(samples, samples / self.spec.rate_hz)
        self._limit_db = settings.limit_db
        self._fed_samples = self._returned_samples = 0

    @property
    def runtime(self) -> str:
        """The package that runs the network."""
        return self.network.runtime

    @property
    def rate_hz(self) -> int:
        """The sample rate of input and output."""
        return self.spec.rate_hz

    @property
    def step_samples(self) -> int:
        """Samples that one step takes and returns."""
        return self.geometry.step_samples

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; at first that of the settings.

        It may be set at any time, from any thread. The next block of steps glides to it in a
        straight line, in time with the dry signal, so that no click is heard; before the first
        sample of a stream it holds at once. :meth:`reset` keeps it. A value outside 0 to 1 raises
        SettingsError.
        """
        return self.mix.strength

    @strength.setter
    def strength(self, strength: float) -> None:
        check_strength(strength)
        self.mix.strength = strength
        if not self._fed_samples:
            self.mix.reset()

    @property
    def limit_db(self) -> float:
        """At most this much is taken off any cell of the spectrum, in dB; at first the settings'.

        It may be set at any time, from any thread, and holds from the next step's frames on, which
        overlap-add fades in. :meth:`reset` keeps it. A negative value raises SettingsError.
        """
        return self._limit_db

    @limit_db.setter
    def limit_db(self, limit_db: float) -> None:
        check_limit_db(limit_db)
        self._limit_db, self._gain_floor = limit_db, np.float32(gain_floor(limit_db))

    @property
    def band_gains(self) -> Array:
        """The newest frame's gains, linear, shape (n_mels,); a copy."""
        newest: Array = self._band_gains[-1].copy()
        return newest

    @property
    def high_band_gains(self) -> Array:
        """The gain for sound above the model's band, at each sample that the last call returned."""
        return self.high_band.gains

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        self._reset_stages()
        self._fed_samples = self._returned_samples = 0

    def feed(self, samples: ArrayLike) -> Array:
        """Take in any number of samples and return those that are ready.

        The output is aligned with the input: its n-th sample is the n-th of the input, denoised. A
        player that takes one sample for every one fed, `latency.samples` behind, never runs dry.

        Parameters
        ----------
        samples : array_like, shape (samples,)
            Floating point, full scale +-1. Values that are not finite, or absurd, count as silence.

        Returns
        -------
        array, shape (ready,), float32

        Raises
        ------
        InputError
            If `samples` has another shape, another type or another scale.
        """
        block = np.asarray(samples)
        if block.ndim != 1:
            raise InputError(
                f"feed takes mono audio of shape (samples,), not {block.shape}; "
                "use one Denoiser per channel, or a StreamDenoiser."
            )
        check_floating(block)
        self._fed_samples += len(block)
        return self._run(finite(block))

    def flush(self) -> Array:
        """End the stream: return the samples that are still to come, shape (samples,), and reset.

        Together with the output of :meth:`feed` every sample fed comes back exactly once.
        """
        rest = self._fed_samples - self._returned_samples
        size = self.latency.samples + self.geometry.block_samples if rest else 0
        tail = self._run(np.zeros(size, np.float32))[:rest]
        gains = self.high_band_gains[:rest]
        self.reset()
        self.high_band.gains = gains
        return tail

    def _run(self, samples: Array) -> Array:
        size, frames = self.geometry.block_samples, self.frames
        blocks = max(0, (len(samples) - frames.missing_samples) // size + 1)
        self.high_band.begin(blocks)
        out = np.empty(blocks * size, np.float32)
        position = 0
        for number in range(blocks):
            end = position + frames.missing_samples
            frames.feed(samples[position:end])
            position = end
            self._run_block(out[number * size : (number + 1) * size], number)
        frames.feed(samples[position:])
        # The first blocks stand for the silence before the stream.
        before = max(0, self.geometry.delay_samples - frames.delayed_samples + len(out))
        start = min(before, len(out))
        self._returned_samples += len(out) - start
        self.high_band.keep(start, len(out))
        return out[start:]
