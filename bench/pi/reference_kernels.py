"""Run a module with TFLite's reference kernels, which give the same numbers on every machine.

    reference_kernels.py rtden file in.wav

The others, XNNPACK's and TFLite's own optimised ones, round differently from machine to machine,
and the latter on ARM even with the number of columns of a call. A difference that is left with
these is not of the network's arithmetic.
"""

from __future__ import annotations

import runpy
import sys
from typing import Any

from rtden.interpreter import find_runtime

runtime = find_runtime()
own_kernels = runtime.Interpreter


def with_reference_kernels(*given: Any, **options: Any) -> Any:
    """Return an interpreter, with its own kernels where the reference lacks one.

    tflite-runtime 2.14 has none for the transposed convolutions of `seed`.
    """
    try:
        return own_kernels(
            *given, experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF, **options
        )
    except ValueError:
        return own_kernels(*given, **options)


runtime.Interpreter = with_reference_kernels

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
