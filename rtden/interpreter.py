"""The TFLite interpreter of a network: its tensors, and the state of the stream that it runs.

The only module that loads a TFLite runtime.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from rtden.errors import ModelError
from rtden.model import Model
from rtden.threads import give_turn, take_turn
from rtden.types import Array

RUNTIMES = (
    "ai_edge_litert.interpreter",
    "tflite_runtime.interpreter",
    "tensorflow.lite.python.interpreter",
)
LOWEST, HIGHEST = np.array(-128, np.float32), np.array(127, np.float32)
"""Of int8; arrays without dimensions, for numpy converts a scalar at every call."""


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


class State:
    """The state of a stream: in the tensors of `interpreter` or, if that is None, in `values`."""

    def __init__(self, values: list[memoryview]) -> None:
        self.values = values
        self.interpreter: Interpreter | None = None


class Interpreter:
    """An interpreter for calls of a number of columns, with its tensors."""

    def __init__(self, model: Model, columns: int) -> None:
        spec, runtime = model.spec, find_runtime()
        self.runtime = runtime.__name__.split(".")[0]
        self.state: State | None = None  # the stream's whose state the tensors hold
        try:
            # A second thread doubles the CPU time of a step, and makes recordings slower, too.
            self._interpreter = runtime.Interpreter(model_content=model.content, num_threads=1)
            inputs, outputs = named_tensors(self._interpreter)
            self.stateful = len(inputs) > 1
            self.columns = columns if self.stateful else spec.frames
            if self.stateful and "mel" in inputs:
                shape = (1, spec.n_mels, columns, len(spec.channels))
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
            for get in ("get_input_details", "get_output_details")
            for detail in getattr(self._interpreter, get)()
        }
        before, after = (
            {name: _Tensor(self._interpreter, details[index]) for name, index in named.items()}
            for named in (inputs, outputs)
        )
        self._match(before, after)
        held = sum(past.shape[1] for past in self._past)
        self.memory_columns = 1 + held if self.stateful else spec.frames
        self._input = before["mel" if self.stateful else next(iter(before))]
        self._output = after["share" if self.stateful else next(iter(after))]
        self._check_shapes(model)

    def _check_shapes(self, model: Model) -> None:
        """Refuse a network whose tensors are not those that its sidecar describes."""
        for tensor, kind, channels in (
            (self._input, "input", len(model.spec.channels)),
            (self._output, "output", 1),
        ):
            wanted = (1, model.spec.n_mels, self.columns, channels)
            if tensor.shape != wanted:
                raise ModelError(
                    f"model {model.path} has an {kind} of shape {tensor.shape}, its sidecar "
                    f"calls for {wanted}; export the model again."
                )

    def _match(self, before: dict[str, _Tensor], after: dict[str, _Tensor]) -> None:
        """Keep the tensors of the state, before and after a call."""
        names = sorted(name.removeprefix("past_") for name in before if name.startswith("past_"))
        expected = (
            {"mel", *(f"past_{name}" for name in names)},
            {"share", *(f"seen_{name}" for name in names)},
        )
        if (self.stateful or len(after) > 1) and (set(before), set(after)) != expected:
            raise ModelError(
                f"the network has {len(before)} inputs and {len(after)} outputs that rtden cannot "
                "tell apart; export the model again."
            )
        self._past = [before[f"past_{name}"] for name in names]
        self._past_values = [_memory(past.memory) for past in self._past]
        self._seen_values = []
        for past, name in zip(self._past, names, strict=True):
            seen, held = after[f"seen_{name}"], past.shape[1]
            wanted = (1, held + self.columns, *past.shape[2:])
            if past.kind != seen.kind or seen.shape != wanted:
                raise ModelError(
                    "the network's state leaves it in another shape or scale than it comes in; "
                    "export the model again."
                )
            self._seen_values.append(_memory(seen.memory[:, -held:]))

    def cleared_state(self) -> list[memoryview]:
        """Return the state at the beginning of a stream."""
        return [_memory(past.cleared()) for past in self._past]

    def evict(self) -> None:
        """Return the state that the tensors hold to its stream."""
        if self.state is not None:
            for value, seen in zip(self.state.values, self._seen_values, strict=True):
                value[:] = seen
            self.state.interpreter = None
            self.state = None

    def run(self, columns: Array, state: State, mask: Array) -> None:
        """Write the mask of a stream's columns; its next state stays here."""
        values = self._seen_values if self.state is state else state.values
        for past, value in zip(self._past_values, values, strict=True):
            past[:] = value
        self.state, state.interpreter = state, self
        self._input.write(columns)
        waits = give_turn()  # the runtime needs no interpreter lock
        try:
            self._interpreter.invoke()
        finally:
            if waits:
                take_turn()
        self._output.read_into(mask)


def named_tensors(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Return the indices of the inputs and of the outputs by name, from the only signature.

    Raises ModelError if there is none.
    """
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
    """An input or output of a network; converts between its values and the numbers of its type."""

    def __init__(self, interpreter: Any, detail: dict[str, Any]) -> None:
        now = interpreter.tensor(detail["index"])()
        self.shape, self.dtype = now.shape, now.dtype
        scale, zero_point = detail["quantization"]
        self.kind = (self.dtype, scale, zero_point)
        self._is_float = self.dtype == np.float32
        if self.dtype == np.int8:
            if scale <= 0:
                raise ModelError("the network's int8 tensor has no scale; export the model again.")
        elif not self._is_float:
            raise ModelError(
                f"the network's tensors are {self.dtype}, rtden reads float32 and int8; "
                "export the model again."
            )
        self.memory = _unowned(now)
        self._scale, self._zero_point = (np.array(of, np.float32) for of in (scale, zero_point))
        self._numbers = np.empty(self.shape, np.float32)
        # A table of the value of each int8, indexed by its bits.
        self._bits = self.memory.reshape(-1).view(np.uint8)
        every = np.arange(256).astype(np.uint8).view(np.int8).astype(np.float32)
        self._values = (every - self._zero_point) * self._scale

    def cleared(self) -> Any:
        """Return an array like the tensor whose values are zero."""
        return np.full(self.shape, self._zero_point, self.dtype)

    def write(self, values: Array) -> None:
        """Write values, saturated where the type ends."""
        if self._is_float:
            self.memory[0] = values
            return
        numbers = self._numbers
        np.divide(values, self._scale, numbers[0])
        np.add(numbers, self._zero_point, numbers)
        np.maximum(numbers, LOWEST, out=numbers)
        np.minimum(numbers, HIGHEST, out=numbers)
        np.rint(numbers, numbers)
        self.memory[...] = numbers

    def read_into(self, out: Array) -> None:
        """Read the values, in the order of the tensor."""
        if self._is_float:
            out.reshape(-1)[...] = self.memory.reshape(-1)
        else:
            self._values.take(self._bits, out=out.reshape(-1), mode="wrap")


def _memory(array: Any) -> memoryview:
    """Return the bytes of an array; numpy would release Python's lock for each copy of them."""
    return memoryview(array).cast("B")


def _unowned(view: Any) -> Any:
    """Return an array on the same memory that holds no reference to the interpreter.

    The interpreter runs only while nobody holds such a reference. Tensors of fixed shape stay where
    they are once they are allocated; the object that has these arrays keeps the interpreter alive.
    """
    memory = (ctypes.c_byte * view.nbytes).from_address(view.__array_interface__["data"][0])
    return np.frombuffer(memory, view.dtype).reshape(view.shape)
