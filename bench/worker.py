"""The process in which one denoiser lives through all rounds of a benchmark; `rounds.py` starts it and asks it.

It imports next to nothing besides its denoiser. What it is asked and answers goes through its standard input and output, pickled.
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


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not an answer
    driver: Any = None
    frames: list[Any] = []
    while True:
        try:
            question, content = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        answer: Any = None
        try:
            if question == "start":
                make, samples = content
                driver = make()
                frames = driver.split(samples)
                # A denoiser may need several frames until sound comes out.
                if not any(len(driver.join([driver.feed(frame)])) for frame in frames):
                    raise ValueError("no sound comes out of it")
            elif question == "rate":
                answer = driver.rate_hz
            elif question == "load":
                frames = driver.split(content)
                given = [driver.feed(frame) for frame in frames]
                answer = {
                    "frame_samples": driver.frame_samples,
                    "given_samples": [len(driver.join([ready])) for ready in given],
                    "out": driver.join(given),
                }
            elif question == "run":
                feed = driver.feed
                used, began = time.process_time(), time.perf_counter()
                for frame in frames:
                    feed(frame)
                answer = time.perf_counter() - began, time.process_time() - used
            elif question == "peak":
                answer = peak_mb()
        except Exception as error:
            answer = (
                error
                if type(error).__module__.startswith("rtden.")
                else f"{type(error).__name__}: {error}"
            )
            question = "error"
        pickle.dump((question, answer), answers)
        answers.flush()
    if driver is not None:
        driver.close()


if __name__ == "__main__":
    _serve()
