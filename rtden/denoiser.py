"""The signal path, end to end: ring, frames, mels, autoencoder, Griffin-Lim, overlap-add.

:class:`Denoiser` is pure (arrays in, arrays out) and the only implementation: the live engine, files,
benchmarks, evaluation and tests all run it.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder, Network
from rtden.errors import InputError, SettingsError
from rtden.griffinlim import Inverter
from rtden.highband import HighBandGain
from rtden.mel import Features, shared_band_spread
from rtden.model import Model, ModelSpec, load_spec
from rtden.offset import OffsetBlocker
from rtden.resting import PENDING_STEPS, PendingColumns, SilenceDetector
from rtden.settings import (
    HOPS_PER_STEP,
    SHORTEST_OVERLAP_SAMPLES,
    Settings,
    check_limit_db,
    check_strength,
    gain_floor,
)
from rtden.spectral import Frames, power, window_pair
from rtden.types import Array, Spectra

LOUDEST = 1000.0
"""Larger samples (60 dB above full scale) come from a corrupt stream and count as silence."""
LOUDEST_SOUND = 32.0
"""Where most samples are larger (30 dB above full scale), they have the scale of integers."""
SMALLEST_BLOCK = 32
"""Samples from which that can be told."""


class Latency(NamedTuple):
    """A delay, in two units."""

    samples: int
    seconds: float

    @property
    def ms(self) -> float:
        """The delay in milliseconds."""
        return 1000.0 * self.seconds


def algorithmic_latency(spec: ModelSpec, settings: Settings) -> Latency:
    """Return the latency of a model under some settings.

    It is a step, the samples that still have to overlap, and the columns that the network looks
    ahead.
    """
    overlap = settings.overlap_samples
    longest = spec.n_fft - spec.hop
    samples = (settings.hops_per_step + spec.lookahead) * spec.hop
    samples += longest if overlap is None else overlap
    return Latency(samples, samples / spec.rate_hz)


def settings_for_latency(
    ms: float, *, model: str | Path | Model | None = None, settings: Settings | None = None
) -> tuple[Settings, Latency]:
    """Return the settings that use an algorithmic latency best, and the latency that they give.

    Quality comes first: the longest overlap that fits. If all of it fits, the rest goes into the
    largest hops_per_step, which costs less. If nothing fits, the result is the lowest latency that
    is possible, above the wish.

    Parameters
    ----------
    ms : float
        The latency must not exceed this, in ms; may be infinite.
    model : str, Path or Model, optional
        As for :class:`Denoiser`.
    settings : Settings, optional
        Source of everything but `hops_per_step` and `overlap_samples`.

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
    if not ms > 0:
        raise SettingsError(f"a latency must be more than 0 ms, not {ms:g}")
    spec = load_spec(model)
    longest = spec.n_fft - spec.hop
    wish_samples = ms * spec.rate_hz / 1000.0
    spare = wish_samples - (1 + spec.lookahead) * spec.hop
    overlap = longest if spare >= longest else max(SHORTEST_OVERLAP_SAMPLES, math.floor(spare))
    chosen = dataclasses.replace(
        settings or Settings(),
        hops_per_step=1,
        overlap_samples=None if overlap == longest else overlap,
    )
    for hops in HOPS_PER_STEP:
        larger = dataclasses.replace(chosen, hops_per_step=hops)
        fits = algorithmic_latency(spec, larger).samples <= wish_samples
        if fits and hops <= spec.frames - spec.lookahead:
            chosen = larger
    return chosen, algorithmic_latency(spec, chosen)


@dataclass(frozen=True)
class Geometry:
    """Sizes of a step and of a block, in samples and frames.

    A step is `hops_per_step` hops; a block is the steps that are computed together.

    Raises
    ------
    SettingsError
        If the model's frames have no such overlap.
    """

    spec: ModelSpec
    hops_per_step: int
    steps: int
    """Per block."""
    overlap: int
    """Samples by which synthesis windows overlap."""

    @classmethod
    def of(cls, spec: ModelSpec, settings: Settings, batch_steps: int) -> Geometry:
        """Return the sizes for a model and settings."""
        longest = spec.n_fft - spec.hop
        overlap = longest if settings.overlap_samples is None else settings.overlap_samples
        if overlap > longest:
            raise SettingsError(
                f"the frames of model '{spec.name}' overlap by {longest} samples at most: "
                f"overlap_samples must not be {overlap}"
            )
        return cls(spec, settings.hops_per_step, batch_steps, overlap)

    @property
    def whole_overlap(self) -> bool:
        """Whether the overlap is the longest: n_fft - hop."""
        return self.overlap == self.spec.n_fft - self.spec.hop

    @property
    def step_samples(self) -> int:
        """Samples of a step."""
        return self.hops_per_step * self.spec.hop

    @property
    def step_frames(self) -> int:
        """Frames of a step."""
        return self.hops_per_step * self.spec.frames_per_column

    @property
    def inverted_every(self) -> int:
        """Every how many frames one is inverted.

        With a short overlap it is the newest frame of each column: older frames would produce
        samples that the newer frame estimates better.
        """
        return 1 if self.whole_overlap else self.spec.frames_per_column

    @property
    def inverted_hop(self) -> int:
        """Distance of inverted frames in samples."""
        return self.inverted_every * self.spec.frame_hop

    @property
    def delay_samples(self) -> int:
        """Samples by which a block's output lies behind its input."""
        return self.overlap + self.spec.lookahead * self.spec.hop


