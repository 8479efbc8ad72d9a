"""The last stage of recordings: a comb filter against noise between a voice's harmonics.

Mel bands are too wide to separate neighbouring harmonics. Voiced speech repeats from period to
period, and noise does not: the mean of a frame and of its copies one pitch period earlier and later
keeps the harmonics and lowers the noise between them (as in RNNoise and in Valin et al., "A
perceptually-motivated approach for low-complexity, real-time enhancement of fullband speech",
2020). The filter needs the next 50 ms of sound, which a live stream does not have.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from rtden.mel import shared_band_spread, shared_mel_bank
from rtden.settings import gain_floor
from rtden.spectral import hann, power
from rtden.stream import StreamDenoiser
from rtden.types import Array, Spectra

RATE_HZ = 8000
"""Voices have their harmonics in this band; higher up they are no longer regular."""
N_FFT, HOP, BANDS = 256, 128, 48
LOWEST_PITCH_HZ, HIGHEST_PITCH_HZ = 60, 400
LONGEST, SHORTEST = RATE_HZ // LOWEST_PITCH_HZ, RATE_HZ // HIGHEST_PITCH_HZ
"""Pitch periods in samples."""
LEAST_CORRELATION = 0.3
"""Correlation of a frame with its past below which it is not voiced."""
LONGER_PERIOD_COST = 0.02
"""Subtracted from the correlation at the longest period, so that one period wins over two. A larger
value costs quality: in noise, several periods of a high voice are therefore often taken for one."""
PASSED_BINS_HZ = (1000.0, 2000.0)
"""The filter fades out between these."""
GATE_SLOPE, GATE_DEAD = 2.0, 0.1
"""The filter fades in with the part of a band's amplitude that was noise, from a twentieth on."""
FRAMES_AT_ONCE = 128


