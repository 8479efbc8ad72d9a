"""Any sample rate and number of channels around the denoiser, which knows mono at the model's rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtden.denoiser import Denoiser
from rtden.errors import InputError, MissingPackageError
from rtden.mel import Array
from rtden.settings import Settings

LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 8000, 192000
MOST_CHANNELS = 8
VARIABLE_RATE_SHIFT = 1.62
"""By how many samples of the lower rate soxr's variable-rate mode is late when it goes down, measured at rates of 8 to 192 kHz."""


def load_soxr() -> Any:
    """Import and return soxr: of 32-bit ARM it has no wheels, and what is at the model's own rate already does without it.

    Raises
    ------
    MissingPackageError
        If it is not installed.
    """
    try:
        import soxr
    except ImportError:
        raise MissingPackageError("sound at another rate than the model's needs the package soxr: run 'pip install soxr'.") from None
    return soxr


class Resampler:
    """A stream from one sample rate to another; what is equal passes untouched.

    The output is aligned with the input, soxr's filter delay included: it is late, not shifted.

    Parameters
    ----------
    low_delay : bool
        soxr filters in blocks, so that its output comes in bursts of up to 40 ms. Its variable-rate mode filters sample by
        sample, with a constant delay of 5 to 15 ms at the usual rates; it costs more and suits a live stream.
    """

    def __init__(self, source_hz: int, target_hz: int, *, channels: int = 1, low_delay: bool = False) -> None:
        self.source_hz, self.target_hz, self._channels = source_hz, target_hz, channels
        self._stream = (
            None if source_hz == target_hz else load_soxr().ResampleStream(source_hz, target_hz, channels, dtype="float32", quality="HQ", vr=low_delay)
        )
        self._taken_samples = self._given_samples = 0
        # Its output begins that much too late; so much of the input's beginning is left out.
        self._left_out_samples = round(VARIABLE_RATE_SHIFT * source_hz / target_hz) if low_delay and target_hz < source_hz else 0

    def feed(self, block: Array, *, last: bool = False) -> Array:
        """Return what is ready, shapes (samples, channels); `last` ends the stream."""
        if self._stream is None:
            return block
        if self._taken_samples < self._left_out_samples:
            left_out = min(len(block), self._left_out_samples - self._taken_samples)
            self._taken_samples += left_out
            block = block[left_out:]
        if last and self._left_out_samples:
            block = np.concatenate([block, np.zeros((self._left_out_samples, self._channels), np.float32)])
        out: Array = self._stream.resample_chunk(block, last=last).reshape(-1, self._channels)
        self._taken_samples += len(block)
        self._given_samples += len(out)
        return out

    @property
    def delay_seconds(self) -> float:
        """How far the output lags behind the input at present."""
        return self._taken_samples / self.source_hz - self._given_samples / self.target_hz


def live_delay_seconds(source_hz: int, target_hz: int) -> float:
    """Return the delay of a running low-delay :class:`Resampler`, found by running one."""
    probe = Resampler(source_hz, target_hz, low_delay=True)
    for _ in range(20):
        probe.feed(np.zeros((source_hz // 100, 1), np.float32))
    return probe.delay_seconds


class StreamDenoiser:
    """A :class:`Denoiser` per channel between two resamplers.

    Parameters
    ----------
    source_hz, target_hz : int
        Rates of what is fed and of what comes back, 8 to 192 kHz.
    channels : int
        1 to 8.
    low_delay : bool
        Resample for a live stream, see :class:`Resampler`.

    Raises
    ------
    InputError
        If a rate or the number of channels is out of range.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        settings: Settings | None = None,
        *,
        source_hz: int,
        target_hz: int | None = None,
        channels: int = 1,
        low_delay: bool = False,
    ) -> None:
        self.source_hz = source_hz
        self.target_hz = source_hz if target_hz is None else target_hz
        for rate_hz in (self.source_hz, self.target_hz):
            if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
                raise InputError(f"a sample rate of {rate_hz} Hz is outside {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz; resample the recording first.")
        if not 1 <= channels <= MOST_CHANNELS:
            raise InputError(f"{channels} channels are outside the 1 to {MOST_CHANNELS} that rtden takes; split the recording first.")
        self.channels, self._low_delay = channels, low_delay
        self.denoisers = [Denoiser(model, settings) for _ in range(channels)]
        self.rate_hz = self.denoisers[0].rate_hz
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        for denoiser in self.denoisers:
            denoiser.reset()
        self._before = Resampler(self.source_hz, self.rate_hz, channels=self.channels, low_delay=self._low_delay)
        self._after = Resampler(self.rate_hz, self.target_hz, channels=self.channels, low_delay=self._low_delay)
        self._fed_samples = 0
        self._given_samples = 0

    def feed(self, block: Array) -> Array:
        """Take in samples of shape (samples, channels) at `source_hz`; return those that are ready, at `target_hz`."""
        self._fed_samples += len(block)
        block = np.asarray(block, np.float32)
        return self._count(self._after.feed(self._denoise(self._before.feed(_finite(block)))))

    def flush(self) -> Array:
        """End the stream: return what is owed, so that the output lasts as long as the input to the sample, and reset."""
        owed = round(self._fed_samples * self.target_hz / self.source_hz) - self._given_samples
        rest = self._denoise(self._before.feed(np.zeros((0, self.channels), np.float32), last=True))
        ends = _side_by_side([denoiser.flush() for denoiser in self.denoisers])
        tail = self._after.feed(np.concatenate([rest, ends]), last=True)[: max(0, owed)]
        short = np.zeros((max(0, owed - len(tail)), self.channels), np.float32)
        self.reset()
        return np.concatenate([tail, short])

    def _denoise(self, block: Array) -> Array:
        return _side_by_side([denoiser.feed(block[:, channel]) for channel, denoiser in enumerate(self.denoisers)])

    def _count(self, block: Array) -> Array:
        self._given_samples += len(block)
        return block


def _side_by_side(signals: list[Array]) -> Array:
    """Return signals as the columns of one array, (samples, channels), contiguous as soxr wants it."""
    return np.ascontiguousarray(np.stack(signals, axis=1))


def _finite(block: Array) -> Array:
    """Silence what is not finite: one NaN would stay in a resampler's filter for its whole length."""
    return block if np.isfinite(block).all() else np.where(np.isfinite(block), block, np.float32(0.0))
