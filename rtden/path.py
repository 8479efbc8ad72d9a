"""The stages of the signal path, and a block of steps through them."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtden.autoencoder import Network
from rtden.geometry import Geometry, geometry
from rtden.griffinlim import Inverter
from rtden.highband import HighBandGain
from rtden.mel import Features, shared_band_spread
from rtden.offset import OffsetBlocker
from rtden.resting import PENDING_STEPS, PendingColumns, SilenceDetector
from rtden.settings import Settings
from rtden.spectral import Frames, power, window_pair
from rtden.types import Array


class Mix:
    """The last stage: the denoised signal and the input, in the shares that `strength` sets.

    Parameters
    ----------
    strength : float
        Wet share, 0 to 1. A new one is reached within a block, in a straight line.
    block_samples : int
    """

    def __init__(self, strength: float, block_samples: int) -> None:
        self.strength, self._dry = strength, np.empty(block_samples, np.float32)
        ramp = np.arange(1, block_samples + 1, dtype=np.float32)
        self._glide = ramp / np.float32(block_samples)
        self.reset()

    def reset(self) -> None:
        """Begin a stream with the strength that is set."""
        self._reached = self.strength

    def apply(self, wet: Array, dry: Array) -> tuple[float, float]:
        """Mix a block in place; return the strengths at its beginning and at its end."""
        old, new = self._reached, self.strength  # read once: another thread may set it
        if not old == new == 1.0:
            self._reached = new
            share: Array | np.float32 = np.float32(new)
            if old != new:
                share = np.float32(old) + np.float32(new - old) * self._glide
            np.multiply(dry, np.float32(1.0) - share, out=self._dry)
            wet *= share
            wet += self._dry
        return old, new


class SignalPath:
    """The stages of a :class:`rtden.Denoiser`: a block of samples in, as many out, later.

    Parameters
    ----------
    network : Network
    settings : Settings
    batch_steps : int
        Steps of a block.
    """

    def __init__(self, network: Network, settings: Settings, batch_steps: int) -> None:
        self.network, self.spec = network, network.spec
        spec, stateful = network.spec, network.stateful
        self.geometry = sizes = geometry(spec, settings, batch_steps, stateful)
        # The features are of the same spectra: under an asymmetric window they weight the newest
        # samples more, as a short overlap needs it.
        self.frames = Frames(
            window_pair(spec.n_fft, sizes.inverted_hop, sizes.overlap)[0],
            hop=spec.frame_hop,
            frames=sizes.block_frames,
            lookahead_frames=spec.lookahead * spec.frames_per_column,
            delay_samples=sizes.delay_samples,
            filter_samples=spec.hop,
            prefilter=OffsetBlocker(),
        )
        columns = sizes.seen_columns + (batch_steps - 1) * sizes.hops_per_step
        self.features = Features(spec, columns)
        self.inverter = self._inverter(settings)
        self.mix = Mix(settings.strength, sizes.block_samples)
        self._spread = shared_band_spread(
            spec.rate_hz, spec.n_fft, spec.n_mels, spec.fmin_hz, spec.fmax_hz
        )
        self._gain_floor = np.float32(settings.gain_floor)
        self._band_gains = np.ones((sizes.block_frames, spec.n_mels), np.float32)
        inverted = sizes.block_frames // sizes.inverted_every
        self._gains = np.empty((inverted, spec.n_fft // 2 + 1), np.float32)
        self._block = np.empty(sizes.block_samples, np.float32)  # a call's output
        self.high_band = HighBandGain(
            spec, overlap=sizes.overlap, hop=sizes.inverted_hop, frames=inverted
        )
        self.silence = SilenceDetector(self._silence_samples(self.geometry))
        # The features do not change any more when all their columns are digital silence.
        self._settled_samples = spec.n_fft + (columns + 2) * spec.hop + sizes.block_samples
        pending = batch_steps if batch_steps > 1 else PENDING_STEPS
        self._pending = PendingColumns(spec, sizes.hops_per_step, pending) if stateful else None

    def __reduce_ex__(self, _: object) -> Any:
        """Refuse a copy, which would share half of the state, and pickling."""
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled; make another one of the same "
            "model, which takes 1 ms."
        )

    def _inverter(self, settings: Settings) -> Inverter:
        spec, sizes, iterations = self.spec, self.geometry, settings.iterations
        if iterations is None:
            # The model's were chosen with the whole overlap. With a shorter one they do harm: the
            # newest frame has too little beside it.
            iterations = spec.iterations if sizes.whole_overlap else 0
        self._whole_blocks = not iterations  # inverts them at once; otherwise step by step
        frames = sizes.block_frames if self._whole_blocks else sizes.step_frames
        return Inverter(
            n_fft=spec.n_fft,
            hop=sizes.inverted_hop,
            new_frames=frames // sizes.inverted_every,
            iterations=iterations,
            frames=spec.frames_inverted if settings.frames is None else settings.frames,
            phase=settings.phase or spec.phase,
            seed=settings.seed,
            overlap=sizes.overlap,
        )

    def _silence_samples(self, sizes: Geometry) -> int:
        """Return the samples that fill the network's window and the inverter, and a step's."""
        finer = self.spec.frames_per_column
        inverted = self.inverter.older_frames * sizes.inverted_every + sizes.step_frames
        frames = max(self.spec.frames * finer, inverted + self.spec.lookahead * finer)
        return self.spec.n_fft + (frames + sizes.step_frames - 1) * self.spec.frame_hop

    def _reset_stages(self) -> None:
        stages = (self.frames, self.features, self.network, self.inverter, self.mix)
        for part in (*stages, self.silence, self.high_band):
            part.reset()
        if self._pending is not None:
            self._pending.reset()
        self._band_gains[...] = 1.0

    def _run_block(self, out: Array, number: int) -> None:
        """Write the next block of samples; it is the call's block of that number."""
        sizes, frames, self._block = self.geometry, self.frames, out
        spectra = frames.transform()
        if frames.zero_samples < self._settled_samples:
            self.features.push(power(spectra))
        step = sizes.step_samples
        silent = [
            self.silence.push(frames.newest_input(start, start + step))
            for start in range(0, len(out), step)
        ]
        if any(silent):
            for step, skipped in enumerate(silent):
                self._skip(step) if skipped else self._process(step, 1)
        else:
            self._process(0, len(silent))
        strengths = self.mix.apply(out, frames.delayed_input(0, len(out)))
        self.high_band.push(self._inverted(self._band_gains), strengths)

    def _process(self, step: int, count: int) -> None:
        """Let some steps of the block through the network and the inverter."""
        if self._pending is not None and count > 1:
            self._pending.flush(self.network)
            self._set_gains(self.network.infer(self._columns(step, count)), step, count)
        else:
            for at in range(step, step + count):
                columns = self._columns(at, 1)
                if self._pending is None:
                    mask = self.network.infer(columns)[:, self.geometry.mask_frames]
                else:
                    mask = self._pending.infer(columns, self.network)
                self._set_gains(mask, at, 1)
        sizes, at_once = self.geometry, count if self._whole_blocks else 1
        gains = self._gains[: at_once * sizes.step_frames // sizes.inverted_every]
        for at in range(step, step + count, at_once):
            rows, samples = (
                _part(size, at, at_once) for size in (sizes.step_frames, sizes.step_samples)
            )
            self._spread(self._inverted(self._band_gains[rows]), gains)
            spectra = self._inverted(self.frames.spectra[rows])
            self.inverter.push(spectra, gains, self._block[samples])

    def _skip(self, step: int) -> None:
        """Pass a silent step on without a mask and without inversion.

        The inverter begins anew: after digital silence that is the state that it would have;
        otherwise what it lacks is as quiet as the silence was. The gain stays the last one, so that
        a file that is quiet throughout is not muted.
        """
        sizes = self.geometry
        if self._pending is not None:
            self._pending.hold(self._columns(step, 1), self.network)
        self.inverter.skip(sizes.step_frames // sizes.inverted_every)
        rows, samples = _part(sizes.step_frames, step, 1), _part(sizes.step_samples, step, 1)
        self._band_gains[rows] = self._band_gains[rows.start - 1]  # may be the last block's newest
        gain = self._band_gains[rows.start].mean()
        delayed = self.frames.delayed_input(samples.start, samples.stop)
        np.multiply(delayed, gain, out=self._block[samples])

    def _columns(self, step: int, count: int) -> Array:
        """Return the columns that the network takes at some steps."""
        hops = self.geometry.hops_per_step
        columns = self.geometry.seen_columns + (count - 1) * hops
        return self.features.columns[:, step * hops : step * hops + columns]

    def _set_gains(self, mask: Array, step: int, count: int) -> None:
        rows = _part(self.geometry.step_frames, step, count)
        np.maximum(mask.T, self._gain_floor, out=self._band_gains[rows])

    def _inverted(self, rows: Any) -> Any:
        """Return those frames that are inverted, of frames that begin with a column's first."""
        every = self.geometry.inverted_every
        return rows[every - 1 :: every]


def _part(size: int, step: int, count: int) -> slice:
    """Return the frames or samples of some steps, `size` a step."""
    return slice(step * size, (step + count) * size)
