"""What the features remember of a stream: the level, and each band's noise floor and mean."""

from __future__ import annotations

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
LEVEL_REFERENCE_DB = -7.0
"""Level at which the network's input is as it comes: that of noisy speech at -27 dBFS."""
LEVEL_RISE_SECONDS, LEVEL_FALL_SECONDS = 0.15, 4.0
"""Time constants of the level."""
LEVEL_FALL_DB = 20.0
"""A frame counts as at most this much softer than the level, which so falls by 5 dB/s at most."""
LEVEL_RANGE_DB = (-65.0, 30.0)
"""Limits of the level, relative to the reference. Sound below the lower one is not raised more."""
LEVEL_SILENCE_DB = -120.0
"""A frame below this level is digital silence and leaves the level as it is."""


class BandTrackers:
    """A noise floor and a slow mean of the log-mels of each band, longer than the network's window.

    The floor is the minimum of the smoothed level over the last one to two blocks of 0.4 s (minimum
    statistics: Martin, 2001), so a sudden rise of the noise is learned within a second. Cells at
    `floor_db` (digital silence) leave both as they are; the first cell with sound starts them.

    Parameters
    ----------
    shape : tuple
        Shape of one column, with n_mels last; leading axes are independent streams.
    frames_per_second : float
        Columns per second.
    floor_db : float
        What :func:`to_db` gives for digital silence.
    """

    def __init__(
        self, shape: tuple[int, ...], *, frames_per_second: float, floor_db: float
    ) -> None:
        self.floor_db = floor_db
        self._block_frames = max(1, round(FLOOR_BLOCK_SECONDS * frames_per_second))
        weights = [
            1.0 - np.exp(-1.0 / (seconds * frames_per_second))
            for seconds in (SMOOTHING_SECONDS, MEAN_SECONDS)
        ]
        self._weights = np.array(weights, np.float32).reshape(2, *(1 for _ in shape))
        self.floor = np.empty(shape, np.float32)
        self._smoothed, self.mean = self._levels = np.empty((2, *shape), np.float32)
        self._block_minimum = np.empty(shape, np.float32)
        self._previous_minimum = np.empty(shape, np.float32)
        self._started = np.empty(shape, bool)
        self._age_frames = np.empty(shape, np.int32)
        self._change = np.empty((2, *shape), np.float32)
        # Age of all bands, while it is the same one and all have started:
        self._even_age_frames: int | None
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._started[...] = False
        self._age_frames[...] = 0
        self._even_age_frames = None
        self.floor[...] = self._levels[...] = self.floor_db
        self._block_minimum[...] = np.inf
        self._previous_minimum[...] = np.inf

    def follow(
        self, columns_db: Array, floors: Array, means: Array, lowest_db: Array | None = None
    ) -> None:
        """Take in columns, oldest first, and write the floor and the mean at each.

        Parameters
        ----------
        columns_db, floors, means : array, shape (columns, ...)
        lowest_db : array, shape (columns, ..., 1), optional
            Value of cells without sound, where it changes from column to column.
        """
        ones = (1,) * self.floor.ndim
        if lowest_db is None:
            lowest_db = np.full((len(columns_db), *ones), self.floor_db, np.float32)
        sound = bool((columns_db > lowest_db).all())
        for column_db, floor, mean, lowest in zip(
            columns_db, floors, means, lowest_db, strict=True
        ):
            if sound and self._even_age_frames is not None:
                self._update_all(column_db, self._even_age_frames)
            else:
                self.update(column_db, lowest)
            floor[...] = self.floor
            mean[...] = self.mean

    def update(self, column_db: Array, lowest_db: Array | None = None) -> None:
        """Take in one column, shape as given to the constructor.

        `floor` and `mean` then describe it.
        """
        heard = column_db > (self.floor_db if lowest_db is None else lowest_db)
        if self._even_age_frames is not None:
            if heard.all():
                self._update_all(column_db, self._even_age_frames)
                return
            self._age_frames[...] = self._even_age_frames
            self._even_age_frames = None
        new = ~self._started
        self._started |= heard
        # A band without any sound before this column begins with the column's own level.
        np.copyto(self._levels, column_db, where=new)
        np.copyto(self.floor, column_db, where=new)
        np.copyto(
            self._levels, self._levels + self._weights * (column_db - self._levels), where=heard
        )

        np.minimum(self._block_minimum, self._smoothed, out=self._block_minimum, where=heard)
        self._age_frames += heard
        full = self._age_frames >= self._block_frames
        np.copyto(
            self.floor, np.minimum(self._block_minimum, self._previous_minimum), where=self._started
        )
        np.copyto(self._previous_minimum, self._block_minimum, where=full)
        np.copyto(self._block_minimum, np.inf, where=full)
        self._age_frames[full] = 0
        age = int(self._age_frames.flat[0])
        if self._started.all() and (self._age_frames == age).all():
            self._even_age_frames = age

    def _update_all(self, column_db: Array, age_frames: int) -> None:
        """Do what :meth:`update` does, to the bit, where every band has sound.

        All blocks must end together, as they nearly always do.
        """
        change, levels = self._change, self._levels
        np.subtract(column_db, levels, out=change)
        np.multiply(change, self._weights, out=change)
        np.add(levels, change, out=levels)
        np.minimum(self._block_minimum, self._smoothed, out=self._block_minimum)
        np.minimum(self._block_minimum, self._previous_minimum, out=self.floor)
        self._even_age_frames = age_frames + 1
        if self._even_age_frames >= self._block_frames:
            self._previous_minimum[...] = self._block_minimum
            self._block_minimum[...] = np.inf
            self._even_age_frames = 0


