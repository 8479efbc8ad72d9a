"""Stage 2: frames to mels.

New frames are transformed once; their log-mel columns slide into the window (8000 samples) that the
autoencoder sees. The filterbank and the columns equal those of
``librosa.filters.mel`` and ``librosa.feature.melspectrogram``. Training uses the same code for many
streams at once, so that a network is trained on the features that it meets in use.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtden.extension import FloorExtension
from rtden.model import ModelSpec
from rtden.trackers import LEVEL_BAND_HZ, BandTrackers, LevelFollower
from rtden.types import Array

LOWEST_DB = -200.0
"""Level of a mel cell without any power."""
# Arrays without dimensions, for numpy converts a scalar at every call.
_LEAST_POWER, _TEN = np.array(1e-20, np.float32), np.array(10.0, np.float32)


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return mels on Slaney's scale (Auditory Toolbox, 1998): linear to 1 kHz, then logarithmic."""
    return np.where(
        hz < 1000.0,
        3.0 * hz / 200.0,
        15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / np.log(6.4),
    )


def mel_to_hz(mels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert :func:`hz_to_mel`."""
    return np.where(
        mels < 15.0, 200.0 * mels / 3.0, 1000.0 * np.exp((mels - 15.0) * np.log(6.4) / 27.0)
    )


def band_edges_hz(n_mels: int, fmin_hz: float, fmax_hz: float) -> NDArray[np.float64]:
    """Return the n_mels + 2 corner frequencies of the triangular bands, in Hz."""
    lowest, highest = hz_to_mel(np.array([fmin_hz, fmax_hz]))
    return mel_to_hz(np.linspace(lowest, highest, n_mels + 2))


def band_centres_hz(spec: ModelSpec) -> NDArray[np.float64]:
    """Return the centres of a model's bands, in Hz."""
    return band_edges_hz(spec.n_mels, spec.fmin_hz, spec.fmax_hz)[1:-1]


def mel_filterbank(rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float) -> Array:
    """Return triangular mel filters of unit area, shape (n_mels, n_fft // 2 + 1).

    Equal to ``librosa.filters.mel``.
    """
    edges = band_edges_hz(n_mels, fmin_hz, fmax_hz)
    bins_hz = np.arange(n_fft // 2 + 1) * (rate_hz / n_fft)
    rising = (bins_hz[None, :] - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins_hz[None, :]) / (edges[2:] - edges[1:-1])[:, None]
    area = 2.0 / (edges[2:] - edges[:-2])
    return (np.maximum(0.0, np.minimum(rising, falling)) * area[:, None]).astype(np.float32)


class MelBank:
    """The filterbank as a product that skips its zeros.

    Between two corners only two triangles are not zero. Equal to ``power @ mel_filterbank(...).T``.
    A dense product is slower, and numpy's linear algebra splits it among threads, which wait for
    each other on a busy machine.
    """

    def __init__(
        self, rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float
    ) -> None:
        filters = mel_filterbank(rate_hz, n_fft, n_mels, fmin_hz, fmax_hz)
        bins_hz = np.arange(n_fft // 2 + 1) * (rate_hz / n_fft)
        corners = np.searchsorted(bins_hz, band_edges_hz(n_mels, fmin_hz, fmax_hz))
        # Bins between corners i and i + 1 lie on the rising side of band i and on the falling side
        # of band i - 1; beside the bands are rows of zeros.
        bins = np.arange(len(bins_hz))
        interval = np.searchsorted(corners, bins, side="right") - 1
        padded = np.pad(filters, ((1, 2), (0, 0)))
        self._sides = np.stack([padded[interval + 1, bins], padded[interval, bins]])
        self._starts = np.minimum(corners[:-1], len(bins_hz) - 1)
        empty = corners[:-1] == corners[1:]
        self._empty = empty if empty.any() else None

    def __call__(self, frame_power: Array) -> Array:
        """Return the mel power of spectra, shapes (..., n_fft // 2 + 1) to (..., n_mels)."""
        sides = np.add.reduceat(frame_power[..., None, :] * self._sides, self._starts, axis=-1)
        if self._empty is not None:
            sides[..., self._empty] = 0.0  # reduceat gives them the bin where they start
        bands: Array = sides[..., 0, :-1] + sides[..., 1, 1:]
        return bands


shared_mel_bank = functools.lru_cache(maxsize=16)(MelBank)
"""All streams of a process share a filterbank."""


class BandSpread:
    """Spreads one value per band over the bins, linearly between the bands' centres.

    Bins outside the outermost centres take the outermost band's value, so a gain of one in every
    band is a gain of one in every bin, 0 Hz and the Nyquist frequency included.
    """

    def __init__(
        self, rate_hz: int, n_fft: int, n_mels: int, fmin_hz: float, fmax_hz: float
    ) -> None:
        centres = band_edges_hz(n_mels, fmin_hz, fmax_hz)[1:-1]
        position = np.interp(
            np.arange(n_fft // 2 + 1) * (rate_hz / n_fft), centres, np.arange(n_mels)
        )
        self._lower = np.minimum(position.astype(np.intp), max(0, n_mels - 2))
        self._upper = np.minimum(self._lower + 1, n_mels - 1)
        self._share = (position - self._lower).astype(np.float32)[None]

    def __call__(self, bands: Array, out: Array) -> None:
        """Write the values of the bins, shapes (..., n_mels) to (..., n_fft // 2 + 1)."""
        lower, rise = bands.take(self._lower, axis=-1), bands.take(self._upper, axis=-1)
        np.subtract(rise, lower, rise)
        np.multiply(rise, self._share, rise)
        np.add(lower, rise, out)


shared_band_spread = functools.lru_cache(maxsize=16)(BandSpread)
"""All streams of a process share it."""


def to_db(mel_power: Array, floor_db: float) -> Array:
    """Return power in dB, never below `floor_db`, so that digital silence has a finite value."""
    level_db: Array = np.maximum(mel_power, _LEAST_POWER)
    np.log10(level_db, level_db)
    np.multiply(level_db, _TEN, level_db)
    if floor_db > LOWEST_DB:
        np.maximum(level_db, np.float32(floor_db), out=level_db)
    return level_db


REFERENCES = {
    "log_mel": "constant",
    "relative_mel": "level",
    "above_floor": "floor",
    "above_mean": "mean",
    "slope": "before",
}
"""What each input channel is measured from: a row of the trackers' references."""


class MelFeatures:
    """Log-mel columns, normalised, with the channels that a model's sidecar asks for.

    A channel is the level of each band minus a reference (:data:`REFERENCES`), in units of std_db.
    The reference of ``log_mel`` is mean_db, that of ``relative_mel`` mean_db plus the slow level of
    the stream. ``above_floor`` is measured from the running noise floor, ``above_mean`` from the
    slow mean, ``slope`` from the column before. With ``relative_mel``, `floor_db` is relative to
    the stream's level, too, and no channel depends on the level of the input.

    `streams` is the leading shape of several independent streams at once (training); () for one.
    """

    def __init__(self, spec: ModelSpec, *, streams: tuple[int, ...] = ()) -> None:
        self._channels = spec.channels
        self._floor_db, self._mean_db, self._std_db = (
            np.array(value, np.float32) for value in (spec.floor_db, spec.mean_db, spec.std_db)
        )
        self._mel_bank = shared_mel_bank(
            spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz
        )
        shape, frames_per_second = (*streams, spec.n_mels), spec.rate_hz / spec.hop
        names = [REFERENCES[channel] for channel in spec.channels]
        self._tracks = bool({"floor", "mean"} & set(names))
        rows = (*names, *(kind for kind in ("floor", "mean") if kind not in names))
        self._trackers = BandTrackers(
            shape, frames_per_second=frames_per_second, floor_db=spec.floor_db, rows=rows
        )
        self._trackers.references[...] = self._mean_db
        self._level: LevelFollower | None = None
        self._bank_floor_db = LOWEST_DB if "level" in names else spec.floor_db
        centres_hz = band_centres_hz(spec)
        extended = int(np.prod(streams)) if "floor" in names else 0
        self._extensions = [FloorExtension(centres_hz, frames_per_second) for _ in range(extended)]
        if "level" in names:
            low, high = map(int, np.searchsorted(centres_hz, LEVEL_BAND_HZ))
            bands = slice(low, max(high, low + 1))
            self._level = LevelFollower(streams, bands=bands, frames_per_second=frames_per_second)
        self._level_row, self._before_row = (
            names.index(kind) if kind in names else None for kind in ("level", "before")
        )
        self._previous_db = np.empty(shape, np.float32)
        self._reserve(1)
        self.reset()

    def _reserve(self, frames: int) -> None:
        """Make room for this number of frames at once."""
        self._trackers.reserve(frames)
        references = self._trackers.references[:, : len(self._channels)]
        scaled = np.empty(references.shape, np.float32)
        columns = np.moveaxis(scaled, 1, -1)
        self._views = [(references[:n], scaled[:n], columns[:n]) for n in range(frames + 1)]

    def reset(self) -> None:
        """Forget everything."""
        for part in (self._trackers, self._level, *self._extensions):
            if part is not None:
                part.reset()
        self._previous_db[...] = self._floor_db

    def push(self, frame_power: Array) -> Array:
        """Return the channels of one new column, valid until the next call.

        Shapes (..., n_fft // 2 + 1) to (..., n_mels, channels).
        """
        newest: Array = self.add(self.levels_db(frame_power)[None])[0]
        return newest

    def levels_db(self, frames_power: Array) -> Array:
        """Return the log-mels of spectra in dB, shapes (..., n_fft // 2 + 1) to (..., n_mels)."""
        return to_db(self._mel_bank(frames_power), self._bank_floor_db)

    def add(self, frames_db: Array, out: Array | None = None) -> Array:
        """Return the channels of any number of frames, from their log-mels, oldest first.

        Shapes (frames, ..., n_mels) to (frames, ..., n_mels, channels); valid until the next call.
        With `out`, shape (frames, channels, ..., n_mels), they are written there instead.
        """
        count = len(frames_db)
        if count >= len(self._views):
            self._reserve(count)
        references, scaled, columns = self._views[count]
        lowest_db: Any = self._floor_db
        if self._level is not None:
            levels_db = self._level.follow(frames_db)
            lowest_db = levels_db + lowest_db
            references[:, self._level_row] = levels_db + self._mean_db
        frames_db = self._extended(frames_db)
        sounding: Any = frames_db > lowest_db
        if np.count_nonzero(sounding) == sounding.size:
            sounding = None
        else:
            frames_db = np.maximum(frames_db, lowest_db)
        if self._tracks:
            self._trackers.follow(frames_db, sounding)
        if self._before_row is not None:
            before = references[:, self._before_row]
            before[0], before[1:] = self._previous_db, frames_db[:-1]
            self._previous_db[...] = frames_db[-1]
        np.subtract(frames_db[:, None], references, scaled)
        np.divide(scaled, self._std_db, scaled if out is None else out)
        return columns

    def _extended(self, frames_db: Array) -> Array:
        """Return log-mels with the noise floor extended over empty bands."""
        if not self._extensions:
            return frames_db
        if frames_db.ndim == 2:
            return self._extensions[0].extend(frames_db)
        streams = frames_db.reshape(len(frames_db), len(self._extensions), -1)
        each = [one.extend(streams[:, n]) for n, one in enumerate(self._extensions)]
        return np.stack(each, axis=1).reshape(frames_db.shape)


class Features:
    """The network's input: the newest columns, a window that slides by the new ones.

    `columns` is an array of shape (n_mels, columns, channels), oldest first; by default it has
    `spec.frames` columns, those of a whole window.
    """

    def __init__(self, spec: ModelSpec, columns: int | None = None) -> None:
        self._features = MelFeatures(spec)
        # In memory they lie as they come, so that they slide quickly.
        shape = (columns or spec.frames, len(spec.channels), spec.n_mels)
        self._frames = np.empty(shape, np.float32)
        self._bytes = self._frames.data.cast("B")
        self.columns = self._frames.transpose(2, 0, 1)
        # What digital silence gives, so that a stream begins like a microphone just opened.
        self._silence = MelFeatures(spec).push(np.zeros(spec.n_fft // 2 + 1, np.float32)).T
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._features.reset()
        self._frames[...] = self._silence

    def push(self, frames_power: Array) -> None:
        """Slide in the columns of new frames, shape (new, n_fft // 2 + 1), oldest first."""
        new, frames = self._frames[-len(frames_power) :], self._bytes
        if new.nbytes < len(frames):
            frames[: -new.nbytes] = frames[new.nbytes :]
        self._features.add(self._features.levels_db(frames_power), new)
