"""All figures of this machine, one after the other: bench/results and the tables of docs.

    python bench/all.py --pairs FOLDER [NAME...]

Wants a quiet machine, the extras `eval` and `train`, valgrind, PulseAudio and Chromium; takes about
twelve minutes on two cores. Each command's output goes into bench/results/NAME.txt; then the tables
of docs/benchmarks.md and docs/pi.md between `<!-- NAME -->` and `<!-- end -->` are written anew.
Only where they are named: quality and cost beside other denoisers (`quality`, `mild`,
`telephone`, `peers-cost`; extras `peers` and `noisereduce`, an hour each), `scores` and `oracle`.
"""

from __future__ import annotations

import json
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
from rtden.measure.evaluation import HEADLINE, NOISY
from rtden.measure.tables import marked

ROOT = Path(__file__).parents[1]
RESULTS, DOCS = ROOT / "bench" / "results", ROOT / "docs"
COMMANDS = {
    "cost": ["-m rtden bench --model rtden --seconds 20"],
    "streams": [
        f"-m rtden bench --model rtden --seconds 5 --streams 0 {spread}"
        for spread in ("", f"--jobs {cores()}")
    ],
    "live-cost": ["-m rtden bench --model rtden --seconds 10 --live"],
    "precision": ["bench/precision.py --callgrind"],
    "pi": ["bench/pi/estimate.py"],
    "latency": ["bench/latency.py --pairs {pairs}"],
    "clicks": ["bench/live.py --clicks 40 --json bench/results/live.json --force"],
    "page": ["bench/page.py --rounds 2 --seconds 10"],
    "check": ["bench/check.py --record --rounds 9 --seconds 5"],
}
"""Arguments of the interpreter, by the name of what they measure."""
RESULT = "--results bench/results --force"
LONG = {
    "quality": [f"bench/peers.py --pairs {{pairs}} --model rtden --quality-only {RESULT}"],
    "mild": [
        f"bench/peers.py --pairs {{pairs}} --noise-db -15 --model rtden --quality-only {RESULT}"
    ],
    "telephone": [
        f"bench/peers.py --pairs {{pairs}} --to-hz 8000 --model rtden --quality-only {RESULT}"
    ],
    "peers-cost": [f"bench/peers.py --cost-only --model rtden {RESULT}"],
    "scores": [
        "-m rtden eval --pairs {pairs} --model rtden --live --json bench/results/scores-dev.json "
        "--plot bench/results/scores-dev.png --force"
    ],
    "oracle": ["bench/oracle.py --pairs {pairs}"],
}
HARD_NOISES = ("babble", "cafe")

Rows = list[list[str]]


def printed(text: str, column: str) -> list[dict[str, str]]:
    """Return the full rows, by column, of the printed tables that have this column."""
    rows, header = [], list[str]()
    for line in text.splitlines():
        cells = re.split(r" {2,}", line.strip())
        if column in cells:
            header = cells
        elif not line.strip():
            header = []
        elif len(cells) == len(header):
            rows.append(dict(zip(header, cells, strict=True)))
    return rows


def cost_rows(text: str) -> Rows:
    """Return latency, step, real-time factor and headroom by hops per step."""
    rows = [["hops per step", "latency of the algorithm", "a step, median / p99"]]
    rows[0] += ["real-time factor", "headroom"]
    steps = [row for row in printed(text, "Stage") if row["Stage"] == "whole step"]
    for row, step in zip(printed(text, "Headroom"), steps, strict=True):
        median, p99 = (float(step[name]) for name in ("p50 (ms)", "p99 (ms)"))
        factor, headroom = float(row["Real-time factor"]), row["Headroom"].replace("x", "×")
        cells = [f"{median:.2f} / {p99:.2f} ms", f"{factor:.3f}", headroom]
        rows.append([row["Hops per step"], row["Latency"], *cells])
    return rows


def streams_rows(text: str) -> Rows:
    """Return how many streams processes carry."""
    rows = [["processes", "most streams", "round, median / p99"]]
    rows[0] += ["streams a core, by CPU time", "memory of one more"]
    for row in printed(text, "Streams"):
        cells = [row[name] for name in ("Processes", "Streams", "Round p50 / p99")]
        a_core = row["A core by CPU time"].removesuffix(" streams")
        rows.append([*cells, a_core, row["Memory each"]])
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
    metrics = ("PESQ-WB", "ESTOI", "OVRL", "P.808")
    rows = [["latency of the algorithm", *map(marked, metrics)]]
    for row in printed(text, "Latency"):
        name = row["Latency"].replace("30 ms", "**30 ms (live)**")
        scores = [float(row[marked(metric)].split()[0]) for metric in metrics]
        rows.append([name, *map(score_cell, metrics, scores)])
    return rows


