"""The live engine: a source and a sink, each with its ring, and one worker between them.

The callbacks of the two devices only move samples; the worker does the rest: it brings the sound to the sink's rate and to
its clock, denoises and writes. Delay is bounded at both ends: what waits longer than the output buffer could bridge is
skipped unprocessed, and after a drop-out the delay starts from its planned value again. So it never grows; what is lost is
counted.
"""

from __future__ import annotations

import gc
import math
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from rtden.errors import DeviceError, SettingsError
from rtden.live.clock import BufferControl, DriftControl
from rtden.live.endpoints import Sink, Source
from rtden.live.fade import NOTHING_SEEN, fade_in
from rtden.live.plan import DEFAULT_BUFFER_MS
from rtden.live.realtime import ask_for_realtime
from rtden.live.reconnect import CHECK_SECONDS, Keeper
from rtden.live.recorder import Recorder
from rtden.live.status import LatencyParts, LiveStatus, SampleCounts
from rtden.mel import band_edges_hz
from rtden.noise import NoiseMeter
from rtden.resample import Drift, Interpolator
from rtden.ring import Ring
from rtden.settings import Settings
from rtden.stream import StreamDenoiser
from rtden.types import Array

POLL_SECONDS = 0.002
EXCESS_SECONDS = 0.05
"""By how much the delay may exceed its plan before the oldest sound is dropped; less is taken back by playing faster."""
TOLERATED_SECONDS = 0.01
"""By how much more the delay may be than was planned, when it is first held, or than it was then, when it is held again after a drop-out or a loss."""
MUTE_SECONDS = 0.02


class _LevelMeter:
    """Level and peak of a signal between two looks."""

    def __init__(self) -> None:
        self._energy, self._samples, self._peak = 0.0, 0, 0.0

    def feed(self, block: Array) -> None:
        flat = block.reshape(-1)
        self._energy += float(np.dot(flat, flat))
        self._samples += len(flat)
        self._peak = max(self._peak, float(np.abs(flat).max(initial=0.0)))

    def look_db(self) -> tuple[float, float]:
        energy, samples, peak = self._energy, self._samples, self._peak
        self._energy, self._samples, self._peak = 0.0, 0, 0.0
        return (10.0 * math.log10(energy / samples) if energy else -math.inf), (
            20.0 * math.log10(peak) if peak else -math.inf
        )


