"""Stage 3: the network that says which share of each mel cell is speech. The only module that loads a TFLite runtime."""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import ModelError
from rtden.model import load_spec
from rtden.quiet import quiet_stderr
from rtden.types import Array

RUNTIMES = (
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "tensorflow.lite.python.interpreter",
)
LOWEST, HIGHEST = np.float32(-128.0), np.float32(127.0)
"""Of int8."""


def find_runtime() -> Any:
    """Import and return the first TFLite interpreter module that is installed.

    Raises
    ------
    ModelError
        If none is.
    """
    for name in RUNTIMES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ModelError(
        "no TFLite runtime is installed: run 'pip install ai-edge-litert' (or, on 32-bit ARM, 'pip install rtden[tflite-runtime]')."
    )


class Autoencoder:
    """A TFLite network on columns of mels.

    A network takes either a whole window of `spec.frames` columns at every call, or the new columns alone and, as further tensors
    "past_NAME", what its convolutions over time remember of the older ones; "seen_NAME" is that and the new ones, whose newest are the
    past of the call after. The memory is carried from call to call here, and one call may have any number of columns, fixed when the network is loaded:
    a sequence gives the same answers, to the bit for int8, however it is cut.

    Parameters
    ----------
    model_path : Path
        A ``.tflite`` file with its sidecar beside it. Its tensors may be float32 or int8; scale and zero point are read
        from them.
    threads : int
        Interpreter threads.
    columns : int, optional
        Columns of a call, for networks that carry their memory; `spec.frames` if None, and always for the others.

    Raises
    ------
    ModelError
        If the file, its sidecar or the runtime cannot be used, or the tensors are not of the sidecar's shape.

    Attributes
    ----------
    carried : bool
        Whether the network carries its memory.
    columns : int
        Columns that :meth:`infer` takes and gives.
    memory_columns : int
        Columns on which an answer depends: the one that it is for and those before it.
    """

    def __init__(self, model_path: Path, *, threads: int = 1, columns: int | None = None) -> None:
        self.spec = spec = load_spec(model_path)
        runtime = find_runtime()
        self.runtime: str = runtime.__name__.split(".")[0]
        try:
            with quiet_stderr():  # it reports each delegate that it makes
                self._interpreter = runtime.Interpreter(
                    model_path=str(model_path), num_threads=threads
                )
                inputs, outputs = _named_tensors(self._interpreter)
                self.carried = len(inputs) > 1
                self.columns = (columns or spec.frames) if self.carried else spec.frames
                if self.carried and "mel" in inputs:
                    self._interpreter.resize_tensor_input(
                        inputs["mel"], (1, spec.n_mels, self.columns, spec.input_channels)
                    )
                self._interpreter.allocate_tensors()
                self._interpreter.invoke()  # memory that is still to move moves now
        except (ValueError, RuntimeError) as error:
            reason = (
                str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            )
            raise ModelError(
                f"{self.runtime} cannot load the model {model_path} ({reason}); update the runtime or export the model again."
            ) from None
        tensors = {
            detail["index"]: detail
            for detail in (
                *self._interpreter.get_input_details(),
                *self._interpreter.get_output_details(),
            )
        }
        given = {name: _Tensor(self._interpreter, tensors[index]) for name, index in inputs.items()}
        answers = {
            name: _Tensor(self._interpreter, tensors[index]) for name, index in outputs.items()
        }
        self._past = self._match(given, answers)
        self._input = given["mel" if self.carried else next(iter(given))]
        self._output = answers["share" if self.carried else next(iter(answers))]
        for tensor, kind, channels in (
            (self._input, "input", spec.input_channels),
            (self._output, "output", spec.frames_per_column),
        ):
            wanted = (1, spec.n_mels, self.columns, channels)
            if tensor.shape != wanted:
                raise ModelError(
                    f"model {model_path} has an {kind} of shape {tensor.shape}, its sidecar calls for {wanted}; export the model again."
                )
        memory_frames = sum(before.shape[1] for before, _ in self._past)
        self.memory_columns = (
            1 - (-memory_frames // spec.frames_per_column) if self.carried else spec.frames
        )
        self._share = np.empty(self._output.shape, np.float32)
        self._answer: Array = self._share.reshape(spec.n_mels, -1)
        self.reset()

    def _match(
        self, given: dict[str, _Tensor], answers: dict[str, _Tensor]
    ) -> list[tuple[_Tensor, Any]]:
        """Return the tensors of the memory, each with the memory of what is to go into it for the next call."""
        if not self.carried and len(answers) == 1:
            return []
        names = sorted(name.removeprefix("past_") for name in given if name.startswith("past_"))
        if set(given) != {"mel", *(f"past_{name}" for name in names)} or set(answers) != {
            "share",
            *(f"seen_{name}" for name in names),
        }:
            raise ModelError(
                f"the network has {len(given)} inputs and {len(answers)} outputs that rtden cannot tell apart; export the model again."
            )
        if self.spec.lookahead:
            raise ModelError(
                "a network that carries its memory cannot look ahead; export the model again without lookahead."
            )
        pairs = []
        for name in names:
            before, after = given[f"past_{name}"], answers[f"seen_{name}"]
            held = before.shape[1]
            if before.kind != after.kind or after.shape != (
                1,
                held + self.columns * self.spec.frames_per_column,
                *before.shape[2:],
            ):
                raise ModelError(
                    "the network's memory leaves it in another shape or scale than it comes in; export the model again."
                )
            pairs.append((before, after.memory[:, -held:]))
        return pairs

    def reset(self) -> None:
        """Forget the columns before: what follows is a new sequence."""
        for before, _ in self._past:
            before.clear()

    @property
    def past(self) -> list[Any]:
        """What the network remembers, as copies of its tensors; another instance of the same network goes on with it."""
        return [before.memory.copy() for before, _ in self._past]

    @past.setter
    def past(self, past: list[Any]) -> None:
        for (before, _), theirs in zip(self._past, past, strict=True):
            before.memory[...] = theirs

    def infer(self, columns: Array) -> Array:
        """Return the share of speech, shapes (n_mels, columns, input_channels) to (n_mels, frames), `frames_per_column` a column; valid until the next call."""
        self._input.write(columns)
        self._interpreter.invoke()
        for before, after in self._past:
            before.memory[...] = after
        self._output.read_into(self._share)
        return self._answer


def _named_tensors(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Return the indices of the inputs and of the outputs by name, as the network's only signature has them."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) == len(outputs) == 1:
        return {inputs[0]["name"]: inputs[0]["index"]}, {outputs[0]["name"]: outputs[0]["index"]}
    signatures = interpreter.get_signature_list()
    if len(signatures) != 1:
        raise ModelError(
            f"the network has {len(inputs)} inputs, {len(outputs)} outputs and no single signature that names them; export the model again."
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
                f"the network's tensors are {self.dtype}, rtden reads float32 and int8; export the model again."
            )
        self._scale, self._zero_point = np.float32(scale), np.float32(zero_point)
        self._numbers = np.empty(self.shape, np.float32)
        self.memory = _unowned(now)

    def clear(self) -> None:
        """Set every value to zero."""
        self.memory[...] = self._zero_point

    def write(self, values: Array) -> None:
        """Write values, saturated where the type ends."""
        if self.dtype == np.float32:
            self.memory[0] = values
            return
        numbers = self._numbers
        np.divide(values, self._scale, out=numbers[0])
        np.add(numbers, self._zero_point, out=numbers)
        np.rint(numbers, out=numbers)
        np.maximum(numbers, LOWEST, out=numbers)
        np.minimum(numbers, HIGHEST, out=numbers)
        self.memory[...] = numbers

    def read_into(self, out: Array) -> None:
        """Read the values."""
        if self.dtype == np.float32:
            out[...] = self.memory
            return
        np.subtract(self.memory, self._zero_point, out=out)
        np.multiply(out, self._scale, out=out)


def _unowned(view: Any) -> Any:
    """Return an array on the same memory that holds no reference to the interpreter, which runs only while nobody holds one.

    Tensors of fixed shape stay where they are once they are allocated; the instance that has these arrays keeps the interpreter alive.
    """
    memory = (ctypes.c_byte * view.nbytes).from_address(view.__array_interface__["data"][0])
    return np.frombuffer(memory, view.dtype).reshape(view.shape)
