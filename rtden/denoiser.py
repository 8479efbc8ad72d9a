"""The signal path, end to end: ring, frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine, files, benchmarks,
evaluation and tests all run it.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder
from rtden.errors import InputError, SettingsError
from rtden.griffinlim import Inverter
from rtden.mel import BandSpread, MelWindow, band_edges_hz
from rtden.model import ModelSpec, find_model, load_spec
from rtden.ring import Ring
from rtden.settings import (
    HOPS_PER_STEP,
    SHORTEST_OVERLAP_SAMPLES,
    Settings,
    check_limit_db,
    check_strength,
    gain_floor,
)
from rtden.spectral import power, rfft_into, window_pair
from rtden.types import Array, Spectra

LOUDEST = 1000.0
"""Samples are limited to this (60 dB above full scale), so that a corrupt stream cannot overflow the spectra."""

TOP_HZ = (5000.0, 8000.0)
"""Bands centred between these tell what becomes of sound above the model's band (`Denoiser.top_gains`): where fricatives are, and the
training speech still is. Beyond, the network lets less of the speech through and more of the noise."""
QUIET_DB = -80.0
"""Input whose peaks stay below this, in dB of full scale, is silence: once the network sees nothing else, it is not asked."""
QUIET = 10.0 ** (QUIET_DB / 20.0)
REST_STEPS = 8
"""Steps of silence that the network is given at once: half of the work and less, and when it answers again at most 7 to catch up with, which
a weak machine must do within its buffer."""


class Latency(NamedTuple):
    """A delay, in two units."""

    samples: int
    seconds: float


class TopCourse(NamedTuple):
    """What the top gains of a call are drawn from: a point a frame in place of a gain a sample."""

    levels: Array
    """Of the frames that share the beginning of each block, and of its own, shape (blocks, meeting + inverted frames)."""
    strengths: Array
    """At the beginning and at the end of each block, shape (blocks, 2)."""
    start: int
    stop: int
    """The samples that were given, of those of the blocks."""


def algorithmic_latency(spec: ModelSpec, settings: Settings) -> Latency:
    """Return the latency of a model under some settings: a step, what is still to overlap, and the columns that the network looks ahead."""
    overlap = (
        spec.n_fft - spec.hop if settings.overlap_samples is None else settings.overlap_samples
    )
    samples = (settings.hops_per_step + spec.lookahead) * spec.hop + overlap
    return Latency(samples, samples / spec.rate_hz)


def settings_for_latency(
    wish_ms: float, *, model: str | Path | None = None, settings: Settings | None = None
) -> tuple[Settings, Latency]:
    """Return the settings that make the most of an algorithmic latency, and the latency that they give.

    Quality comes first: the longest overlap that fits. If all of it fits, what is left goes into the largest hops_per_step, which
    costs less. If nothing fits, the result is the lowest latency that there is, above the wish.

    Parameters
    ----------
    wish_ms : float
        The latency must not exceed this, in ms; infinity is a wish, too.
    model : str or Path, optional
        The model, as :class:`Denoiser` takes it.
    settings : Settings, optional
        Where everything but `hops_per_step` and `overlap_samples` comes from.

    Raises
    ------
    SettingsError
        If the wish is not a positive number.
    ModelError
        If there is no such model or its sidecar cannot be used.

    Examples
    --------
    >>> settings, latency = settings_for_latency(30)
    >>> settings.hops_per_step, settings.overlap_samples, latency.samples
    (1, 149, 661)
    """
    if not wish_ms > 0:
        raise SettingsError(f"a latency must be more than 0 ms, not {wish_ms:g}")
    spec = load_spec(find_model(model))
    longest = spec.n_fft - spec.hop
    wish_samples = wish_ms * spec.rate_hz / 1000.0
    spare = wish_samples - (1 + spec.lookahead) * spec.hop
    overlap = longest if spare >= longest else max(SHORTEST_OVERLAP_SAMPLES, math.floor(spare))
    settings = dataclasses.replace(
        settings or Settings(),
        hops_per_step=1,
        overlap_samples=None if overlap == longest else overlap,
    )
    for hops_per_step in HOPS_PER_STEP:
        larger = dataclasses.replace(settings, hops_per_step=hops_per_step)
        if (
            hops_per_step <= spec.frames - spec.lookahead
            and algorithmic_latency(spec, larger).samples <= wish_samples
        ):
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
    batch_steps : int
        Steps to compute together, for recordings, which have no haste: the samples are the same and cost less, but come so many steps
        later.

    Raises
    ------
    ModelError
        If the model cannot be used.
    InputError
        If the model does not answer for `hops_per_step` columns at once.
    SettingsError
        If the model's frames have no such overlap.

    Attributes
    ----------
    latency : Latency
        Of the algorithm and of the steps that are computed together, in samples and seconds.
    """

    STAGES = ("frames", "mel", "autoencoder", "griffinlim", "mix")
    """Names of the methods that make up a step, in order (each with a leading underscore)."""

    def __init__(
        self,
        model: str | Path | None = None,
        settings: Settings | None = None,
        *,
        batch_steps: int = 1,
    ) -> None:
        self.settings = settings = settings or Settings()
        hops_per_step, path = settings.hops_per_step, find_model(model)
        self._network = self._open(path, hops_per_step)
        self.spec = spec = self._network.spec
        finer = spec.frames_per_column
        self._steps, self._block_columns = batch_steps, batch_steps * hops_per_step
        self._step_frames, self._block_frames = (
            hops_per_step * finer,
            batch_steps * hops_per_step * finer,
        )
        # A network that carries its memory takes many steps at once for less: those of a block, or those in which it need not answer.
        many = batch_steps if batch_steps > 1 else REST_STEPS
        self._many = self._open(path, many * hops_per_step) if self._network.carried else None
        self._unheard = np.empty(
            (spec.n_mels, many * hops_per_step, spec.input_channels), np.float32
        )
        self._unheard_columns = 0
        self._step_samples = hops_per_step * spec.hop
        self._block_samples = batch_steps * self._step_samples
        bins = spec.n_fft // 2 + 1

        longest = spec.n_fft - spec.hop
        overlap = longest if settings.overlap_samples is None else settings.overlap_samples
        if overlap > longest:
            raise SettingsError(
                f"the frames of model '{spec.name}' overlap by {longest} samples at most: overlap_samples must not be {overlap}"
            )
        samples = (
            algorithmic_latency(spec, settings).samples + self._block_samples - self._step_samples
        )
        self.latency = Latency(samples, samples / spec.rate_hz)
        # With a short overlap a column's newest frame alone is inverted: the older ones would complete sound of which it knows more.
        self._every = 1 if overlap == longest else finer
        inverted_hop = self._every * spec.frame_hop
        # Held: the frames of a block, and behind them the input of the block that leaves, which may be mixed in.
        self._ring = Ring(
            max(
                spec.window_samples,
                spec.n_fft + self._block_samples,
                self.latency.samples + self._block_samples,
            )
        )
        self._windowed = np.empty((self._block_frames, spec.n_fft), np.float32)
        # The features are of the same spectra: under an asymmetric window they tell of newer sound, as a short overlap needs it.
        self._window, _ = window_pair(spec.n_fft, inverted_hop, overlap)
        self._ahead_samples = (
            spec.n_fft - spec.frame_hop - overlap
        )  # by which the block that frames complete lies behind their first sample
        # Spectra wait here for `lookahead` columns to follow them.
        self._spectra = np.empty((spec.lookahead * finer + self._block_frames, bins), np.complex64)
        # What the network sees at a step: the new columns, or a window that ends with them.
        seen = hops_per_step if self._network.carried else spec.frames
        self._mel_window = MelWindow(spec, seen + self._block_columns - hops_per_step)
        answered = seen - spec.lookahead
        if hops_per_step > answered:
            raise InputError(
                f"model '{spec.name}' answers for {answered} columns at once, fewer than hops_per_step {hops_per_step}; choose a smaller hops_per_step."
            )
        self._seen_columns, self._answered = (
            seen,
            slice((answered - hops_per_step) * finer, answered * finer),
        )
        self._spread = BandSpread(spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz)
        self._band_gains = np.empty((self._block_frames, spec.n_mels), np.float32)
        self._gains = np.empty((self._block_frames // self._every, bins), np.float32)
        iterations = settings.iterations
        if iterations is None:
            # The model's were chosen with the whole overlap. A shorter one leaves the newest frame with too little beside it: they do harm.
            iterations = spec.iterations if overlap == longest else 0
        self._inverter = Inverter(
            n_fft=spec.n_fft,
            hop=inverted_hop,
            hops_per_step=(self._step_frames if iterations else self._block_frames) // self._every,
            iterations=iterations,
            frames=spec.frames_inverted if settings.frames is None else settings.frames,
            phase=settings.phase or spec.phase,
            seed=settings.seed,
            overlap=overlap,
        )
        self._prepare_top(overlap, inverted_hop)
        # Silence is what fills the network's window and the inverter, this step's frames included.
        inverted_frames = self._inverter.older_frames * self._every + self._step_frames
        silent_frames = (
            max(spec.frames * finer, inverted_frames + spec.lookahead * finer) + self._step_frames
        )
        self._silent_samples = spec.n_fft + (silent_frames - 1) * spec.frame_hop
        self._block, self._dry = np.empty((2, self._block_samples), np.float32)
        self._glide = np.arange(1, self._block_samples + 1, dtype=np.float32) / np.float32(
            self._block_samples
        )
        self._strength = self._reached_strength = settings.strength
        self._limit_db, self._gain_floor = settings.limit_db, np.float32(settings.gain_floor)
        self._top_gains: Array | None = None
        self.reset()

    def _prepare_top(self, overlap: int, hop: int) -> None:
        """Make room for what tells of the sound above the model's band."""
        self._top_weights = _top_weights(self.spec)
        # Where frames meet, so many of them share the sound. Levels of those before a block, and of the new ones:
        self._meeting = max(1, overlap // hop)
        self._levels = np.empty(self._meeting + len(self._gains), np.float32)
        self._fade = np.minimum(
            np.arange(1, hop + 1, dtype=np.float32) / np.float32(min(overlap, hop)), np.float32(1.0)
        )

    def _open(self, path: Path, columns: int) -> Autoencoder:
        """Return the network, for calls of so many columns."""
        return Autoencoder(path, threads=self.settings.threads, columns=columns)

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

        It may be set at any time, from any thread. The next block of steps glides to it in a straight line, in time with the
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
        if self._top_gains is None:  # few ask: they are worked out when somebody does
            self._top_gains = self.draw_top_gains(self._top_course)
        return self._top_gains

    def draw_top_gains(self, course: TopCourse) -> Array:
        """Return the top gains of a call, from what is kept of it."""
        levels, strengths, start, stop = course
        met = np.lib.stride_tricks.sliding_window_view(levels, self._meeting, axis=1).mean(axis=-1)
        lines = np.diff(met, axis=1)[:, :, None] * self._fade
        lines += met[:, :-1, None]
        gains = lines.reshape(-1, self._block_samples)
        if (strengths != 1.0).any():
            wet = strengths[:, :1] + (strengths[:, 1:] - strengths[:, :1]) * self._glide
            gains *= wet
            gains += np.float32(1.0) - wet
        drawn: Array = gains.reshape(-1)[start:stop]
        return drawn

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        self._ring.clear()
        self._spectra[...] = 0.0
        self._mel_window.reset()
        self._inverter.reset()
        # The stream is preceded by silence: the first frame ends with its first frame_hop samples, and blocks may be late by the lookahead.
        delay = self.spec.lookahead * self.spec.hop
        lead_in = self.spec.n_fft - self.spec.frame_hop + delay
        self._ring.write(np.zeros(lead_in, np.float32))
        self._frame_start = delay  # position in the ring of the next new frame
        self._block_start = self._ahead_samples  # and of the block that the next step completes
        self._stream_start = lead_in
        self._quiet_samples = 0  # how long the input has been below QUIET_DB, in whole steps
        self._band_gains[...] = 1.0
        self._fed_samples = 0
        self._given_samples = 0
        self._reached_strength = self._strength
        self._levels[-self._meeting :] = 1.0  # fades before the first sample is given
        self._top_course = TopCourse(
            np.empty((0, len(self._levels)), np.float32), np.empty((0, 2), np.float32), 0, 0
        )
        self._top_gains = None
        self._network.reset()
        self._unheard_columns = 0

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
            raise InputError(
                f"feed takes mono audio of shape (samples,), not {given.shape}; use one Denoiser per channel."
            )
        if given.dtype.kind != "f":
            raise InputError(
                f"feed takes floating-point samples with full scale +-1, not {given.dtype}; divide integers by their full scale."
            )
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
        tail = self._run(np.zeros(self.latency.samples + self._block_samples, np.float32))[:owed]
        course = self._top_course._replace(stop=self._top_course.start + owed)
        self.reset()
        self._top_course = course
        return tail

    def _run(self, samples: Array) -> Array:
        samples = finite(samples)
        block_end = self.spec.n_fft + self._block_samples - self.spec.frame_hop
        blocks = max(
            0,
            (self._ring.written_samples + len(samples) - self._frame_start - block_end)
            // self._block_samples
            + 1,
        )
        out = np.empty(blocks * self._block_samples, np.float32)
        levels, strengths = (
            np.empty((blocks, len(self._levels)), np.float32),
            np.empty((blocks, 2), np.float32),
        )
        filled = position = 0
        for block in range(blocks + 1):
            missing = self._frame_start + block_end - self._ring.written_samples
            self._ring.write(samples[position : position + missing])
            if block == blocks:
                break
            position += missing
            strengths[block, 0] = self._reached_strength
            self._step()
            levels[block], strengths[block, 1] = self._levels, self._reached_strength
            skip = min(max(0, self._stream_start - self._block_start), self._block_samples)
            kept = self._block_samples - skip
            out[filled : filled + kept] = self._block[skip:]
            filled += kept
            self._frame_start += self._block_samples
            self._block_start += self._block_samples
        self._given_samples += filled
        self._top_course, self._top_gains = (
            TopCourse(levels, strengths, len(out) - filled, len(out)),
            None,
        )
        return out[:filled]

    def _step(self) -> None:
        """Process the new frames of a step, or of several; `_block` then holds the samples that they complete."""
        self._frames()
        self._mel()
        silent = [self._is_silent(step) for step in range(self._steps)]
        if not any(silent):
            self._autoencoder()
            self._griffinlim()
        else:
            self._step_by_step(silent)
        self._mix()

    def _is_silent(self, step: int) -> bool:
        """Return whether all that the network and the inverter hold is silence; depends on whole steps only, not on how they were fed."""
        newest = (
            self._frame_start + self.spec.n_fft - self.spec.frame_hop + step * self._step_samples
        )
        samples = self._ring.view(newest, newest + self._step_samples)[:, 0]
        # Where the mean of the squares is as high, the largest is.
        quiet = (
            float(np.dot(samples, samples)) < QUIET**2 * len(samples)
            and max(float(samples.max()), -float(samples.min())) < QUIET
        )
        self._quiet_samples = self._quiet_samples + self._step_samples if quiet else 0
        return self._quiet_samples >= self._silent_samples

    def _step_by_step(self, silent: list[bool]) -> None:
        """Do as single steps do, each of which may be silent."""
        for step, rests in enumerate(silent):
            rows = self._rows(step)
            if rests:
                self._idle(step, rows)
            else:
                self._ask(step, rows)
                self._spread(self._inverted(self._band_gains[rows]), self._gains_of(step))
                self._invert(step)

    def _idle(self, step: int, rows: slice) -> None:
        """Pass silence on without the network's answer and without inversion.

        The network has the columns all the same, later and many at once, so that its next answer is what it would have been. The
        inverter begins anew: where the silence was digital that is the state that it would have had; else what it lacks is as quiet as
        the silence was. The gain is the network's last, so that a recording that is quiet throughout is not muted.
        """
        if self._many is not None:
            end = self._unheard_columns + self.settings.hops_per_step
            self._unheard[:, self._unheard_columns : end] = self._seen(step)
            self._unheard_columns = end
            if end == self._unheard.shape[1]:
                self._through_many(self._unheard)
                self._unheard_columns = 0
        self._inverter.skip(self._step_frames // self._every)
        self._band_gains[rows] = self._band_gains[
            rows.start - 1
        ]  # of the frame before, which may be the last one of the block before
        start = self._block_start + step * self._step_samples
        block = self._block[step * self._step_samples : (step + 1) * self._step_samples]
        np.multiply(
            self._ring.view(start, start + self._step_samples)[:, 0],
            self._band_gains[rows.start].mean(),
            out=block,
        )

    def _frames(self) -> None:
        new, hop, n_fft = self._block_frames, self.spec.frame_hop, self.spec.n_fft
        held = self._ring.view(self._frame_start, self._frame_start + n_fft + (new - 1) * hop)[:, 0]
        for index in range(new):
            np.multiply(
                held[index * hop : index * hop + n_fft], self._window, out=self._windowed[index]
            )
        if self.spec.lookahead:
            self._spectra[:-new] = self._spectra[new:]
        rfft_into(self._windowed, self._spectra[-new:])

    def _mel(self) -> None:
        self._mel_window.push(power(self._spectra[-self._block_frames :]))

    def _autoencoder(self) -> None:
        if self._many is not None and self._steps > 1:
            self._catch_up()
            self._answer(self._through_many(self._mel_window.columns), slice(None))
            return
        for step in range(self._steps):
            self._ask(step, self._rows(step))

    def _rows(self, step: int) -> slice:
        """Return which of the block's frames are a step's."""
        return slice(step * self._step_frames, (step + 1) * self._step_frames)

    def _ask(self, step: int, rows: slice) -> None:
        """Ask the network about one step."""
        self._catch_up()
        self._answer(self._network.infer(self._seen(step))[:, self._answered], rows)

    def _seen(self, step: int) -> Array:
        """Return what the network sees at a step."""
        start = step * self.settings.hops_per_step
        return self._mel_window.columns[:, start : start + self._seen_columns]

    def _through_many(self, columns: Array) -> Array:
        """Let the network have the columns of many steps; return its answers. Its memory is in the one that takes single steps."""
        assert self._many is not None
        self._many.past = self._network.past
        share = self._many.infer(columns)
        self._network.past = self._many.past
        return share

    def _catch_up(self) -> None:
        """Let the network have what it rested through and has not seen yet."""
        for start in range(0, self._unheard_columns, self.settings.hops_per_step):
            self._network.infer(self._unheard[:, start : start + self.settings.hops_per_step])
        self._unheard_columns = 0

    def _answer(self, share: Array, rows: slice) -> None:
        np.maximum(share.T, self._gain_floor, out=self._band_gains[rows])

    def _griffinlim(self) -> None:
        self._spread(self._inverted(self._band_gains), self._gains)
        if self._inverter.hops_per_step == len(self._gains):
            self._inverter.push(
                self._inverted(self._spectra[: self._block_frames]), self._gains, self._block
            )
            return
        for step in range(self._steps):
            self._invert(step)

    def _inverted(self, rows: Array | Spectra) -> Any:
        """Return those frames that are inverted, of frames that begin with a column's first."""
        return rows[self._every - 1 :: self._every]

    def _gains_of(self, step: int) -> Array:
        frames = self._step_frames // self._every
        return self._gains[step * frames : (step + 1) * frames]

    def _invert(self, step: int) -> None:
        block = self._block[step * self._step_samples : (step + 1) * self._step_samples]
        self._inverter.push(
            self._inverted(self._spectra[self._rows(step)]), self._gains_of(step), block
        )

    def _mix(self) -> None:
        self._levels[: self._meeting] = self._levels[-self._meeting :]
        # No product of a matrix and a vector: it sums in another order where there are more rows.
        np.add.reduce(
            self._inverted(self._band_gains) * self._top_weights,
            axis=-1,
            out=self._levels[self._meeting :],
        )
        old, new = self._reached_strength, self._strength  # read once: another thread may set it
        if old == new == 1.0:
            return
        wet: Array | np.float32
        if old == new:
            wet = np.float32(new)
        else:
            wet = np.float32(old) + np.float32(new - old) * self._glide
            self._reached_strength = new
        dry = self._ring.view(self._block_start, self._block_start + self._block_samples)[:, 0]
        np.multiply(dry, np.float32(1.0) - wet, out=self._dry)
        self._block *= wet
        self._block += self._dry


def _top_weights(spec: ModelSpec) -> Array:
    """Return what makes the top gain of the bands' gains, shape (n_mels,)."""
    centres_hz = band_edges_hz(spec.n_mels, spec.fmin_hz, spec.fmax_hz)[1:-1]
    top = (centres_hz >= TOP_HZ[0]) & (centres_hz <= TOP_HZ[1])
    top[-1] |= not top.any()
    weights: Array = top.astype(np.float32) / np.float32(top.sum())
    return weights


def finite(samples: Array) -> Array:
    """Return samples in single precision, limited to LOUDEST and silence where they are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        if samples.dtype == np.float32 and np.dot(samples, samples) <= LOUDEST**2:
            return samples
    limited = np.clip(samples, -LOUDEST, LOUDEST).astype(np.float32, copy=False)
    return np.where(np.isfinite(samples), limited, np.float32(0.0))