class Mix:
    """The last stage: the denoised signal and the input, in the shares that `strength` sets.

    Parameters
    ----------
    strength : float
        Wet share, 0 to 1. A new one is reached within a block, in a straight line.
    block_samples : int
    """

    def __init__(self, strength: float, block_samples: int) -> None:
        self.strength, self._dry = strength, np.empty(block_samples, np.float32)
        ramp = np.arange(1, block_samples + 1, dtype=np.float32)
        self._glide = ramp / np.float32(block_samples)
        self.reset()

    def reset(self) -> None:
        """Begin a stream with the strength that is set."""
        self.reached = self.strength
        """The strength at the end of the last block."""

    def apply(self, wet: Array, dry: Array) -> tuple[float, float]:
        """Mix a block in place; return the strengths at its beginning and at its end."""
        old, new = self.reached, self.strength  # read once: another thread may set it
        if not old == new == 1.0:
            self.reached = new
            share: Array | np.float32 = np.float32(new)
            if old != new:
                share = np.float32(old) + np.float32(new - old) * self._glide
            np.multiply(dry, np.float32(1.0) - share, out=self._dry)
            wet *= share
            wet += self._dry
        return old, new


class Denoiser:
    """A denoiser of one stream of mono audio at the model's rate.

    Streams of one model share what is loaded. One object is for one thread at a time; only
    `strength` and `limit_db` may be set from others.

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
        The stages of a step, in order. `network` may be replaced.
    silence : SilenceDetector
        Tells the steps for which the network is skipped.
    high_band : HighBandGain
        The gain for sound above the model's band.
    latency : Latency
        Of the algorithm and of the steps that are computed together.
    block_samples : int
        Samples of the steps that are computed together.
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
        hops, pending = settings.hops_per_step, batch_steps if batch_steps > 1 else PENDING_STEPS
        self.network: Network = network or Autoencoder(
            model, threads=settings.threads, columns=(hops, pending * hops)
        )
        self.spec = spec = self.network.spec
        self._geometry = geometry = Geometry.of(spec, settings, batch_steps)
        self.block_samples = batch_steps * geometry.step_samples
        samples = geometry.delay_samples + self.block_samples
        self.latency = Latency(samples, samples / spec.rate_hz)
        self._pending = PendingColumns(spec, hops, pending) if self.network.stateful else None
        self._build(settings)
        self._fed_samples = self._returned_samples = 0
        self.limit_db = settings.limit_db
        self.reset()

    def _build(self, settings: Settings) -> None:
        """Make the stages."""
        spec, geometry = self.spec, self._geometry
        hops, steps, every = geometry.hops_per_step, geometry.steps, geometry.inverted_every
        block_frames, finer = steps * geometry.step_frames, spec.frames_per_column
        # The features are of the same spectra: under an asymmetric window they weight the newest
        # samples more, as a short overlap needs it.
        self.frames = Frames(
            window_pair(spec.n_fft, geometry.inverted_hop, geometry.overlap)[0],
            hop=spec.frame_hop,
            frames=block_frames,
            lookahead_frames=spec.lookahead * finer,
            delay_samples=geometry.delay_samples,
            filter_samples=spec.hop,
            capacity_samples=spec.window_samples,
            prefilter=OffsetBlocker(),
        )
        # A step's columns: the new ones, or a window that ends with them.
        self._seen_columns = hops if self.network.stateful else spec.frames
        known = self._seen_columns - spec.lookahead
        if hops > known:
            raise InputError(
                f"model '{spec.name}' returns masks for {known} columns at once, fewer than "
                f"hops_per_step {hops}; choose a smaller hops_per_step."
            )
        self._mask_frames = slice((known - hops) * finer, known * finer)
        self.features = Features(spec, self._seen_columns + (steps - 1) * hops)
        self._spread = shared_band_spread(
            spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz
        )
        self._band_gains = np.empty((block_frames, spec.n_mels), np.float32)
        self._gains = np.empty((block_frames // every, spec.n_fft // 2 + 1), np.float32)
        iterations = settings.iterations
        if iterations is None:
            # The model's were chosen with the whole overlap. With a shorter one they do harm: the
            # newest frame has too little beside it.
            iterations = spec.iterations if geometry.whole_overlap else 0
        self._inverted_at_once = 1 if iterations else steps
        self.inverter = Inverter(
            n_fft=spec.n_fft,
            hop=geometry.inverted_hop,
            new_frames=self._inverted_at_once * geometry.step_frames // every,
            iterations=iterations,
            frames=spec.frames_inverted if settings.frames is None else settings.frames,
            phase=settings.phase or spec.phase,
            seed=settings.seed,
            overlap=geometry.overlap,
        )
        self.mix = Mix(settings.strength, self.block_samples)
        self.high_band = HighBandGain(
            spec, overlap=geometry.overlap, hop=geometry.inverted_hop, frames=len(self._gains)
        )
        self.silence = SilenceDetector(self._silence_samples())
        columns = self.features.columns.shape[1] + 2
        self._settled_samples = spec.n_fft + columns * spec.hop + self.block_samples
        self._block = np.empty(self.block_samples, np.float32)

    def _silence_samples(self) -> int:
        """Return the samples that fill the network's window and the inverter, and a step's."""
        spec, geometry = self.spec, self._geometry
        inverted = self.inverter.older_frames * geometry.inverted_every + geometry.step_frames
        inverted += spec.lookahead * spec.frames_per_column
        frames = max(spec.frames * spec.frames_per_column, inverted) + geometry.step_frames
        return spec.n_fft + (frames - 1) * spec.frame_hop

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
        return self._geometry.step_samples

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; at first that of the settings.

        It may be set at any time, from any thread. The next block of steps glides to it in a
        straight line, in time with the dry signal, so that no click is heard; before the first
        sample of a stream it holds at once. :meth:`reset` keeps it.

        Raises
        ------
        SettingsError
            If it is set to a value outside 0 to 1.
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
        overlap-add fades in. :meth:`reset` keeps it.

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
    def high_band_gains(self) -> Array:
        """The gain for sound above the model's band, at each sample that the last call returned."""
        return self.high_band.gains

    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        self._reset(0)

    def _reset(self, tail_samples: int) -> None:
        for stage in (self.frames, self.features, self.network, self.inverter, self.silence):
            stage.reset()
        self.mix.reset()
        self.high_band.reset(tail_samples)
        if self._pending is not None:
            self._pending.reset()
        self._band_gains[...] = 1.0
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
            If `samples` is not a one-dimensional array of floating-point numbers.
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
        tail = np.empty(0, np.float32)
        if rest:
            silence = np.zeros(self.latency.samples + self.block_samples, np.float32)
            tail = self._run(silence)[:rest]
        self._reset(rest)
        return tail

    def _run(self, samples: Array) -> Array:
        size, frames = self.block_samples, self.frames
        blocks = max(0, (len(samples) - frames.missing_samples) // size + 1)
        self.high_band.begin(blocks)
        out = np.empty(blocks * size, np.float32)
        position = 0
        for block in range(blocks):
            end = position + frames.missing_samples
            frames.feed(samples[position:end])
            position = end
            self._step()
            wet = out[block * size : (block + 1) * size]
            wet[...] = self._block
            strengths = self.mix.apply(wet, frames.delayed_input(0, size))
            self.high_band.push(block, self._inverted(self._band_gains), strengths)
        frames.feed(samples[position:])
        # The first blocks stand for the silence before the stream.
        before = max(0, self._geometry.delay_samples - frames.delayed_samples + len(out))
        start = min(before, len(out))
        self._returned_samples += len(out) - start
        self.high_band.keep(start, len(out))
        return out[start:]

    def _step(self) -> None:
        """Process the new frames of a block; `_block` then holds the samples that they complete."""
        spectra = self.frames.transform()
        # The columns of digital silence are equal, once the newest ones all are.
        if self.frames.zero_samples < self._settled_samples:
            self.features.push(power(spectra))
        step = self._geometry.step_samples
        silent = [
            self.silence.push(self.frames.newest_input(start, start + step))
            for start in range(0, self.block_samples, step)
        ]
        if any(silent):
            for number, skipped in enumerate(silent):
                (self._skip if skipped else self._process)(number)
            return
        if self._pending is not None and len(silent) > 1:
            self._pending.flush(self.network)
            self._write_gains(self.network.infer(self.features.columns), slice(None))
        else:
            for number in range(len(silent)):
                self._infer(number)
        if self._inverted_at_once == len(silent):
            self._invert(slice(None), slice(None), self._block)
        else:
            for number in range(len(silent)):
                self._invert_step(number)

    def _process(self, step: int) -> None:
        self._infer(step)
        self._invert_step(step)

    def _skip(self, step: int) -> None:
        """Pass a silent step on without a mask and without inversion.

        The inverter begins anew: after digital silence that is the state that it would have;
        otherwise what it lacks is as quiet as the silence was. The gain stays the last one, so that
        a file that is quiet throughout is not muted.
        """
        if self._pending is not None:
            self._pending.hold(self._columns(step), self.network)
        self.inverter.skip(self._geometry.step_frames // self._geometry.inverted_every)
        rows, samples = self._rows(step), self._samples(step)
        self._band_gains[rows] = self._band_gains[rows.start - 1]  # may be the last block's newest
        gain = self._band_gains[rows.start].mean()
        delayed = self.frames.delayed_input(samples.start, samples.stop)
        np.multiply(delayed, gain, out=self._block[samples])

    def _rows(self, step: int) -> slice:
        """Return which of the block's frames are a step's."""
        size = self._geometry.step_frames
        return slice(step * size, (step + 1) * size)

    def _samples(self, step: int) -> slice:
        size = self._geometry.step_samples
        return slice(step * size, (step + 1) * size)

    def _columns(self, step: int) -> Array:
        """Return the columns that the network takes at a step."""
        start = step * self._geometry.hops_per_step
        return self.features.columns[:, start : start + self._seen_columns]

    def _infer(self, step: int) -> None:
        """Let the network estimate the mask of a step."""
        columns = self._columns(step)
        if self._pending is None:
            mask = self.network.infer(columns)[:, self._mask_frames]
        else:
            mask = self._pending.infer(columns, self.network)
        self._write_gains(mask, self._rows(step))

    def _write_gains(self, mask: Array, rows: slice) -> None:
        np.maximum(mask.T, self._gain_floor, out=self._band_gains[rows])

    def _invert_step(self, step: int) -> None:
        size = self._geometry.step_frames // self._geometry.inverted_every
        gains = slice(step * size, (step + 1) * size)
        self._invert(self._rows(step), gains, self._block[self._samples(step)])

    def _invert(self, rows: slice, gains: slice, out: Array) -> None:
        """Write the samples that some of the block's frames complete."""
        self._spread(self._inverted(self._band_gains[rows]), self._gains[gains])
        spectra = self.frames.spectra[: len(self._band_gains)][rows]
        self.inverter.push(self._inverted(spectra), self._gains[gains], out)

    def _inverted(self, rows: Array | Spectra) -> Any:
        """Return those frames that are inverted, of frames that begin with a column's first."""
        every = self._geometry.inverted_every
        return rows[every - 1 :: every]


def check_floating(samples: Any) -> None:
    """Refuse samples that are not floating point: their scale is unknown.

    Raises
    ------
    InputError
        If the data type is another.
    """
    if samples.dtype.kind != "f":
        raise InputError(
            f"feed takes floating-point samples with full scale +-1, not {samples.dtype}; "
            "divide integers by their full scale (32768 for int16)."
        )


def finite(samples: Any) -> Array:
    """Return floating-point samples in single precision, silence where they cannot be sound.

    That is where they are not finite or louder than LOUDEST.

    Raises
    ------
    InputError
        If most samples are as large as integers: their scale is not +-1.
    """
    if samples.dtype == np.float32 and np.vdot(samples, samples) <= LOUDEST**2:
        return samples  # type: ignore[no-any-return]
    with np.errstate(over="ignore", invalid="ignore"):
        sizes = np.abs(samples.reshape(-1))
        integers = (sizes > LOUDEST_SOUND) & (sizes < 2.0**32)
        if 2 * np.count_nonzero(integers) > len(sizes) >= SMALLEST_BLOCK:
            raise InputError(
                f"samples reach {sizes[integers].max():.0f}, but full scale is +-1; "
                "divide those of integers by their full scale (32768 for int16)."
            )
        sound = np.where(np.abs(samples) <= LOUDEST, samples, 0.0)  # not a number is not less
    return sound.astype(np.float32)
