"""Stage 3: the network that estimates a mask, the share of each mel cell that is speech."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from rtden.interpreter import Interpreter, State
from rtden.model import Model, ModelSpec, load_model
from rtden.types import Array


@runtime_checkable
class Network(Protocol):
    """The interface of a network: any object with it may be injected into a Denoiser."""

    spec: ModelSpec
    runtime: str
    stateful: bool
    """Whether a call takes new columns alone, any number of them; otherwise a whole window."""
    memory_columns: int
    """Columns on which a mask depends: its own and those before it."""

    def infer(self, columns: Array) -> Array:
        """Return the mask, shapes (n_mels, columns, channels) to (n_mels, columns)."""

    def reset(self) -> None:
        """Begin a new sequence."""


class Autoencoder:
    """A TFLite network on columns of mels, and the state of one stream.

    A network takes either a whole window of `spec.frames` columns at every call, or it is stateful:
    it takes only new columns, any number, and its state in the tensors "past_NAME". Its outputs
    "seen_NAME" are the state and the new values; the newest of them are the next state. A sequence
    gives the same masks, to the bit for int8, however it is cut into calls.

    Streams share the interpreters of a model: a call borrows one that nobody uses, or makes one
    (2 to 9 ms, 2 MiB). The state of a stream stays in the interpreter until another stream borrows
    it. The runtime releases Python's interpreter lock while it runs, so that threads compute at the
    same time. One object is for one thread at a time.

    `model` is given as to :func:`rtden.model.load_model`; its tensors may be float32 or int8. The
    interpreters of calls with `columns` columns are made now, for a stateful network. Raises
    ModelError if the model or the runtime cannot be used, or a tensor has not the sidecar's shape.
    """

    def __init__(
        self, model: str | Path | Model | None = None, *, columns: tuple[int, ...] = (1,)
    ) -> None:
        self._model = load_model(model)
        self.spec: ModelSpec = self._model.spec
        pool = self._pool()
        for count in columns:
            if pool.first is None or (pool.first.stateful and not pool.idle[count]):
                made = Interpreter(self._model, count)
                pool.first = pool.first or made
                pool.idle[made.columns].append(made)
        first: Interpreter = pool.first  # type: ignore[assignment]
        self.runtime: str = first.runtime
        self.stateful: bool = first.stateful
        self._start, self._state = first.cleared_state(), State(first.cleared_state())
        self.memory_columns: int = first.memory_columns
        self._masks: dict[int, Array] = {}

    def reset(self) -> None:
        """Forget the columns before: what follows is a new sequence."""
        state = self._state
        with self._pool().lock:
            if state.interpreter is not None:
                state.interpreter.state = None
                state.interpreter = None
        for value, start in zip(state.values, self._start, strict=True):
            value[:] = start

    def infer(self, columns: Array) -> Array:
        """Return the mask of columns, 0 to 1, valid until the next call with as many.

        Shapes (n_mels, columns, channels) to (n_mels, columns). A network that is not stateful
        takes `spec.frames` columns.
        """
        count, pool = columns.shape[1], self._pool()
        mask = self._masks.get(count)
        if mask is None:
            mask = self._masks[count] = np.empty((self.spec.n_mels, count), np.float32)
        interpreter = pool.borrow(count, self._state) or Interpreter(self._model, count)
        interpreter.run(columns, self._state, mask)
        pool.idle[count].append(interpreter)
        return mask

    def _pool(self) -> _Pool:
        # A child process makes its own: the threads of a runtime do not survive a fork.
        pools, process = self._model.interpreters, os.getpid()
        pool: _Pool | None = pools.get(process)
        return pool or pools.setdefault(process, _Pool())  # type: ignore[no-any-return]


class _Pool:
    """The interpreters of a model that no stream uses at the moment, by columns."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held while the state of a stream moves."""
        self.idle: dict[int, list[Interpreter]] = defaultdict(list)
        self.first: Interpreter | None = None

    def borrow(self, columns: int, state: State) -> Interpreter | None:
        """Return the interpreter that has a stream's state, or another one, None if all are in use.

        If it is another one, both return the states that they hold to their streams.
        """
        idle = self.idle[columns]
        with self.lock:
            own = state.interpreter
            if own in idle:
                idle.remove(own)
                return own
            other = idle.pop() if idle else None
            for interpreter in (own, other):
                if interpreter is not None:
                    interpreter.evict()
            return other
