"""A page that plays your voice back without noise, by FastRTC: python examples/fastrtc_echo.py."""

from queue import SimpleQueue

import numpy as np
from fastrtc import Stream, StreamHandler

from rtden import FrameDenoiser


class Cleaner(StreamHandler):  # type: ignore[misc]
    """Return each frame of a visitor's microphone without noise; one for each visitor."""

    def __init__(self) -> None:
        super().__init__(input_sample_rate=48_000, output_sample_rate=48_000)
        self._denoiser = FrameDenoiser(rate_hz=48_000)
        self._frames: SimpleQueue[np.ndarray] = SimpleQueue()

    def copy(self) -> "Cleaner":
        """Return a handler for another visitor."""
        return Cleaner()

    def receive(self, frame: tuple[int, np.ndarray]) -> None:
        """Take a frame, int16 of shape (1, samples)."""
        self._frames.put(self._denoiser.process(frame[1].reshape(-1)))

    def emit(self) -> tuple[int, np.ndarray]:
        """Return the next clean frame."""
        return 48_000, self._frames.get().reshape(1, -1)


stream = Stream(Cleaner(), modality="audio", mode="send-receive")

if __name__ == "__main__":
    stream.ui.launch()
