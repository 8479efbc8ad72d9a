"""A frame in, a frame out, for voice agents; and whole arrays in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtden.denoiser import RECORDING_STEPS, Latency, settings_for_latency
from rtden.errors import InputError
from rtden.model import Model, load_model
from rtden.recording import RecordingDenoiser
from rtden.samples import as_array, from_float, to_float
from rtden.settings import Settings
from rtden.stream import Adjustable, StreamDenoiser
from rtden.threads import give_turn, one_thread, take_turn

Frame = TypeVar("Frame", bytes, bytearray, memoryview, np.ndarray[Any, Any])


class FrameDenoiser(Adjustable):
    """Denoises a stream frame by frame: each call returns as many samples as it gets.

    The output begins with silence and is `latency_ms` late. Frames may have any length: 10, 20 or
    30 ms or another, also mixed. To get the end of a stream, process `latency.samples` of silence.
    One object is for one stream and one thread at a time; any number may run in threads, and they
    share the model.

    Parameters
    ----------
    rate_hz : int
        Rate of input and output, 8000 to 192000.
    channels : int
        1 to 64, interleaved or as columns.
    model : str, Path or Model, optional
        The name of a shipped model, the path of a ``.tflite`` file or a loaded model; the default
        model if None.
    settings : Settings, optional
        All but the overlap and the hops per step, which the next two parameters choose.
    latency_ms : float
        Upper limit of the algorithm's delay, which takes 13 ms at least
        (:func:`rtden.denoiser.settings_for_latency`). Up to 41 ms, more sounds better. Resampling
        from another rate adds 3 to 8 ms.
    hops_per_step : int
        Hops of the model that are computed together, if `latency_ms` leaves them a hop of overlap
        (35 ms); otherwise one. One hop sounds a little better at the same latency and costs half as
        much again.

    Raises
    ------
    InputError, ModelError, SettingsError
        If the rate, the channels, the model or a setting cannot be used.

    Attributes
    ----------
    latency, latency_ms : Latency, float
        Delay of the output, resampling included.

    Examples
    --------
    >>> with FrameDenoiser(rate_hz=16000) as frames:
    ...     out = frames.process(bytes(2 * 160))  # 10 ms, 16 bits
    >>> type(out).__name__, len(out)
    ('bytes', 320)
    """

    def __init__(
        self,
        rate_hz: int = 16000,
        channels: int = 1,
        *,
        model: str | Path | Model | None = None,
        settings: Settings | None = None,
        latency_ms: float = 40.0,
        hops_per_step: int = 2,
    ) -> None:
        super().__init__()
        loaded = load_model(model)
        chosen, _ = settings_for_latency(
            latency_ms, model=loaded, settings=settings, hops_per_step=hops_per_step
        )
        self.stream = StreamDenoiser(
            loaded, chosen, rate_hz=rate_hz, channels=channels, low_delay=True, batch_steps=2
        )
        self.rate_hz, self.channels = self.stream.rate_hz, self.stream.channels
        self.denoisers = self.stream.denoisers
        # A stream's latency is that of a player that takes a sample before each one fed.
        samples = self.stream.latency.samples - 1
        self.latency = Latency(samples, samples / self.rate_hz)
        self.latency_ms = self.latency.ms
        self.reset()

    @one_thread
    def reset(self) -> None:
        """Forget the stream: what follows is a new one, which begins with silence."""
        self.stream.reset()
        self._ready = np.zeros((self.latency.samples, self.channels), np.float32)

    @one_thread
    def process(self, pcm: Frame) -> Frame:
        """Return the next frame, of the type, format and length of the given one.

        Parameters
        ----------
        pcm : bytes, bytearray, memoryview or array
            Bytes are 16-bit little-endian, interleaved. Arrays are int16, int32 or floating point
            (full scale +-1), interleaved or of shape (samples, channels).

        Raises
        ------
        InputError
            If the type, the shape or the scale is another, a sample is incomplete, or another
            thread is in this object.
        """
        given = _as_array(pcm)
        if given.ndim not in (1, 2) or (given.ndim == 2 and given.shape[1] != self.channels):
            turned = given.ndim == 2 and given.shape[0] == self.channels
            raise InputError(
                f"a frame has shape (samples,) or (samples, {self.channels}), not {given.shape}"
                f"{'; pass frame.T.' if turned else '.'}"
            )
        if given.size % self.channels:
            raise InputError(
                f"a frame of {given.size} samples is no multiple of {self.channels} channels; "
                "pass as many samples of each."
            )
        samples = to_float(given).reshape(-1, self.channels)
        take_turn()
        try:
            ready = np.concatenate([self._ready, self.stream.feed(samples)])
        finally:
            give_turn()
        out, self._ready = ready[: len(samples)], ready[len(samples) :]
        frame: Frame = _like(pcm, from_float(out, given.dtype).reshape(given.shape))
        return frame


def denoise(
    samples: ArrayLike,
    rate_hz: int,
    *,
    model: str | Path | Model | None = None,
    settings: Settings | None = None,
) -> NDArray[Any]:
    """Return a recording denoised: same shape, same type, aligned to the sample.

    It gets the passes of a file (:class:`rtden.recording.RecordingDenoiser`): it sounds better than
    a stream.

    Parameters
    ----------
    samples : array_like, shape (samples,) or (samples, channels)
        Floating point with full scale +-1, int16 or int32.
    rate_hz : int
        8000 to 192000.
    model : str, Path or Model, optional
        The name of a shipped model, the path of a ``.tflite`` file or a loaded model; the default
        model if None.
    settings : Settings, optional
        Strength, limit and others.

    Raises
    ------
    InputError
        If rtden does not take the type, the shape, the scale or the rate.
    ModelError, SettingsError
        If the model cannot be used, or not with the settings.

    Examples
    --------
    >>> denoise(np.zeros((4800, 2), np.int16), rate_hz=48000).shape
    (4800, 2)
    """
    given: NDArray[Any] = as_array(samples)
    if given.ndim not in (1, 2):
        raise InputError(f"denoise takes (samples,) or (samples, channels), not {given.shape}.")
    columns = given if given.ndim == 2 else given[:, None]
    stream = StreamDenoiser(
        model, settings, rate_hz=rate_hz, channels=columns.shape[1], batch_steps=RECORDING_STEPS
    )
    recording = RecordingDenoiser(stream)
    out, filled = np.empty(columns.shape, given.dtype), 0
    for start in range(0, len(columns) + 1, stream.rate_hz):
        piece = columns[start : start + stream.rate_hz]
        ready = recording.feed(to_float(piece))
        out[filled : filled + len(ready)] = from_float(ready, given.dtype)
        filled += len(ready)
    out[filled:] = from_float(recording.flush(), given.dtype)
    return out.reshape(given.shape)


def _as_array(pcm: Any) -> Any:
    """Return a frame as an array of its samples, without a copy."""
    if isinstance(pcm, np.ndarray):
        return pcm
    if not isinstance(pcm, (bytes, bytearray, memoryview)):
        is_sequence = hasattr(pcm, "__len__") and not isinstance(pcm, str)
        raise InputError(
            "a frame is bytes (16 bits, interleaved) or an array of int16, int32 or float32, not "
            f"{type(pcm).__name__}{'; pass numpy.asarray(frame).' if is_sequence else '.'}"
        )
    if isinstance(pcm, memoryview) and pcm.format not in ("B", "b", "c"):
        return np.asarray(pcm)
    data = memoryview(pcm)
    if data.nbytes % 2:
        raise InputError(
            f"a frame of {data.nbytes} bytes ends within a sample of 16 bits; pass whole samples."
        )
    return np.frombuffer(data if data.c_contiguous else data.tobytes(), "<i2")


def _like(pcm: Any, out: Any) -> Any:
    """Return samples in the type of a frame."""
    if isinstance(pcm, np.ndarray):
        return out
    if isinstance(pcm, memoryview):
        data: Any = memoryview(out if pcm.itemsize > 1 else out.tobytes())
        return data if pcm.itemsize > 1 else data.cast(pcm.format)
    return type(pcm)(out.tobytes())
