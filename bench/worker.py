"""The process in which one denoiser lives through all rounds of a benchmark; `rounds.py` asks it.

It imports next to nothing besides its denoiser. Questions and answers go through its standard input
and output, pickled.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from pathlib import Path
from typing import Any

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1"
)
"""Environment in which the libraries that denoisers use keep to one thread."""


def peak_mb() -> float:
    """Return the most resident memory that this process has had, in MiB."""
    if sys.platform == "linux":
        # Here getrusage would also count the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return (
            next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
            / 1024
        )
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        2**20 if sys.platform == "darwin" else 1024
    )


class Server:
    """The denoiser of this process, and what it is asked."""

    driver: Any = None
    frames: tuple[Any, ...] = ()

    def start(self, content: Any) -> None:
        """Make the denoiser and wait until sound comes out, which may take several frames."""
        make, samples = content
        self.driver = make()
        self.frames = tuple(self.driver.split(samples))
        if not any(len(self.driver.join([self.driver.feed(frame)])) for frame in self.frames):
            raise ValueError("no sound comes out of it")

    def rate(self, _: Any) -> int:
        """Return the denoiser's rate in Hz."""
        return int(self.driver.rate_hz)

    def load(self, samples: Any) -> dict[str, Any]:
        """Take the sound of all rounds, and process it a first time."""
        driver = self.driver
        self.frames = tuple(driver.split(samples))
        given = [driver.feed(frame) for frame in self.frames]
        return {
            "frame_samples": driver.frame_samples,
            "given_samples": [len(driver.join([ready])) for ready in given],
            "out": driver.join(given),
        }

    def run(self, _: Any) -> tuple[float, float]:
        """Process the sound; return the seconds by the clock and of CPU time."""
        feed = self.driver.feed
        used, began = time.process_time(), time.perf_counter()
        for frame in self.frames:
            feed(frame)
        return time.perf_counter() - began, time.process_time() - used

    def peak(self, _: Any) -> float:
        """Return the peak memory in MiB."""
        return peak_mb()


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not an answer
    server = Server()
    while True:
        try:
            question, content = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        try:
            answer = getattr(server, question)(content)
        except Exception as error:
            ours = type(error).__module__.startswith("rtden.")
            answer, question = error if ours else f"{type(error).__name__}: {error}", "error"
        pickle.dump((question, answer), answers)
        answers.flush()
    if server.driver is not None:
        server.driver.close()


if __name__ == "__main__":
    _serve()
