"""What the features remember of a stream: the level, and each band's noise floor and mean."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtden.types import Array

FLOOR_BLOCK_SECONDS = 0.4
"""Half of the span over which the noise floor is a minimum; twice this time is its memory."""
MEAN_SECONDS = 1.0
"""Time constant of the slow mean."""
SMOOTHING_SECONDS = 0.04546
"""Time constant of the level whose minimum is the floor."""

LEVEL_BAND_HZ = (150.0, 4000.0)
"""Range of the mel bands whose mean power is the level: most of speech, little rumble."""
LEVEL_REFERENCE_DB = np.float32(-7.0)
"""Level at which the network's input is as it comes: that of noisy speech at -27 dBFS."""
LEVEL_RISE_SECONDS, LEVEL_FALL_SECONDS = 0.15, 4.0
"""Time constants of the level."""
LEVEL_FALL_DB = np.float32(-20.0)
"""A frame counts as at most this much softer than the level, which so falls by 5 dB/s at most."""
LEVEL_LOWEST_DB, LEVEL_HIGHEST_DB = np.float32(-65.0), np.float32(30.0)
"""Limits of the level, relative to the reference. Sound below the lower one is not raised more."""
LEVEL_SILENCE_DB = np.float32(-120.0)
"""A frame below this level is digital silence and leaves the level as it is."""


_TEN, _DECIBEL = np.float32(10.0), np.array(np.log(10.0) / 10.0, np.float32)


def new_weight(seconds: float, frames_per_second: float) -> np.float32:
    """Return the weight of a new value in a running mean with this time constant."""
    weight: np.float32 = np.float32(1.0 - np.exp(-1.0 / (seconds * frames_per_second)))
    return weight