def pi_rows(text: str) -> Rows:
    """Return the estimated load of each board with its preset."""
    rows = [["", "Preset", "Latency of the algorithm", "Load of one core, estimated"]]
    line = r"^(.+?) \(.+\), preset (\w+), \d+ hops a step, (\d+ ms): .+: (\d+ %) of a core$"
    boards = re.findall(line, text, re.MULTILINE)
    return rows + [[name, f"`{preset}`", *figures] for name, preset, *figures in boards]


def score_cell(metric: str, mean: float, gain: float | None = None, half: float = 0.0) -> str:
    """Return a score, and in brackets the change against noisy with its 95 % confidence."""
    digits = 3 if metric == "ESTOI" else 1 if "dB" in metric else 2
    change = "" if gain is None else f" ({gain:+.{digits}f} ± {half:.{digits}f})"
    return f"{mean:.{digits}f}{change}"


def quality_rows(text: str) -> Rows:
    """Return the scores of rtden and others."""
    found = json.loads(text)
    metrics = [metric for metric in found["metrics"] if metric in HEADLINE]
    rows = [["", *map(marked, metrics)]]
    for system, known in found["systems"].items():
        scores = [(metric, known["scores"][metric]) for metric in metrics]
        changes = () if system == NOISY else ("gain", "gain_ci95")
        cells = [score_cell(m, of["mean"], *(of[name] for name in changes)) for m, of in scores]
        rows.append([system, *cells])
    return rows


def noise_rows(text: str) -> Rows:
    """Return the scores in the noises that are hardest, each apart."""
    found = json.loads(text)
    metrics = [metric for metric in found["metrics"] if metric in HEADLINE]
    rows = [["", *map(marked, metrics)]]
    for noise in HARD_NOISES:
        for system, known in found["systems"].items():
            means = known["by_noise"][noise]["mean"]
            cells = [score_cell(metric, means[metric]) for metric in metrics]
            rows.append([f"{noise}, {system}", *cells])
    return rows


TABLES: dict[str, Callable[[str], Rows]] = {
    "cost": cost_rows,
    "streams": streams_rows,
    "precision": precision_rows,
    "latency": latency_rows,
    "pi": pi_rows,
    "quality": quality_rows,
    "mild": quality_rows,
    "telephone": quality_rows,
    "noises": noise_rows,
}
FILES = {
    "quality": "peers-dev.json",
    "noises": "peers-dev.json",
    "mild": "peers-dev-15dB.json",
    "telephone": "peers-dev-8kHz.json",
}
"""What a table is made of, where it is not NAME.txt; FOLDER is then called dev."""


def write_tables(names: list[str]) -> None:
    """Write the tables of the documentation from the results."""
    for page in (DOCS / "benchmarks.md", DOCS / "pi.md"):
        text = page.read_text(encoding="utf-8")
        for name in names:
            place = re.compile(rf"(<!-- {name} -->\n).*?\n?(<!-- end -->)", re.DOTALL)
            if place.search(text):
                result = RESULTS / FILES.get(name, f"{name}.txt")
                table = markdown(TABLES[name](result.read_text("utf-8")))
                text = place.sub(rf"\g<1>{table}\n\g<2>", text)
        page.write_text(text, encoding="utf-8")


def run(name: str, pairs: Path) -> None:
    """Run the commands of a name, and write what they print."""
    texts = [processor_name()]
    for arguments in (COMMANDS | LONG)[name]:
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
        typer.Argument(help=f"Of {', '.join(COMMANDS | LONG)}.", show_default="the short ones"),
    ] = None,
) -> None:
    """Measure, and write results and tables."""
    chosen = names or list(COMMANDS)
    if unknown := [name for name in chosen if name not in COMMANDS | LONG]:
        sys.exit(f"bench/all.py: there is no {unknown[0]}; choose of {', '.join(COMMANDS | LONG)}.")
    for name in chosen:
        run(name, pairs)
    tables = [*chosen, *(["noises"] if "quality" in chosen else [])]
    write_tables([name for name in tables if name in TABLES])


if __name__ == "__main__":
    typer.run(main)
