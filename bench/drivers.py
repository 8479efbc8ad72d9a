"""Denoisers as streams, all driven alike: the interface, rtden's own, and any as live sound.

Nothing but numpy is imported here, and a driver imports only what its denoiser needs: memory and
start-up time of a process that runs one are that denoiser's own.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # rtden is to be in the memory of rtden's own process only
    from rtden.types import Array

LONGEST_DELAY_SECONDS = 0.25
LIVE_HZ, LIVE_LATENCY_MS = 48000, 30.0
"""What `rtden live` meets and what it aims at."""
FULL_SCALE = np.float32(32768.0)


class Driver:
    """A denoiser that takes one frame after another, of float32.

    The state goes on from call to call. `split` and `join` convert between a signal and the frames
    that the denoiser takes and returns; only :class:`AsLive` counts them as a part of its cost.
    """

    rate_hz: int
    frame_samples: int
    """Of the frames that it takes; 0 stands for the whole recording."""

    def split(self, samples: Array) -> list[Any]:
        """Return a signal's whole frames."""
        size = self.frame_samples or max(1, len(samples))
        return list(np.ascontiguousarray(samples[: len(samples) // size * size]).reshape(-1, size))

    def feed(self, frame: Any) -> Any:
        """Take a frame and return what is ready."""
        raise NotImplementedError

    def join(self, given: list[Any]) -> Array:
        """Return as one signal what the calls gave."""
        return np.concatenate([np.empty(0, np.float32), *given])

    def close(self) -> None:
        """Free what garbage collection does not."""


class Int16Driver(Driver):
    """One whose frames are bytes, 16 bits a sample."""

    def split(self, samples: Array) -> list[Any]:
        whole = np.clip(np.rint(samples * FULL_SCALE), -32768, 32767).astype(np.int16)
        return [frame.tobytes() for frame in super().split(whole)]

    def join(self, given: list[Any]) -> Array:
        samples: Array = np.frombuffer(b"".join(given), np.int16).astype(np.float32) / FULL_SCALE
        return samples


class Copy(Driver):
    """Gives what it gets: what Python, numpy and the loop around a denoiser cost by themselves."""

    rate_hz, frame_samples = 48000, 480

    def feed(self, frame: Any) -> Any:
        return frame.copy()


class NumpyWork(Driver):
    """Work like a denoiser's that never changes: transforms, a filter bank, functions."""

    rate_hz, frame_samples = 22050, 512
    _TIMES = 8
    """A frame's work is done so often, to take a time like that of a step of rtden."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._window = rng.random(2 * self.frame_samples, np.float32)
        self._bank = rng.random((self.frame_samples + 1, 128), np.float32)

    def feed(self, frame: Any) -> Any:
        taken = np.concatenate([frame, frame])
        for _ in range(self._TIMES):
            spectrum = np.fft.rfft(taken * self._window)
            bands = np.log1p((spectrum.real**2 + spectrum.imag**2).astype(np.float32) @ self._bank)
            gains = (bands / (np.float32(1.0) + bands)) @ self._bank.T
            taken = np.fft.irfft(spectrum * np.tanh(gains)).astype(np.float32)
        return taken[: len(frame)]


class Rtden(Driver):
    """rtden's :class:`rtden.Denoiser` at its own rate, fed hop by hop."""

    def __init__(self, model: str | Path | None = None, hops_per_step: int = 1) -> None:
        from rtden import Denoiser, Settings

        self._denoiser = Denoiser(model, Settings(hops_per_step=hops_per_step))
        self.rate_hz = self._denoiser.rate_hz
        self.frame_samples = self._denoiser.step_samples // hops_per_step

    def feed(self, frame: Any) -> Any:
        return self._denoiser.feed(frame)


class RtdenLive(Driver):
    """rtden's :class:`rtden.StreamDenoiser` at 48 kHz, with the settings of `rtden live`.

    `steps` are computed together: two, as `rtden live` does where its output holds one in reserve,
    or each alone.
    """

    rate_hz, frame_samples = LIVE_HZ, LIVE_HZ // 100

    def __init__(self, model: str | Path | None = None, steps: int = 2) -> None:
        from rtden import StreamDenoiser
        from rtden.denoiser import settings_for_latency

        settings, _ = settings_for_latency(LIVE_LATENCY_MS, model=model)
        self._stream = StreamDenoiser(model, settings, rate_hz=self.rate_hz, low_delay=True)
        denoiser = self._stream.denoisers[0]
        step_seconds = denoiser.step_samples / denoiser.rate_hz
        self._more_samples = round((steps - 1) * step_seconds * self.rate_hz)
        self._waiting: list[Array] = []

    def feed(self, frame: Any) -> Any:
        waiting = self._waiting
        waiting.append(frame)
        if len(waiting) * len(frame) < self._stream.missing_samples + self._more_samples:
            return frame[:0]
        together = np.concatenate(waiting)[:, None]
        waiting.clear()
        return self._stream.feed(together)[:, 0]


class AsLive(Driver):
    """Any denoiser as live sound: blocks of 10 ms at 48 kHz in and out, on its own resamplers.

    Everything is timed: resampling (soxr's streams at their default quality), collecting frames,
    and the conversions between float32 and what the denoiser takes.
    """

    rate_hz, frame_samples = LIVE_HZ, LIVE_HZ // 100

    def __init__(self, make: Callable[[], Driver]) -> None:
        self._driver = make()
        own_hz = self._driver.rate_hz
        self._down = self._up = _through
        if own_hz != LIVE_HZ:
            import soxr

            self._down = soxr.ResampleStream(LIVE_HZ, own_hz, 1).resample_chunk
            self._up = soxr.ResampleStream(own_hz, LIVE_HZ, 1).resample_chunk
        self._waiting = np.empty(0, np.float32)

    def feed(self, frame: Any) -> Any:
        waiting, driver = np.concatenate([self._waiting, self._down(frame)]), self._driver
        whole = len(waiting) // driver.frame_samples * driver.frame_samples
        self._waiting = waiting[whole:]
        if not whole:
            return waiting[:0]
        given = [driver.feed(own) for own in driver.split(waiting[:whole])]
        return self._up(driver.join(given))

    def close(self) -> None:
        self._driver.close()


def _through(samples: Array) -> Array:
    return samples


class FilePath(Driver):
    """A function from file to file, such as :func:`rtden.denoise_file`; reading and writing count.

    `denoise`, a name of a module, takes the paths of source and target.
    """

    frame_samples = 0

    def __init__(self, denoise: Callable[[Path, Path], object], rate_hz: int) -> None:
        self.rate_hz, self._denoise = rate_hz, denoise
        self._folder = tempfile.TemporaryDirectory(prefix="rtden-bench-")
        self._source, self._target = (
            Path(self._folder.name) / name for name in ("noisy.wav", "denoised.wav")
        )

    def split(self, samples: Array) -> list[Any]:
        import soundfile

        soundfile.write(self._source, samples, self.rate_hz)
        return [self._source]

    def feed(self, frame: Any) -> Any:
        self._denoise(frame, self._target)
        return self._target

    def join(self, given: list[Any]) -> Array:
        import soundfile

        samples: Array = soundfile.read(given[-1], dtype="float32")[0]
        return samples

    def close(self) -> None:
        self._folder.cleanup()


def rtden_file(source: Path, target: Path) -> None:
    """Denoise a file as `rtden file` does: the model stays loaded from call to call."""
    from rtden import denoise_file

    denoise_file(source, target, force=True)


def delay_samples(late: Array, reference: Array, longest: int) -> int:
    """Return the lag of a signal behind another, 0 to `longest`: their cross-correlation's peak."""
    size = 1 << (len(late) + len(reference)).bit_length()
    correlation = np.fft.irfft(
        np.fft.rfft(late, size) * np.conj(np.fft.rfft(reference, size)), size
    )
    return int(np.argmax(correlation[: longest + 1]))


def aligned(late: Array, reference: Array) -> Array:
    """Return a signal shifted onto the one that it was made of, and as long.

    The signal is longer than the reference by the longest delay to look for.
    """
    start = delay_samples(late, reference, len(late) - len(reference))
    return late[start : start + len(reference)]
