"""One recording on several cores: the features in this process, in order; network and inversion in others, piece by piece.

Only the features remember more than a few seconds (the noise floor and the slow mean), and they are cheap. So one pass makes
them for the whole stream, and everything behind them is computed for pieces of it at the same time, each begun so much
earlier that what the network and Griffin-Lim remember is what it would have been.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rtden.autoencoder import Autoencoder
from rtden.denoiser import Denoiser, TopCourse, finite
from rtden.errors import RtdenError
from rtden.model import ModelSpec, find_model, load_spec
from rtden.settings import Settings
from rtden.types import Array, Spectra

STEPS_AT_ONCE = 64
PIECE_BLOCKS = 6
"""Blocks of so many steps in a piece: 9 seconds at hops_per_step 1. Longer ones need more memory, shorter ones more of their time for what goes before."""
LONGEST_PIECE_BLOCKS = 4 * PIECE_BLOCKS
"""A piece grows to this where pauses leave no place to cut it; the next one then begins as it ended."""
PENDING_PIECES = 4
"""Pieces that wait or are worked on; beyond them the reader waits, so that memory stays what it is. More would not be faster: while one
process works on a piece, this one makes the features of three or four."""
SETTLING_COLUMNS = 16
"""Columns after which an inverter that began with silence gives what one gives that did not (to 1e-5 of full scale)."""


@dataclass(frozen=True)
class _Piece:
    """A part of a stream with what goes before it."""

    history: Array | None
    """The samples before; none at the beginning of a stream."""
    samples: Array
    columns: list[Array]
    """Features of each block."""
    silent: list[list[bool]]
    """Whether each step of each block is silent."""
    given_from: int
    """Output samples that are not asked for."""
    last: bool
    state: _State | None
    """How the piece before ended, if this one begins there, with nothing before it in which to settle."""


class _State(NamedTuple):
    """What a denoiser remembers."""

    past: list[Any]
    columns: Array
    spectra: Spectra
    band_gains: Array
    levels: Array
    inverted: tuple[Array, ...]


class _Result(NamedTuple):
    out: Array
    top_courses: list[TopCourse]
    state: _State


class _Elsewhere(NamedTuple):
    """A network that other processes have: what is to be known of it here, where neither it nor a runtime is loaded."""

    spec: ModelSpec
    carried: bool
    memory_columns: int

    def reset(self) -> None:
        """Do nothing: there is nothing to forget here."""


def _describe(model: str | Path | None) -> tuple[bool, int]:
    network = Autoencoder(find_model(model))
    return network.carried, network.memory_columns


class _Scout(Denoiser):
    """A denoiser that goes ahead: it makes the features and notes where silence is; what it gives means nothing."""

    def __init__(
        self, model: str | Path | None, settings: Settings, carried: bool, memory_columns: int
    ) -> None:
        self.seen: list[tuple[Array, list[bool]]] = []
        self._known = carried, memory_columns
        super().__init__(model, settings, batch_steps=STEPS_AT_ONCE)
        self.lead_in_blocks = -(-(memory_columns + SETTLING_COLUMNS) // self._block_columns)

    def _open(self, path: Path, columns: int) -> Any:
        return _Elsewhere(load_spec(path), *self._known)

    @property
    def block_samples(self) -> int:
        """Samples of a block of steps."""
        return self._block_samples

    @property
    def history_samples(self) -> int:
        """Samples that precede the first ones fed."""
        return self.spec.n_fft - self.spec.frame_hop + self.spec.lookahead * self.spec.hop

    def _step(self) -> None:
        self._frames()
        self._mel()
        silent = [self._is_silent(step) for step in range(self._steps)]
        self.seen.append((self._mel_window.columns[:, -self._block_columns :].copy(), silent))


class _Worker(Denoiser):
    """A denoiser whose features were made elsewhere."""

    def __init__(self, model: str | Path | None, settings: Settings) -> None:
        super().__init__(model, settings, batch_steps=STEPS_AT_ONCE)
        self._columns: Iterator[Array] = iter(())
        self._silent: Iterator[list[bool]] = iter(())

    def work(self, piece: _Piece) -> _Result:
        """Return a piece denoised, what its top gains are drawn from, and how it ended."""
        self.reset()
        if piece.history is not None:
            self._ring.clear()
            self._ring.write(piece.history)
        if piece.state is not None:
            self._restore(piece.state)
        self._columns, self._silent = iter(piece.columns), iter(piece.silent)
        out = self.feed(piece.samples)
        courses = [self._top_course._replace(start=self._top_course.start + piece.given_from)]
        state = self._state()
        if piece.last:
            tail = self.flush()
            out = np.concatenate([out, tail])
            courses.append(
                self._top_course._replace(
                    start=min(
                        self._top_course.stop,
                        self._top_course.start + max(0, piece.given_from - len(out) + len(tail)),
                    )
                )
            )
        return _Result(out[piece.given_from :], courses, state)

    def _state(self) -> _State:
        self._catch_up()
        columns, spectra = self._mel_window.columns.copy(), self._spectra.copy()
        return _State(
            self._network.past,
            columns,
            spectra,
            self._band_gains.copy(),
            self._levels.copy(),
            self._inverter.state,
        )

    def _restore(self, state: _State) -> None:
        self._network.past, self._inverter.state = state.past, state.inverted
        self._mel_window.columns[...] = state.columns
        self._spectra[...] = state.spectra
        self._band_gains[...] = state.band_gains
        self._levels[...] = state.levels
        # What the frames before the first still owe is given, too.
        self._fed_samples = self._stream_start - self._block_start
        self._stream_start = 0

    def _mel(self) -> None:
        held, new = self._mel_window.columns, next(self._columns)
        held[:, : -self._block_columns] = held[:, self._block_columns :]
        held[:, -self._block_columns :] = new
        self._rests = next(self._silent)

    def _is_silent(self, step: int) -> bool:
        return self._rests[step]


@functools.lru_cache(maxsize=1)
def _worker(model: str | Path | None, settings: Settings) -> _Worker:
    return _Worker(model, settings)


def _work(model: str | Path | None, settings: Settings, piece: _Piece) -> _Result:
    return _worker(model, settings).work(piece)


class ParallelDenoiser:
    """A denoiser of one recording, as :class:`rtden.Denoiser` is one, whose work other processes do.

    What comes out is what a Denoiser gives, within 1e-5 of full scale, and much later: when a piece is done.
    Strength and limit stay what the settings say.

    Parameters
    ----------
    model, settings
        As :class:`rtden.Denoiser` takes them.
    pool : Executor
        Where the work is done.
    """

    def __init__(
        self, model: str | Path | None = None, settings: Settings | None = None, *, pool: Executor
    ) -> None:
        self._model, self._settings = model, settings or Settings()
        self._pool = pool
        self._work: deque[Future[_Result]] = deque()
        with _told():
            carried, memory_columns = pool.submit(_describe, model).result()
        self._scout = _Scout(model, self._settings, carried, memory_columns)
        self.spec, self.rate_hz = self._scout.spec, self._scout.rate_hz
        self._block_samples, self._lead_in_blocks = (
            self._scout.block_samples,
            self._scout.lead_in_blocks,
        )
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        for piece in self._work:
            piece.cancel()
        self._work.clear()
        self._scout.reset()
        self._scout.seen.clear()
        self._held = np.empty(
            0, np.float32
        )  # from the lead-in of the next piece on, its history included
        self._held_blocks = 0  # of the lead-in
        self._history: Array | None = None
        self._state: _State | None = None
        self._top_courses: list[TopCourse] = []

    @property
    def top_gains(self) -> Array:
        """The gain for what lies above the model's band, as :attr:`rtden.Denoiser.top_gains`."""
        return np.concatenate(
            [np.empty(0, np.float32), *map(self._scout.draw_top_gains, self._top_courses)]
        )

    def feed(self, samples: ArrayLike) -> Array:
        """Take in samples, shape (samples,); return those that are ready, aligned with the input.

        Raises
        ------
        InputError
            If `samples` is not a one-dimensional array of floating-point numbers.
        RtdenError
            If a process of the pool has died.
        """
        self._scout.feed(samples)
        self._held = np.concatenate([self._held, finite(np.asarray(samples))])
        # The newest block is kept: at the end of the stream there must be something left to end.
        while (
            blocks := len(self._scout.seen) - 1
        ) >= self._held_blocks + PIECE_BLOCKS and blocks > self._lead_in_blocks:
            lead_in = [
                rests
                for _, steps in self._scout.seen[blocks - self._lead_in_blocks : blocks]
                for rests in steps
            ]
            if not any(lead_in):
                self._submit(blocks, kept_blocks=self._lead_in_blocks)
            elif (
                blocks >= LONGEST_PIECE_BLOCKS
            ):  # in a silent lead-in nobody learns the gain that holds through the silence
                self._submit(blocks, kept_blocks=0)
                self._state = self._result(self._work[-1]).state
            else:
                break
        return self._collect(PENDING_PIECES)

    def flush(self) -> Array:
        """End the stream: return the samples that are still owed, shape (owed,), and reset."""
        self._scout.flush()
        self._submit(None)
        rest = self._collect(0)
        courses = self._top_courses
        self.reset()
        self._top_courses = courses
        return rest

    def _submit(self, blocks: int | None, *, kept_blocks: int = 0) -> None:
        """Give away the blocks held, or all that there is, and keep the lead-in of the next piece."""
        seen = self._scout.seen if blocks is None else self._scout.seen[:blocks]
        samples = self._held if blocks is None else self._held[: blocks * self._block_samples]
        given_from = self._held_blocks * self._block_samples - self._lag if self._held_blocks else 0
        piece = _Piece(
            self._history,
            samples,
            [columns for columns, _ in seen],
            [silent for _, silent in seen],
            given_from,
            blocks is None,
            self._state,
        )
        self._state = None
        with _told():
            self._work.append(self._pool.submit(_work, self._model, self._settings, piece))
        if blocks is not None:
            start = (blocks - kept_blocks) * self._block_samples
            self._history = self._held[start - self._scout.history_samples : start].copy()
            self._held = self._held[start:].copy()
            del self._scout.seen[: blocks - kept_blocks]
            self._held_blocks = kept_blocks

    @property
    def _lag(self) -> int:
        """Samples by which the output of whole blocks is behind the input."""
        return self._scout.latency.samples - self._block_samples

    def _collect(self, pending: int) -> Array:
        """Return what is done, in order; wait for it while more than `pending` pieces are not."""
        done = []
        while self._work and (len(self._work) > pending or self._work[0].done()):
            done.append(self._result(self._work.popleft()))
        self._top_courses = [course for result in done for course in result.top_courses]
        return np.concatenate([np.empty(0, np.float32), *(result.out for result in done)])

    @staticmethod
    def _result(piece: Future[_Result]) -> _Result:
        with _told():
            return piece.result()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except BrokenExecutor:
        raise RtdenError(
            "a process that denoised ended early, most likely for lack of memory; let one do the work with --jobs 1."
        ) from None
