"""Any sample rate and number of channels around the denoiser, which takes mono at one rate."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rtden.denoiser import BATCH_STEPS, Denoiser, Latency
from rtden.errors import InputError
from rtden.highband import BypassPath
from rtden.model import Model, load_model
from rtden.resample import Interpolator, Resampler, has_soxr
from rtden.samples import check_channels, check_rate, finite, floating
from rtden.settings import Settings, check_flags
from rtden.threads import SingleThreaded, one_thread
from rtden.types import Array


class Adjustable(SingleThreaded):
    """Strength and limit of a stream: those of all its `denoisers`."""

    denoisers: list[Denoiser]

    @property
    def strength(self) -> float:
        """Wet share of all channels, 0 to 1; may be set at any time, from any thread."""
        return self.denoisers[0].strength

    @strength.setter
    def strength(self, strength: float) -> None:
        for denoiser in self.denoisers:
            denoiser.strength = strength

    @property
    def limit_db(self) -> float:
        """At most this much noise is taken off, in dB; may be set at any time, from any thread."""
        return self.denoisers[0].limit_db

    @limit_db.setter
    def limit_db(self, limit_db: float) -> None:
        for denoiser in self.denoisers:
            denoiser.limit_db = limit_db


class StreamDenoiser(Adjustable):
    """Denoises a stream of any sample rate and number of channels.

    Each channel has a :class:`rtden.Denoiser` between two resamplers. Sound above the model's band,
    which the resamplers remove, takes a path around them: delayed as the rest, at the gain of the
    model's topmost bands. With a gain of one everywhere the output is the input, up to the top of
    its band.

    One object is for one thread at a time; any number may run in threads, and they share the model.

    Parameters
    ----------
    model : str, Path or Model, optional
        As for :class:`rtden.Denoiser`, and so are `settings` and `batch_steps`.
    rate_hz : int
        Rate of input and output, 8000 to 192000.
    channels : int
        1 to 64.
    low_delay : bool
        Resample for a live stream (:class:`rtden.resample.Interpolator`), not in steep blocks
        (:class:`rtden.resample.Resampler`). Without soxr it is always the former.
    full_band : bool
        Pass sound above the model's band.

    Raises
    ------
    InputError
        If the rate or the number of channels is out of range.
    ModelError, SettingsError
        If the model cannot be used, or not with the settings.

    Attributes
    ----------
    model : Model
        The loaded model.
    denoisers : list of Denoiser
        One for each channel.
    fed_samples, returned_samples : int
        Per channel, since the beginning of the stream.

    Examples
    --------
    >>> with StreamDenoiser(rate_hz=48000, channels=2) as stream:
    ...     parts = [stream.feed(np.zeros((480, 2), np.float32)) for _ in range(10)]
    ...     parts.append(stream.flush())
    >>> np.concatenate(parts).shape
    (4800, 2)
    """

    def __init__(
        self,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        *,
        rate_hz: int,
        channels: int = 1,
        low_delay: bool = False,
        full_band: bool = True,
        batch_steps: int = BATCH_STEPS,
    ) -> None:
        super().__init__()
        check_flags(low_delay=low_delay, full_band=full_band)
        self.rate_hz = rate_hz = check_rate(rate_hz)
        self.channels = channels = check_channels(channels)
        self.model = load_model(model)
        self._options: dict[str, Any] = {"rate_hz": rate_hz, "channels": channels}
        self._options |= {"low_delay": low_delay, "full_band": full_band}
        self._options["batch_steps"] = batch_steps
        self.denoisers = [
            Denoiser(self.model, settings, batch_steps=batch_steps) for _ in range(channels)
        ]
        model_hz = self.denoisers[0].rate_hz
        self._low_delay = low_delay or not has_soxr()
        self._before = self.resampler(rate_hz, model_hz)
        self._after = self.resampler(model_hz, rate_hz)
        bypassed = full_band and rate_hz > model_hz
        self._bypass = BypassPath(rate_hz, model_hz, channels) if bypassed else None
        self.fed_samples = self.returned_samples = 0

    def another(self, settings: Settings | None = None) -> StreamDenoiser:
        """Return a new stream of the same kind, with other settings."""
        return StreamDenoiser(self.model, settings, **self._options)

    def resampler(self, source_hz: int, target_hz: int) -> Any:
        """Return a resampler of the stream's kind and channels."""
        kind = Interpolator if self._low_delay else Resampler
        return kind(source_hz, target_hz, channels=self.channels)

    @property
    def latency(self) -> Latency:
        """Delay of the output, resampling included; a player that is this late never runs dry."""
        rates, sizes = (self.rate_hz, self.denoisers[0].rate_hz), self.denoisers[0].geometry
        equal = self._low_delay or rates[0] == rates[1]
        of_kind = _interpolated_latency if equal else _resampled_latency
        samples = of_kind(*rates, sizes.step_samples, sizes.overlap)
        return Latency(samples, samples / self.rate_hz)

    @property
    def missing_samples(self) -> int:
        """Samples to feed before a low-delay stream can compute its next step."""
        missing: int = self._before.missing_samples(self.denoisers[0].frames.missing_samples)
        return missing

    @one_thread
    def reset(self) -> None:
        """Forget the stream: what follows is a new one."""
        for part in (*self.denoisers, self._before, self._after):
            part.reset()
        if self._bypass is not None:
            self._bypass.reset()
        self.fed_samples = self.returned_samples = 0

    @one_thread
    def feed(self, samples: ArrayLike) -> Array:
        """Take in any number of samples and return those that are ready.

        The output is aligned with the input: its n-th sample is the n-th of the input, denoised.

        Parameters
        ----------
        samples : array_like, shape (samples, channels)
            Floating point, full scale +-1. Values that are not finite count as silence.

        Returns
        -------
        array, shape (ready, channels), float32

        Raises
        ------
        InputError
            If `samples` has another shape, another type or another scale.
        """
        block = self.checked(samples)
        self.fed_samples += len(block)
        denoised = self._filtered(self._before.feed(block), block)
        if not len(denoised):
            return denoised
        out: Array = self._after.feed(denoised)
        if self._bypass is not None:
            out = self._bypass.add(out)
        self.returned_samples += len(out)
        return out

    def checked(self, samples: ArrayLike) -> Array:
        """Return a block in float32 as :meth:`feed` takes it, or raise what that does."""
        block = floating(samples)
        if block.ndim != 2 or block.shape[1] != self.channels:
            raise InputError(
                f"feed takes blocks of shape (samples, {self.channels}), not {block.shape}"
                f"{_advice(block, self.channels)}"
            )
        return finite(block)

    @one_thread
    def flush(self) -> Array:
        """End the stream: return the samples that are still to come, and reset.

        Together with the output of :meth:`feed` every sample fed comes back exactly once.
        """
        rest = self.fed_samples - self.returned_samples
        none = np.zeros((0, self.channels), np.float32)
        early = self._filtered(self._before.feed(none, last=True), none)
        late = self._reduced([denoiser.flush() for denoiser in self.denoisers])
        tail = np.zeros((rest, self.channels), np.float32)
        last = self._after.feed(np.concatenate([early, late]), last=True)[:rest]
        tail[: len(last)] = last
        out = tail if self._bypass is None else self._bypass.add(tail)
        self.reset()
        return out

    def _filtered(self, low: Array, block: Array) -> Array:
        """Return what the denoisers return for a block, at the model's rate."""
        if self._bypass is not None:
            self._bypass.hold(block, low)
        return self._reduced([one.feed(low[:, n]) for n, one in enumerate(self.denoisers)])

    def _reduced(self, signals: list[Array]) -> Array:
        """Return signals side by side, without the part in their band that takes the bypass."""
        denoised = _side_by_side(signals)
        if self._bypass is None:
            return denoised
        gains = _side_by_side([denoiser.high_band.gains for denoiser in self.denoisers])
        return self._bypass.reduce(denoised, gains)


