"""The signal path, end to end: ring, frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine, files, benchmarks,
evaluation and tests all run it.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder
from rtden.errors import InputError, SettingsError
from rtden.griffinlim import Inverter
from rtden.mel import Array, BandSpread, MelWindow, band_edges_hz, power, window_pair
from rtden.ring import Ring
from rtden.settings import ADVANCES, SHORTEST_OVERLAP_SAMPLES, Settings, check_limit_db, check_strength, gain_floor
from rtden.sidecar import ModelSpec, find_model, load_spec

LOUDEST = 1000.0
"""Samples are limited to this (60 dB above full scale), so that a corrupt stream cannot overflow the spectra."""

TOP_HZ = (5000.0, 8000.0)
"""Bands centred between these tell what becomes of sound above the model's band (`Denoiser.top_gains`): where fricatives are, and the
training speech still is. Beyond, the network lets less of the speech through and more of the noise."""
QUIET_DB = -80.0
"""Input whose peaks stay below this, in dB of full scale, is silence: once the network sees nothing else, it is not asked."""


class Latency(NamedTuple):
    """A delay, in two units."""

    samples: int
    seconds: float


def algorithmic_latency(spec: ModelSpec, settings: Settings) -> Latency:
    """Return the latency of a model under some settings: a step, what is still to overlap, and the columns that the network looks ahead."""
    overlap = spec.n_fft - spec.hop if settings.overlap_samples is None else settings.overlap_samples
    samples = (settings.advance + spec.lookahead) * spec.hop + overlap
    return Latency(samples, samples / spec.rate_hz)


def settings_for_latency(wish_ms: float, *, model: str | Path | None = None, settings: Settings | None = None) -> tuple[Settings, Latency]:
    """Return the settings that make the most of an algorithmic latency, and the latency that they give.

    Quality comes first: the longest overlap that fits. If all of it fits, what is left goes into the largest advance, which
    costs less. If nothing fits, the result is the lowest latency that there is, above the wish.

    Parameters
    ----------
    wish_ms : float
        The latency must not exceed this, in ms; infinity is a wish, too.
    model : str or Path, optional
        The model, as :class:`Denoiser` takes it.
    settings : Settings, optional
        Where everything but `advance` and `overlap_samples` comes from.

    Raises
    ------
    SettingsError
        If the wish is not a positive number.
    ModelError
        If there is no such model or its sidecar cannot be used.

    Examples
    --------
    >>> settings, latency = settings_for_latency(30)
    >>> settings.advance, settings.overlap_samples, latency.samples
    (1, 149, 661)
    """
    if not wish_ms > 0:
        raise SettingsError(f"a latency must be more than 0 ms, not {wish_ms:g}")
    spec = load_spec(find_model(model))
    longest = spec.n_fft - spec.hop
    wish_samples = wish_ms * spec.rate_hz / 1000.0
    spare = wish_samples - (1 + spec.lookahead) * spec.hop
    overlap = longest if spare >= longest else max(SHORTEST_OVERLAP_SAMPLES, math.floor(spare))
    settings = dataclasses.replace(settings or Settings(), advance=1, overlap_samples=None if overlap == longest else overlap)
    for advance in ADVANCES:
        larger = dataclasses.replace(settings, advance=advance)
        if advance <= spec.frames - spec.lookahead and algorithmic_latency(spec, larger).samples <= wish_samples:
            settings = larger
    return settings, algorithmic_latency(spec, settings)


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
    SettingsError
        If the model's frames have no such overlap.

    Attributes
    ----------
    latency : Latency
        Of the algorithm, in samples and seconds.
    """

    STAGES = ("frames", "mel", "autoencoder", "griffinlim", "mix")
    """Names of the methods that make up a step, in order (each with a leading underscore)."""

    def __init__(self, model: str | Path | None = None, settings: Settings | None = None) -> None:
        self.settings = settings = settings or Settings()
        self._network = Autoencoder(find_model(model), threads=settings.threads)
        self.spec = spec = self._network.spec
        self._step_samples = settings.advance * spec.hop
        bins = spec.n_fft // 2 + 1

        longest = spec.n_fft - spec.hop
        overlap = longest if settings.overlap_samples is None else settings.overlap_samples
        if overlap > longest:
            raise SettingsError(f"the frames of model '{spec.name}' overlap by {longest} samples at most: overlap_samples must not be {overlap}")
        self.latency = algorithmic_latency(spec, settings)
        # Held: the frames of a step, and behind them the input of the block that leaves, which may be mixed in.
        self._ring = Ring(max(spec.window_samples, spec.n_fft + self._step_samples, self.latency.samples + self._step_samples))
        self._windowed = np.empty((settings.advance, spec.n_fft), np.float32)
        # The features are of the same spectra: under an asymmetric window they tell of newer sound, as a short overlap needs it.
        self._window, _ = window_pair(spec.n_fft, spec.hop, overlap)
        self._ahead_samples = longest - overlap  # by which the block that a frame completes lies behind the frame's first sample
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
        iterations = settings.iterations
        if iterations is None:
            # The model's were chosen with the whole overlap. A shorter one leaves the newest frame with too little beside it: they do harm.
            iterations = spec.iterations if overlap == longest else 0
        self._inverter = Inverter(
            n_fft=spec.n_fft,
            hop=spec.hop,
            advance=settings.advance,
            iterations=iterations,
            frames=spec.frames_inverted if settings.frames is None else settings.frames,
            phase=settings.phase or spec.phase,
            seed=settings.seed,
            overlap=overlap,
        )
        centres_hz = band_edges_hz(spec.n_mels, spec.fmin_hz, spec.fmax_hz)[1:-1]
        top = (centres_hz >= TOP_HZ[0]) & (centres_hz <= TOP_HZ[1])
        top[-1] |= not top.any()
        self._top_weights = top.astype(np.float32) / np.float32(top.sum())
        self._levels = np.empty((1 + settings.advance, 1), np.float32)  # of the frame before and of the new ones
        self._fade = np.minimum(np.arange(1, spec.hop + 1, dtype=np.float32) / np.float32(min(overlap, spec.hop)), np.float32(1.0))
        self._block_top_gains = np.empty(self._step_samples, np.float32)
        self._top_gains: Array
        # What fills the network's window and the inverter with silence, this step's frames included.
        silent_frames = max(spec.frames, self._inverter.frames_held + spec.lookahead) + settings.advance
        self._silent_samples = spec.n_fft + (silent_frames - 1) * spec.hop
        self._block = np.empty(self._step_samples, np.float32)
        self._dry = np.empty(self._step_samples, np.float32)
        self._glide = np.arange(1, self._step_samples + 1, dtype=np.float32) / np.float32(self._step_samples)
        self._strength = self._reached_strength = settings.strength
        self._limit_db = settings.limit_db
        self._gain_floor = np.float32(settings.gain_floor)
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

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; the settings' at first.

        It may be set at any time, from any thread. The next step's block glides to it in a straight line, in time with the
        dry signal, so that no click is heard; before the first sample of a stream it holds at once. :meth:`reset` keeps it.

        Raises
        ------
        SettingsError
            If it is set to what lies outside 0 to 1.
        """
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        check_strength(strength)
        self._strength = strength
        if not self._fed_samples:
            self._reached_strength = strength

    @property
    def limit_db(self) -> float:
        """At most this much is taken off any cell of the spectrum, in dB; the settings' at first.

        It may be set at any time, from any thread, and holds from the next step's frames on, into which overlap-add fades.
        :meth:`reset` keeps it.

        Raises
        ------
        SettingsError
            If it is set to a negative value.
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
    def top_gains(self) -> Array:
        """The gain for what lies above the model's band, at each of the samples that the last call gave, shape (samples,).

        It is the mean of the gains of the bands of `TOP_HZ`, linear, `limit_db` and `strength` included, and goes from frame
        to frame in straight lines as long as their overlap: what is delayed by `latency` and scaled with it fades
        together with the band itself. Where every gain is one, or the strength nothing, it is exactly one.
        """
        return self._top_gains

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        self._ring.clear()
        self._spectra[...] = 0.0
        self._mel_window.reset()
        self._inverter.reset()
        # The stream is preceded by silence: the first frame ends with the first hop of it, and blocks may be late by the lookahead.
        delay = self.spec.lookahead * self.spec.hop
        lead_in = self.spec.n_fft - self.spec.hop + delay
        self._ring.write(np.zeros(lead_in, np.float32))
        self._frame_start = delay  # position in the ring of the next new frame
        self._block_start = self._ahead_samples  # and of the block that the next step completes
        self._stream_start = lead_in
        self._quiet_samples = 0  # how long the input has been below QUIET_DB, in whole steps
        self._held_gain = np.float32(1.0)
        self._fed_samples = 0
        self._given_samples = 0
        self._reached_strength = self._strength
        self._levels[-1] = 1.0  # fades before the first sample is given
        self._top_gains = np.empty(0, np.float32)

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
        if not owed:
            self.reset()
            return np.empty(0, np.float32)
        tail = self._run(np.zeros(self.latency.samples + self._step_samples, np.float32))[:owed]
        top_gains = self._top_gains[:owed]
        self.reset()
        self._top_gains = top_gains
        return tail

    def _run(self, samples: Array) -> Array:
        step_end = self.spec.n_fft + self._step_samples - self.spec.hop
        steps = max(0, (self._ring.written_samples + len(samples) - self._frame_start - step_end) // self._step_samples + 1)
        out = np.empty(steps * self._step_samples, np.float32)
        top_gains = np.empty(len(out), np.float32)
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
                top_gains[filled : filled + kept] = self._block_top_gains[skip:]
                filled += kept
                self._frame_start += self._step_samples
                self._block_start += self._step_samples
        self._given_samples += filled
        self._top_gains = top_gains[:filled]
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
        np.maximum(self._band_gains, self._gain_floor, out=self._band_gains)
        self._held_gain = self._band_gains[-1].mean()

    def _griffinlim(self) -> None:
        self._spread(self._band_gains, self._gains)
        self._inverter.push(self._spectra[: self.settings.advance], self._gains, self._block)

    def _mix(self) -> None:
        self._follow_top()
        old, new = self._reached_strength, self._strength  # read once: another thread may set it
        if old == new == 1.0:
            return
        wet: Array | np.float32
        if old == new:
            wet = np.float32(new)
        else:
            wet = np.float32(old) + np.float32(new - old) * self._glide
            self._reached_strength = new
        dry = self._ring.view(self._block_start, self._block_start + self._step_samples)[:, 0]
        np.multiply(dry, np.float32(1.0) - wet, out=self._dry)
        self._block *= wet
        self._block += self._dry
        self._block_top_gains *= wet
        self._block_top_gains += np.float32(1.0) - wet

    def _follow_top(self) -> None:
        """Write the top gains of a step at full strength."""
        self._levels[0] = self._levels[-1]
        np.matmul(self._band_gains, self._top_weights, out=self._levels[1:, 0])
        lines = self._block_top_gains.reshape(self.settings.advance, self.spec.hop)
        np.multiply(np.diff(self._levels, axis=0), self._fade, out=lines)
        lines += self._levels[:-1]
