"""A filter for the input transport of Pipecat (extra "pipecat")."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from pipecat.audio.filters.base_audio_filter import BaseAudioFilter
from pipecat.frames.frames import FilterControlFrame, FilterEnableFrame, FilterUpdateSettingsFrame

from rtden.errors import InputError, SettingsError
from rtden.frames import FrameDenoiser
from rtden.settings import Settings, check_limit_db, check_settings, check_strength

SETTINGS = ("strength", "limit_db")
"""What a FilterUpdateSettingsFrame may change."""


class RtdenFilter(BaseAudioFilter):  # type: ignore[misc]  # Pipecat has no complete types
    """Denoises the audio of a Pipecat transport before voice activity detection and recognition.

    Audio is 16-bit PCM at the transport's rate, 8 to 192 kHz; every block comes back with its
    length, `latency_ms` late. Each block is processed in a thread of the filter's own: a step never
    blocks the event loop. While the filter is disabled, the sound passes unchanged and equally
    late, so that switching neither clicks nor shifts the sound.

    Parameters
    ----------
    channels : int
        Channels of the transport, interleaved (``audio_in_channels``): a filter is not told them.
    model : str or Path, optional
        As for :class:`rtden.FrameDenoiser`, and so are `settings` and `latency_ms`.

    Examples
    --------
    ``TransportParams(audio_in_enabled=True, audio_in_filter=RtdenFilter())``
    """

    def __init__(
        self,
        *,
        channels: int = 1,
        model: str | Path | None = None,
        settings: Settings | None = None,
        latency_ms: float = 40.0,
    ) -> None:
        super().__init__()
        settings = check_settings(settings)
        self._open = partial(
            FrameDenoiser, channels=channels, model=model, settings=settings, latency_ms=latency_ms
        )
        self._strength, self._limit_db = settings.strength, settings.limit_db
        self._enabled = True
        self._denoiser: FrameDenoiser | None = None
        self._thread: ThreadPoolExecutor | None = None

    @property
    def latency_ms(self) -> float:
        """Delay of the filter in ms; 0 before :meth:`start`."""
        return 0.0 if self._denoiser is None else self._denoiser.latency_ms

    async def start(self, sample_rate: int) -> None:
        """Load the model, for blocks at `sample_rate` Hz.

        Raises
        ------
        InputError
            If rtden does not take this rate.
        ModelError
            If the model cannot be used.
        """
        await self.stop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rtden")
        loop = asyncio.get_running_loop()
        self._denoiser = await loop.run_in_executor(self._thread, self._open, sample_rate)
        self._apply()

    async def stop(self) -> None:
        """Release the model and the thread; the filter may be started again."""
        self._denoiser = None
        if self._thread is not None:
            self._thread.shutdown(wait=False)
            self._thread = None

    async def process_frame(self, frame: FilterControlFrame) -> None:
        """Enable or disable the filter, or change `strength` or `limit_db` while it runs.

        Raises
        ------
        SettingsError
            If a setting does not exist or is out of range; nothing is changed then.
        """
        if isinstance(frame, FilterEnableFrame):
            self._enabled = frame.enable
        elif isinstance(frame, FilterUpdateSettingsFrame):
            unknown = sorted(set(frame.settings) - set(SETTINGS))
            if unknown:
                raise SettingsError(
                    f"the filter has no setting '{unknown[0]}'; choose {' or '.join(SETTINGS)}."
                )
            strength = frame.settings.get("strength", self._strength)
            limit_db = frame.settings.get("limit_db", self._limit_db)
            check_strength(strength)
            check_limit_db(limit_db)
            self._strength, self._limit_db = strength, limit_db
        self._apply()

    async def filter(self, audio: bytes) -> bytes:
        """Return a denoised block, as long as the given one.

        Raises
        ------
        InputError
            If the filter was not started, or the block is not 16-bit PCM.
        """
        if self._denoiser is None:
            raise InputError("the filter was not started; await start(sample_rate) first.")
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._denoiser.process, audio)

    def _apply(self) -> None:
        if self._denoiser is not None:
            self._denoiser.strength = self._strength if self._enabled else 0.0
            self._denoiser.limit_db = self._limit_db