def _advice(block: Array, channels: int) -> str:
    if block.ndim == 1 and channels == 1:
        return "; pass samples[:, None]."
    if block.ndim == 2 and block.shape[0] == channels:
        return "; pass samples.T."
    return ": one column per channel."


def _side_by_side(signals: list[Array]) -> Array:
    """Return signals as columns, (samples, channels)."""
    return signals[0][:, None] if len(signals) == 1 else np.stack(signals, axis=1)


@functools.lru_cache(maxsize=64)
def _interpolated_latency(rate_hz: int, model_hz: int, step: int, delay: int) -> int:
    """Return the latency of a denoiser between two interpolators, in samples at `rate_hz`.

    It is the largest number of samples fed and not returned when a step of `step` samples is
    complete, whose output ends `delay` samples earlier. All fractions that occur are tried.
    """
    before, after = Interpolator(rate_hz, model_hz), Interpolator(model_hz, rate_hz)
    numbers = np.arange(1, delay // step + model_hz + 3, dtype=np.int64)
    fed = before.needed_samples(numbers * step)
    returned = after.ready_samples(np.maximum(0, (numbers - 1) * step - delay))
    return int((fed - np.maximum(0, returned)).max())


@functools.lru_cache(maxsize=64)
def _resampled_latency(rate_hz: int, model_hz: int, step: int, delay: int) -> int:
    """Do as :func:`_interpolated_latency` does for soxr, whose bursts are tried out."""
    before, after = Resampler(rate_hz, model_hz), Resampler(model_hz, rate_hz)
    piece = np.zeros((rate_hz // 1000, 1), np.float32)
    latest = fed = taken = passed = returned = 0
    for _ in range(3000):
        fed += len(piece)
        latest = max(latest, fed - returned)
        taken += len(before.feed(piece))
        complete = max(0, taken // step * step - delay)
        if complete > passed:
            returned += len(after.feed(np.zeros((complete - passed, 1), np.float32)))
            passed = complete
    return latest
