"""Clock drift between two devices: the playback rate, and how much sound to keep ready."""

from __future__ import annotations

import math

from rtden.resample import MOST_DRIFT_PPM

SETTLE_SECONDS = 5.0
"""After a start or a drop-out: so long the delay is watched before it is held."""
SMOOTH_SECONDS = 2.0
HOLD_SECONDS = 15.0
"""Time constant of the control, critically damped: a step of 300 ppm moves the delay by 1.7 ms
beyond the tolerance."""
LET_PASS_SECONDS = 0.0015
"""Tolerated deviation: callbacks come irregularly, and clocks that agree need no control."""
LONGEST_BUFFER_SECONDS = 0.2
BUFFER_STEP = 1.5
BUFFER_LEAST_STEP_SECONDS = 0.005
QUIET_SECONDS = 60.0
"""Without a drop-out for so long, the buffer may shrink."""
SPARE_SECONDS = 0.008
"""What must have been left in the buffer at its lowest for it to shrink."""
SHRINK_SECONDS = 0.002
PAIRED_LEFT_SECONDS = 0.004
"""What must be left in the sink's ring where a turn takes two steps; twice that before it does."""
PAIRING_SECONDS, PARTED_SECONDS = 3.0, 30.0
"""Time for which enough must have been left, and time after sound that came late."""


class DriftControl:
    """Finds by how many ppm one clock runs faster than the other, from the delay between them.

    A critically damped proportional-integral controller on the smoothed delay (Adriaensen, "Using a
    DLL to filter time", 2005). What it has learned, the integral, survives drop-outs.
    `delay_seconds` is the smoothed delay, `held_seconds` where it is held, None at first.
    """

    def __init__(self) -> None:
        self.ppm = 0.0
        self._learned_ppm = 0.0
        self.restart()

    def restart(self) -> None:
        """Learn anew what to hold the delay at, for it has jumped."""
        self.held_seconds: float | None = None
        self.delay_seconds = 0.0
        self._seen_seconds = 0.0

    def shift(self, seconds: float) -> None:
        """Hold the delay at a value that is this much larger from now on."""
        if self.held_seconds is not None:
            self.held_seconds += seconds

    def update(self, delay_seconds: float, elapsed_seconds: float) -> None:
        """Take the delay and the time since the last call; `ppm` is how much faster to play."""
        if self._seen_seconds == 0.0:
            self.delay_seconds = delay_seconds
        self._seen_seconds += elapsed_seconds
        weight = elapsed_seconds / (min(SMOOTH_SECONDS, self._seen_seconds) + elapsed_seconds)
        self.delay_seconds += weight * (delay_seconds - self.delay_seconds)
        if self._seen_seconds < SETTLE_SECONDS:
            return
        if self.held_seconds is None:
            self.held_seconds = self.delay_seconds
        deviation_seconds = self.delay_seconds - self.held_seconds
        excess_seconds = deviation_seconds - min(
            LET_PASS_SECONDS, max(-LET_PASS_SECONDS, deviation_seconds)
        )
        pull_ppm = 2.0 / HOLD_SECONDS * excess_seconds * 1e6
        wanted_ppm = self._learned_ppm + pull_ppm
        self.ppm = min(MOST_DRIFT_PPM, max(-MOST_DRIFT_PPM, wanted_ppm))
        if self.ppm == wanted_ppm:  # at its stop it learns nothing
            self._learned_ppm += elapsed_seconds * excess_seconds * 1e6 / HOLD_SECONDS**2


class Pairing:
    """Whether a turn of the worker takes two steps: half of the wake-ups, the sound a step later.

    It does while the sink's ring can spare that, so that the delay stays as it is. `step_seconds`
    is the length of a step.
    """

    def __init__(self, step_seconds: float) -> None:
        self.paired, self._step_seconds = False, step_seconds
        self._watch(PAIRING_SECONDS)

    def _watch(self, seconds: float) -> None:
        self._least_seconds, self._rest_seconds = math.inf, seconds

    def update(self, left_seconds: float, elapsed_seconds: float) -> None:
        """Take in the least sound that was left in the ring in the last `elapsed_seconds`."""
        self._least_seconds = min(self._least_seconds, left_seconds)
        self._rest_seconds -= elapsed_seconds
        if self.paired and left_seconds < PAIRED_LEFT_SECONDS:
            self.part()
        elif self._rest_seconds <= 0.0:
            enough = self._step_seconds + 2.0 * PAIRED_LEFT_SECONDS
            self.paired = self.paired or self._least_seconds >= enough
            self._watch(PAIRING_SECONDS)

    def part(self) -> None:
        """Take single steps for a while: the sound came late."""
        self.paired = False
        self._watch(PARTED_SECONDS)


class BufferControl:
    """Sound kept ready beyond the sink's blocks: more after a drop-out, less after quiet minutes.

    `pinned` says that it stays as it is.
    """

    def __init__(self, seconds: float, *, pinned: bool) -> None:
        self.seconds, self._pinned = seconds, pinned
        self._least_seconds = seconds
        self._quiet_seconds = 0.0

    def drop_out(self) -> None:
        """Note that the sink ran dry."""
        self._quiet_seconds = 0.0
        if not self._pinned:
            self.seconds = min(
                LONGEST_BUFFER_SECONDS,
                max(self.seconds * BUFFER_STEP, self.seconds + BUFFER_LEAST_STEP_SECONDS),
            )

    def shrink(self, spare_seconds: float, elapsed_seconds: float) -> float:
        """Return by how much the delay should fall, from the lowest fill since the last call."""
        self._quiet_seconds = (
            self._quiet_seconds + elapsed_seconds if spare_seconds >= SPARE_SECONDS else 0.0
        )
        if (
            self._pinned
            or self._quiet_seconds < QUIET_SECONDS
            or self.seconds <= self._least_seconds
        ):
            return 0.0
        self._quiet_seconds = 0.0
        step = min(SHRINK_SECONDS, self.seconds - self._least_seconds)
        self.seconds -= step
        return step
