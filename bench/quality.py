"""Quality of models on pairs of clean and noisy recordings, by the streaming Denoiser.

    python bench/quality.py --pairs FOLDER [--model seed] [--iterations 2] [--json OUT]

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the mean over all pairs of SI-SDR, PESQ-WB and ESTOI,
and their change against the noisy input with a 95 % confidence interval (bootstrap over pairs).
"""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from rtden import Settings, StreamDenoiser
from rtden.errors import AudioFileError
from rtden.files import read_aligned
from rtden.mel import Array
from rtden.metrics import estoi, pesq_wb, si_sdr_db
from rtden.sidecar import find_model, load_spec, save_spec

METRICS = {"SI-SDR (dB)": lambda clean, signal, _: si_sdr_db(clean, signal), "PESQ-WB": pesq_wb, "ESTOI": estoi}


def score(pair: tuple[Path, Path], models: list[str | None], settings: Settings) -> list[list[float]]:
    """Return the metrics of one pair, a row per model; None is the noisy input itself."""
    (clean, noisy), rate_hz = read_aligned(*pair)
    signals = [noisy if model is None else denoise(noisy, model, settings, rate_hz) for model in models]
    return [[metric(clean, signal, rate_hz) for metric in METRICS.values()] for signal in signals]


def denoise(noisy: Array, model: str, settings: Settings, rate_hz: int) -> Array:
    """Return a signal denoised as a stream in blocks of 10 ms."""
    stream = StreamDenoiser(model, settings, source_hz=rate_hz)
    block = rate_hz // 100
    return np.concatenate([*(stream.feed(noisy[at : at + block, None]) for at in range(0, len(noisy), block)), stream.flush()])[:, 0]


def interval(values: Array) -> float:
    """Return half the width of the 95 % confidence interval of a mean."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (2000, len(values))).mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(high - low) / 2.0


def main(
    pairs: Annotated[Path, typer.Option(help="Folder with clean/ and noisy/.")],
    model: Annotated[list[str] | None, typer.Option(help="Model, may be given again.")] = None,
    advance: Annotated[int, typer.Option(help="New frames per step.")] = 1,
    iterations: Annotated[int | None, typer.Option(help="Griffin-Lim iterations.")] = None,
    frames: Annotated[int | None, typer.Option(help="Griffin-Lim frames.")] = None,
    limit_db: Annotated[float, typer.Option(help="Attenuation limit.")] = float("inf"),
    into_sidecar: Annotated[bool, typer.Option("--into-sidecar", help="Write each model's figures into its sidecar.")] = False,
    out: Annotated[Path | None, typer.Option("--json", help="Write the figures here.")] = None,
) -> None:
    """Score models on pairs."""
    noisy = sorted((pairs / "noisy").iterdir()) if (pairs / "noisy").is_dir() else []
    if not noisy:
        raise AudioFileError(f"{pairs} has no folder noisy/ with recordings.")
    settings = Settings(advance=advance, iterations=iterations, frames=frames, limit_db=limit_db)
    names: list[str | None] = [None, *(model or ["seed"])]
    with ProcessPoolExecutor() as pool:
        scores = np.array(list(pool.map(partial(score, models=names, settings=settings), [(pairs / "clean" / n.name, n) for n in noisy])))

    table = Table("", *METRICS, box=None)
    result: dict[str, Any] = {"pairs": len(noisy), "settings": {"advance": advance, "iterations": iterations, "frames": frames}, "models": {}}
    for row, name in enumerate(names):
        means = scores[:, row].mean(axis=0)
        gains, halves = (scores[:, row] - scores[:, 0]).mean(axis=0), [interval(column) for column in (scores[:, row] - scores[:, 0]).T]
        cells = [f"{m:.3f}" if row == 0 else f"{m:.3f} ({g:+.3f} ± {h:.3f})" for m, g, h in zip(means, gains, halves, strict=True)]
        table.add_row(name or "noisy", *cells)
        result["models"][name or "noisy"] = {
            metric: {"mean": round(float(m), 4), "gain": round(float(g), 4), "gain_ci95": round(h, 4)}
            for metric, m, g, h in zip(METRICS, means, gains, halves, strict=True)
        }
    Console(soft_wrap=True, highlight=False).print(f"{len(noisy)} pairs, advance {advance}; in brackets the change against noisy, ± 95 % confidence", table)
    if into_sidecar:
        for name in names[1:]:
            path = find_model(name)
            spec = load_spec(path)
            figures = {"pairs": len(noisy), "advance": advance, "noisy": result["models"]["noisy"], "denoised": result["models"][name]}
            save_spec(dataclasses.replace(spec, metrics={**spec.metrics, pairs.name: figures}), path)
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
