"""int8 against float32: what a network's call costs in each, on this machine.

    pip install .[train]
    python bench/precision.py [--callgrind]

Makes a float32 copy of a shipped network from the weights beside it, and calls both in turns; CPU
time, round by round. With `--callgrind`, valgrind counts the instructions of a call. It emulates a
processor with AVX2 and without AVX-512 and VNNI, so that XNNPACK takes the kernels that laptops
before about 2019 take: that is the only switch, for XNNPACK itself has none.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from callgrind import end_counting, instructions, wait_for_counting
from rounds import Spread, interleaved, processor_name, ratios

from rtden.autoencoder import Autoencoder
from rtden.model import ModelSpec, find_model

CALLS, COUNTED = 400, 100


def write_float(network: Any, spec: ModelSpec, path: Path) -> Path:
    """Write a trained network as a float32 model."""
    from rtden.training.export import to_tflite, write_model
    from rtden.training.network import load_weights, named_weights, rtden_network

    stateful = rtden_network(spec, stateful=True)
    load_weights(stateful, named_weights(network))
    write_model(to_tflite(stateful), spec, path)
    return path


def run(path: Path, calls: int, *, counted: bool = False) -> float:
    """Call a network for one step, over and over; return the CPU time of a call in ms."""
    network = Autoencoder(path, columns=(1,))
    spec = network.spec
    seen = 1 if network.stateful else spec.frames
    rng = np.random.default_rng(0)
    columns = rng.standard_normal((spec.n_mels, seen, len(spec.channels))).astype(np.float32)
    network.infer(columns)
    if counted:
        wait_for_counting()
    began = time.process_time()
    for _ in range(calls):
        network.infer(columns)
    return 1000.0 * (time.process_time() - began) / calls


def main(
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 15,
    callgrind: Annotated[
        bool, typer.Option("--callgrind", help="Count instructions with AVX2 kernels, too.")
    ] = False,
    only: Annotated[Path | None, typer.Option("--run", hidden=True)] = None,
) -> None:
    """Compare int8 and float32."""
    if only is not None:
        run(only, COUNTED, counted=True)
        end_counting()
    from rtden.training.export import load_network

    with tempfile.TemporaryDirectory() as folder:
        path = write_float(*load_network(find_model()), Path(folder) / "float.tflite")
        files = {"int8": find_model(), "float32": path}
        turns = {name: lambda path=path: run(path, CALLS) for name, path in files.items()}
        found = interleaved(turns, rounds)
        print(processor_name())
        for name, times in found.items():
            kb = files[name].stat().st_size / 1024
            print(f"{name}: {Spread.of(times).median:.3f} ms of CPU a call, {kb:.0f} KiB")
        spread = ratios(found["float32"], found["int8"])
        print(f"float32 / int8: {spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})")
        for name, path in files.items() if callgrind else ():
            count = instructions(__file__, "--run", str(path)) / COUNTED
            print(f"{name}, AVX2 kernels: {count:.2f} million instructions a call")


if __name__ == "__main__":
    typer.run(main)
