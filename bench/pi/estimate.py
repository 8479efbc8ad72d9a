"""Estimate what a step costs on a Raspberry Pi, from counts that do not depend on the machine that counts.

The network: multiply-accumulates of the .tflite file, at the rate at which a board's core was published to run int8 networks. The rest
(numpy and Python): instructions, counted by valgrind's callgrind on x86-64, at a rate of instructions that is assumed for the core.
Everything printed about a Pi is an estimate; `rtden bench` on one gives the real figure.

    python bench/pi/estimate.py [--callgrind]      # with it, count again (needs valgrind and some minutes)
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden import Denoiser, Settings
from rtden.autoencoder import Autoencoder
from rtden.model import ModelSpec, load_spec

STEPS = 200
HOPS_PER_STEP = (1, 2, 4, 8)
REST_MINSTR = {1: 0.97, 2: 1.31, 4: 2.07, 8: 3.64}
"""Million instructions of a step beside the network's, by hops_per_step: what --callgrind printed."""

MOBILENET_V1_MMAC = 569.0
"""MobileNet v1 1.0 at 224 x 224 (Howard et al., 2017)."""


@dataclass(frozen=True)
class Board:
    """A core, by what was published about it and what is assumed."""

    name: str
    core: str
    int8_ms: float
    """MobileNet v1 int8 in XNNPACK on all four cores."""
    int8_source: str
    scale: float
    """Clock of this board's core over that of the board measured, times what a newer core does more."""
    rest_ginstr_per_second: float
    """Instructions a second of numpy and Python, assumed: clock x instructions per clock."""


XNNPACK = "XNNPACK's README, 8 Feb 2022"
BOARDS = (
    Board(
        "Zero 2 W",
        "Cortex-A53, 1.0 GHz",
        46.0,
        f"{XNNPACK}: 46 ms on a Pi 3+ (1.4 GHz)",
        1.0 / 1.4,
        1.0 * 0.5,
    ),
    Board(
        "Pi 4", "Cortex-A72, 1.5 GHz", 24.0, f"{XNNPACK}: 24 ms on a Pi 4, 64-bit", 1.0, 1.5 * 0.9
    ),
    Board(
        "Pi 5",
        "Cortex-A76, 2.4 GHz",
        24.0,
        "Pi 4's, times the clock, and twice for int8 dot products (assumed)",
        2.0 * 2.4 / 1.5,
        2.4 * 1.5,
    ),
)


def multiply_accumulates(model: str, hops_per_step: int) -> float:
    """Return the millions of multiply-accumulates of one call: of `hops_per_step` columns, or of a window where the network carries no memory."""
    network = Autoencoder(model)
    # The shapes of inner tensors are those of the file, of one frame.
    interpreter = network._borrow(1)._interpreter
    calls = hops_per_step * network.spec.frames_per_column if network.stateful else 1
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
    total = 0
    for operation in interpreter._get_ops_details():
        kind, inputs, output = (
            operation["op_name"],
            operation["inputs"],
            shapes[operation["outputs"][0]],
        )
        if kind == "CONV_2D":
            total += int(np.prod(output)) * int(np.prod(shapes[inputs[1]][1:]))
        elif kind == "DEPTHWISE_CONV_2D":
            total += int(np.prod(output)) * int(np.prod(shapes[inputs[1]][1:3]))
        elif kind == "TRANSPOSE_CONV":
            total += int(np.prod(shapes[inputs[2]])) * int(np.prod(shapes[inputs[1]][:3]))
        elif kind in ("FULLY_CONNECTED", "BATCH_MATMUL"):
            raise SystemExit(f"{kind} is not counted here: add it")
    return calls * total / 1e6


class NoNetwork:
    """A mask that is always the same: what is left is all of a step but the network."""

    runtime, stateful, memory_columns = "none", True, 1

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def infer(self, columns: Any) -> Any:
        """Return the mask."""
        frames = columns.shape[1] * self.spec.frames_per_column
        return np.full((self.spec.n_mels, frames), 0.5, np.float32)

    def reset(self) -> None:
        """Do nothing."""


def run(hops_per_step: int, steps: int) -> None:
    """Do `steps` steps without the network; what callgrind counts."""
    settings = Settings(hops_per_step=hops_per_step)
    denoiser = Denoiser(settings=settings, network=NoNetwork(load_spec()))
    signal = (0.1 * np.random.default_rng(0).standard_normal(denoiser.step_samples)).astype(
        np.float32
    )
    for _ in range(steps):
        denoiser.feed(signal)


def instructions(hops_per_step: int, steps: int) -> int:
    """Return the instructions of this script's run, by callgrind."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={Path(folder) / 'out'}",
            sys.executable,
            __file__,
        ]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        ended = subprocess.run(
            [*command, "--run", str(hops_per_step), str(steps)],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        )
    found = re.search(r"Collected : (\d+)", ended.stderr)
    if found is None:
        raise SystemExit(ended.stderr)
    return int(found[1])


def main() -> None:
    """Count, or print the table."""
    parser = argparse.ArgumentParser(description="Estimate what a step costs on a Raspberry Pi.")
    parser.add_argument("--callgrind", action="store_true", help="count the instructions again")
    parser.add_argument("--run", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(*arguments.run)
        return
    rest = dict(REST_MINSTR)
    if arguments.callgrind:
        for hops_per_step in HOPS_PER_STEP:
            few, many = instructions(hops_per_step, STEPS // 4), instructions(hops_per_step, STEPS)
            rest[hops_per_step] = (many - few) / (STEPS - STEPS // 4) / 1e6
    network = {
        hops_per_step: multiply_accumulates("rtden", hops_per_step)
        for hops_per_step in HOPS_PER_STEP
    }
    counts = ", ".join(
        f"{value:.1f} at hops_per_step {hops_per_step}" for hops_per_step, value in network.items()
    )
    print(
        f"network, million multiply-accumulates a call: {counts} (seed: {multiply_accumulates('seed', 1):.1f})"
    )
    print(
        "rest, million instructions a step: "
        + ", ".join(
            f"{value:.2f} at hops_per_step {hops_per_step}" for hops_per_step, value in rest.items()
        )
    )
    spec = Denoiser().spec
    for board in BOARDS:
        # On four cores the published run is at best four times as fast as on one: the estimate for one core errs on the slow side.
        mmac_per_ms = MOBILENET_V1_MMAC / board.int8_ms / 4 * board.scale
        print(
            f"{board.name} ({board.core}; {board.int8_source}): {mmac_per_ms:.1f} G multiply-accumulates a second and core"
        )
        for hops_per_step in HOPS_PER_STEP:
            network_ms = network[hops_per_step] / mmac_per_ms
            rest_ms = rest[hops_per_step] / board.rest_ginstr_per_second
            step_ms = 1000.0 * hops_per_step * spec.hop / spec.rate_hz
            load = (network_ms + rest_ms) / step_ms
            print(
                f"  hops_per_step {hops_per_step}: network {network_ms:.1f} ms, rest {rest_ms:.1f} ms of {step_ms:.1f}, load {load:.0%}, headroom {1 / load:.1f} x"
            )


if __name__ == "__main__":
    main()
