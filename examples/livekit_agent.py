"""Denoise a participant's microphone in LiveKit: python examples/livekit_agent.py URL TOKEN."""

import asyncio
import sys

from livekit import rtc

from rtden.integrations.livekit import RtdenProcessor


def denoised(track: rtc.Track) -> rtc.AudioStream:
    """Return the frames of a track without noise; LiveKit agents take the processor, too."""
    return rtc.AudioStream(track, noise_cancellation=RtdenProcessor())


async def main(url: str, token: str) -> None:
    """Count the frames of everyone in a room."""
    room = rtc.Room()

    async def listen(track: rtc.Track) -> None:
        async for event in denoised(track):
            print(f"{event.frame.samples_per_channel} clean samples")

    tasks = set()

    @room.on("track_subscribed")  # type: ignore[untyped-decorator]
    def subscribed(track: rtc.Track, *_: object) -> None:
        if track.kind == rtc.TrackKind.KIND_AUDIO:
            tasks.add(asyncio.create_task(listen(track)))

    await room.connect(url, token)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:3]))
