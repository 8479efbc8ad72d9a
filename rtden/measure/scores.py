"""Scores of denoisers on pairs of clean and noisy files."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rtden.errors import InputError, RtdenError
from rtden.extras import install_command, missing
from rtden.files.audio_file import Progress, open_recording, read_aligned
from rtden.files.processes import cores, process_pool
from rtden.live.plan import live_settings
from rtden.measure import metrics as measures
from rtden.measure.evaluation import CLEAN, NOISY, WER, Evaluation
from rtden.measure.pairs import find_pairs, noise_of, rounded_snr_db
from rtden.measure.recognition import PACKAGES, read_transcripts, recognise, word_errors
from rtden.model import find_model, load_spec
from rtden.recording import RecordingDenoiser
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

Processor = Callable[[Array, int], Array]
"""Takes a noisy mono signal and its rate; returns the denoised one, aligned and of the same length.

It can be pickled. Its method `details`, if it has one, returns its entry in the JSON."""
References = dict[str, list[str]]  # by a file's stem; empty: those recognised in the clean file
ONNX = ("speechmos", "onnxruntime")


class Meter(NamedTuple):
    """Metrics that are measured together, and the packages that they need."""

    metrics: tuple[str, ...]
    packages: tuple[str, ...]
    measure: Callable[..., Any]  # takes the clean signal (unless blind), the denoised one, the rate
    blind: bool = True  # needs no clean signal
    extra: str = "eval"

    def __call__(self, clean: Array, made: Array, rate_hz: int) -> list[float]:
        """Return the values of the metrics."""
        given = (made, rate_hz) if self.blind else (clean, made, rate_hz)
        return [float(value) for value in np.ravel(self.measure(*given))]


def _si_sdr_db(clean: Array, estimate: Array, _: int) -> float:
    try:
        return measures.si_sdr_db(clean, estimate) if len(clean) else math.nan
    except InputError:  # a silent reference
        return math.nan


METERS = (
    Meter(("PESQ-WB",), ("pesq",), measures.pesq_wb, blind=False),
    Meter(("ESTOI",), ("pystoi",), measures.estoi, blind=False),
    Meter(("SI-SDR (dB)",), (), _si_sdr_db, blind=False),
    Meter(("SIG", "BAK", "OVRL"), ONNX, measures.dnsmos),
    Meter(("P.808",), ONNX, measures.dnsmos_p808),
    Meter(("DistillMOS",), ("distillmos",), measures.distill_mos, extra="judge"),
)


@dataclass(frozen=True)
class StreamProcessor:
    """A model as a processor: a file, as `rtden file` denoises it, or a stream without lead-in."""

    model: str | Path
    settings: Settings = field(default_factory=Settings)
    lead_in: bool = True

    def __call__(self, noisy: Array, rate_hz: int) -> Array:
        """Return a signal denoised."""
        made = StreamDenoiser(self.model, self.settings, rate_hz=rate_hz)
        stream = RecordingDenoiser(made) if self.lead_in else made
        return np.concatenate([stream.feed(noisy[:, None]), stream.flush()])[:, 0]

    def details(self) -> dict[str, Any]:
        """Return the model's checksum, the settings and whether there was a lead-in, for JSON."""
        spec, settings = load_spec(find_model(self.model)), self.settings.to_dict()
        return {"sha256": spec.sha256, "settings": settings, "lead_in": self.lead_in}


def evaluate(
    pairs: Path,
    models: Sequence[str | Path],
    *,
    limits_db: Sequence[float] = (math.inf,),
    live: bool = False,
    **options: Any,
) -> Evaluation:
    """Score models, by name or path, on pairs of files; see :func:`score_pairs`.

    They denoise whole files and, with `live`, also as live sound; with each of the limits.
    """
    processors: dict[str, Processor] = {}
    for model, limit_db in itertools.product(models, limits_db):
        name = f", at most {limit_db:g} dB" if len(limits_db) > 1 and limit_db < math.inf else ""
        settings = Settings(limit_db=limit_db)
        processors[f"{model}{name}"] = StreamProcessor(model, settings)
        if live:
            settings = live_settings(settings, model=model)
            processors[f"{model} live{name}"] = StreamProcessor(model, settings, lead_in=False)
    return score_pairs(pairs, processors, **options)


