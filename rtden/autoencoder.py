"""Stage 3: the network that estimates a mask, the share of each mel cell that is speech.

The only module that loads a TFLite runtime.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rtden.errors import ModelError
from rtden.model import Model, ModelSpec, load_model
from rtden.types import Array

RUNTIMES = (
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "tensorflow.lite.python.interpreter",
)
LOWEST, HIGHEST = np.float32(-128.0), np.float32(127.0)
"""Of int8."""


class Network(Protocol):
    """What a :class:`rtden.Denoiser` needs of a network: anything with these may be injected."""

    spec: ModelSpec
    runtime: str
    stateful: bool
    """Whether a call takes new columns alone, any number of them; otherwise a whole window."""
    memory_columns: int
    """Columns on which a mask depends: its own and those before it."""

    def infer(self, columns: Array) -> Array:
        """Return the mask, shapes (n_mels, columns, input_channels) to (n_mels, frames).

        A stateful network returns those of the columns `spec.lookahead` before the ones it takes.
        """

    def reset(self) -> None:
        """Begin a new sequence."""


class Autoencoder:
    """A TFLite network on columns of mels, and the state of one stream.

    A network takes either a whole window of `spec.frames` columns at every call, or it is stateful:
    it takes only new columns, any number, and its state in the tensors "past_NAME". Its outputs
    "seen_NAME" are the state and the new values; the newest of them are the next state. A sequence
    gives the same masks, to the bit for int8, however it is cut into calls.

    Streams share the interpreters of a model: a call borrows one that nobody uses, or makes one
    (2 to 9 ms, 2 MiB), copies the state of the stream in, runs it, and copies the state out. The
    runtime releases Python's interpreter lock while it runs, so that threads compute at a time. One
    object is for one thread at a time.

    Parameters
    ----------
    model : str, Path or Model, optional
        As :func:`rtden.model.load_model` takes it. The tensors may be float32 or int8; scale and
        zero point are read from them.
    threads : int
        Interpreter threads.
    columns : tuple of int
        Columns of the calls to come, for a stateful network: their interpreters are made now.

    Raises
    ------
    ModelError
        If the model or the runtime cannot be used, or the tensors are not of the sidecar's shape.
    """

    def __init__(
        self,
        model: str | Path | Model | None = None,
        *,
        threads: int = 1,
        columns: tuple[int, ...] = (1,),
    ) -> None:
        self._model = load_model(model)
        self.spec: ModelSpec = self._model.spec
        self._threads = threads
        interpreter = self._borrow(columns[0])
        self.runtime: str = interpreter.runtime
        self.stateful: bool = interpreter.stateful
        self._start = [before.cleared() for before, _ in interpreter.states]
        self._state = [state.copy() for state in self._start]
        self._return(interpreter)
        for count in columns[1:] if self.stateful else ():
            self._return(self._borrow(count))
        frames = sum(state.shape[1] for state in self._state)
        self.memory_columns: int = (
            1 - (-frames // self.spec.frames_per_column) if self.stateful else self.spec.frames
        )
        self._masks: dict[int, tuple[Array, Array]] = {}

    def reset(self) -> None:
        """Forget the columns before: what follows is a new sequence."""
        for state, start in zip(self._state, self._start, strict=True):
            state[...] = start

    def infer(self, columns: Array) -> Array:
        """Return the mask of columns, valid until the next call with as many.

        Parameters
        ----------
        columns : array, shape (n_mels, columns, input_channels)
            `spec.frames` columns, or any number if the network is stateful.

        Returns
        -------
        array, shape (n_mels, columns * frames_per_column)
            0 to 1.
        """
        count = columns.shape[1]
        if count not in self._masks:
            shape = (1, self.spec.n_mels, count, self.spec.frames_per_column)
            mask = np.empty(shape, np.float32)
            self._masks[count] = mask, mask.reshape(len(columns), -1)
        mask, flat = self._masks[count]
        interpreter = self._borrow(count)
        interpreter.run(columns, self._state, mask)
        self._return(interpreter)
        return flat

    def _borrow(self, columns: int) -> _Interpreter:
        # A child process makes its own: the threads of a runtime do not survive a fork.
        idle, user = self._model.interpreters, (self._threads, os.getpid())
        for key in ((columns, *user), (0, *user)):  # 0: a whole window, whatever is asked for
            try:
                return idle[key].pop()  # type: ignore[no-any-return]
            except (KeyError, IndexError):
                continue
        return _Interpreter(self._model, columns, user)

    def _return(self, interpreter: _Interpreter) -> None:
        self._model.interpreters.setdefault(interpreter.key, deque()).append(interpreter)


def find_runtime() -> Any:
    """Return the first TFLite interpreter module that is installed; none raises ModelError."""
    for name in RUNTIMES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ModelError(
        "no TFLite runtime is installed: run 'pip install ai-edge-litert' "
        "(or, on 32-bit ARM, 'pip install rtden[tflite-runtime]')."
    )


class _Interpreter:
    """An interpreter for calls of a number of columns, with its tensors; it keeps no state.

    `key` is what it may be used for: columns (0 for a whole window), threads and process.
    """

    def __init__(self, model: Model, columns: int, user: tuple[int, int]) -> None:
        spec, threads = model.spec, user[0]
        runtime = find_runtime()
        self.runtime = runtime.__name__.split(".")[0]
        try:
            self._interpreter = runtime.Interpreter(
                model_content=model.content, num_threads=threads
            )
            inputs, outputs = _named_tensors(self._interpreter)
            self.stateful = len(inputs) > 1
            self.key = (columns if self.stateful else 0, *user)
            self._columns = columns if self.stateful else spec.frames
            if self.stateful and "mel" in inputs:
                shape = (1, spec.n_mels, columns, spec.input_channels)
                self._interpreter.resize_tensor_input(inputs["mel"], shape)
            self._interpreter.allocate_tensors()
            self._interpreter.invoke()  # memory that is still to move moves now
        except (ValueError, RuntimeError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ModelError(
                f"{self.runtime} cannot load the model {model.path} ({lines[0]}); "
                "update the runtime or export the model again."
            ) from None
        details = {
            detail["index"]: detail
            for detail in (
                *self._interpreter.get_input_details(),
                *self._interpreter.get_output_details(),
            )
        }
        before, after = (
            {name: _Tensor(self._interpreter, details[index]) for name, index in named.items()}
            for named in (inputs, outputs)
        )
        self.states = self._match(before, after, spec)
        self._find_mask(before, after, model)

    def _find_mask(
        self, before: dict[str, _Tensor], after: dict[str, _Tensor], model: Model
    ) -> None:
        """Keep the tensors of the columns and of the mask, whose shapes are the sidecar's."""
        spec = model.spec
        self._input = before["mel" if self.stateful else next(iter(before))]
        self._output = after["share" if self.stateful else next(iter(after))]
        for tensor, kind, channels in (
            (self._input, "input", spec.input_channels),
            (self._output, "output", spec.frames_per_column),
        ):
            wanted = (1, spec.n_mels, self._columns, channels)
            if tensor.shape != wanted:
                raise ModelError(
                    f"model {model.path} has an {kind} of shape {tensor.shape}, its sidecar "
                    f"calls for {wanted}; export the model again."
                )

    def _match(
        self, before: dict[str, _Tensor], after: dict[str, _Tensor], spec: ModelSpec
    ) -> list[tuple[_Tensor, Any]]:
        """Return each tensor of the state in, with the memory of the state out."""
        if not self.stateful and len(after) == 1:
            return []
        names = sorted(name.removeprefix("past_") for name in before if name.startswith("past_"))
        if set(before) != {"mel", *(f"past_{name}" for name in names)} or set(after) != {
            "share",
            *(f"seen_{name}" for name in names),
        }:
            raise ModelError(
                f"the network has {len(before)} inputs and {len(after)} outputs that rtden cannot "
                "tell apart; export the model again."
            )
        pairs = []
        for name in names:
            state, seen = before[f"past_{name}"], after[f"seen_{name}"]
            held, new = state.shape[1], self._columns * spec.frames_per_column
            if state.kind != seen.kind or seen.shape != (1, held + new, *state.shape[2:]):
                raise ModelError(
                    "the network's state leaves it in another shape or scale than it comes in; "
                    "export the model again."
                )
            pairs.append((state, seen.memory[:, -held:]))
        return pairs

    def run(self, columns: Array, states: list[Any], mask: Array) -> None:
        """Write the mask of columns; take the state of a stream and leave the next one there."""
        self._input.write(columns)
        for (before, _), state in zip(self.states, states, strict=True):
            before.memory[...] = state
        self._interpreter.invoke()
        for (_, after), state in zip(self.states, states, strict=True):
            state[...] = after
        self._output.read_into(mask)


