from __future__ import annotations

import numpy as np
import pytest

from rtden.live.meters import CLIPPED_SECONDS, InputWatch, peak_of
from rtden.live.status import input_warning

RATE_HZ = 16000


def fed(*parts: tuple[float, float]) -> InputWatch:
    """Return a watch that got noise of so many dBFS for so many seconds, one part after
    the other.
    """
    watch, rng = InputWatch(RATE_HZ), np.random.default_rng(0)
    for level_db, seconds in parts:
        for _ in range(round(seconds * 100)):
            noise = 10 ** (level_db / 20) * rng.standard_normal((RATE_HZ // 100, 2))
            block = noise.astype(np.float32)
            watch.feed(block, peak_of(block))
    return watch


def said(watch: InputWatch, *, muted: bool = False) -> str:
    return input_warning(watch, "Blue Yeti", "alsa_input.yeti", muted=muted)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([(-np.inf, 2.9)], ""),
        ([(-np.inf, 3.1)], "Blue Yeti gives digital silence: look for a mute or privacy switch"),
        ([(-90.0, 3.1)], "is below -75 dB: choose the right microphone"),
        ([(-90.0, 3.1)], "pactl set-source-volume alsa_input.yeti 100%"),
        ([(-70.0, 10.0)], ""),
        ([(-np.inf, 60.0), (-40.0, 0.1)], ""),  # it goes as soon as there is sound
        ([(-np.inf, 2.0), (-90.0, 2.0)], "is below -75 dB"),
        ([(-np.inf, 2.0), (-40.0, 0.1), (-np.inf, 2.0)], ""),
    ],
)
def test_silence_is_told_after_three_seconds_with_its_likely_cause(
    parts: list[tuple[float, float]], words: str
) -> None:
    assert words in said(fed(*parts))
    assert bool(words) == bool(said(fed(*parts)))


def test_a_muted_source_is_told_at_once_with_the_command() -> None:
    words = "Blue Yeti is muted: run 'pactl set-source-mute alsa_input.yeti 0'."
    assert said(fed((-40.0, 0.1)), muted=True) == words


def test_clipping_is_told_until_it_has_not_happened_for_a_while() -> None:
    watch, loud = InputWatch(RATE_HZ), np.ones((RATE_HZ // 100, 1), np.float32)
    for _ in range(2):
        watch.feed(loud, 1.0)
    assert not said(watch)
    watch.feed(loud, 1.0)
    assert "Blue Yeti clips" in said(watch)
    assert "pactl set-source-volume alsa_input.yeti 70%" in said(watch)
    assert "lower its level" in input_warning(watch, "USB mic")
    for _ in range(round(CLIPPED_SECONDS * 100) + 1):
        watch.feed(0.1 * loud, 0.1)
    assert not said(watch)


def test_a_single_peak_at_full_scale_is_no_clipping() -> None:
    watch, block = InputWatch(RATE_HZ), np.full((RATE_HZ // 100, 1), 0.1, np.float32)
    block[7] = 1.0
    for _ in range(100):
        watch.feed(block, peak_of(block))
    assert not said(watch)
