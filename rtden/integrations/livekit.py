"""A frame processor for LiveKit's audio streams (extra "livekit")."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from livekit import rtc

from rtden.frames import FrameDenoiser
from rtden.settings import Settings, check_settings

STREAM_HZ = 48_000
"""The default rate of an ``rtc.AudioStream``."""


class RtdenProcessor(rtc.FrameProcessor[rtc.AudioFrame]):  # type: ignore[misc]
    """Denoises an ``rtc.AudioStream``, also as an agent's ``noise_cancellation`` option.

    Frames are 16-bit PCM of any rate from 8 to 192 kHz and any length; every frame comes back with
    its rate, channels and length, `latency_ms` late. A frame of another rate or with other channels
    begins a new stream. LiveKit calls :meth:`_process` on the event loop, where a frame of 50 ms,
    as agents have them, takes about a millisecond on a desktop processor. The model, which takes
    longer, is loaded here: make the processor before the call.

    LiveKit passes the frames of a disabled processor by, without its delay. `bypassed` keeps the
    delay, so that a comparison neither clicks nor shifts the sound.

    Parameters
    ----------
    model : str or Path, optional
        As for :class:`rtden.FrameDenoiser`, and so are `settings` and `latency_ms`.

    Raises
    ------
    ModelError, SettingsError
        If the model or a setting cannot be used.

    Examples
    --------
    ``rtc.AudioStream(track, noise_cancellation=RtdenProcessor())``; for livekit-agents
    ``room_io.AudioInputOptions(noise_cancellation=RtdenProcessor())``
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        settings: Settings | None = None,
        latency_ms: float = 40.0,
    ) -> None:
        settings = check_settings(settings)
        self._open = partial(FrameDenoiser, model=model, settings=settings, latency_ms=latency_ms)
        self._strength = settings.strength
        self._enabled, self._bypassed = True, False
        self._denoiser: FrameDenoiser | None = self._open(STREAM_HZ)

    @property
    def enabled(self) -> bool:
        """Whether LiveKit hands the frames to this processor."""
        return self._enabled

    @enabled.setter
    def enabled(self, value: bool) -> None:
        if value and not self._enabled and self._denoiser is not None:
            self._denoiser.reset()  # what was held is older than what comes
        self._enabled = value

    @property
    def bypassed(self) -> bool:
        """Whether the sound passes as it is, equally late; may be set at any time."""
        return self._bypassed

    @bypassed.setter
    def bypassed(self, value: bool) -> None:
        self._bypassed = value
        self._apply()

    @property
    def latency_ms(self) -> float:
        """Delay in ms, of a stream of 48 kHz before the first frame; 0 after the stream's end."""
        return 0.0 if self._denoiser is None else self._denoiser.latency_ms

    def _process(self, frame: rtc.AudioFrame) -> rtc.AudioFrame:
        """Return the denoised frame (called by LiveKit)."""
        wanted, denoiser = (frame.sample_rate, frame.num_channels), self._denoiser
        if denoiser is None or (denoiser.rate_hz, denoiser.channels) != wanted:
            denoiser = self._denoiser = self._open(*wanted)
            self._apply()
        return rtc.AudioFrame(
            denoiser.process(bytes(frame.data.cast("B"))),
            frame.sample_rate,
            frame.num_channels,
            frame.samples_per_channel,
            userdata=frame.userdata,
        )

    def _close(self) -> None:
        """Release the model (called by LiveKit when the stream ends)."""
        self._denoiser = None

    def _apply(self) -> None:
        if self._denoiser is not None:
            self._denoiser.strength = 0.0 if self._bypassed else self._strength