def _named_tensors(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Return the indices of the inputs and of the outputs by name, from the only signature."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) == len(outputs) == 1:
        return {inputs[0]["name"]: inputs[0]["index"]}, {outputs[0]["name"]: outputs[0]["index"]}
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ModelError(
            f"the network has {len(inputs)} inputs, {len(outputs)} outputs and no single signature "
            "that names them; export the model again."
        )
    runner = interpreter.get_signature_runner(next(iter(signatures)))
    named = tuple(
        {name: detail["index"] for name, detail in details.items()}
        for details in (runner.get_input_details(), runner.get_output_details())
    )
    return named[0], named[1]


class _Tensor:
    """One of a network's inputs or outputs: its memory, and its values as numbers of its type."""

    def __init__(self, interpreter: Any, detail: dict[str, Any]) -> None:
        now = interpreter.tensor(detail["index"])()
        self.shape, self.dtype = now.shape, now.dtype
        scale, zero_point = detail["quantization"]
        self.kind = (self.dtype, scale, zero_point)
        if self.dtype == np.int8:
            if scale <= 0:
                raise ModelError("the network's int8 tensor has no scale; export the model again.")
        elif self.dtype != np.float32:
            raise ModelError(
                f"the network's tensors are {self.dtype}, rtden reads float32 and int8; "
                "export the model again."
            )
        self._scale, self._zero_point = np.float32(scale), np.float32(zero_point)
        self._numbers = np.empty(self.shape, np.float32)
        self.memory = _unowned(now)

    def cleared(self) -> Any:
        """Return an array like the tensor whose values are zero."""
        return np.full(self.shape, self._zero_point, self.dtype)

    def write(self, values: Array) -> None:
        """Write values, saturated where the type ends."""
        if self.dtype == np.float32:
            self.memory[0] = values
            return
        numbers = self._numbers
        np.divide(values, self._scale, out=numbers[0])
        np.add(numbers, self._zero_point, out=numbers)
        np.maximum(numbers, LOWEST, out=numbers)
        np.minimum(numbers, HIGHEST, out=numbers)
        np.rint(numbers, out=self.memory, casting="unsafe")

    def read_into(self, out: Array) -> None:
        """Read the values."""
        if self.dtype == np.float32:
            out[...] = self.memory
            return
        np.subtract(self.memory, self._zero_point, out=out)
        np.multiply(out, self._scale, out=out)


def _unowned(view: Any) -> Any:
    """Return an array on the same memory that holds no reference to the interpreter.

    The interpreter runs only while nobody holds such a reference. Tensors of fixed shape stay where
    they are once they are allocated; the object that has these arrays keeps the interpreter alive.
    """
    memory = (ctypes.c_byte * view.nbytes).from_address(view.__array_interface__["data"][0])
    return np.frombuffer(memory, view.dtype).reshape(view.shape)