class _Comb:
    """The correction of one channel at RATE_HZ: what to add to the denoised signal."""

    def __init__(self) -> None:
        self._window = np.sqrt(hann(N_FFT))
        bank = (RATE_HZ, N_FFT, BANDS, 0.0, RATE_HZ / 2.0)
        self._bank, self._band_spread = shared_mel_bank(*bank), shared_band_spread(*bank)
        bins_hz = np.arange(N_FFT // 2 + 1) * (RATE_HZ / N_FFT)
        low, high = PASSED_BINS_HZ
        self._fade = np.clip((high - bins_hz) / (high - low), 0.0, 1.0).astype(np.float32)
        self._turns = (-2j * np.pi / N_FFT * np.arange(N_FFT // 2 + 1)).astype(np.complex64)
        # Samples on either side of the middle of the next frame, copies included.
        self._around = N_FFT // 2 + LONGEST + 1
        self._signals = np.zeros((2, self._around), np.float32)
        self._sum = np.zeros(N_FFT - HOP, np.float32)
        self._early = N_FFT // 2  # samples of the first frame that precede the stream

    def feed(self, denoised: Array, noisy: Array, limit: float) -> Array:
        """Take as many samples of both signals; return the correction of those that are ready.

        It ends N_FFT / 2 + LONGEST samples before the newest. `limit` is the least gain.
        """
        signals = np.concatenate([self._signals, np.stack([denoised, noisy])], axis=1)
        count = max(0, (signals.shape[1] - 2 * self._around) // HOP + 1)
        parts = [
            self._frames(signals[:, first * HOP :], min(FRAMES_AT_ONCE, count - first), limit)
            for first in range(0, count, FRAMES_AT_ONCE)
        ]
        self._signals = signals[:, count * HOP :].copy()
        total = np.concatenate([self._sum, np.zeros(count * HOP, np.float32)])
        for at, part in enumerate(frame for block in parts for frame in block):
            total[at * HOP : at * HOP + N_FFT] += part
        early, self._sum = min(self._early, count * HOP), total[count * HOP :].copy()
        self._early -= early
        return total[early : count * HOP]

    def _frames(self, signals: Array, count: int, limit: float) -> Array:
        """Return the corrections of some frames, windowed, shape (count, N_FFT)."""
        starts = np.arange(count)[:, None] * HOP + LONGEST + 1
        denoised, noisy = signals
        frames = denoised[starts + np.arange(N_FFT)]
        past = denoised[starts + np.arange(-LONGEST, N_FFT)]
        periods, correlation = _pitch(frames, past)
        out = np.zeros((count, N_FFT), np.float32)
        voiced = np.flatnonzero(correlation > LEAST_CORRELATION)
        if len(voiced):
            starts, periods = starts[voiced], periods[voiced]
            copies = [self._copies(denoised, starts, each) for each in (periods, -periods)]
            noisy_spectra = self._spectra(noisy[starts + np.arange(N_FFT)])
            spectra = self._spectra(frames[voiced])
            change = self._combed(spectra, noisy_spectra, copies, limit) - spectra
            out[voiced] = np.fft.irfft(change, axis=-1) * self._window
        return out

    def _spectra(self, frames: Array) -> Spectra:
        return np.fft.rfft(frames * self._window, axis=-1).astype(np.complex64)

    def _copies(self, signal: Array, starts: NDArray[np.intp], delays: Array) -> Spectra:
        """Return the spectra of frames that begin `delays` samples earlier, fractions included."""
        whole = np.rint(delays).astype(np.intp)
        frames = signal[starts - whole[:, None] + np.arange(N_FFT)]
        turns = np.exp(self._turns * (delays - whole).astype(np.float32)[:, None])
        turned: Spectra = self._spectra(frames) * turns
        return turned

    def _combed(
        self, spectra: Spectra, noisy_spectra: Spectra, copies: list[Spectra], limit: float
    ) -> Spectra:
        """Return the mean of spectra and their copies, weighted by their similarity."""
        own_power = self._band_power(spectra)
        noise = 1.0 - np.sqrt(np.minimum(own_power / self._band_power(noisy_spectra), 1.0))
        gate = np.clip(GATE_SLOPE * noise - GATE_DEAD, 0.0, 1.0)
        total, weights = spectra.copy(), np.ones(spectra.shape, np.float32)
        for copy in copies:
            copy_power = self._band_power(copy)
            similarity = self._bank((spectra * copy.conj()).real) / np.sqrt(own_power * copy_power)
            weight = self._fade * self._spread(gate * np.maximum(similarity, 0.0))
            total += weight * self._spread(np.sqrt(np.minimum(own_power / copy_power, 4.0))) * copy
            weights += weight
        total /= weights
        total *= self._spread(np.sqrt(np.minimum(own_power / self._band_power(total), 4.0)))
        size = np.abs(total) + np.float32(1e-20)
        least = np.minimum(np.abs(spectra), np.float32(limit) * np.abs(noisy_spectra))
        limited: Spectra = total * np.maximum(least / size, 1.0)
        return limited

    def _band_power(self, spectra: Spectra) -> Array:
        bands: Array = self._bank(power(spectra)) + np.float32(1e-20)
        return bands

    def _spread(self, bands: Array) -> Array:
        out = np.empty((len(bands), N_FFT // 2 + 1), np.float32)
        self._band_spread(bands.astype(np.float32), out)
        return out


def _pitch(frames: Array, past: Array) -> tuple[Array, Array]:
    """Return the pitch period of frames in samples, and the correlation with the sound before.

    `past` has the same samples and the LONGEST before them. The period is where the normalised
    correlation has its maximum, interpolated by a parabola.
    """
    size = 2 * N_FFT
    first, second = (np.fft.rfft(each, size, axis=-1) for each in (frames, past))
    products = np.fft.irfft(first.conj() * second, size, axis=-1)[:, LONGEST - SHORTEST :: -1]
    products = products[:, : LONGEST - SHORTEST + 1]
    energies = np.cumsum(np.square(past, dtype=np.float64), axis=-1)
    energies = np.pad(energies, ((0, 0), (1, 0)))
    of_past = (energies[:, N_FFT:] - energies[:, :-N_FFT])[:, LONGEST - SHORTEST :: -1]
    own_power = np.square(frames, dtype=np.float64).sum(axis=-1, keepdims=True)
    similarity = products / np.sqrt(own_power * of_past + 1e-12)
    lags = np.arange(SHORTEST, LONGEST + 1)
    best = (similarity - LONGER_PERIOD_COST / LONGEST * lags).argmax(axis=-1)
    rows = np.arange(len(frames))
    middle = np.clip(best, 1, len(lags) - 2)
    before, at, behind = (similarity[rows, middle + n] for n in (-1, 0, 1))
    bend = before - 2.0 * at + behind
    offset = 0.5 * (before - behind) / np.where(bend < -1e-9, bend, -1e-9)
    return lags[middle] + np.clip(offset, -0.5, 0.5), similarity[rows, best]


class HarmonicFilter:
    """Takes noise from between the harmonics of a recording that a stream has denoised.

    Pass the input to :meth:`hold`, and then the stream's output, of strength 1, to :meth:`feed`.
    Stream and filter together lower no cell of the spectrum by more than `limit_db`. Sound that the
    stream left as it was stays so.
    """

    def __init__(self, stream: StreamDenoiser, limit_db: float = math.inf) -> None:
        self._limit = gain_floor(limit_db)
        self._down = [stream.resampler(stream.rate_hz, RATE_HZ) for _ in range(2)]
        self._up = stream.resampler(RATE_HZ, stream.rate_hz)
        self._combs = [_Comb() for _ in range(stream.channels)]
        none = np.empty((0, stream.channels), np.float32)
        self._output = self._low_output = self._low_input = self._correction = none

    def hold(self, block: Array) -> None:
        """Take in the input, shape (samples, channels)."""
        self._low_input = np.concatenate([self._low_input, self._down[0].feed(block)])

    def feed(self, output: Array) -> Array:
        """Take in the stream's output, aligned with the input; return samples that are ready."""
        self._output = np.concatenate([self._output, output])
        self._low_output = np.concatenate([self._low_output, self._down[1].feed(output)])
        self._correct()
        return self._pop(len(self._correction))

    def flush(self) -> Array:
        """Return the samples that are still to come."""
        none = self._output[:0]
        low = (self._low_input, self._low_output)
        self._low_input, self._low_output = (
            np.concatenate([each, down.feed(none, last=True)])
            for each, down in zip(low, self._down, strict=True)
        )
        self._correct(N_FFT + LONGEST + HOP)
        rest = max(0, len(self._output) - len(self._correction))
        last = np.concatenate([self._up.feed(none, last=True), np.zeros_like(self._output)])
        self._correction = np.concatenate([self._correction, last[:rest]])
        return self._pop(len(self._output))

    def _correct(self, silence: int = 0) -> None:
        """Filter the samples that both signals have, followed by some silence."""
        ready = min(len(self._low_output), len(self._low_input))
        pair = (self._low_output[:ready], self._low_input[:ready])
        self._low_output, self._low_input = self._low_output[ready:], self._low_input[ready:]
        denoised, noisy = (np.pad(each, ((0, silence), (0, 0))) for each in pair)
        low = [
            comb.feed(denoised[:, n], noisy[:, n], self._limit)
            for n, comb in enumerate(self._combs)
        ]
        self._correction = np.concatenate([self._correction, self._up.feed(np.stack(low, axis=1))])

    def _pop(self, count: int) -> Array:
        count = min(count, len(self._output))
        out = self._output[:count] + self._correction[:count]
        self._output, self._correction = self._output[count:], self._correction[count:]
        return out