class LevelFollower:
    """The slow level of each stream: a gain in dB that makes features independent of the level.

    It rises within a few syllables and falls slowly, starts with the first frame that is not
    digital silence, and holds during silence. It is computed frame by frame, so that the division
    of a stream into calls does not change it.

    Parameters
    ----------
    streams : tuple
        Leading shape for several independent streams at once; () for one.
    bands : slice
        The mel bands that count.
    frames_per_second : float
    """

    def __init__(self, streams: tuple[int, ...], *, bands: slice, frames_per_second: float) -> None:
        self._bands = bands
        self._rise, self._fall = (
            np.float32(1.0 - np.exp(-1.0 / (seconds * frames_per_second)))
            for seconds in (LEVEL_RISE_SECONDS, LEVEL_FALL_SECONDS)
        )
        self._lowest, self._highest = (np.float32(limit) for limit in LEVEL_RANGE_DB)
        self._level_db = np.empty((*streams, 1), np.float32)
        self._started = np.empty((*streams, 1), bool)
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._level_db[...] = 0.0
        self._started[...] = False

    def follow(self, frames_db: Array) -> Array:
        """Return the level at each frame in dB relative to the reference.

        Shapes (frames, ..., n_mels) to (frames, ..., 1).
        """
        powers = np.exp(frames_db[..., self._bands] * np.float32(np.log(10.0) / 10.0))
        mean = np.maximum(powers.mean(axis=-1, keepdims=True), np.float32(1e-20))
        frame_levels_db = np.float32(10.0) * np.log10(mean)
        levels_db = np.empty(frame_levels_db.shape, np.float32)
        for now_db, level_db in zip(frame_levels_db, levels_db, strict=True):
            self._update(now_db)
            level_db[...] = self._level_db
        return levels_db

    def _update(self, now_db: Array) -> None:
        sound = now_db > LEVEL_SILENCE_DB
        relative_db = now_db - np.float32(LEVEL_REFERENCE_DB)
        relative_db = np.minimum(np.maximum(relative_db, self._lowest), self._highest)
        np.copyto(self._level_db, relative_db, where=sound & ~self._started)
        self._started |= sound
        change = np.maximum(relative_db - self._level_db, np.float32(-LEVEL_FALL_DB))
        change *= np.where(change > 0, self._rise, self._fall)
        np.add(self._level_db, change, out=self._level_db, where=sound)
