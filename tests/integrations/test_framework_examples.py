"""The examples for frameworks, with the real packages."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


def test_a_pipecat_transport_gets_the_filter() -> None:
    import pipecat_bot

    async def filtered() -> bytes:
        cleaner = pipecat_bot.denoised().audio_in_filter
        await cleaner.start(16000)
        clean: bytes = await cleaner.filter(bytes(640))
        await cleaner.stop()
        return clean

    assert asyncio.run(filtered()) == bytes(640)


def test_a_livekit_stream_gets_the_processor() -> None:
    import livekit_agent
    from livekit import rtc

    frame = rtc.AudioFrame.create(16000, 1, 160)
    processor = livekit_agent.RtdenProcessor()  # type: ignore[attr-defined]
    assert processor._process(frame).samples_per_channel == 160


def test_a_fastrtc_visitor_gets_a_frame_for_a_frame() -> None:
    import fastrtc_echo

    visitor = fastrtc_echo.Cleaner().copy()
    visitor.receive((48000, np.zeros((1, 960), np.int16)))
    rate_hz, clean = visitor.emit()
    assert (rate_hz, clean.shape, clean.dtype.type) == (48000, (1, 960), np.int16)


def test_a_gradio_page_cleans_a_file() -> None:
    import gradio_file

    noise = np.random.default_rng(0).integers(-3000, 3000, 32000, dtype=np.int16)
    rate_hz, clean = gradio_file.clean((16000, noise), 60.0)
    assert (rate_hz, clean.shape, clean.dtype) == (16000, noise.shape, noise.dtype)
    assert np.abs(clean[16000:]).mean() < 0.1 * np.abs(noise).mean()
