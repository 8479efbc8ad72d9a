"""The live view, drawn on consoles that record."""

from __future__ import annotations

import io
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from live_view import STATUS, FakeEngine
from rich.console import Console

from rtden.app.keys import KEYS, apply_key
from rtden.app.view import GainPicture, LiveView, watch
from rtden.errors import DeviceError
from rtden.live.status import xruns_in_words


def console(
    width: int = 80, height: int = 24, *, encoding: str = "utf-8", color_system: str | None = None
) -> Console:
    return Console(
        file=io.TextIOWrapper(io.BytesIO(), encoding=encoding),
        record=True,
        width=width,
        height=height,
        force_terminal=True,
        color_system=color_system,  # type: ignore[arg-type]
        no_color=color_system is None,
        legacy_windows=False,
    )


def drawn(
    engine: Any,
    width: int = 80,
    height: int = 24,
    *,
    looks: int = 30,
    shows_help: bool = False,
    encoding: str = "utf-8",
    color_system: str | None = None,
) -> list[str]:
    """Return the lines of the screen."""
    on = console(width, height, encoding=encoding, color_system=color_system)
    view = LiveView(engine, "from usb mic to rtden")
    view.shows_help = shows_help
    for _ in range(looks):
        view.look()
    on.print(view, end="", height=height)
    on.file.flush()  # a character that the encoding lacks would raise here
    lines = on.export_text(clear=False).split("\n")
    assert len(lines) == height
    assert {len(line) for line in lines} == {width}
    return [line.rstrip() for line in lines]


def words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("color_system", [None, "standard", "256", "truecolor"])
def test_everything_is_on_the_screen(color_system: str | None) -> None:
    lines = drawn(FakeEngine(), color_system=color_system)
    assert lines[0].startswith("rtden  from usb mic to rtden")
    assert lines[0].endswith("0:01:26")
    assert lines[1].startswith("denoising, strength 1.0")
    assert lines[2].startswith("input  ━")
    assert lines[2].endswith("-25.7 dB  peak   -9.3 dB")
    assert lines[3].startswith("output ━")
    assert lines[3].endswith("-28.1 dB  peak  -12.2 dB")
    text = "\n".join(" ".join(line[50:].split()) for line in lines)
    for figure in (
        *("pauses 43 dB quieter", "latency now 125 ms", "latency planned 126 ms", "input 20 ms"),
        *("resampling 16 ms", "denoiser 46 ms", "buffer 25 ms", "output 19 ms"),
        *("buffer now 31 ms", "load of one core 5.8 %", "clock drift +12 ppm", "xruns none"),
    ):
        assert figure in text
    assert lines[-1].split() == [word for key, name, _ in KEYS for word in (*key.split(), name)]


def test_a_small_terminal_has_the_figures_and_the_key_that_quits() -> None:
    text = words(lines := drawn(FakeEngine(), 40, 12))
    assert lines[-1].startswith(" q  quit  ?  help  b  bypass  m  mute")
    for figure in ("pauses 43 dB quieter", "latency now 125 ms", "xruns none", "-25.7 dB"):
        assert figure in text


@pytest.mark.parametrize("size", [(80, 24), (120, 60), (200, 100)])
def test_the_picture_takes_the_room_that_there_is(size: tuple[int, int]) -> None:
    lines = drawn(FakeEngine(band_gains=np.ones(128, np.float32)), *size, looks=400)
    filled = [line for line in lines if "█" * 20 in line]
    assert len(filled) == size[1] - 5 - 2  # title, state, meters, keys; caption and legend
    assert "s ago" in words(lines)


@pytest.mark.parametrize("size", [(40, 10), (20, 5), (60, 12), (10, 2), (300, 80)])
def test_any_size_of_terminal_is_filled(size: tuple[int, int]) -> None:
    lines = drawn(FakeEngine(), *size)
    assert lines[0].startswith("rtden")
    assert lines[-1].startswith(" q  quit")


def test_help_explains_keys_and_figures() -> None:
    text = words(drawn(FakeEngine(), 40, 24, shows_help=True))
    for _, _, effect in KEYS:
        assert effect in text
    assert "measured delay, microphone to output" in text


def test_a_warning_stays_above_the_keys() -> None:
    silent = "the microphone is silent: is it muted? Try 'pactl set-source-mute @DEFAULT_SOURCE@ 0'"
    for size in ((40, 12), (80, 24), (120, 60)):
        lines = drawn(FakeEngine(replace(STATUS, warnings=(silent,))), *size)
        assert f"! {silent}" in words(lines[-5:-1])


def test_shades_show_the_gains() -> None:
    rows = [line[7:48].ljust(41) for line in drawn(FakeEngine(), height=23, looks=20)[5:21]]
    assert all(row.strip() == "" for row in rows[:8])  # high bands are removed
    assert all(row.endswith("█" * 20) and row.strip() == "█" * 20 for row in rows[8:])


def test_in_colour_high_gains_are_bright() -> None:
    on = console(color_system="truecolor")
    view = LiveView(FakeEngine())
    for _ in range(60):
        view.look()
    rows = on.render_lines(view, on.options.update(height=23), pad=False)[5:21]
    found = [(str(row[1].style), row[1].text) for row in rows]
    assert found == [
        *[("#0b0724 on #0b0724", " " * 41)] * 8,
        *[("#fcfdbf on #fcfdbf", "█" * 41)] * 8,
    ]