def score_pairs(
    pairs: Path,
    processors: Mapping[str, Processor],
    *,
    metrics: Sequence[str] = (),
    transcripts: Path | str | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Score processors, given by name, on pairs of files.

    `pairs` holds `clean/` and `noisy/` with the same file names; noisy is always scored. `metrics`
    are names such as "PESQ-WB" or "si-sdr"; everything by default. `transcripts`, a file or "clean"
    for what the recogniser finds in the clean files, adds the word error rate, and clean speech as
    a system. `processes` files are worked on at a time, by default one for each core; with more
    than one a script must guard its call by ``__name__``. `progress` is called with the number of
    pairs done and that of all. Raises RtdenError if anything given cannot be used.
    """
    found = _checked(pairs, processors, processes)
    details: dict[str, dict[str, Any]] = {
        name: getattr(made, "details", dict)() for name, made in processors.items()
    }
    references = None if transcripts is None else _references(transcripts, found)
    words_too = [] if references is None else [WER]
    meters = _chosen_meters(metrics)
    names = (*(name for meter in meters for name in meter.metrics), *words_too)
    if not names:
        raise InputError("nothing is left to measure; the metric wer needs --transcripts.")
    systems: dict[str, Processor | None] = dict.fromkeys([NOISY, *([CLEAN] if words_too else [])])
    work = functools.partial(_score, systems | dict(processors), meters, references)
    results = []
    for result in _spread(work, found, processes):
        results.append(result)
        if progress is not None:
            progress(len(results), len(found))
    scores, snr_db, words = zip(*results, strict=True)
    return Evaluation(
        folder=pairs.resolve().name,
        files=tuple(noisy.name for _, noisy in found),
        systems=(*systems, *processors),
        metrics=names,
        scores=np.array(scores),
        snr_db=np.array(snr_db),
        noises=tuple(noise_of(noisy.stem) for _, noisy in found),
        details=details,
        words=None if references is None else np.array(words, np.float64),
    )


def _checked(
    pairs: Path, processors: Mapping[str, Processor], processes: int | None
) -> list[tuple[Path, Path]]:
    """Return the pairs; raise an error, before the work, if an argument cannot be used."""
    for name in {NOISY, CLEAN} & processors.keys():
        raise InputError(f"'{name}' is the name of the input itself; give the model another name.")
    if processes is not None and processes < 1:
        raise InputError(f"processes must be 1 or more, not {processes}.")
    found = find_pairs(pairs)
    for path in (path for pair in found for path in pair):
        with open_recording(path):
            pass
    return found


def _chosen_meters(metrics: Sequence[str]) -> list[Meter]:
    """Return the meters of the chosen metrics whose packages are installed."""
    known = {_key(metric) for meter in METERS for metric in meter.metrics} | {_key(WER)}
    if unknown := [metric for metric in metrics if _key(metric) not in known]:
        names = ", ".join(sorted(known))
        raise InputError(f"there is no metric '{unknown[0]}'; choose of {names}.")
    chosen = {_key(metric) for metric in metrics} or known
    meters = [meter for meter in METERS if chosen & set(map(_key, meter.metrics))]
    return [meter for meter in meters if not _missing(meter.packages)]


def _key(metric: str) -> str:
    return metric.partition(" ")[0].lower()


def _score(
    systems: dict[str, Processor | None],
    meters: list[Meter],
    references: References | None,
    pair: tuple[Path, Path],
) -> tuple[list[list[float]], float, int]:
    """Return the metrics of one pair, a row per system, its SNR and its number of words."""
    (clean, noisy), rate_hz = read_aligned(*pair)
    words: list[str] = []
    if references is not None:
        words = references.get(pair[1].stem) or recognise(clean, rate_hz)
    rows = []
    for name, process in systems.items():
        made = process(noisy, rate_hz) if process else clean if name == CLEAN else noisy
        if made.shape != noisy.shape:
            shapes = f"shape {made.shape} for {pair[1]}, not {noisy.shape}"
            raise InputError(f"{name} returned {shapes}; it must return as much as it gets.")
        row = [value for meter in meters for value in meter(clean, made, rate_hz)]
        if references is not None:
            errors = word_errors(words, recognise(made, rate_hz))
            row.append(100.0 * errors / len(words) if words else math.nan)
        rows.append(row)
    return rows, rounded_snr_db(clean, noisy, rate_hz), len(words)


def _references(source: Path | str, pairs: list[tuple[Path, Path]]) -> References:
    if absent := _missing(PACKAGES):
        raise missing(absent[0], "recognition", "recognition")
    if source == CLEAN:
        return {}
    found = read_transcripts(Path(source))
    if silent := [noisy.name for _, noisy in pairs if not found.get(noisy.stem)]:
        raise InputError(f"{source} has no words for {silent[0]} ({len(silent)} files without).")
    return found


def missing_packages() -> str | None:
    """Return a sentence on metrics of the extra "eval" that lack a package; None if none does."""
    absent = [(meter, _missing(meter.packages)) for meter in METERS if meter.extra == "eval"]
    names = ", ".join(metric for meter, lacks in absent if lacks for metric in meter.metrics)
    packages = " and ".join(dict.fromkeys(package for _, lacks in absent for package in lacks))
    advice = install_command("eval")
    return f"{names} cannot be measured without {packages}: run {advice}" if names else None


def _spread(
    work: Callable[[tuple[Path, Path]], Any], pairs: list[tuple[Path, Path]], processes: int | None
) -> Iterator[Any]:
    processes = min(processes or cores(), len(pairs))
    with contextlib.nullcontext() if processes == 1 else process_pool(processes) as pool:
        try:
            yield from (pool.map if pool else map)(work, pairs)
        except BrokenProcessPool:
            why = "a process that measured ended early, most likely for lack of memory"
            raise RtdenError(f"{why}; let fewer work at a time.") from None


def _missing(packages: Sequence[str]) -> list[str]:
    return [package for package in packages if importlib.util.find_spec(package) is None]