class BandTrackers:
    """A noise floor and a slow mean of the log-mels of each band, longer than the network's window.

    The floor is the minimum of the smoothed level over the last one to two blocks of 0.4 s (minimum
    statistics: Martin, 2001), so a sudden rise of the noise is learned within a second. Cells
    without sound leave both as they are; the first cell with sound starts them.

    `shape` is that of one column, with n_mels last; leading axes are independent streams.
    `floor_db` is the level of digital silence. `references`, of shape (columns, rows + 1, ...), has
    for each column of the last call the values of the `rows`: "floor" and "mean", which are written
    here, and others, which the caller writes. The last row is the smoothed level.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        frames_per_second: float,
        floor_db: float,
        rows: tuple[str, ...] = ("floor", "mean"),
    ) -> None:
        self._floor_db = floor_db
        self._block_frames = max(1, round(FLOOR_BLOCK_SECONDS * frames_per_second))
        times = (MEAN_SECONDS, SMOOTHING_SECONDS)
        weights = [new_weight(seconds, frames_per_second) for seconds in times]
        self._weights = np.stack([np.full(shape, weight) for weight in weights])
        self._floor, mean, smoothed = rows.index("floor"), rows.index("mean"), len(rows)
        self._levels = slice(mean, None, smoothed - mean)  # the mean and the smoothed level
        self._minimum, self._previous = np.empty((2, *shape), np.float32)  # of the blocks
        self._started, self._all_cells = np.empty(shape, bool), np.ones(shape, bool)
        self._ages = np.empty(shape, np.int32)  # columns with sound in a band's block
        self._change = np.empty((2, *shape), np.float32)
        self.references = np.empty((1, len(rows) + 1, *shape), np.float32)
        self._newest = 0  # the row of the last call's last column
        self.reserve(1)
        self.reset()

    def reserve(self, columns: int) -> None:
        """Make room for calls with this number of columns."""
        newest = self.references[self._newest]
        self.references = np.empty((columns, *newest.shape), np.float32)
        self.references[...] = newest
        self._views = [
            (row[self._floor], row[self._levels], row[len(row) - 1]) for row in self.references
        ]

    def reset(self) -> None:
        """Forget everything."""
        self._started[...] = False
        self._silent: Any = ~self._started  # None when all bands have started
        # `_ages` is brought up to date only when needed. Columns that it lacks, all with sound in
        # the started bands; and columns until a block may be full.
        self._uncounted, self._block_due = 0, 1
        self._ages[...] = 0
        self.references[:, self._floor] = self.references[:, self._levels] = self._floor_db
        self._minimum[...] = self._previous[...] = np.inf

    def follow(self, columns_db: Array, sounding: Any = None) -> None:
        """Take in columns, oldest first, shape (columns, ...), and write their references.

        `sounding`, of the same shape, says which cells have sound; None if all have.
        """
        if len(columns_db) > len(self.references):
            self.reserve(len(columns_db))
        before = self._views[self._newest][1]  # the levels at the last column of the last call
        for at in range(len(columns_db)):  # iterating over an array costs three times as much
            column_db, (floor, levels, smoothed) = columns_db[at], self._views[at]
            cells = self._all_cells if sounding is None else sounding[at]
            as_started = cells.tobytes() == self._started.tobytes()
            self._update(column_db, None if as_started else cells, before, floor, levels, smoothed)
            before = levels
        self._newest = len(columns_db) - 1

    def _update(
        self,
        column_db: Array,
        sounding: Any,
        before: Array,
        floor: Array,
        levels: Array,
        smoothed: Array,
    ) -> None:
        """Write the references of a column.

        `sounding` is None if the bands with sound are those that have started.
        """
        change, silent = self._change, self._silent
        np.subtract(column_db, before, change)
        np.multiply(change, self._weights, change)
        if sounding is not None:
            np.multiply(change, sounding, change)
        np.add(before, change, levels)
        if silent is not None:  # the first cell with sound is where a band begins
            np.copyto(levels, column_db, where=silent)
        if silent is sounding is None:
            np.minimum(self._minimum, smoothed, out=self._minimum)
        else:
            cells = self._started if sounding is None else sounding
            np.minimum(self._minimum, smoothed, out=self._minimum, where=cells)
        np.minimum(self._minimum, self._previous, out=floor)
        if silent is not None:
            np.copyto(floor, column_db, where=silent)
        if sounding is None:
            self._uncounted += 1
        else:
            if silent is not None and np.count_nonzero(sounding & silent):
                self._start(sounding)
            self._ages += sounding
        self._block_due -= 1
        if self._block_due <= 0:
            self._begin_blocks()

    def _start(self, sounding: Any) -> None:
        """Let the bands begin that have sound for the first time."""
        self._ages += self._uncounted * self._started
        self._uncounted = 0
        self._started |= sounding
        self._silent = None if self._started.all() else ~self._started

    def _begin_blocks(self) -> None:
        """Begin a new block in each band whose block is full."""
        self._ages += self._uncounted * self._started
        full = self._ages >= self._block_frames
        if np.count_nonzero(full):
            np.copyto(self._previous, self._minimum, where=full)
            self._minimum[full], self._ages[full] = np.inf, 0
        self._uncounted, self._block_due = 0, self._block_frames - int(self._ages.max())


class LevelFollower:
    """The slow level of each stream: a gain in dB that makes features independent of the level.

    It rises within a few syllables and falls slowly, starts with the first frame that is not
    digital silence, and holds during silence. It is computed frame by frame, so that the division
    of a stream into calls does not change it.

    `streams` is the leading shape of several independent streams at once, () for one; `bands` are
    the mel bands that count.
    """

    def __init__(self, streams: tuple[int, ...], *, bands: slice, frames_per_second: float) -> None:
        self._streams, self._bands = int(np.prod(streams)), bands
        self._count = np.float32(bands.stop - bands.start)
        self._rise = new_weight(LEVEL_RISE_SECONDS, frames_per_second)
        self._fall = new_weight(LEVEL_FALL_SECONDS, frames_per_second)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._levels_db = [np.float32(0.0)] * self._streams
        self._started = [False] * self._streams

    def follow(self, frames_db: Array) -> Array:
        """Return the level at each frame in dB relative to the reference.

        Shapes (frames, ..., n_mels) to (frames, ..., 1).
        """
        powers = np.multiply(frames_db[..., self._bands], _DECIBEL)
        np.exp(powers, powers)
        levels_db: Array = np.add.reduce(powers, axis=-1, keepdims=True)
        # A few numbers: arithmetic of scalars costs less than calls on arrays, with the same bits.
        flat = levels_db.reshape(-1)
        for at in range(len(flat)):
            now_db = _TEN * np.log10(flat[at] / self._count)
            flat[at] = self._update(at % self._streams, now_db)
        return levels_db

    def _update(self, stream: int, now_db: np.float32) -> np.float32:
        level_db: np.float32 = self._levels_db[stream]
        if now_db > LEVEL_SILENCE_DB:
            relative_db = min(max(now_db - LEVEL_REFERENCE_DB, LEVEL_LOWEST_DB), LEVEL_HIGHEST_DB)
            if not self._started[stream]:
                self._started[stream], level_db = True, relative_db
            change = max(relative_db - level_db, LEVEL_FALL_DB)
            level_db += change * (self._rise if change > 0 else self._fall)
            self._levels_db[stream] = level_db
        return level_db
