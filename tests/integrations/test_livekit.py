"""The processor inside a real LiveKit audio stream, from a local track: no server takes part."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from livekit import rtc
from support_agents import FRAME_SAMPLES, RATE_HZ, frames_of, noisy_pcm

from rtden import FrameDenoiser
from rtden.errors import InputError, ModelError
from rtden.integrations.livekit import RtdenProcessor


def frame(block: np.ndarray, channels: int = 1) -> rtc.AudioFrame:
    return rtc.AudioFrame(block.tobytes(), RATE_HZ, channels, block.size // channels)


def samples(out: rtc.AudioFrame) -> np.ndarray:
    return np.frombuffer(out.data, np.int16)


def test_frames_keep_their_length_and_hold_what_the_frame_denoiser_gives() -> None:
    processor, pcm = RtdenProcessor(), noisy_pcm(seconds=1.0)
    with FrameDenoiser(RATE_HZ) as denoiser:
        for block in frames_of(pcm):
            out = processor._process(frame(block))
            assert (out.sample_rate, out.num_channels) == (RATE_HZ, 1)
            assert out.samples_per_channel == FRAME_SAMPLES
            np.testing.assert_array_equal(samples(out), denoiser.process(block))
        assert processor.latency_ms == denoiser.latency_ms > 0
    processor._close()
    assert processor.latency_ms == 0


def test_a_frame_of_another_rate_or_with_two_channels_begins_a_new_stream() -> None:
    processor, pcm = RtdenProcessor(), noisy_pcm(seconds=0.2)
    processor._process(frame(pcm[:FRAME_SAMPLES]))
    both = np.repeat(pcm[:FRAME_SAMPLES], 2)
    out = processor._process(frame(both, channels=2))
    assert (out.num_channels, out.samples_per_channel) == (2, FRAME_SAMPLES)
    out = processor._process(rtc.AudioFrame(pcm[:480].tobytes(), 48000, 1, 480))
    assert (out.sample_rate, out.samples_per_channel) == (48000, 480)
    for _ in range(2):
        with pytest.raises(InputError, match="4000 Hz"):
            processor._process(rtc.AudioFrame(pcm[:80].tobytes(), 4000, 1, 80))
    assert (
        processor._process(rtc.AudioFrame(pcm[:480].tobytes(), 48000, 1, 480)).sample_rate == 48000
    )


def test_a_model_that_does_not_exist_is_refused_before_the_call() -> None:
    with pytest.raises(ModelError, match="no model 'missing'"):
        RtdenProcessor(model="missing")


def test_a_bypassed_processor_delays_and_changes_nothing_else() -> None:
    processor, pcm = RtdenProcessor(), noisy_pcm(seconds=1.0)
    processor.bypassed = True
    out = np.concatenate([samples(processor._process(frame(block))) for block in frames_of(pcm)])
    late = round(processor.latency_ms * RATE_HZ / 1000.0)
    # What the resamplers take away between 7.4 and 8 kHz is all that changes.
    error = out[late:].astype(float) - pcm[: len(out) - late]
    assert np.std(error[2000:-2000]) < 0.1 * np.std(pcm.astype(float))


def test_an_audio_stream_of_a_track_is_denoised() -> None:
    quiet, loud = (
        asyncio.run(level_of_stream(processor)) for processor in (RtdenProcessor(), None)
    )
    assert quiet < 0.5 * loud


async def level_of_stream(processor: RtdenProcessor | None) -> float:
    """Return the level of white noise that went through a stream of a local track."""
    source = rtc.AudioSource(RATE_HZ, 1)
    track = rtc.LocalAudioTrack.create_audio_track("noise", source)
    stream = rtc.AudioStream(track, sample_rate=RATE_HZ, noise_cancellation=processor)
    noise = np.random.default_rng(0).normal(0.0, 1000.0, 2 * RATE_HZ).astype(np.int16)

    async def speak() -> None:
        for block in frames_of(noise):
            await source.capture_frame(frame(block))

    async def listen() -> np.ndarray:
        heard: list[np.ndarray] = []
        async for event in stream:
            heard.append(samples(event.frame))
            if sum(map(len, heard)) > 1.5 * RATE_HZ:
                return np.concatenate(heard)
        raise AssertionError("the stream ended early")

    speaking = asyncio.create_task(speak())
    heard = await asyncio.wait_for(listen(), 20.0)
    speaking.cancel()
    await stream.aclose()
    return float(np.std(heard[RATE_HZ:].astype(float)))
