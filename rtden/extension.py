"""Extends the noise floor of band-limited sound over its empty bands, in the network's features.

The sound of telephones, headsets and lossy codecs ends at a steep edge, and the network takes
steady noise with such an edge for speech. So above the edge it is shown the noise floor below,
folded over at the edge, as bandwidth extension folds spectra (Makhoul and Berouti, "High-frequency
regeneration in speech coding systems", 1979). Its masks there touch nothing: there is no sound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtden.trackers import new_weight
from rtden.types import Array

EDGES_HZ = (3000.0, 9500.0)
"""Range of the edges. Above it lie the edges that resamplers of full-band sound make."""
EDGE_DB, EDGE_BANDS = np.float32(25.0), 8
"""From an edge on, the peaks of all bands are this much lower than those of the band eight bands
below (0.6 kHz at 4 kHz, 1.1 kHz at 8 kHz). The spectra of speech and of noise fall more slowly."""
SLOPE_BANDS = 2
"""Bands below an edge that have lost most of their sound, too."""
PEAK_FALL_DB_PER_SECOND = 6.0
FLOOR_RISE_DB_PER_SECOND = 10.0
SMOOTHING_SECONDS = 0.045
"""Time constant of the level whose minimum is the floor."""
STEADY_DB = np.float32(3.0)
"""Hiss is less than this above its floor, in the mean of the bands; other sound is more."""
UNSTEADY_SLOPE, UNSTEADY_SECONDS = np.float32(3.0), 0.5
"""Unsteady sound needs no extension. The floor that is shown is lower by 3 dB for each dB above
`STEADY_DB`; the time is that in which the excess is forgotten."""
UNEVEN_DB, UNEVEN_SLOPE, UNEVEN_SECONDS = np.float32(3.0), np.float32(6.0), 4.0
"""Hiss, wind and traffic rise and fall in all bands together: the standard deviation of their
levels above the floor is below `UNEVEN_DB`. Then the floor that is shown follows the level, however
unsteady; for each dB of deviation more it is 6 dB lower. Speech deviates more."""
SHOWN_DB = np.float32(0.9)
"""The floor is a minimum: for hiss, 0.5 to 1.2 dB below the mean level. It is shown this much
higher, for what is shown too low is taken for speech."""
SILENCE_DB = -120.0
"""A frame below this level in all bands is digital silence and changes nothing."""
EDGE_FRAMES = 8
"""Frames from one search for an edge to the next."""


class FloorExtension:
    """The extension of one stream's log-mels; the same however the stream is cut into calls."""

    def __init__(self, centres_hz: NDArray[np.float64], frames_per_second: float) -> None:
        lowest, behind = map(int, np.searchsorted(centres_hz, EDGES_HZ))
        # As many bands below an edge as above it can be folded.
        lowest = max(lowest, (len(centres_hz) + 1) // 2 + EDGE_BANDS)
        self._searched = slice(lowest, max(behind, lowest))
        weight, self._unsteady_weight, self._uneven_weight = (
            new_weight(seconds, frames_per_second)
            for seconds in (SMOOTHING_SECONDS, UNSTEADY_SECONDS, UNEVEN_SECONDS)
        )
        # Of the bands' shape, for numpy takes a third more time for a number.
        rates_db = (-PEAK_FALL_DB_PER_SECOND, FLOOR_RISE_DB_PER_SECOND)
        numbers = [*(np.float32(rate_db / frames_per_second) for rate_db in rates_db), weight]
        constants = np.array(numbers, np.float32)[:, None].repeat(len(centres_hz), 1)
        self._drifts, self._weight = constants[:2], constants[2]
        self._extremes = np.empty((2, len(centres_hz)), np.float32)
        self._peaks, self._floor = self._extremes
        self._levels, self._change = np.empty((2, len(centres_hz)), np.float32)
        self.reset()

    def reset(self) -> None:
        """Forget the stream."""
        self._frames = 0
        self._excess_db = self._deviation_db = np.float32(0.0)
        self._empty: slice | None = None  # the bands above the edge
        self._folded = slice(0)  # the bands below it whose floor they get, in reverse order

    def extend(self, frames_db: Array) -> Array:
        """Return log-mels, oldest first, with their floor in all bands; shapes (frames, n_mels)."""
        extended = frames_db
        for at in range(len(frames_db)):
            column_db = frames_db[at]
            if column_db[0] < SILENCE_DB and column_db.max() < SILENCE_DB:
                continue
            self._track(column_db)
            if self._empty is None:
                continue
            if extended is frames_db:
                extended = frames_db.copy()
            shown = self._floor[self._folded] + self._hiss_db()
            np.minimum(shown, column_db[self._folded], out=shown)
            np.maximum(extended[at, self._empty], shown, out=extended[at, self._empty])
        return extended

    def _track(self, column_db: Array) -> None:
        """Update the peaks, the smoothed levels and the floor of all bands."""
        peaks, levels, floor, change = self._peaks, self._levels, self._floor, self._change
        if self._frames:
            np.subtract(column_db, levels, change)
            np.multiply(change, self._weight, change)
            np.add(levels, change, levels)
            np.add(self._extremes, self._drifts, self._extremes)
            np.minimum(floor, levels, out=floor)
            np.maximum(peaks, column_db, out=peaks)
        else:
            peaks[...] = levels[...] = floor[...] = column_db
        if self._frames % EDGE_FRAMES == 0:
            self._find_edge()
        self._frames += 1

    def _hiss_db(self) -> Any:
        """Return what is added to the shown floor: the less, the less the sound is hiss."""
        above_db = self._levels[self._folded] - self._floor[self._folded]
        count = np.float32(len(above_db))
        now_db = np.add.reduce(above_db) / count
        np.subtract(above_db, now_db, out=above_db)
        deviation_db = np.sqrt(np.dot(above_db, above_db) / count)
        self._excess_db = _slow_peak(self._excess_db, now_db, self._unsteady_weight)
        self._deviation_db = _slow_peak(self._deviation_db, deviation_db, self._uneven_weight)
        none = np.float32(0.0)
        steady_db = -UNSTEADY_SLOPE * max(self._excess_db - STEADY_DB, none)
        even_db = max(now_db - STEADY_DB, none)
        even_db -= UNEVEN_SLOPE * max(self._deviation_db - UNEVEN_DB, none)
        return SHOWN_DB + max(steady_db, even_db)

    def _find_edge(self) -> None:
        """Find the lowest edge, if there is one."""
        peaks, searched = self._peaks, self._searched
        highest_above = np.maximum.accumulate(peaks[::-1])[::-1]
        below = peaks[searched.start - EDGE_BANDS : searched.stop - EDGE_BANDS]
        steep = np.flatnonzero(below - highest_above[searched] > EDGE_DB)
        self._empty = None
        if len(steep):
            edge = searched.start + int(steep[0])
            first, last = edge - SLOPE_BANDS, edge - EDGE_BANDS
            self._empty = slice(first, None)
            self._folded = slice(last, last + first - len(peaks), -1)


def _slow_peak(peak: Any, value: Any, weight: np.float32) -> Any:
    """Return a peak that rises at once and falls slowly."""
    return max(value, peak + weight * (value - peak))
