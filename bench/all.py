"""All figures of this machine, one after the other: bench/results and the tables of docs.

    python bench/all.py --pairs FOLDER [NAME...]

Wants a quiet machine, the extras `eval` and `train`, valgrind, PulseAudio and Chromium; takes about
twelve minutes on two cores. Each command's output goes into bench/results/NAME.txt; then the tables
of docs/benchmarks.md and docs/pi.md between `<!-- NAME -->` and `<!-- end -->` are written anew.
Quality and cost beside other denoisers take longer: see bench/peers.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from common import PairsOption, markdown
from rounds import processor_name

from rtden.files.processes import cores

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
COMMANDS = {
    "cost": ["-m rtden bench --model rtden --seconds 20"],
    "streams": [
        f"-m rtden bench --model rtden --seconds 5 --streams 0 {spread}"
        for spread in ("", f"--jobs {cores()}", f"--threads {cores()}")
    ],
    "live-cost": ["-m rtden bench --model rtden --seconds 10 --live"],
    "precision": ["bench/precision.py --callgrind"],
    "pi": ["bench/pi/estimate.py --callgrind"],
    "latency": ["bench/latency.py --pairs {pairs}"],
    "clicks": ["bench/live.py --clicks 40 --json bench/results/live.json --force"],
    "page": ["bench/page.py --rounds 2 --seconds 10"],
    "check": ["bench/check.py --record --rounds 9 --seconds 5"],
}
"""Arguments of the interpreter, by the name of what they measure."""

Rows = list[list[str]]


def cost_rows(text: str) -> Rows:
    """Return latency, step, real-time factor and headroom by hops per step."""
    steps = dict(re.findall(r"rtden +(\d) +whole step +(.+)", text))
    rows = [["hops per step", "latency of the algorithm", "a step, median / p99"]]
    rows[0] += ["real-time factor", "headroom"]
    for hops, latency, factor, headroom in re.findall(
        r"rtden +(\d) +(\d+ ms) +([\d.]+) +(\d+) x", text
    ):
        median, _, p99 = map(float, steps[hops].split())
        step = f"{median:.2f} / {p99:.2f} ms"
        rows.append([hops, latency, step, f"{float(factor):.3f}", f"{headroom} ×"])
    return rows


def streams_rows(text: str) -> Rows:
    """Return how many streams processes and threads carry."""
    rows = [["processes", "threads each", "most streams", "round, median / p99"]]
    rows[0] += ["streams a core, by CPU time", "memory of one more"]
    line = r"rtden +(\d+) +(\d+) +(\d+) +\w+ +\S+ / \S+ ms +(\S+ / \S+ ms)"
    line += r" +\S+ cores +(\d+) streams +(.+)"
    for most, jobs, threads, each_round, a_core, memory in re.findall(line, text):
        rows.append([jobs, threads, most, each_round, a_core, memory.strip()])
    return rows


def precision_rows(text: str) -> Rows:
    """Return the cost of a call of the network in int8 and in float32."""
    cpu = dict(re.findall(r"(int8|float32): ([\d.]+) ms", text))
    count = dict(re.findall(r"(int8|float32), AVX2 kernels: ([\d.]+) million", text))
    this = ["this processor's", f"{cpu['int8']} ms", f"{cpu['float32']} ms"]
    avx2 = ["AVX2", f"{count['int8']} million", f"{count['float32']} million"]
    return [
        ["kernels", "int8", "float32", ""],
        [*this, "CPU time of a call, one hop"],
        [*avx2, "instructions of a call"],
    ]


def latency_rows(text: str) -> Rows:
    """Return the scores by latency, and those of files."""
    rows = [["latency of the algorithm", "PESQ-WB", "ESTOI", "OVRL", "P.808"]]
    names = {"30 ms": "**30 ms (live)**", "files": "files"}
    for name, line in re.findall(r"^ *(\d+ ms|files) +\d+ +(.+)$", text, re.MULTILINE):
        scores = re.findall(r"(-?[\d.]+)(?: \(.+?\))?(?: |$)", line)
        pesq, estoi, _, ovrl, p808 = map(float, scores)
        figures = [f"{pesq:.2f}", f"{estoi:.3f}", f"{ovrl:.2f}", f"{p808:.2f}"]
        rows.append([names.get(name, name), *figures])
    return rows


def pi_rows(text: str) -> Rows:
    """Return the estimated load of each board with its preset."""
    rows = [["", "Preset", "Latency of the algorithm", "Load of one core, estimated"]]
    boards = re.findall(r"^(.+?) \(.+estimated:\n.+: (\d+) % of a core\n.+: (\d+) %", text, re.M)
    for name, one_hop, two_hops in boards:
        small = name.startswith("Zero")
        preset, latency = ("zero2", "70 ms") if small else (name.lower().replace(" ", ""), "30 ms")
        rows.append([name, f"`{preset}`", latency, f"{two_hops if small else one_hop} %"])
    return rows


TABLES: dict[str, Callable[[str], Rows]] = {
    "cost": cost_rows,
    "streams": streams_rows,
    "precision": precision_rows,
    "latency": latency_rows,
    "pi": pi_rows,
}


def write_tables(names: list[str]) -> None:
    """Write the tables of the documentation from the results."""
    for page in (DOCS / "benchmarks.md", DOCS / "pi.md"):
        text = page.read_text(encoding="utf-8")
        for name in names:
            place = re.compile(rf"(<!-- {name} -->\n).*?\n?(<!-- end -->)", re.DOTALL)
            if place.search(text):
                table = markdown(TABLES[name]((RESULTS / f"{name}.txt").read_text("utf-8")))
                text = place.sub(rf"\g<1>{table}\n\g<2>", text)
        page.write_text(text, encoding="utf-8")


def run(name: str, pairs: Path) -> None:
    """Run the commands of a name, and write what they print."""
    texts = [processor_name()]
    for arguments in COMMANDS[name]:
        words = shlex.split(arguments.format(pairs=shlex.quote(str(pairs))))
        print(f"python {' '.join(words)}", flush=True)
        began = time.monotonic()
        ended = subprocess.run(
            [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
        )
        print(f"{ended.stdout}({time.monotonic() - began:.0f} s)\n", flush=True)
        if ended.returncode > 1:  # 1: a comparison that did not come out as hoped
            sys.exit(f"bench/all.py: this command failed: {arguments}")
        texts.append(f"python {arguments.format(pairs='FOLDER')}\n\n{ended.stdout.rstrip()}")
    (RESULTS / f"{name}.txt").write_text("\n\n".join(texts) + "\n", encoding="utf-8")


def main(
    pairs: PairsOption,
    names: Annotated[
        list[str] | None,
        typer.Argument(help=f"Of {', '.join(COMMANDS)}.", show_default="all of them"),
    ] = None,
) -> None:
    """Measure, and write results and tables."""
    chosen = names or list(COMMANDS)
    if unknown := [name for name in chosen if name not in COMMANDS]:
        sys.exit(f"bench/all.py: there is no {unknown[0]}; choose of {', '.join(COMMANDS)}.")
    for name in chosen:
        run(name, pairs)
    write_tables([name for name in chosen if name in TABLES])


if __name__ == "__main__":
    typer.run(main)
