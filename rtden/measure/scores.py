"""How good denoisers are on pairs of clean and noisy recordings, made by the streaming path."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import math
import os
import platform
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtden.errors import AudioFileError, InputError, RtdenError
from rtden.files.audio_file import SUFFIXES, Progress, open_recording, read_aligned
from rtden.files.processes import cores, process_pool
from rtden.measure.metrics import dnsmos, estoi, pesq_wb, si_sdr_db, stoi
from rtden.model import find_model, load_spec, save_spec
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

if TYPE_CHECKING:
    from rich.table import Table

Processor = Callable[[Array, int], Array]
"""Takes a noisy signal, mono, and its rate; returns the denoised one, as long and aligned. It must survive pickling.

A method `details`, if it has one, returns what is to be known about it beside the figures."""

NOISY = "noisy"
"""The first system of every evaluation: the input itself."""
SNR_STEP_DB = 5.0
ACTIVE_RANGE_DB = 20.0
"""Speech counts as active where a block of 20 ms is at most so much below the loudest."""
RESAMPLINGS = 2000
CONFIDENCE_PERCENT = 95.0
PACKAGES = (
    "rtden",
    "numpy",
    "soxr",
    "soundfile",
    "ai-edge-litert",
    "tflite-runtime",
    "pesq",
    "pystoi",
    "speechmos",
    "onnxruntime",
)


class Meter(NamedTuple):
    """What is measured in one go."""

    metrics: tuple[str, ...]
    packages: tuple[str, ...]
    """Those that it needs beyond rtden's own."""
    measure: Callable[[Array, Array, int], tuple[float, ...]]
    """Takes the clean and the denoised signal and their rate."""


def _si_sdr_db(clean: Array, estimate: Array, _: int) -> float:
    if not len(clean):
        return math.nan
    try:
        return si_sdr_db(clean, estimate)
    except InputError:  # a silent reference
        return math.nan


METERS = (
    Meter(("PESQ-WB",), ("pesq",), lambda *signals: (pesq_wb(*signals),)),
    Meter(("STOI",), ("pystoi",), lambda *signals: (stoi(*signals),)),
    Meter(("ESTOI",), ("pystoi",), lambda *signals: (estoi(*signals),)),
    Meter(("SI-SDR (dB)",), (), lambda *signals: (_si_sdr_db(*signals),)),
    Meter(
        ("SIG", "BAK", "OVRL"),
        ("speechmos", "onnxruntime"),
        lambda _, estimate, rate_hz: dnsmos(estimate, rate_hz),
    ),
)
HEADLINE = ("PESQ-WB", "ESTOI", "SI-SDR (dB)", "OVRL")
"""The metrics that are also told by SNR and by noise."""


