"""The filter inside a real Pipecat input transport."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import numpy as np
import pytest
from pipecat.frames.frames import (
    FilterEnableFrame,
    FilterUpdateSettingsFrame,
    InputAudioRawFrame,
    StartFrame,
)
from pipecat.tests.utils import SleepFrame, run_test
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import TransportParams
from support_agents import FRAME_SAMPLES, RATE_HZ, frames_of, noisy_pcm

from rtden import FrameDenoiser
from rtden.errors import InputError, SettingsError
from rtden.integrations.pipecat import RtdenFilter


class Microphone(BaseInputTransport):  # type: ignore[misc]
    """An input transport that is handed its audio from upstream."""

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)


def through_transport(audio_filter: RtdenFilter, pcm: np.ndarray) -> np.ndarray:
    """Return what leaves a transport with the filter, for frames of 20 ms."""
    params = TransportParams(
        audio_in_enabled=True, audio_in_sample_rate=RATE_HZ, audio_in_filter=audio_filter
    )
    frames = [InputAudioRawFrame(block.tobytes(), RATE_HZ, 1) for block in frames_of(pcm)]
    sent = [*frames, SleepFrame(sleep=2.0)]  # its end does not wait for the audio
    down, _ = asyncio.run(run_test(Microphone(params), frames_to_send=sent, start_timeout=20.0))
    audio = [frame.audio for frame in down if isinstance(frame, InputAudioRawFrame)]
    assert {len(block) for block in audio} == {2 * FRAME_SAMPLES}
    return np.frombuffer(b"".join(audio), np.int16)


def test_a_transport_gets_what_the_frame_denoiser_gives() -> None:
    pcm = noisy_pcm(seconds=2.0)
    with FrameDenoiser(RATE_HZ) as denoiser:
        wanted = np.concatenate([denoiser.process(block) for block in frames_of(pcm)])
    heard = through_transport(RtdenFilter(), pcm)
    np.testing.assert_array_equal(heard, wanted)


def use(audio_filter: RtdenFilter, pcm: np.ndarray, *frames: object) -> np.ndarray:
    """Return what the filter makes of blocks, once it was handed control frames."""

    async def main() -> bytes:
        await audio_filter.start(RATE_HZ)
        for frame in frames:
            await audio_filter.process_frame(frame)
        blocks = [await audio_filter.filter(block.tobytes()) for block in frames_of(pcm)]
        await audio_filter.stop()
        return b"".join(blocks)

    return np.frombuffer(asyncio.run(main()), np.int16)


def test_a_disabled_filter_delays_and_changes_nothing_else() -> None:
    pcm, audio_filter = noisy_pcm(seconds=1.0), RtdenFilter()
    out = use(audio_filter, pcm, FilterEnableFrame(enable=False))
    with FrameDenoiser(RATE_HZ) as denoiser:
        late = round(denoiser.latency_ms * RATE_HZ / 1000.0)
    # What the resamplers take away between 7.4 and 8 kHz is all that changes.
    error = out[late:].astype(float) - pcm[: len(out) - late]
    assert np.std(error[2000:-2000]) < 0.1 * np.std(pcm.astype(float))


def test_interleaved_channels_stay_apart() -> None:
    pcm = noisy_pcm(seconds=1.0)
    both = np.stack([pcm, np.zeros_like(pcm)], axis=1).reshape(-1)
    out = use(RtdenFilter(channels=2), both).reshape(-1, 2)
    np.testing.assert_array_equal(out[:, 0], use(RtdenFilter(), pcm))
    assert not out[:, 1].any()


def test_a_limit_set_at_run_time_lets_noise_through() -> None:
    pcm = noisy_pcm(seconds=2.0)
    settings = FilterUpdateSettingsFrame(settings={"limit_db": 6.0})
    limited, full = use(RtdenFilter(), pcm, settings), use(RtdenFilter(), pcm)
    assert np.std(limited[RATE_HZ // 2 :]) > np.std(full[RATE_HZ // 2 :])


def test_unknown_settings_and_a_filter_not_started_are_refused() -> None:
    with pytest.raises(SettingsError, match="no setting 'volume'"):
        use(RtdenFilter(), noisy_pcm(seconds=0.1), FilterUpdateSettingsFrame({"volume": 1.0}))
    for wrong in ("x", None, 2.0):
        with pytest.raises(SettingsError, match="strength must lie between 0 and 1"):
            use(
                RtdenFilter(),
                noisy_pcm(seconds=0.1),
                FilterUpdateSettingsFrame({"strength": wrong}),
            )
    with pytest.raises(SettingsError, match="settings are rtden"):
        RtdenFilter(settings=cast(Any, 3))
    with pytest.raises(InputError, match="not started"):
        asyncio.run(RtdenFilter().filter(bytes(320)))


def test_the_event_loop_is_never_blocked_by_a_step() -> None:
    async def main() -> float:
        audio_filter = RtdenFilter()
        await audio_filter.start(RATE_HZ)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(tick())
        turns = []
        for block in frames_of(noisy_pcm(seconds=1.0)):
            before = ticks
            await audio_filter.filter(block.tobytes())
            turns.append(ticks - before)
        task.cancel()
        await audio_filter.stop()
        return min(turns)

    assert asyncio.run(main()) >= 1  # others had a turn during every block
