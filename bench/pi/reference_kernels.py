"""Run rtden with TFLite's reference kernels, which give the same numbers on every machine: `reference_kernels.py file in.wav -o out.wav`.

The others, XNNPACK's and TFLite's own optimised ones, round otherwise from machine to machine, and on ARM even with the number of
columns a call takes. What is left of a difference under these is not of the network's arithmetic.
"""

from __future__ import annotations

import functools

from rtden.autoencoder import find_runtime
from rtden.cli import app

runtime = find_runtime()
runtime.Interpreter = functools.partial(runtime.Interpreter, experimental_op_resolver_type=runtime.OpResolverType.BUILTIN_REF)

if __name__ == "__main__":
    app()
