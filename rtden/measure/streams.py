"""How many real-time streams a machine carries."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rtden.denoiser import Denoiser
from rtden.errors import RtdenError, SettingsError
from rtden.files.processes import without_interrupts
from rtden.measure.cost import WARM_UP_STEPS, Percentiles
from rtden.model import find_model
from rtden.noise import babble
from rtden.settings import Settings

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STREAM_SECONDS = 10.0
"""Of the sound that concurrent streams repeat, each beginning elsewhere."""
BLOCKS_APART = 7
"""By so many steps each stream is ahead of the one before it in that sound: speech and pauses differ in cost."""


@dataclass(frozen=True)
class StreamsResult:
    """How so many real-time streams at once, shared out among processes, get on."""

    model: str
    runtime: str
    hops_per_step: int
    streams: int
    jobs: int
    audio_seconds: float
    """Of each stream."""
    step: Percentiles
    """Time of one stream's step while the others have theirs, too."""
    round: Percentiles
    """Time in which all streams of a process have had a step, of the process that takes longest."""
    period_ms: float
    """Time after which each stream has its next step due."""
    load: float
    """How many cores are busy."""

    @property
    def holds(self) -> bool:
        """Whether all keep up: in 99 of 100 rounds every stream has had its step before the next one is due."""
        return self.round.p99_ms < self.period_ms

    def to_dict(self) -> dict[str, Any]:
        """Return all figures, for JSON."""
        return {**dataclasses.asdict(self), "holds": self.holds}


class Streams:
    """Real-time streams in a number of processes, each of which gives its own streams a step in turns, round after round.

    Nothing sleeps: a round follows the other at once, and is held against the time between two steps of a real stream.

    Parameters
    ----------
    jobs : int
        How many processes.

    Raises
    ------
    ModelError, SettingsError, InputError
        If the model or the hops_per_step cannot be used, or there is no process.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        hops_per_step: int = 1,
        *,
        jobs: int = 1,
        threads: int = 1,
    ) -> None:
        if jobs < 1:
            raise SettingsError(f"jobs must be 1 or more, not {jobs}.")
        path, settings = find_model(model), Settings(hops_per_step=hops_per_step, threads=threads)
        denoiser = Denoiser(path, settings)  # what is wrong with it is to be known here
        self._model, self._runtime, self._advance = path.stem, denoiser.runtime, hops_per_step
        self._period_seconds = denoiser.step_samples / denoiser.rate_hz
        os.environ["OPENBLAS_NUM_THREADS"] = str(threads)
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(jobs):
            ours, theirs = context.Pipe()
            process = context.Process(target=_carry, args=(theirs, path, settings), daemon=True)
            with without_interrupts():
                process.start()
            theirs.close()  # or its end would not be noticed here
            self._pipes.append(ours)
            self._processes.append(process)

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.terminate()
            process.join()

    def run(self, streams: int, *, seconds: float) -> StreamsResult:
        """Run so many streams at once, shared out evenly, over so much sound.

        Raises
        ------
        SettingsError
            If there are fewer streams than processes.
        RtdenError
            If a process ends early.
        """
        jobs = len(self._pipes)
        if streams < jobs:
            raise SettingsError(
                f"{streams} streams cannot be shared out among {jobs} processes; let there be fewer processes, or more streams."
            )
        rounds = max(WARM_UP_STEPS, round(seconds / self._period_seconds))
        try:
            for number, pipe in enumerate(self._pipes):
                pipe.send((streams // jobs + (number < streams % jobs), rounds))
            for pipe in self._pipes:
                pipe.recv()  # all are ready before the first one begins
            for pipe in self._pipes:
                pipe.send(None)
            found: list[NDArray[np.float64]] = [pipe.recv() for pipe in self._pipes]
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise RtdenError(
                f"a process ended early with {streams} streams, most likely for lack of memory; measure fewer."
            ) from None
        rounds_seconds = [stamps[:, -1] - stamps[:, 0] for stamps in found]
        return StreamsResult(
            model=self._model,
            runtime=self._runtime,
            hops_per_step=self._advance,
            streams=streams,
            jobs=jobs,
            audio_seconds=rounds * self._period_seconds,
            step=Percentiles.of(
                np.concatenate([np.diff(stamps, axis=1).ravel() for stamps in found]).tolist()
            ),
            round=max(
                (Percentiles.of(of_one.tolist()) for of_one in rounds_seconds),
                key=lambda percentiles: percentiles.p99_ms,
            ),
            period_ms=1000.0 * self._period_seconds,
            load=float(sum(of_one.mean() for of_one in rounds_seconds) / self._period_seconds),
        )

    def most(self, *, seconds: float) -> StreamsResult:
        """Find the largest number of streams that holds, within 2 %, by doubling and bisecting; what does not hold is one a process."""
        jobs = len(self._pipes)
        best = self.run(jobs, seconds=seconds)
        if not best.holds:
            return best
        too_many = 2 * jobs
        while (tried := self.run(too_many, seconds=seconds)).holds:
            best, too_many = tried, 2 * too_many
        while too_many - best.streams > max(1, best.streams // 50):
            tried = self.run((best.streams + too_many) // 2, seconds=seconds)
            if tried.holds:
                best = tried
            else:
                too_many = tried.streams
        return best


def _carry(pipe: Connection, model: Path, settings: Settings) -> None:
    """Give streams their steps in turns, as often as it is asked for; answer when each step began and the last one of a round ended."""
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C is for the process that started this one, which ends it
    denoisers: list[Denoiser] = []
    blocks = np.empty((0, 0), np.float32)
    try:
        while True:
            streams, rounds = pipe.recv()
            denoisers += [Denoiser(model, settings) for _ in range(streams - len(denoisers))]
            if not len(blocks):
                size, rate_hz = denoisers[0].step_samples, denoisers[0].rate_hz
                sound = babble(round(STREAM_SECONDS * rate_hz), rate_hz)
                blocks = sound[: len(sound) // size * size].reshape(-1, size)
            stamps = np.empty((WARM_UP_STEPS + rounds, streams + 1))
            pipe.send(None)
            pipe.recv()
            for number in range(len(stamps)):
                stamps[number, 0] = time.perf_counter()
                for stream, denoiser in enumerate(denoisers[:streams]):
                    denoiser.feed(blocks[(number + BLOCKS_APART * stream) % len(blocks)])
                    stamps[number, stream + 1] = time.perf_counter()
            pipe.send(stamps[WARM_UP_STEPS:])
    except (EOFError, BrokenPipeError, ConnectionResetError):  # nobody asks any more
        return
