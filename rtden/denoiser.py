"""The signal path, end to end: ring, frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine, files, benchmarks,
evaluation and tests all run it.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder
from rtden.errors import InputError
from rtden.griffinlim import Inverter
from rtden.mel import Array, BandSpread, MelWindow, hann, power
from rtden.ring import Ring
from rtden.settings import Settings
from rtden.sidecar import find_model

LOUDEST = 1000.0
"""Samples are limited to this (60 dB above full scale), so that a corrupt stream cannot overflow the spectra."""

QUIET_DB = -80.0
"""Input whose peaks stay below this, in dB of full scale, is silence: once the network sees nothing else, it is not asked."""


class Latency(NamedTuple):
    """A delay, in two units."""

    samples: int
    seconds: float


class Denoiser:
    """A denoiser of one stream of mono audio at the model's rate.

    >>> denoiser = Denoiser()
    >>> clean = np.concatenate([denoiser.feed(noisy) for noisy in np.zeros((5, 441))] + [denoiser.flush()])
    >>> len(clean)
    2205

    Parameters
    ----------
    model : str or Path, optional
        The name of a shipped model or the path of a ``.tflite`` file; the default model if None.
    settings : Settings, optional
        What the user chose.

    Raises
    ------
    ModelError
        If the model cannot be used.
    InputError
        If the model does not answer for `advance` frames at once.
    """

    STAGES = ("frames", "mel", "autoencoder", "griffinlim", "mix")
    """Names of the methods that make up a step, in order (each with a leading underscore)."""

    def __init__(self, model: str | Path | None = None, settings: Settings | None = None) -> None:
        self.settings = settings = settings or Settings()
        self._network = Autoencoder(find_model(model), threads=settings.threads)
        self.spec = spec = self._network.spec
        self._step_samples = settings.advance * spec.hop
        bins = spec.n_fft // 2 + 1

        # Held: the frames of a step, and behind them the input of the block that leaves, which may be mixed in.
        latency = spec.n_fft + (settings.advance - 1 + spec.lookahead) * spec.hop
        self.latency = Latency(latency, latency / spec.rate_hz)
        self._ring = Ring(max(spec.window_samples, latency + self._step_samples))
        self._windowed = np.empty((settings.advance, spec.n_fft), np.float32)
        self._window = hann(spec.n_fft)
        # Spectra wait here for `lookahead` columns to follow them.
        self._spectra = np.empty((spec.lookahead + settings.advance, bins), np.complex64)
        self._mel_window = MelWindow(spec)
        answered = spec.frames - spec.lookahead
        if settings.advance > answered:
            raise InputError(f"model '{spec.name}' answers for {answered} frames at once, fewer than advance {settings.advance}; choose a smaller advance.")
        self._answered = slice(answered - settings.advance, answered)
        self._spread = BandSpread(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
        self._band_gains = np.empty((settings.advance, spec.n_mels), np.float32)
        self._gains = np.empty((settings.advance, bins), np.float32)
        self._inverter = Inverter(
            n_fft=spec.n_fft,
            hop=spec.hop,
            advance=settings.advance,
            iterations=spec.iterations if settings.iterations is None else settings.iterations,
            frames=spec.frames_inverted if settings.frames is None else settings.frames,
            phase=settings.phase or spec.phase,
            seed=settings.seed,
        )
        # What fills the network's window and the inverter with silence, this step's frames included.
        silent_frames = max(spec.frames, self._inverter.frames_held + spec.lookahead) + settings.advance
        self._silent_samples = spec.n_fft + (silent_frames - 1) * spec.hop
        self._block = np.empty(self._step_samples, np.float32)
        self.reset()

    @property
    def runtime(self) -> str:
        """The package that runs the network."""
        return self._network.runtime

    @property
    def rate_hz(self) -> int:
        """The sample rate that :meth:`feed` takes and gives."""
        return self.spec.rate_hz

    @property
    def step_samples(self) -> int:
        """Samples that one step takes and gives."""
        return self._step_samples

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        self._ring.clear()
        self._spectra[...] = 0.0
        self._mel_window.reset()
        self._inverter.reset()
        # The stream is preceded by silence: the first frame ends with the first hop of it.
        lead_in = self.spec.n_fft - self.spec.hop
        self._ring.write(np.zeros(lead_in, np.float32))
        self._frame_start = 0  # position in the ring of the next new frame
        self._block_start = -self.spec.lookahead * self.spec.hop  # and of the block that the next step completes
        self._stream_start = lead_in
        self._quiet_samples = 0  # how long the input has been below QUIET_DB, in whole steps
        self._held_gain = np.float32(1.0)
        self._fed_samples = 0
        self._given_samples = 0

    def feed(self, samples: ArrayLike) -> Array:
        """Take in any number of samples and return those that are ready.

        The output is aligned with the input: its n-th sample is the n-th of the input, denoised. It is `latency` late:
        a player that takes a sample for every one fed, `latency.samples` behind, never runs dry.

        Parameters
        ----------
        samples : array_like, shape (samples,)
            Floating point, full scale +-1. Values that are not finite count as silence.

        Returns
        -------
        array, shape (ready,), float32

        Raises
        ------
        InputError
            If `samples` is not a one-dimensional array of floating-point numbers.
        """
        given = np.asarray(samples)
        if given.ndim != 1:
            raise InputError(f"feed takes mono audio of shape (samples,), not {given.shape}; use one Denoiser per channel.")
        if not np.issubdtype(given.dtype, np.floating):
            raise InputError(f"feed takes floating-point samples with full scale +-1, not {given.dtype}; divide integers by their full scale.")
        self._fed_samples += len(given)
        return self._run(given)

    def flush(self) -> Array:
        """End the stream: return the samples that are still owed, shape (owed,), and reset.

        Together with what :meth:`feed` returned, every sample fed comes back exactly once.
        """
        owed = self._fed_samples - self._given_samples
        tail = self._run(np.zeros(self.latency.samples + self._step_samples, np.float32))[:owed] if owed else np.empty(0, np.float32)
        self.reset()
        return tail

    def _run(self, samples: Array) -> Array:
        step_end = self.spec.n_fft + self._step_samples - self.spec.hop
        steps = max(0, (self._ring.written_samples + len(samples) - self._frame_start - step_end) // self._step_samples + 1)
        out = np.empty(steps * self._step_samples, np.float32)
        filled = position = 0
        while position < len(samples):
            missing = self._frame_start + step_end - self._ring.written_samples
            self._take(samples[position : position + missing])
            position += missing
            if position <= len(samples):
                self._step()
                skip = min(max(0, self._stream_start - self._block_start), self._step_samples)
                kept = self._step_samples - skip
                out[filled : filled + kept] = self._block[skip:]
                filled += kept
                self._frame_start += self._step_samples
                self._block_start += self._step_samples
        self._given_samples += filled
        return out[:filled]

    def _take(self, samples: Array) -> None:
        chunk = np.clip(samples, -LOUDEST, LOUDEST).astype(np.float32, copy=False)
        self._ring.write(chunk if np.isfinite(samples).all() else np.where(np.isfinite(samples), chunk, np.float32(0.0)))

    def _step(self) -> None:
        """Process `advance` new frames; `_block` then holds the samples that they complete."""
        self._frames()
        self._mel()
        if self._is_silent():
            self._idle()
        else:
            self._autoencoder()
            self._griffinlim()
        self._mix()

    def _is_silent(self) -> bool:
        """Return whether all that the network and the inverter hold is silence; depends on whole steps only, not on how they were fed."""
        newest = self._frame_start + self.spec.n_fft - self.spec.hop
        samples = self._ring.view(newest, newest + self._step_samples)
        quiet = max(float(samples.max()), -float(samples.min())) < 10.0 ** (QUIET_DB / 20.0)
        self._quiet_samples = self._quiet_samples + self._step_samples if quiet else 0
        return self._quiet_samples >= self._silent_samples

    def _idle(self) -> None:
        """Pass silence on without network and inversion.

        The features have been updated, so the network's next answer is what it would have been. The inverter begins anew: where the
        silence was digital that is the state that it would have had; else what it lacks is as quiet as the silence was. The gain
        is the network's last, so that a recording that is quiet throughout is not muted.
        """
        self._inverter.skip()
        np.multiply(self._ring.view(self._block_start, self._block_start + self._step_samples)[:, 0], self._held_gain, out=self._block)

    def _frames(self) -> None:
        new, hop, n_fft = self.settings.advance, self.spec.hop, self.spec.n_fft
        held = self._ring.view(self._frame_start, self._frame_start + n_fft + (new - 1) * hop)[:, 0]
        for index in range(new):
            np.multiply(held[index * hop : index * hop + n_fft], self._window, out=self._windowed[index])
        self._spectra[:-new] = self._spectra[new:]
        self._spectra[-new:] = np.fft.rfft(self._windowed, axis=-1)

    def _mel(self) -> None:
        self._mel_window.push(power(self._spectra[-self.settings.advance :]))

    def _autoencoder(self) -> None:
        self._band_gains[...] = self._network.infer(self._mel_window.columns)[:, self._answered].T
        np.maximum(self._band_gains, np.float32(self.settings.gain_floor), out=self._band_gains)
        self._held_gain = self._band_gains[-1].mean()

    def _griffinlim(self) -> None:
        self._spread(self._band_gains, self._gains)
        self._inverter.push(self._spectra[: self.settings.advance], self._gains, self._block)

    def _mix(self) -> None:
        wet = self.settings.strength
        if wet < 1.0 and self._block_start >= 0:
            dry = self._ring.view(self._block_start, self._block_start + self._step_samples)[:, 0]
            self._block *= np.float32(wet)
            self._block += dry * np.float32(1.0 - wet)
