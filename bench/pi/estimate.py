"""Estimate what live sound costs on a Raspberry Pi, from counts instead of times.

Network: multiply-accumulates of the .tflite file, at the rate at which a board's core was
published to run int8 networks. All else of live sound, 48 kHz in and out in blocks of 10 ms
(all that its threads do: callbacks, rings, resampling, drift, transforms, features, inversion,
meters, a status ten times a second; numpy and Python):
instructions, counted by valgrind's callgrind on x86-64, at an assumed rate for the core. Not
counted: the sound system, the kernel, and waking up. Everything printed about a Pi is an estimate;
`rtden bench --live` on one measures.

    python bench/pi/estimate.py    # needs valgrind, takes minutes
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden import Settings
from rtden.autoencoder import Autoencoder
from rtden.denoiser import algorithmic_latency
from rtden.interpreter import find_runtime
from rtden.live.engine import LiveEngine
from rtden.live.plan import PRESETS, live_settings
from rtden.measure.live_cost import CHANNELS, RATE_HZ, PacedDevice
from rtden.model import find_model, load_spec
from rtden.noise import babble

sys.path.insert(0, str(Path(__file__).parents[1]))
from callgrind import end_counting, instructions, wait_for_counting

SECONDS, CALLS = 3, 100
"""Lengths of the runs that are counted."""
BLOCKS_PER_SECOND, WARM_BLOCKS = 100, 400
"""After three seconds the engine has found that a turn may take two steps."""
MOBILENET_V1_MMAC = 569.0
"""MobileNet v1 1.0 at 224 x 224 (Howard et al., 2017)."""
XNNPACK = "XNNPACK's README, 8 Feb 2022"


@dataclass(frozen=True)
class Board:
    """A core, by what was published about it and what is assumed."""

    name: str
    preset: str
    core: str
    int8_ms: float
    """MobileNet v1 int8 in XNNPACK on all four cores."""
    int8_source: str
    scale: float
    """This core's speed over that of the core measured, by clock and work per clock."""
    rest_ginstr_per_second: float
    """Instructions a second of numpy and Python, assumed: clock x instructions per clock."""


BOARDS = (
    Board(
        name="Zero 2 W",
        preset="zero2",
        core="Cortex-A53, 1.0 GHz",
        int8_ms=46.0,
        int8_source=f"{XNNPACK}: 46 ms on a Pi 3+ (1.4 GHz)",
        scale=1.0 / 1.4,
        rest_ginstr_per_second=1.0 * 0.5,
    ),
    Board(
        name="Pi 4",
        preset="pi4",
        core="Cortex-A72, 1.5 GHz",
        int8_ms=24.0,
        int8_source=f"{XNNPACK}: 24 ms on a Pi 4, 64-bit",
        scale=1.0,
        rest_ginstr_per_second=1.5 * 0.9,
    ),
    Board(
        name="Pi 5",
        preset="pi5",
        core="Cortex-A76, 2.4 GHz",
        int8_ms=24.0,
        int8_source="Pi 4's, times the clock, and twice for int8 dot products (assumed)",
        scale=2.0 * 2.4 / 1.5,
        rest_ginstr_per_second=2.4 * 1.5,
    ),
)


def multiply_accumulates(model: str | None = None) -> float:
    """Return the millions of multiply-accumulates that a second of sound takes of a network.

    Of a network without state: at one hop per step, where it takes a window for each.
    """
    spec = load_spec(model)
    interpreter = find_runtime().Interpreter(model_path=str(find_model(model)))
    interpreter.allocate_tensors()
    shapes = {tensor["index"]: tensor["shape"] for tensor in interpreter.get_tensor_details()}
    total = 0
    for operation in interpreter._get_ops_details():
        kind, inputs = operation["op_name"], operation["inputs"]
        made = int(np.prod(shapes[operation["outputs"][0]]))
        if kind == "CONV_2D":
            total += made * int(np.prod(shapes[inputs[1]][1:]))
        elif kind == "DEPTHWISE_CONV_2D":
            total += made * int(np.prod(shapes[inputs[1]][1:3]))
        elif kind == "FULLY_CONNECTED":
            total += made * int(shapes[inputs[1]][-1])
        elif kind == "TRANSPOSE_CONV":
            total += int(np.prod(shapes[inputs[2]])) * int(np.prod(shapes[inputs[1]][:3]))
        elif kind == "BATCH_MATMUL":
            raise SystemExit(f"{kind} is not counted here: add it")
    return spec.rate_hz / spec.hop * total / 1e6