@dataclass(frozen=True)
class StreamProcessor:
    """A model as a processor: a stream in blocks of 10 ms, as `rtden live` runs it."""

    model: str | Path
    settings: Settings = dataclasses.field(default_factory=Settings)

    def __call__(self, noisy: Array, rate_hz: int) -> Array:
        """Return a signal denoised."""
        stream = StreamDenoiser(self.model, self.settings, rate_hz=rate_hz)
        block = rate_hz // 100
        return np.concatenate(
            [
                *(stream.feed(noisy[at : at + block, None]) for at in range(0, len(noisy), block)),
                stream.flush(),
            ]
        )[:, 0]

    def details(self) -> dict[str, Any]:
        """Return the model's checksum and the settings, for JSON."""
        return {
            "sha256": load_spec(find_model(self.model)).sha256,
            "settings": self.settings.to_dict(),
        }


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of several systems on the same pairs."""

    folder: str
    files: tuple[str, ...]
    systems: tuple[str, ...]
    """The first one is the noisy input."""
    metrics: tuple[str, ...]
    scores: NDArray[np.float64]
    """Shape (files, systems, metrics); not finite where a metric says nothing about a file."""
    snr_db: NDArray[np.float64]
    """Of each file, to the nearest 5 dB; not finite for silence."""
    noises: tuple[str, ...]
    """The noise of each file, from its name."""
    details: dict[str, dict[str, Any]]
    """What is to be known about a system."""

    def means(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return the means over all files or the chosen ones, shape (systems, metrics)."""
        return self._over_files(mean, self._scores(chosen))

    def intervals(self, chosen: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """Return half the widths of the means' 95 % confidence intervals, shape (systems, metrics)."""
        return self._over_files(interval, self._scores(chosen))

    def gains(self) -> NDArray[np.float64]:
        """Return the mean changes against the noisy input, file by file, shape (systems, metrics)."""
        return self._over_files(mean, self._changes())

    def gain_intervals(self) -> NDArray[np.float64]:
        """Return half the widths of the mean changes' 95 % confidence intervals, shape (systems, metrics)."""
        return self._over_files(interval, self._changes())

    def by_snr(self) -> dict[str, NDArray[np.bool_]]:
        """Return which files have which SNR, the lowest first."""
        known = sorted({value for value in self.snr_db.tolist() if math.isfinite(value)})
        groups = {f"{value:g} dB": self.snr_db == value for value in known}
        if len(self.files) > sum(int(group.sum()) for group in groups.values()):
            groups["none"] = ~np.isfinite(self.snr_db)
        return groups

    def by_noise(self) -> dict[str, NDArray[np.bool_]]:
        """Return which files have which noise, in alphabetical order."""
        return {noise: np.array(self.noises) == noise for noise in sorted(set(self.noises))}

    @property
    def headline(self) -> list[int]:
        """The columns of the metrics that are also told by SNR and by noise."""
        return [column for column, metric in enumerate(self.metrics) if metric in HEADLINE]

    def left_out(self) -> str | None:
        """Say in a sentence which scores are left out of the means because they are not finite; None if there are none."""
        counts = (~np.isfinite(self.scores)).sum(axis=0)
        found = ", ".join(
            f"{self.metrics[column]} of {self.systems[row]} for {counts[row, column]}"
            for row, column in np.argwhere(counts)
        )
        return (
            f"left out of the means, where the metric says nothing about a recording: {found} of {len(self.files)} recordings."
            if found
            else None
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "folder": self.folder,
            "pairs": len(self.files),
            "metrics": list(self.metrics),
            "confidence": f"{CONFIDENCE_PERCENT:g} %, half the width of the interval, {RESAMPLINGS} bootstrap samples of the pairs",
            "versions": versions(),
            "systems": {
                system: self._system_to_dict(row) for row, system in enumerate(self.systems)
            },
            "files": [
                {
                    "name": name,
                    "snr_db": _figure(self.snr_db[at]),
                    "noise": self.noises[at],
                    "scores": {
                        system: self._row(self.scores[at, row])
                        for row, system in enumerate(self.systems)
                    },
                }
                for at, name in enumerate(self.files)
            ],
        }

    def summary(self, system: str) -> dict[str, dict[str, float | None]]:
        """Return mean, interval, change and its interval of a system's metrics."""
        row = self.systems.index(system)
        figures = zip(
            self.metrics,
            self.means()[row],
            self.intervals()[row],
            self.gains()[row],
            self.gain_intervals()[row],
            strict=True,
        )
        return {
            metric: dict(
                zip(("mean", "mean_ci95", "gain", "gain_ci95"), map(_figure, values), strict=True)
            )
            for metric, *values in figures
        }

    def _system_to_dict(self, row: int) -> dict[str, Any]:
        def groups(found: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
            return {
                name: {
                    "pairs": int(chosen.sum()),
                    "mean": self._row(self.means(chosen)[row]),
                    "mean_ci95": self._row(self.intervals(chosen)[row]),
                }
                for name, chosen in found.items()
            }

        system = self.systems[row]
        return {
            **self.details.get(system, {}),
            "scores": self.summary(system),
            "by_snr": groups(self.by_snr()),
            "by_noise": groups(self.by_noise()),
        }

    def _row(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        return {metric: _figure(value) for metric, value in zip(self.metrics, values, strict=True)}

    def _scores(self, chosen: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        return self.scores if chosen is None else self.scores[chosen]

    def _changes(self) -> NDArray[np.float64]:
        finite = np.where(np.isfinite(self.scores), self.scores, np.nan)
        return finite - finite[:, :1]

    @staticmethod
    def _over_files(
        statistic: Callable[[NDArray[np.float64]], float], values: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return np.array(
            [[statistic(column) for column in system.T] for system in values.transpose(1, 0, 2)]
        )


def evaluate(
    pairs: Path,
    models: Sequence[str | Path | None],
    settings: Settings | None = None,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score models on pairs of recordings.

    Parameters
    ----------
    pairs : Path
        Folder that holds `clean/` and `noisy/` with the same file names.
    models : sequence of str, Path or None
        Names of shipped models, or paths; None stands for the noisy input, which is always scored.
    processes, progress
        See :func:`score_pairs`.

    Raises
    ------
    AudioFileError
        If the folder does not hold pairs, or a recording cannot be read.
    ModelError, InputError
        If a model or a recording's rate cannot be used.
    """
    settings = Settings() if settings is None else settings
    processors = {
        str(model): StreamProcessor(model, settings) for model in models if model is not None
    }
    return score_pairs(pairs, processors, processes=processes, progress=progress)


def score_pairs(
    pairs: Path,
    processors: Mapping[str, Processor],
    *,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score processors on pairs of recordings, as :func:`evaluate` does with models.

    Parameters
    ----------
    processors : mapping of str to Processor
        By the names under which they are listed.
    processes : int, optional
        How many recordings to work on at a time; the default is as many as there are cores. With 1, the work is done in
        this process; others are started afresh, so that a script must guard its own call by ``__name__ == "__main__"``.
    progress : callable, optional
        Called with the number of pairs done and the number of all.
    """
    if NOISY in processors:
        raise InputError(f"'{NOISY}' is the name of the input itself; give the model another name.")
    if processes is not None and processes < 1:
        raise InputError(f"processes must be 1 or more, not {processes}.")
    found = find_pairs(pairs)
    details: dict[str, dict[str, Any]] = {
        name: getattr(processor, "details", dict)() for name, processor in processors.items()
    }
    for path in (path for pair in found for path in pair):
        with open_recording(
            path
        ):  # a damaged one is to be known before the work, not in the midst of it
            pass
    meters = [number for number, meter in enumerate(METERS) if not _missing_packages(meter)]
    results = []
    work = functools.partial(_score, processors=dict(processors), meters=meters)
    with contextlib.closing(_spread(work, found, processes)) as ready:
        for result in ready:
            results.append(result)
            if progress is not None:
                progress(len(results), len(found))
    return Evaluation(
        folder=pairs.resolve().name,
        files=tuple(noisy.name for _, noisy in found),
        systems=(NOISY, *processors),
        metrics=tuple(metric for number in meters for metric in METERS[number].metrics),
        scores=np.array([scores for scores, _ in results]),
        snr_db=np.array([snr_db for _, snr_db in results]),
        noises=tuple(noise_of(noisy.stem) for _, noisy in found),
        details=details,
    )


def find_pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the clean and noisy recordings of a folder that holds `clean/` and `noisy/` with the same file names.

    Raises
    ------
    AudioFileError
        If it holds none, or the names differ.
    """
    if not os.path.isdir(folder):
        raise AudioFileError(f"there is no folder {folder}; name one that holds clean/ and noisy/.")
    names = {}
    for side in ("clean", "noisy"):
        if not os.path.isdir(folder / side):
            raise AudioFileError(
                f"{folder} has no folder {side}/; it must hold clean/ and noisy/ with the same file names."
            )
        names[side] = {
            path.name
            for path in (folder / side).iterdir()
            if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
        }
    alone = [
        f"{side}/{name}"
        for side, other in (("clean", "noisy"), ("noisy", "clean"))
        for name in sorted(names[side] - names[other])
    ]
    if alone:
        more = f" and {len(alone) - 1} more" if len(alone) > 1 else ""
        raise AudioFileError(
            f"the names in clean/ and noisy/ of {folder} do not match: {alone[0]}{more} stands alone; give both files of a pair one name."
        )
    if not names["noisy"]:
        raise AudioFileError(
            f"{folder} holds no pairs: put recordings ({', '.join(sorted(SUFFIXES))}) into clean/ and noisy/, under the same names."
        )
    return [(folder / "clean" / name, folder / "noisy" / name) for name in sorted(names["noisy"])]


def missing_packages() -> str | None:
    """Say in a sentence which metrics are left out because a package is not installed; None if none is."""
    absent = {meter.metrics: _missing_packages(meter) for meter in METERS}
    packages = list(dict.fromkeys(package for missing in absent.values() for package in missing))
    if not packages:
        return None
    metrics = ", ".join(
        metric for metrics, missing in absent.items() if missing for metric in metrics
    )
    return f"{metrics} cannot be measured without {' and '.join(packages)}: run 'pip install rtden[eval]'."


def record_metrics(model: str | Path, evaluation: Evaluation) -> None:
    """Write a model's figures into its sidecar, under the name of the folder of pairs.

    Raises
    ------
    ModelError
        If the model or its sidecar cannot be used.
    InputError
        If the evaluation has no such model, or was made with another version of it.
    """
    path, label = find_model(model), str(model)
    spec = load_spec(path)
    details = evaluation.details.get(label)
    if details is None or details.get("sha256") != spec.sha256:
        raise InputError(
            f"these figures are not those of the model {model} as it is now; evaluate it again."
        )
    figures = {
        "pairs": len(evaluation.files),
        "settings": details["settings"],
        NOISY: evaluation.summary(NOISY),
        "denoised": evaluation.summary(label),
    }
    save_spec(dataclasses.replace(spec, metrics={**spec.metrics, evaluation.folder: figures}), path)


def tables(evaluation: Evaluation) -> list[Table]:
    """Return the figures as tables for a screen: all means, those by SNR and those by noise."""
    groups = (("SNR", evaluation.by_snr()), ("Noise", evaluation.by_noise()))
    return [_overall(evaluation), *(_by_group(evaluation, title, found) for title, found in groups)]


def _overall(evaluation: Evaluation) -> Table:
    from rich.table import Column, Table

    means, gains, halves = evaluation.means(), evaluation.gains(), evaluation.gain_intervals()
    table = Table("", *(Column(system, justify="right") for system in evaluation.systems), box=None)
    for column, metric in enumerate(evaluation.metrics):
        cells = [_cell(metric, means[0, column])]
        for row in range(1, len(evaluation.systems)):
            change = (
                f"{_cell(metric, gains[row, column], '+')} ± {_cell(metric, halves[row, column])}"
            )
            cells.append(f"{_cell(metric, means[row, column])} ({change})")
        table.add_row(metric, *cells)
    return table


def _by_group(evaluation: Evaluation, title: str, groups: dict[str, NDArray[np.bool_]]) -> Table:
    from rich.table import Column, Table

    headline = evaluation.headline
    columns = (Column(evaluation.metrics[column], justify="right") for column in headline)
    table = Table(title, Column("Pairs", justify="right"), "", *columns, box=None)
    for name, chosen in groups.items():
        for row, values in enumerate(evaluation.means(chosen)):
            cells = [_cell(evaluation.metrics[column], values[column]) for column in headline]
            table.add_row(
                *((name, str(chosen.sum())) if row == 0 else ("", "")),
                evaluation.systems[row],
                *cells,
            )
    return table


def to_json(evaluation: Evaluation) -> bytes:
    """Return the content of the JSON file."""
    return (
        json.dumps(evaluation.to_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    ).encode()


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on, as far as it is installed."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def mean(values: NDArray[np.float64]) -> float:
    """Return the mean of what is finite, NaN if nothing is."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else math.nan


def interval(values: NDArray[np.float64]) -> float:
    """Return half the width of the 95 % confidence interval of a mean of what is finite; NaN for fewer than two values."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return math.nan
    rng = np.random.default_rng(0)
    means = rng.choice(values, (RESAMPLINGS, len(values))).mean(axis=1)
    low, high = np.percentile(
        means, (50.0 - CONFIDENCE_PERCENT / 2.0, 50.0 + CONFIDENCE_PERCENT / 2.0)
    )
    return float(high - low) / 2.0


def noise_of(stem: str) -> str:
    """Return the noise that a file's name tells, NUMBER_NOISE_+5dB, or "all"."""
    told = re.fullmatch(r"[^_]*_(.+)_[+-]?\d+(?:\.\d+)?dB", stem)
    return told[1] if told else "all"


def rounded_snr_db(clean: Array, noisy: Array, rate_hz: int) -> float:
    """Return the SNR of a pair to the nearest 5 dB: speech where it is active, against all of the noise.

    Pauses of the speech would otherwise lower it, and pairs that were mixed alike would fall into different groups. Without
    speech or noise it is not finite.
    """
    block = max(1, rate_hz // 50)
    powers = (
        np.square(clean[: len(clean) // block * block], dtype=np.float64)
        .reshape(-1, block)
        .mean(axis=1)
    )
    noise = float(np.mean(np.square(noisy - clean, dtype=np.float64))) if len(clean) else 0.0
    if not powers.any():
        return math.nan
    if noise == 0.0:
        return math.inf
    speech = float(powers[powers >= powers.max() * 10.0 ** (-ACTIVE_RANGE_DB / 10.0)].mean())
    return SNR_STEP_DB * round(10.0 * math.log10(speech / noise) / SNR_STEP_DB) + 0.0


def _score(
    pair: tuple[Path, Path], *, processors: dict[str, Processor], meters: Sequence[int]
) -> tuple[list[list[float]], float]:
    """Return the metrics of one pair, a row per system, and its SNR."""
    (clean, noisy), rate_hz = read_aligned(*pair)
    rows = []
    for name, processor in {NOISY: _as_it_is, **processors}.items():
        estimate = processor(noisy, rate_hz)
        if estimate.shape != noisy.shape:
            raise InputError(
                f"{name} returned shape {estimate.shape} for {pair[1]}, not {noisy.shape}; what it returns must be as long as what it gets."
            )
        rows.append(
            [
                value
                for number in meters
                for value in METERS[number].measure(clean, estimate, rate_hz)
            ]
        )
    return rows, rounded_snr_db(clean, noisy, rate_hz)


def _as_it_is(noisy: Array, _: int) -> Array:
    return noisy


def _spread(
    work: Callable[[tuple[Path, Path]], Any], pairs: list[tuple[Path, Path]], processes: int | None
) -> Generator[Any, None, None]:
    """Yield the results in order, from several processes."""
    processes = min(cores() if processes is None else processes, len(pairs))
    if processes == 1:
        yield from map(work, pairs)
        return
    with process_pool(processes) as pool:
        yield from _results(pool.map(work, pairs))


def _results(found: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from found
    except BrokenProcessPool:
        raise RtdenError(
            "a process that measured ended early, most likely for lack of memory; let fewer work at a time."
        ) from None


def _missing_packages(meter: Meter) -> list[str]:
    return [package for package in meter.packages if importlib.util.find_spec(package) is None]


def _figure(value: float) -> float | None:
    """Return a figure for JSON, which knows only finite ones."""
    return round(float(value), 4) if math.isfinite(value) else None


def _cell(metric: str, value: float, sign: str = "") -> str:
    return (
        "–"
        if math.isnan(value)
        else f"{value:{sign}.2f}"
        if metric.endswith("(dB)")
        else f"{value:{sign}.3f}"
    )
