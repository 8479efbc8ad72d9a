"""The signal path, end to end: frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine,
files, benchmarks, evaluation and tests all run it.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder, Network
from rtden.contrast import BinGains
from rtden.errors import InputError
from rtden.gains import BandGains, Mix, SilenceDetector
from rtden.geometry import Geometry, Latency, algorithmic_latency, block_steps, settings_for_latency
from rtden.griffinlim import Inverter
from rtden.highband import HighBandGain
from rtden.mel import Features
from rtden.model import Model, ModelSpec
from rtden.samples import finite, floating
from rtden.settings import Settings, check_limit_db, check_settings, check_strength, gain_floor
from rtden.spectral import Frames, power, window_pair
from rtden.threads import SingleThreaded, one_thread
from rtden.types import Array

__all__ = ["Denoiser", "Latency", "algorithmic_latency", "settings_for_latency"]

BATCH_STEPS = 8
"""Steps computed together, at most, unless told otherwise."""
RECORDING_STEPS = 64
"""The same for whole recordings."""


class Denoiser(SingleThreaded):
    """A denoiser of one stream of mono audio at the model's rate.

    Streams of one model share what is loaded. A further one takes 1 ms and less than 1 MiB. One
    object is for one thread at a time; only `strength` and `limit_db` may be set from others.

    Parameters
    ----------
    model : str, Path or Model, optional
        The name of a shipped model, the path of a ``.tflite`` file or a loaded model; the default
        model if None.
    settings : Settings, optional
        What the user chose.
    batch_steps : int
        Steps that are computed together, at most, where :meth:`feed` completes several: the same
        samples for less.
    network : Network, optional
        A network to use in place of the model's; `model` is not loaded then.

    Raises
    ------
    ModelError
        If the model cannot be used.
    InputError
        If the model does not return masks for `hops_per_step` frames at once.
    SettingsError
        If the model's frames have no such overlap.

    Attributes
    ----------
    frames, features, network, inverter, mix
        The stages of a step, in order; any may be replaced by an object with the same methods.
    gains, silence, high_band
        The gains of the newest frames, from the network's masks; what finds the steps for which the
        network is skipped; the gain for sound above the model's band.
    rate_hz, latency : int, Latency
        The sample rate of input and output; the delay of the algorithm.

    Examples
    --------
    >>> denoiser = Denoiser()
    >>> noisy = np.zeros(2205, np.float32)
    >>> clean = [*map(denoiser.feed, np.split(noisy, 5)), denoiser.flush()]
    >>> len(np.concatenate(clean))
    2205
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
        batch_steps: int = BATCH_STEPS,
        network: Network | None = None,
    ) -> None:
        super().__init__()
        self.settings = settings = check_settings(settings)
        if network is not None and not isinstance(network, Network):
            raise InputError("a network has the attributes and methods of autoencoder.Network.")
        if network is None:
            sizes_of_calls = [n * settings.hops_per_step for n in block_steps(batch_steps)]
            network = Autoencoder(model, columns=tuple(sizes_of_calls))
        self.network, self.spec, self.runtime = network, network.spec, network.runtime
        self.geometry = Geometry(self.spec, settings, batch_steps, network.stateful)
        spec, sizes = self.spec, self.geometry
        self.rate_hz, self.step_samples = spec.rate_hz, sizes.step_samples
        self.latency = algorithmic_latency(spec, settings)
        self.frames = _frames(spec, sizes)
        columns = sizes.columns_of(batch_steps)
        self.features = Features(spec, columns)
        # The features do not change any more when all their columns are digital silence.
        self._settled_samples = spec.n_fft + (columns + 2) * spec.hop + sizes.most_samples
        self._limit_db = settings.limit_db
        self.gains = BandGains(spec, sizes, gain_floor(self._limit_db))
        self.inverter, self._inverted_steps = _inverter(spec, sizes, settings)
        self._bin_gains = BinGains(spec, sizes.most_frames)
        self.silence = SilenceDetector(_silence_samples(spec, sizes, self.inverter.older_frames))
        self.mix = Mix(settings.strength, sizes.step_samples)
        self.high_band = HighBandGain(spec, overlap=sizes.overlap, frames=sizes.hops_per_step)
        self._fed_samples = self._returned_samples = 0

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; at first that of the settings.

        It may be set at any time, from any thread. The next step glides to it in a
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
        self._limit_db, self.gains.floor = limit_db, gain_floor(limit_db)

    @property
    def band_gains(self) -> Array:
        """The newest frame's gains, linear, shape (n_mels,); a copy."""
        newest: Array = self.gains.values[-1].copy()
        return newest

    @one_thread
    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        for stage in (*self.STAGES, "gains", "silence", "high_band"):
            getattr(self, stage).reset()
        self._fed_samples = self._returned_samples = 0

    @one_thread
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
        block = floating(samples)
        if block.ndim != 1:
            raise InputError(
                f"feed takes mono audio of shape (samples,), not {block.shape}; "
                "use one Denoiser per channel, or a StreamDenoiser."
            )
        block = finite(block)
        self._fed_samples += len(block)
        return self._run(block)

    @one_thread
    def flush(self) -> Array:
        """End the stream: return the samples that are still to come, shape (samples,), and reset.

        Together with the output of :meth:`feed` every sample fed comes back exactly once.
        """
        rest = self._fed_samples - self._returned_samples
        size = self.latency.samples + self.step_samples if rest else 0
        tail = self._run(np.zeros(size, np.float32))[:rest]
        gains = self.high_band.gains[:rest]
        self.reset()
        self.high_band.gains = gains
        return tail

    def _run(self, samples: Array) -> Array:
        size, frames = self.step_samples, self.frames
        ready = max(0, (len(samples) - frames.missing_samples) // size + 1)
        self.high_band.begin(ready)
        out = np.empty(ready * size, np.float32)
        done = fed = 0
        while done < ready:
            steps = self.geometry.next_steps(ready - done)
            needed = frames.missing_samples + (steps - 1) * size
            frames.feed(samples[fed : fed + needed])
            fed += needed
            self._run_block(out[done * size : (done + steps) * size])
            done += steps
        if fed < len(samples):
            frames.feed(samples[fed:])
        # The first steps stand for the silence before the stream.
        before = self.geometry.overlap - frames.delayed_samples + len(out)
        start = min(max(0, before), len(out))
        self._returned_samples += len(out) - start
        self.high_band.keep(start, len(out))
        return out[start:]

    def _run_block(self, out: Array) -> None:
        """Write the samples of the next block, whose steps are computed together."""
        frames, size = self.frames, self.step_samples
        spectra = frames.transform()
        self._power = power(spectra)
        if frames.zero_samples < self._settled_samples:
            self.features.push(self._power)
        starts = range(0, len(out), size)
        columns = self.features.columns[:, -self.geometry.columns_of(len(starts)) :]
        self.gains.begin(columns, len(starts))
        silent = [self.silence.push(frames.newest_input(at, at + size)) for at in starts]
        if True in silent:
            for step, skipped in enumerate(silent):
                self._skip(step, out) if skipped else self._process(step, 1, out)
        else:
            self._process(0, len(starts), out)
        for at in starts:
            stop = at + size
            strengths = self.mix.apply(out[at:stop], frames.delayed_input(at, stop))
            self.high_band.push(self.gains.of_step(at // size), strengths)

    def _process(self, step: int, count: int, out: Array) -> None:
        """Let some steps of the block through the network and the inverter."""
        self.gains.estimate(step, count, self.network)
        size, hops = self.step_samples, self.geometry.hops_per_step
        at_once = min(count, self._inverted_steps)
        for first in range(step, step + count, at_once):
            last = first + at_once
            rows = slice(first * hops, last * hops)
            gains = self._bin_gains(self.gains.values[rows], self._power[rows], self.gains.floor)
            self.inverter.push(self.frames.spectra[rows], gains, out[first * size : last * size])

    def _skip(self, step: int, out: Array) -> None:
        """Pass a silent step on at the last gain, so that a file of silence alone is not muted."""
        # After digital silence that is the inverter's state; after any other it lacks as little.
        self.inverter.skip(self.geometry.hops_per_step)
        gain = np.float32(self.gains.keep(step, self.network))
        start, stop = step * self.step_samples, (step + 1) * self.step_samples
        np.multiply(self.frames.delayed_input(start, stop), gain, out=out[start:stop])


def _frames(spec: ModelSpec, sizes: Geometry) -> Frames:
    # The features are of the same spectra: under an asymmetric window they weight the newest
    # samples more, as a short overlap needs it.
    return Frames(
        window_pair(spec.n_fft, spec.hop, sizes.overlap)[0],
        hop=spec.hop,
        frames=sizes.hops_per_step,
        most_steps=sizes.most_steps,
        delay_samples=sizes.overlap,
    )


def _inverter(spec: ModelSpec, sizes: Geometry, settings: Settings) -> tuple[Inverter, int]:
    """Return the inverter and the number of steps that it takes at once."""
    iterations = settings.iterations
    if iterations is None:
        # The model's were chosen with the whole overlap. With a shorter one they do harm: the
        # newest frame has too little beside it.
        iterations = spec.iterations if sizes.whole_overlap else 0
    steps = 1 if iterations else sizes.most_steps
    inverter = Inverter(
        n_fft=spec.n_fft,
        hop=spec.hop,
        new_frames=steps * sizes.hops_per_step,
        iterations=iterations,
        frames=spec.frames_inverted if settings.frames is None else settings.frames,
        phase=settings.phase or spec.phase,
        seed=settings.seed,
        overlap=sizes.overlap,
    )
    return inverter, steps


def _silence_samples(spec: ModelSpec, sizes: Geometry, older_frames: int) -> int:
    """Return the samples that fill the network's window and the inverter, and a step's."""
    frames = max(spec.frames, older_frames + sizes.hops_per_step)
    return spec.n_fft + (frames + sizes.hops_per_step - 1) * spec.hop
