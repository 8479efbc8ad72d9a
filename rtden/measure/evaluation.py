"""The scores of several systems on the same pairs, and their statistics."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NOISY, CLEAN = "noisy", "clean"
"""The input itself is the first system of every evaluation; clean speech is one with WER."""
WER = "WER (%)"
HEADLINE = ("PESQ-WB", "ESTOI", "SI-SDR (dB)", "OVRL", "P.808", "DistillMOS", WER)
"""The metrics that are also given by SNR and by noise."""
IN_THE_LOSS = ("PESQ-WB", "ESTOI", "SIG", "BAK", "OVRL", "P.808")
"""rtden's training loss contains models of these metrics: they do not judge it independently."""
RESAMPLINGS, PERCENTILES = 2000, (2.5, 97.5)
CONFIDENCE = f"95 %, half the width of the interval, {RESAMPLINGS} bootstrap samples of the pairs"
Floats = NDArray[np.float64]
Chosen = NDArray[np.bool_]  # which of the files to use


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The scores of several systems, the noisy input first, on the same pairs.

    `scores` has shape (files, systems, metrics) and is not finite where a metric has no value;
    `snr_db` is to the nearest 5 dB; `details` go into the JSON; `words`, said in each file, are its
    weight in the word error rate.
    """

    folder: str
    files: tuple[str, ...]
    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: Floats
    snr_db: Floats
    noises: tuple[str, ...]
    details: dict[str, dict[str, Any]]
    words: Floats | None = None

    def figures(self, chosen: Chosen | None = None, *, against: int = 0) -> dict[str, Floats]:
        """Return statistics over all files or the chosen ones, shape (systems, metrics) each.

        "mean"; "gain", the mean change against a system, by default the noisy input; half widths of
        their 95 % confidence intervals, "mean_ci95" and "gain_ci95".
        """
        rows = np.ones(len(self.files), bool) if chosen is None else chosen
        scores = np.where(np.isfinite(self.scores), self.scores, np.nan)[rows]
        words = None if self.words is None else self.words[rows]
        weights = [words if metric == WER else None for metric in self.metrics]
        changes = scores - scores[:, against, None]
        return {
            name: np.array([[*map(of, system, weights)] for system in values.transpose(1, 2, 0)])
            for kind, values in (("mean", scores), ("gain", changes))
            for name, of in ((kind, mean), (f"{kind}_ci95", interval))
        }

    def by_snr(self) -> dict[str, Chosen]:
        """Return the files of each SNR, the lowest first."""
        known = np.isfinite(self.snr_db)
        groups = {f"{of:g} dB": self.snr_db == of for of in np.unique(self.snr_db[known])}
        return groups if known.all() else groups | {"none": ~known}

    def by_noise(self) -> dict[str, Chosen]:
        """Return the files of each noise, in alphabetical order."""
        return {noise: np.array(self.noises) == noise for noise in sorted(set(self.noises))}

    @property
    def headline(self) -> list[int]:
        """The columns of the metrics that are also given by SNR and by noise."""
        return [column for column, metric in enumerate(self.metrics) if metric in HEADLINE]

    def left_out(self) -> str | None:
        """Return a sentence about scores that the means leave out, not being finite; or None."""
        counts = (~np.isfinite(self.scores)).sum(axis=0)
        found = ", ".join(
            f"{self.metrics[column]} of {self.systems[row]} for {counts[row, column]}"
            for row, column in np.argwhere(counts)
            if self.systems[row] != CLEAN
        )
        where = "left out of the means, where the metric has no value"
        return f"{where}: {found} of {len(self.files)} files." if found else None


def mean(values: Floats, weights: Floats | None = None) -> float:
    """Return the weighted mean of the finite values, NaN without any."""
    known = np.isfinite(values)
    weights = known * (1.0 if weights is None else weights)
    return float(np.average(values[known], weights=weights[known])) if weights.any() else math.nan


def interval(values: Floats, weights: Floats | None = None) -> float:
    """Return half the 95 % confidence interval of :func:`mean`, by bootstrap; NaN for one value."""
    known = np.isfinite(values)
    weights = (np.ones(len(values)) if weights is None else weights)[known]
    if len(weights) < 2 or not weights.any():
        return math.nan
    drawn = _drawn(len(weights))
    totals = np.maximum(weights[drawn].sum(axis=1), 1e-9)
    means = (values[known] * weights)[drawn].sum(axis=1) / totals
    low, high = np.percentile(means, PERCENTILES)
    return float(high - low) / 2.0


@functools.lru_cache(maxsize=32)
def _drawn(files: int) -> NDArray[np.int64]:
    """Return the files of each bootstrap sample."""
    return np.random.default_rng(0).choice(files, (RESAMPLINGS, files))