def settings_of(hops_per_step: int) -> Settings:
    """Return the settings of live sound."""
    return live_settings(Settings(hops_per_step=hops_per_step, limit_db=0.0))


def run_live(hops_per_step: int, seconds: int) -> None:
    """Do what the threads of a live stream between two simulated devices do, in one thread."""
    sound = np.repeat(babble(RATE_HZ, RATE_HZ)[:, None], CHANNELS, axis=1)
    source, sink = PacedDevice("input", sound), PacedDevice("output", None)
    settings = settings_of(hops_per_step)
    engine = LiveEngine(source, sink, settings=settings, clock=lambda: 0.0)
    worker = engine.worker
    worker.delay.drift.ppm = 50.0  # as real clocks have it; none is measured in the first seconds
    for block in range(-WARM_BLOCKS, seconds * BLOCKS_PER_SECOND):
        if block == 0:
            wait_for_counting()
        for device in (source, sink):
            device.block()
            device.called_at = 0.0
        while worker.work():
            pass
        if block % (BLOCKS_PER_SECOND // 4) == 0:
            worker.devices.check()
            worker.meters.update()
        if block % (BLOCKS_PER_SECOND // 10) == 0:
            engine.status()


def run_network(hops_per_step: int, calls: int) -> None:
    """Let the network estimate masks."""
    network = Autoencoder(columns=(hops_per_step,))
    spec = network.spec
    seen = hops_per_step if network.stateful else spec.frames
    columns = np.zeros((spec.n_mels, seen, len(spec.channels)), np.float32)
    network.infer(columns)
    wait_for_counting()
    for _ in range(calls):
        network.infer(columns)


RUNS: dict[str, Any] = {"live": run_live, "network": run_network}


def counted(what: str, hops_per_step: int, length: int) -> float:
    """Return the millions of instructions of one unit of a run."""
    return instructions(__file__, "--run", what, str(hops_per_step), str(length)) / length


def count_rest(hops_per_step: int) -> float:
    """Return the millions of instructions of a second of live sound beside the network."""
    whole = counted("live", hops_per_step, SECONDS)
    call = counted("network", hops_per_step, CALLS)
    spec = load_spec()
    network = call * spec.rate_hz / spec.hop / hops_per_step
    rest = whole - network
    print(
        f"hops_per_step {hops_per_step}: {whole:.0f} million instructions a second of live sound, "
        f"of which {network:.0f} in the network (x86-64, AVX2) and {rest:.0f} beside it"
    )
    return rest


def main() -> None:
    """Count, and print an estimate for each board."""
    parser = argparse.ArgumentParser(description="Estimate the cost of live sound on a Pi.")
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    if run := parser.parse_args().run:
        RUNS[run[0]](*map(int, run[1:]))
        end_counting()
    hops = {board: PRESETS[board.preset].hops_per_step for board in BOARDS}
    rest_minstr = {hops_per_step: count_rest(hops_per_step) for hops_per_step in {*hops.values()}}
    network_mmac = multiply_accumulates()
    print(f"network: {network_mmac:.0f} million multiply-accumulates a second of sound (counted)")
    for board, hops_per_step in hops.items():
        # On four cores the published run is at most four times as fast as on one, so that the
        # estimate for one core errs on the slow side.
        mmac_per_ms = MOBILENET_V1_MMAC / board.int8_ms / 4 * board.scale
        network_ms = network_mmac / mmac_per_ms
        rest_ms = rest_minstr[hops_per_step] / board.rest_ginstr_per_second
        latency = algorithmic_latency(load_spec(), settings_of(hops_per_step))
        print(
            f"{board.name} ({board.core}; {board.int8_source}), preset {board.preset}, "
            f"{hops_per_step} hops a step, {1000.0 * latency.seconds:.0f} ms: network "
            f"{network_ms:.0f} ms and the rest {rest_ms:.0f} ms a second of sound, estimated: "
            f"{(network_ms + rest_ms) / 10:.0f} % of a core"
        )


if __name__ == "__main__":
    main()