class LiveEngine:
    """Denoise from a source to a sink until the source ends or :meth:`stop` is called.

    Parameters
    ----------
    source, sink : Source, Sink
        Not yet started.
    model, settings :
        As for :class:`rtden.Denoiser`.
    buffer_ms : float, optional
        Sound kept ready for the sink beyond its blocks; it stays so. If None, it begins with `first_buffer_ms`, grows after
        drop-outs and shrinks back after quiet minutes.
    first_buffer_ms : float
    stereo : bool
        Keep two channels, if both sides have them; otherwise the source's channels are mixed to one.
    full_band : bool
        Let sound above the model's band through, at the gain of the topmost bands.
    record : Path, optional
        Folder for noisy.wav and cleaned.wav, aligned with each other.
    force : bool
        Overwrite these.
    realtime : bool
        Ask the system for real-time priority for the worker.
    clock : callable
        Gives the time in seconds.

    Raises
    ------
    RtdenError
        If the model, the rates or the folder cannot be used.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        *,
        model: str | Path | None = None,
        settings: Settings | None = None,
        buffer_ms: float | None = None,
        first_buffer_ms: float = DEFAULT_BUFFER_MS,
        stereo: bool = False,
        full_band: bool = True,
        record: Path | None = None,
        force: bool = False,
        realtime: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if buffer_ms is not None and not 0.0 <= buffer_ms <= 1000.0:
            raise SettingsError(f"buffer_ms must lie between 0 and 1000, not {buffer_ms:g}.")
        self.source, self.sink, self._clock = source, sink, clock
        self._buffer = BufferControl(
            (first_buffer_ms if buffer_ms is None else buffer_ms) / 1000.0,
            pinned=buffer_ms is not None,
        )
        self.channels = 2 if stereo and source.channels > 1 and sink.ring.channels > 1 else 1
        self._model, self._settings, self._full_band = model, settings, full_band
        self._control = DriftControl()
        self._dropouts = self._given = self._discarded = self._padding = self._taken = 0
        self._disconnects_seen = 0
        self._strength = settings.strength if settings else 1.0
        self._bypassed = False
        self.muted = False
        self._volume = 1.0
        self._build()
        self._recorder = (
            None
            if record is None
            else Recorder(record, source.rate_hz, sink.rate_hz, channels=self.channels, force=force)
        )
        self._levels = _LevelMeter(), _LevelMeter()
        self._busy_seconds = self._looked_busy_seconds = 0.0
        self._looked_at = self._started_at = clock()
        self._keeper = Keeper(source, sink, clock=clock)
        self.resources = ExitStack()
        self._realtime = realtime
        self._stopping = threading.Event()
        self._error: BaseException | None = None
        self._worker = threading.Thread(target=self._run, name="rtden worker", daemon=True)
        self._watcher = threading.Thread(target=self._watch, name="rtden keeper", daemon=True)

    def _build(self) -> None:
        """Make what depends on the rates of the two sides."""
        source, sink = self.source, self.sink
        self._rings = source.ring, sink.ring
        self._rate_change = Interpolator(source.rate_hz, sink.rate_hz, channels=self.channels)
        self._drift = Drift(channels=self.channels)
        self._stream = StreamDenoiser(
            self._model,
            self._settings,
            rate_hz=sink.rate_hz,
            channels=self.channels,
            low_delay=True,
            full_band=self._full_band,
        )
        self._stream.feed(
            np.zeros((sink.rate_hz // 10, self.channels), np.float32)
        )  # the first steps are slow: not while sound waits
        self._stream.reset()
        self._step_seconds = (
            self._stream.denoisers[0].step_samples / self._stream.denoisers[0].rate_hz
        )
        self._chunk = np.empty((source.rate_hz // 10, source.channels), np.float32)
        self._noise = NoiseMeter(source.rate_hz, sink.rate_hz)
        self._missing_seen = self._skipped_seen = self._played_at_excess = 0
        self._last_in = self._last_out = np.zeros(self.channels, np.float32)
        self._restart = True
        self._first_seconds: float | None = None
        self._cut_at_first = False
        self.strength = self._strength

    def __enter__(self) -> LiveEngine:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def input_name(self) -> str:
        """Name of the source."""
        return self.source.name

    @property
    def output_name(self) -> str:
        """Name of the sink."""
        return self.sink.name

    def start(self) -> None:
        """Start the sink, the worker and the source."""
        gc.collect()
        gc.freeze()  # what lives until the end need not be searched by every collection
        self.sink.start()
        self._started_at = self._looked_at = self._clock()
        self._worker.start()
        self.source.start()
        self._keeper.source.seen_at = self._keeper.sink.seen_at = self._clock()
        self._watcher.start()

    def stop(self) -> None:
        """Stop at once; files keep what they hold."""
        self._stopping.set()
        for thread in (self._worker, self._watcher):
            if thread.is_alive():
                thread.join()
        with self.resources as stack:  # each is stopped, whatever befalls another
            stack.callback(gc.unfreeze)
            if self._recorder is not None:
                stack.callback(self._recorder.stop)
            stack.callback(self.sink.stop)
            stack.callback(self.source.stop)

    @property
    def running(self) -> bool:
        """Whether there is more to come; raises what ended the worker or a side, if something did."""
        for error in (self._error, self._recorder and self._recorder.error):
            if error:
                raise error
        if not self._worker.is_alive():
            return False
        for side, endpoint in (("input", self.source), ("output", self.sink)):
            if (
                not endpoint.may_return
                and not endpoint.running
                and not (endpoint is self.source and self.source.exhausted)
            ):
                raise DeviceError(f"the {side} {endpoint.name} has stopped.")
        return True

    @property
    def strength(self) -> float:
        """Wet share of the output, 0 to 1; may be set while running."""
        return self._strength

    @strength.setter
    def strength(self, strength: float) -> None:
        self._strength = min(1.0, max(0.0, strength))
        for denoiser in self._stream.denoisers:
            denoiser.strength = 0.0 if self._bypassed else self._strength

    @property
    def bypassed(self) -> bool:
        """Whether the sound passes as it is, just as late as otherwise; may be set while running."""
        return self._bypassed

    @bypassed.setter
    def bypassed(self, bypassed: bool) -> None:
        self._bypassed = bypassed
        self.strength = self._strength

    @property
    def band_gains(self) -> Array:
        """The newest gains of the first channel, shape (n_mels,), linear."""
        return self._stream.denoisers[0].band_gains

    @property
    def band_centres_hz(self) -> list[float]:
        """Where the bands of :attr:`band_gains` lie."""
        spec = self._stream.denoisers[0].spec
        return [float(hz) for hz in band_edges_hz(spec.n_mels, spec.fmin_hz, spec.fmax_hz)[1:-1]]

    @property
    def latency(self) -> LatencyParts:
        """The delay as planned, once both sides run."""
        return LatencyParts(
            source_ms=1000.0 * self.source.latency_seconds,
            resampling_ms=1000.0 * (self._bridge_seconds + self._stream.resampling_seconds),
            denoiser_ms=1000.0 * self._stream.denoisers[0].latency.seconds,
            buffer_ms=1000.0 * self._planned_samples / self.sink.rate_hz,
            sink_ms=1000.0 * self.sink.latency_seconds,
        )

    @property
    def counts(self) -> SampleCounts:
        """What became of every sample; exact while the worker rests."""
        source, sink = self._rings
        return SampleCounts(
            captured=source.written_samples,
            skipped=source.lost_samples,
            taken=self._taken,
            waiting=source.fill_samples,
            returned=self._given,
            discarded=self._discarded,
            padding_samples=self._padding,
            played=sink.read_samples - sink.lost_samples,
            dropped=sink.lost_samples,
            ready=sink.written_samples - sink.read_samples,
        )

    def status(self) -> LiveStatus:
        """Return what has happened; a look also begins the span of the next one."""
        now = self._clock()
        span, self._looked_at = max(now - self._looked_at, 1e-9), now
        busy = self._busy_seconds
        load, self._looked_busy_seconds = (busy - self._looked_busy_seconds) / span, busy
        (input_db, input_peak_db), (output_db, output_peak_db) = (
            level.look_db() for level in self._levels
        )
        source, sink = self._rings
        discarded_seconds = self._discarded / self.sink.rate_hz
        fixed_seconds = (
            self.source.latency_seconds + self._bridge_seconds + self.sink.latency_seconds
        )
        return LiveStatus(
            seconds=now - self._started_at,
            input_db=input_db,
            output_db=output_db,
            input_peak_db=input_peak_db,
            output_peak_db=output_peak_db,
            noise_removed_db=self._noise.removed_db,
            load=load,
            mean_load=busy / max(now - self._started_at, 1e-9),
            flagged_blocks=self.source.flagged_blocks + self.sink.flagged_blocks,
            dropouts=self._dropouts,
            disconnects=self._keeper.disconnects,
            lost_ms=1000.0
            * (
                source.lost_samples / self.source.rate_hz
                + sink.lost_samples / self.sink.rate_hz
                + discarded_seconds
            ),
            drift_ppm=self._control.ppm,
            buffer_ms=1000.0 * self._buffer.seconds,
            latency_ms=1000.0 * (self._control.delay_seconds + fixed_seconds)
            if self._control.delay_seconds
            else math.nan,
            state=self._keeper.state,
        )

    @property
    def _bridge_seconds(self) -> float:
        """Delay of the way to the sink's rate and clock."""
        return self._rate_change.delay_seconds + self._drift.delay_samples / self.sink.rate_hz

    @property
    def _planned_samples(self) -> int:
        """Samples to be kept ready for the sink: its block, the source's (they come in no common rhythm), and the buffer."""
        source_block_seconds = self.source.block_samples / self.source.rate_hz
        return self.sink.block_samples + round(
            (source_block_seconds + self._buffer.seconds) * self.sink.rate_hz
        )

    @property
    def _unbuffered_seconds(self) -> float:
        """The delay as planned without buffer, devices and the way to the sink's rate and clock."""
        return (
            self._planned_samples / self.sink.rate_hz
            - self._buffer.seconds
            + self._stream.denoisers[0].latency.seconds
            + self._stream.resampling_seconds
        )

    def _watch(self) -> None:
        try:
            while not self._stopping.wait(CHECK_SECONDS):
                self._keeper.check()
        except BaseException as error:  # handed to the thread that asks for `running`
            self._error = error

    def _run(self) -> None:
        try:
            if self._realtime:
                ask_for_realtime()
            while not self._stopping.is_set():
                exhausted = (
                    self.source.exhausted
                )  # asked first: what it wrote before that must still be processed
                if self.work():
                    continue
                if exhausted:
                    self._pass_on(self._stream.feed(self._drift.flush()))
                    self._pass_on(self._stream.flush())
                    self._drain()
                    return
                time.sleep(POLL_SECONDS)
        except BaseException as error:  # handed to the thread that asks for `running`
            self._error = error

    def work(self) -> bool:
        """Process what waits, up to a tenth of a second of it; return whether there was anything."""
        if self._rings != (
            self.source.ring,
            self.sink.ring,
        ):  # a device came back with another rate
            self._build()
        if self._keeper.sink.lost_at is not None and not self._restart:
            self._begin_anew()  # whether or not sound comes: with the sink the source may be gone, too
        ring = self.source.ring
        if not ring.fill_samples:
            return False
        began = time.perf_counter()
        self._skip_backlog(ring)
        self._process(self._chunk[: min(ring.fill_samples, len(self._chunk))])
        self._busy_seconds += time.perf_counter() - began
        return True

    def _skip_backlog(self, ring: Ring) -> None:
        """Skip what can no longer be played in time."""
        bridged = round(
            (self._planned_samples / self.sink.rate_hz + self._step_seconds) * self.source.rate_hz
        )
        backlog = ring.fill_samples
        if backlog > bridged + self.source.block_samples and not self.source.exhausted:
            ring.skip(backlog - self.source.block_samples)
            self._dropouts += 1
            self._control.restart()

    def _process(self, chunk: Array) -> None:
        ring = self.source.ring
        got = ring.read_into(chunk)
        self._taken += got
        mixed = (
            chunk[:got, : self.channels].copy()
            if self.channels > 1
            else chunk[:got].mean(axis=1, keepdims=True)
        )
        if ring.lost_samples != self._skipped_seen:
            self._skipped_seen = ring.lost_samples
            fade_in(mixed, self._last_in, self.source.rate_hz)
        self._last_in = mixed[-1].copy()
        self._levels[0].feed(mixed)
        self._noise.before(mixed.mean(axis=1))
        if self._recorder is not None:
            self._recorder.noisy(mixed)
        self._drift.ppm = self._control.ppm
        self._pass_on(self._stream.feed(self._drift.feed(self._rate_change.feed(mixed))))

    def _pass_on(self, cleaned: Array) -> None:
        if len(cleaned) == 0:
            return
        cleaned = np.clip(cleaned, -1.0, 1.0)
        self._noise.after(cleaned.mean(axis=1))
        if self._recorder is not None:
            self._recorder.cleaned(cleaned)
        volume = 0.0 if self.muted else 1.0
        if volume != self._volume or volume != 1.0:
            most = len(cleaned) / (MUTE_SECONDS * self.sink.rate_hz)
            end = self._volume + float(np.clip(volume - self._volume, -most, most))
            cleaned *= np.linspace(self._volume, end, len(cleaned), dtype=np.float32)[:, None]
            self._volume = end
        self._levels[1].feed(cleaned)
        self._given += len(cleaned)
        self._deliver(cleaned)

    def _deliver(self, block: Array) -> None:
        """Hand a block to the sink, at the planned delay."""
        ring, planned, elapsed_seconds = (
            self.sink.ring,
            self._planned_samples,
            len(block) / self.sink.rate_hz,
        )
        if self._keeper.sink.lost_at is not None:
            self._begin_anew()
            self._discarded += len(block)
            return
        if self._restart:
            self._pad(planned, block)
            self._restart = False
        elif ring.missing_samples > self._missing_seen:
            self._dropouts += 1
            if (
                self._keeper.source.disconnects == self._disconnects_seen
            ):  # no buffer bridges a device that is gone
                self._buffer.drop_out()
            self._disconnects_seen = self._keeper.source.disconnects
            self._pad(max(0, self._planned_samples - ring.fill_samples), block)
        elif ring.fill_samples > planned + EXCESS_SECONDS * self.sink.rate_hz:
            played = self.counts.played
            if (
                played != self._played_at_excess
            ):  # a sink that rests, as some do while they start, has one drop-out, however much is left out
                self._dropouts += 1
            self._played_at_excess = played
            ring.drop_oldest(planned)
            self._control.restart()
        self._missing_seen = ring.missing_samples
        ring.write(block)
        self._last_out = block[-1].copy()
        settling = self._control.held_seconds is None
        self._control.update(self._delay_seconds(), elapsed_seconds)
        if settling and self._control.held_seconds is not None:
            self._shorten(self._control.held_seconds)
        spare_seconds = self.sink.reader.least_left_samples / self.sink.rate_hz
        if shrunk := self._buffer.shrink(spare_seconds, elapsed_seconds):
            self.sink.reader.least_left_samples = NOTHING_SEEN
            self._control.shift(-shrunk)

    def _begin_anew(self) -> None:
        """Drop what waits for a sink that is gone: it would be stale by the time that the sink is back."""
        self.sink.ring.drop_oldest(0)
        self._last_out = np.zeros(self.channels, np.float32)
        self._restart = True

    def _shorten(self, delay_seconds: float) -> None:
        """Leave out what the delay has beyond the plan, before it is first held, or has gained since then, the buffer's growth apart."""
        ring, beyond_buffer_seconds = self.sink.ring, delay_seconds - self._buffer.seconds
        reference_seconds = self._first_seconds
        if reference_seconds is None:
            # A sink that starts by fits leaves too much before it. Once only: a device that needs more than its blocks tell is to have it.
            reference_seconds = (
                beyond_buffer_seconds
                if self._cut_at_first
                else min(beyond_buffer_seconds, self._unbuffered_seconds)
            )
            self._cut_at_first = beyond_buffer_seconds - reference_seconds > TOLERATED_SECONDS
            self._first_seconds = None if self._cut_at_first else beyond_buffer_seconds
        gained_seconds = beyond_buffer_seconds - reference_seconds
        gained = round(gained_seconds * self.sink.rate_hz)
        if gained_seconds > TOLERATED_SECONDS and ring.fill_samples > gained:
            self._dropouts += 1
            ring.drop_oldest(ring.fill_samples - gained)
            self._control.restart()

    def _pad(self, samples: int, block: Array) -> None:
        """Put silence before a block: what waits before it fades out, the block fades in."""
        silence = np.zeros((samples, self.channels), np.float32)
        fade_in(silence, self._last_out, self.sink.rate_hz)
        self.sink.ring.write(silence)
        fade_in(block, silence[-1] if samples else self._last_out, self.sink.rate_hz)
        self._padding += samples
        self._control.restart()
        self.sink.reader.least_left_samples = NOTHING_SEEN

    def _delay_seconds(self) -> float:
        """Return how long ago that was captured which the sink plays now, apart from the devices' own delay.

        Blocks come and go at once, time does not: a source's block grows, a sink's shrinks, while they wait for the next.
        """
        now, source, sink = self._clock(), self.source, self.sink
        age = [
            min(max(now - side.called_at, 0.0), side.block_samples / side.rate_hz)
            if side.called_at == side.called_at
            else 0.0
            for side in (source, sink)
        ]
        inside = self._stream.fed_samples - self._stream.returned_samples
        return (
            source.ring.fill_samples / source.rate_hz
            + age[0]
            + (inside + sink.ring.fill_samples) / sink.rate_hz
            - age[1]
        )

    def _drain(self) -> None:
        """Wait until the sink has played everything."""
        while self.sink.ring.fill_samples and self.sink.running and not self._stopping.is_set():
            time.sleep(POLL_SECONDS)
        self._stopping.wait(self.sink.latency_seconds)
