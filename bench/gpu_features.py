"""The network's features of many mixtures at once, in PyTorch, as :mod:`rtden.mel` has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rtden import extension, trackers
from rtden.mel import LOWEST_DB, band_edges_hz, mel_filterbank
from rtden.model import ModelSpec

CHANNELS = ("relative_mel", "above_floor", "above_mean")
State = dict[str, Any]


class GpuFeatures:
    """Powers of frames to features; equal to those of :class:`rtden.mel.MelFeatures`.

    What :mod:`rtden.trackers` and :mod:`rtden.extension` do stream by stream, skipping what need
    not be done, is done here for all streams at once, column by column.
    """

    def __init__(self, spec: ModelSpec, device: str) -> None:
        assert spec.channels == CHANNELS, spec.channels
        self._spec = spec
        bands = spec.n_mels, spec.fmin_hz, spec.fmax_hz
        bank = mel_filterbank(spec.rate_hz, spec.n_fft, *bands)
        self._bank = torch.from_numpy(bank.T.copy()).to(device)
        centres_hz, per_second = band_edges_hz(*bands)[1:-1], spec.rate_hz / spec.hop
        self._level_bands = slice(*map(int, np.searchsorted(centres_hz, trackers.LEVEL_BAND_HZ)))
        lowest, behind = map(int, np.searchsorted(centres_hz, extension.EDGES_HZ))
        lowest = max(lowest, (spec.n_mels + 1) // 2 + extension.EDGE_BANDS)
        self._searched = slice(lowest, behind)
        self._below = slice(lowest - extension.EDGE_BANDS, behind - extension.EDGE_BANDS)
        self._band = torch.arange(spec.n_mels, device=device)

        def weight(seconds: float) -> float:
            return float(trackers.new_weight(seconds, per_second))

        self._level_rise = weight(trackers.LEVEL_RISE_SECONDS)
        self._level_fall = weight(trackers.LEVEL_FALL_SECONDS)
        self._mean, self._smooth = map(weight, (trackers.MEAN_SECONDS, trackers.SMOOTHING_SECONDS))
        self._extended = weight(extension.SMOOTHING_SECONDS)
        self._forgetting = weight(extension.UNSTEADY_SECONDS)
        self._forgetting_uneven = weight(extension.UNEVEN_SECONDS)
        self._peak_fall = extension.PEAK_FALL_DB_PER_SECOND / per_second
        self._floor_rise = extension.FLOOR_RISE_DB_PER_SECOND / per_second
        self._block = round(trackers.FLOOR_BLOCK_SECONDS * per_second)

    def __call__(self, power: Any) -> Any:
        """Return (mixtures, n_mels, frames, channels) of powers, (mixtures, frames, bins)."""
        mels = torch.matmul(power, self._bank)
        levels_db = 10.0 * mels.clamp(min=10.0 ** (LOWEST_DB / 10.0)).log10()
        state = self._begin(levels_db[:, 0])
        columns = [self._column(state, column_db) for column_db in levels_db.unbind(1)]
        return torch.stack(columns, dim=2)

    def _begin(self, column_db: Any) -> State:
        each, some = torch.zeros_like(column_db), torch.zeros_like(column_db[:, 0])
        number = some.long()
        state = dict.fromkeys(("peaks", "levels", "lowest", "ages"), each)
        state |= dict.fromkeys(("mean", "smoothed"), each + self._spec.floor_db)
        state |= dict.fromkeys(("minimum", "previous"), each + torch.inf)
        state |= {"level": some, "begun": some > 0, "frames": number, "edge": number}
        return state | {"excess": some, "uneven": some, "started": each > 0}

    def _column(self, of: State, column_db: Any) -> Any:
        self._follow_level(of, column_db)
        lowest_db = (of["level"] + self._spec.floor_db)[:, None]
        column_db = self._extend(of, column_db)
        sounding, column_db = column_db > lowest_db, torch.maximum(column_db, lowest_db)
        floor_db = self._track(of, column_db, sounding)
        level_db = (of["level"] + self._spec.mean_db)[:, None].expand_as(column_db)
        course_db = torch.stack([level_db, floor_db, of["mean"]], dim=-1)
        return (column_db[..., None] - course_db) / self._spec.std_db

    def _follow_level(self, of: State, column_db: Any) -> None:
        now_db = 10.0 * (10.0 ** (column_db[:, self._level_bands] / 10.0)).mean(dim=1).log10()
        sound = now_db > float(trackers.LEVEL_SILENCE_DB)
        lowest, highest = float(trackers.LEVEL_LOWEST_DB), float(trackers.LEVEL_HIGHEST_DB)
        relative_db = (now_db - float(trackers.LEVEL_REFERENCE_DB)).clamp(lowest, highest)
        level_db = torch.where(of["begun"], of["level"], relative_db)
        change = (relative_db - level_db).clamp(min=float(trackers.LEVEL_FALL_DB))
        level_db = level_db + change * torch.where(change > 0, self._level_rise, self._level_fall)
        of["level"] = torch.where(sound, level_db, of["level"])
        of["begun"] = of["begun"] | sound

    def _extend(self, of: State, column_db: Any) -> Any:
        sound = column_db.amax(dim=1) >= extension.SILENCE_DB
        new = self._follow(of, column_db)
        edge = torch.where(of["frames"] % extension.EDGE_FRAMES == 0, self._edge(new), of["edge"])
        empty = (self._band >= (edge - extension.SLOPE_BANDS)[:, None]) & (edge > 0)[:, None]
        folded = 2 * edge - extension.EDGE_BANDS - extension.SLOPE_BANDS
        folded = (folded[:, None] - self._band).clamp(0, len(self._band) - 1)
        levels, floor, there_db = (
            each.gather(1, folded) for each in (new["levels"], new["lowest"], column_db)
        )
        hiss_db = self._hiss_db(of, new, (levels - floor) * empty, empty.sum(dim=1), edge > 0)
        shown_db = torch.minimum(floor + hiss_db[:, None], there_db)
        new |= {"edge": edge, "frames": of["frames"] + 1}
        for name, value in new.items():
            of[name] = torch.where(sound[:, None] if value.ndim > 1 else sound, value, of[name])
        shown = empty & sound[:, None]
        return torch.where(shown, torch.maximum(column_db, shown_db), column_db)

    def _hiss_db(self, of: State, new: State, above_db: Any, count: Any, edged: Any) -> Any:
        """Return what to add to the floor that is shown, and keep how steady and even it is."""
        count = count.clamp(min=1)
        excess = above_db.sum(dim=1) / count
        variance = above_db.square().sum(dim=1) / count - excess.square()
        now = {"excess": excess, "uneven": variance.clamp(min=0.0).sqrt()}
        weights = {"excess": self._forgetting, "uneven": self._forgetting_uneven}
        for name, weight in weights.items():
            slow = of[name] + weight * (now[name] - of[name])
            new[name] = torch.where(edged, torch.maximum(now[name], slow), of[name])
        steady_db = -_above(new["excess"], extension.STEADY_DB, extension.UNSTEADY_SLOPE)
        even_db = _above(excess, extension.STEADY_DB, np.float32(1.0))
        even_db = even_db - _above(new["uneven"], extension.UNEVEN_DB, extension.UNEVEN_SLOPE)
        return float(extension.SHOWN_DB) + torch.maximum(steady_db, even_db)

    def _follow(self, of: State, column_db: Any) -> State:
        first = (of["frames"] == 0)[:, None]
        levels = of["levels"] + (column_db - of["levels"]) * self._extended
        levels = torch.where(first, column_db, levels)
        lowest = torch.minimum(of["lowest"] + self._floor_rise, levels)
        peaks = torch.maximum(of["peaks"] - self._peak_fall, column_db)
        lowest, peaks = (torch.where(first, column_db, each) for each in (lowest, peaks))
        return {"levels": levels, "lowest": lowest, "peaks": peaks}

    def _edge(self, new: State) -> Any:
        """Return the first band behind an edge, 0 where there is none."""
        above = new["peaks"].flip(1).cummax(dim=1).values.flip(1)[:, self._searched]
        steep = new["peaks"][:, self._below] - above > float(extension.EDGE_DB)
        found = self._searched.start + steep.int().argmax(dim=1)
        return torch.where(steep.any(dim=1), found, 0)

    def _track(self, of: State, column_db: Any, sounding: Any) -> Any:
        """Take a column into the slow mean and the noise floor; return the floor."""
        started = of["started"]
        for name, weight in (("mean", self._mean), ("smoothed", self._smooth)):
            followed = of[name] + (column_db - of[name]) * weight * sounding
            of[name] = torch.where(started, followed, column_db)
        minimum = torch.where(sounding, torch.minimum(of["minimum"], of["smoothed"]), of["minimum"])
        floor_db = torch.where(started, torch.minimum(minimum, of["previous"]), column_db)
        ages = of["ages"] + sounding
        full = ages >= self._block
        of["started"] = started | sounding
        of["previous"] = torch.where(full, minimum, of["previous"])
        of["minimum"] = torch.where(full, torch.inf, minimum)
        of["ages"] = torch.where(full, 0.0, ages)
        return floor_db


def _above(value: Any, threshold: np.float32, slope: np.float32) -> Any:
    return float(slope) * (value - float(threshold)).clamp(min=0.0)
