"""Stage 3: the network that says which share of each mel cell is speech. The only module that loads a TFLite runtime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from rtden.errors import ModelError
from rtden.mel import Array
from rtden.quiet import quiet_stderr
from rtden.sidecar import load_spec

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter", "tensorflow.lite.python.interpreter")


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
    raise ModelError("no TFLite runtime is installed: run 'pip install ai-edge-litert' (or, on 32-bit ARM, 'pip install rtden[tflite-runtime]').")


class Autoencoder:
    """A TFLite network on a window of mels.

    Parameters
    ----------
    model_path : Path
        A ``.tflite`` file with its sidecar beside it. Its tensors may be float32 or int8; scale and zero point are read
        from them.
    threads : int
        Interpreter threads.

    Raises
    ------
    ModelError
        If the file, its sidecar or the runtime cannot be used, or the tensors are not of the sidecar's shape.
    """

    def __init__(self, model_path: Path, *, threads: int = 1) -> None:
        self.spec = spec = load_spec(model_path)
        runtime = find_runtime()
        self.runtime: str = runtime.__name__.split(".")[0]
        try:
            with quiet_stderr():  # it reports each delegate that it makes
                self._interpreter = runtime.Interpreter(model_path=str(model_path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ModelError(f"{self.runtime} cannot load the model {model_path} ({reason}); update the runtime or export the model again.") from None
        self._input, self._output = _Tensor(self._interpreter.get_input_details()), _Tensor(self._interpreter.get_output_details())
        for tensor, kind, channels in ((self._input, "input", len(spec.channels)), (self._output, "output", 1)):
            wanted = (1, spec.n_mels, spec.frames, channels)
            if tensor.shape != wanted:
                raise ModelError(f"model {model_path} has an {kind} of shape {tensor.shape}, its sidecar calls for {wanted}; export the model again.")
        self._quantised = np.empty(self._input.shape, np.float32)
        self._share = np.empty(self._output.shape, np.float32)

    def infer(self, columns: Array) -> Array:
        """Return the share of speech, shapes (n_mels, frames, channels) to (n_mels, frames); valid until the next call."""
        self._input.quantise(columns, self._quantised[0])
        # Views of the interpreter's memory: nothing is copied twice, and none may live through the call of invoke.
        self._interpreter.tensor(self._input.index)()[...] = self._quantised
        self._interpreter.invoke()
        self._output.dequantise(self._interpreter.tensor(self._output.index)(), self._share)
        return self._share[0, :, :, 0]


class _Tensor:
    """Shape, type and quantisation of a network's only input or output."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        if len(details) != 1:
            raise ModelError(f"the network has {len(details)} inputs or outputs where rtden needs one of each; export the model again.")
        (detail,) = details
        self.index: int = detail["index"]
        self.shape = tuple(int(n) for n in detail["shape"])
        self.dtype = np.dtype(detail["dtype"])
        scale, zero_point = detail["quantization"]
        self._scale, self._zero_point = np.float32(scale), np.float32(zero_point)
        if self.dtype == np.int8:
            if scale <= 0:
                raise ModelError("the network's int8 tensor has no scale; export the model again.")
        elif self.dtype != np.float32:
            raise ModelError(f"the network's tensors are {self.dtype}, rtden reads float32 and int8; export the model again.")

    def quantise(self, values: Array, out: Array) -> None:
        """Write values as this tensor's numbers, still held in float32."""
        if self.dtype == np.float32:
            out[...] = values
            return
        np.divide(values, self._scale, out=out)
        out += self._zero_point
        np.rint(out, out=out)
        np.clip(out, -128.0, 127.0, out=out)

    def dequantise(self, numbers: Any, out: Array) -> None:
        """Write this tensor's numbers as values."""
        out[...] = numbers
        if self.dtype == np.int8:
            out -= self._zero_point
            out *= self._scale
