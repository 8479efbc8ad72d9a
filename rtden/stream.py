"""Any sample rate and number of channels around the denoiser, which knows mono at the model's rate."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rtden.denoiser import Denoiser
from rtden.errors import InputError
from rtden.resample import Interpolator, Resampler, has_soxr
from rtden.settings import Settings
from rtden.types import Array

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192000
MOST_CHANNELS = 8


class StreamDenoiser:
    """A denoiser per channel between two resamplers, and a way around them for what lies above the model's band.

    What the resamplers take away, above about 10 kHz, goes around: delayed as the rest is, at the gain of the topmost bands.
    So a gain of one everywhere gives back the input, to the top of its band.

    Parameters
    ----------
    rate_hz : int
        Rate of what is fed and of what comes back, 8 to 192 kHz.
    channels : int
        1 to 8.
    low_delay : bool
        Resample for a live stream (:class:`rtden.resample.Interpolator`), not in steep blocks (:class:`rtden.resample.Resampler`);
        without soxr it is always the former.
    full_band : bool
        Whether there is a way around.
    batch_steps : int
        Steps that a denoiser computes together, as :class:`rtden.Denoiser` says: the same samples, cheaper and later.

    Raises
    ------
    InputError
        If the rate or the number of channels is out of range.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        settings: Settings | None = None,
        *,
        rate_hz: int,
        channels: int = 1,
        low_delay: bool = False,
        full_band: bool = True,
        batch_steps: int = 1,
    ) -> None:
        if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
            raise InputError(
                f"a sample rate of {rate_hz} Hz is outside {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz; resample the recording first."
            )
        if not 1 <= channels <= MOST_CHANNELS:
            raise InputError(
                f"{channels} channels are outside the 1 to {MOST_CHANNELS} that rtden takes; split the recording first."
            )
        self.rate_hz, self.channels = rate_hz, channels
        self.denoisers = [
            Denoiser(model, settings, batch_steps=batch_steps) for _ in range(channels)
        ]
        self._model_hz = self.denoisers[0].rate_hz
        self._full_band = full_band and rate_hz > self._model_hz
        self._resampler: type[Interpolator] | type[Resampler] = (
            Interpolator if low_delay or not has_soxr() else Resampler
        )
        self.reset()

    @property
    def resampling_seconds(self) -> float:
        """Delay of the two resamplers of a live stream."""
        return sum(
            resampler.delay_seconds
            for resampler in (self._before, self._after)
            if isinstance(resampler, Interpolator)
        )

    @property
    def missing_samples(self) -> int:
        """Samples without which the next step of a low-delay stream cannot be completed."""
        step = self.denoisers[0].step_samples
        if not isinstance(self._before, Interpolator):
            return step
        return self._before.missing_samples(step - self._before.given_samples % step)

    def reset(self) -> None:
        """Forget the stream."""
        for denoiser in self.denoisers:
            denoiser.reset()
        self._before = self._resampler(self.rate_hz, self._model_hz, channels=self.channels)
        self._after = self._resampler(self._model_hz, self.rate_hz, channels=self.channels)
        nothing = np.empty((0, self.channels), np.float32)
        # Waiting for the denoisers: the input, and the same at the model's rate; and the gains of what they gave.
        self._input, self._low, self._gains = nothing, nothing, nothing
        self._gains_from = 0
        self.fed_samples = self.returned_samples = 0

    def feed(self, block: Array) -> Array:
        """Take in samples of shape (samples, channels); return those that are ready."""
        block = _finite(np.asarray(block, np.float32))
        self.fed_samples += len(block)
        low = self._before.feed(block)
        if self._full_band:
            self._input, self._low = (
                np.concatenate([self._input, block]),
                np.concatenate([self._low, low]),
            )
        denoised = self._below(
            [denoiser.feed(low[:, channel]) for channel, denoiser in enumerate(self.denoisers)]
        )
        return self._above(self._after.feed(denoised))

    def flush(self) -> Array:
        """End the stream: return what is owed, so that the output lasts as long as the input to the sample, and reset."""
        owed = self.fed_samples - self.returned_samples
        low = self._before.feed(np.zeros((0, self.channels), np.float32), last=True)
        if self._full_band:
            self._low = np.concatenate([self._low, low])
        rest = self._below(
            [denoiser.feed(low[:, channel]) for channel, denoiser in enumerate(self.denoisers)]
        )
        ends = self._below([denoiser.flush() for denoiser in self.denoisers])
        tail = self._after.feed(np.concatenate([rest, ends]), last=True)[: max(0, owed)]
        tail = self._above(
            np.concatenate([tail, np.zeros((max(0, owed - len(tail)), self.channels), np.float32)])
        )
        self.reset()
        return tail

    def _below(self, denoised: list[Array]) -> Array:
        """Return what the denoisers gave, without what goes around and lies in their band all the same."""
        below = _side_by_side(denoised)
        if not self._full_band:
            return below
        around = _side_by_side([denoiser.high_band_gains for denoiser in self.denoisers])
        self._gains = np.concatenate([self._gains, around])
        low, self._low = self._low[: len(below)], self._low[len(below) :]
        return below - around * low

    def _above(self, resampled: Array) -> Array:
        """Return the output: what came through the resamplers and what goes around."""
        samples = len(resampled)
        if (
            self._full_band and samples and len(self._gains)
        ):  # a stream of one sample has none at the model's rate
            at = (
                np.arange(self.returned_samples, self.returned_samples + samples)
                * self._model_hz
                // self.rate_hz
                - self._gains_from
            )
            gains = self._gains[np.minimum(at, len(self._gains) - 1)]
            resampled = resampled + gains * self._input[:samples]
            self._input = self._input[samples:]
            self._gains, self._gains_from = self._gains[at[-1] :], self._gains_from + int(at[-1])
        self.returned_samples += samples
        return resampled


def _side_by_side(signals: list[Array]) -> Array:
    """Return signals as the columns of one array, (samples, channels), contiguous as soxr wants it."""
    return np.ascontiguousarray(np.stack(signals, axis=1))


def _finite(block: Array) -> Array:
    """Silence what is not finite: one NaN would stay in a resampler's filter for its whole length."""
    return (
        block if np.isfinite(block).all() else np.where(np.isfinite(block), block, np.float32(0.0))
    )