def test_a_terminal_without_unicode() -> None:
    lines = drawn(FakeEngine(replace(STATUS, latency_ms=math.nan)), encoding="ascii")
    assert lines[2].startswith("input  ###")
    assert all(line.isascii() for line in lines)


def test_the_meter_follows_the_level_and_the_peak_is_held() -> None:
    engine = FakeEngine(replace(STATUS, input_db=-30.0, input_peak_db=-6.0))
    on, view = console(107), LiveView(engine)

    def meter() -> str:
        view.look()
        on.print(view, end="", height=24)
        return on.export_text().split("\n")[2][7:81]

    columns = len(meter())
    assert meter().count("━") == columns // 2
    engine.said = replace(STATUS, input_db=-30.0, input_peak_db=-20.0)
    assert meter().index("┃") == round(0.9 * columns) - 1
    positions = [meter().index("┃") for _ in range(10)]
    assert positions[:7] == [round(0.9 * columns) - 1] * 7  # held for a second
    assert positions[-1] == round(columns * 2 / 3) - 1  # -20 dB


def test_silence_and_unknown_figures() -> None:
    silent: dict[str, Any] = dict.fromkeys(
        ("input_db", "output_db", "input_peak_db", "output_peak_db"), -math.inf
    )
    unknown: dict[str, Any] = dict.fromkeys(
        ("noise_removed_db", "drift_ppm", "latency_ms"), math.nan
    )
    lines = drawn(FakeEngine(replace(STATUS, **silent, **unknown)))
    assert lines[2].endswith("   silent  peak    silent")
    assert not {"━", "┃"} & set(lines[2])
    assert "nan" not in words(lines)
    for figure in ("pauses -", "clock drift -", "latency now -"):
        assert figure in words([line[50:] for line in lines])


def test_states_are_in_words() -> None:
    lost = "input lost: waiting for usb mic to come back"
    assert lost in drawn(FakeEngine(replace(STATUS, state=lost)))[1]
    assert drawn(FakeEngine(bypassed=True))[1].startswith(" BYPASS ")
    assert drawn(FakeEngine(muted=True, bypassed=True))[1].startswith(" MUTED ")
    assert "strength 0.3" in drawn(FakeEngine(strength=0.3))[1]


def test_xruns_are_in_words() -> None:
    assert xruns_in_words(STATUS) == "none"
    one = replace(STATUS, flagged_blocks=1)
    assert xruns_in_words(one) == "1 block late or lost at a device"
    text = words([line[50:] for line in drawn(FakeEngine(one))])
    assert "1 xrun: 1 block late or lost at a device" in text
    several = replace(STATUS, flagged_blocks=3, dropouts=2, lost_ms=84.2)
    assert xruns_in_words(several) == "3 blocks late or lost at a device; 2 drop-outs, 84 ms lost"


def test_keys_change_the_engine() -> None:
    engine = FakeEngine()
    for key, wanted in (
        ("b", (1.0, True, False)),
        ("m", (1.0, True, True)),
        ("-", (0.9, True, True)),
        ("_", (0.8, True, True)),
        ("b", (0.8, False, True)),
        ("+", (0.9, False, True)),
        ("=", (1.0, False, True)),
        ("+", (1.0, False, True)),
        ("x", (1.0, False, True)),
        ("", (1.0, False, True)),
    ):
        apply_key(key, engine)
        assert (engine.strength, engine.bypassed, engine.muted) == wanted
    for _ in range(12):
        apply_key("-", engine)
    assert engine.strength == 0.0


def printed(on: Console) -> str:
    on.file.flush()
    return on.file.buffer.getvalue().decode()  # type: ignore[attr-defined, no-any-return]


def test_watch_draws_on_the_alternate_screen_and_leaves_it() -> None:
    on, engine = console(color_system="standard"), FakeEngine()
    watch(engine, on, iter(["", "b", "?", "q", "m"]), title="here to there")
    assert engine.bypassed
    assert not engine.muted  # keys after "q" are not read
    text = printed(on)
    assert text.startswith("\x1b[?1049h")
    assert "here to there" in text
    assert "play silence" in text
    assert "\x1b[?1049l" in text
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_watch_ends_with_the_engine_with_its_error_and_after_the_duration() -> None:
    def no_keys() -> Iterator[str]:
        while True:
            time.sleep(0.1)
            yield ""

    engine = FakeEngine(ends_after=3)
    watch(engine, console(), no_keys())
    assert engine.looks == 3
    on = console()
    with pytest.raises(DeviceError, match="gone"):
        watch(FakeEngine(ends_after=2, error=DeviceError("gone")), on, no_keys())
    assert "\x1b[?1049l" in printed(on)
    began, engine = time.monotonic(), FakeEngine()
    watch(engine, console(), no_keys(), duration=0.5)
    assert time.monotonic() - began > 0.45


def test_a_key_held_down_does_not_draw_more_often() -> None:
    engine = FakeEngine()
    watch(engine, console(), iter(["+"] * 200))
    assert engine.looks < 10


def test_the_legend_has_the_shades_and_colours_of_the_picture() -> None:
    picture = GainPicture([*np.linspace(50.0, 10000.0, 128)], 0.1)
    for gain_db in np.linspace(-40.0, 0.0, 60):
        picture.feed(np.full(128, 10.0 ** (gain_db / 20.0), np.float32))
    *rows, legend = picture.lines(6, 70)[1:]
    shown = {(part.text[0], part.style) for row in rows for part in row[1:]}
    scale = {(part.text, part.style) for part in legend if len(part.text) == 1}
    assert len(scale) == 8
    assert shown == scale
