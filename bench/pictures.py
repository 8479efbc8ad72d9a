"""Pictures of what benchmarks found (extra "plot")."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtden.files.audio_file import write_whole
from rtden.measure.plots import COLOURS, MARKERS, NOISY_COLOUR, check_picture

LABEL_POINTS = 8.5
OURS, OTHERS = COLOURS[:2]
ASIDE = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a name may stand beside its point, to the right first."""


@dataclass(frozen=True)
class Point:
    """A denoiser in the pictures."""

    name: str
    quality: float
    half_width: float
    """Of the confidence interval of the change against the noisy recordings."""
    cpu_per_second: float
    """CPU time over audio time, as live sound."""
    delay_ms: float | None
    """None if the recording must be complete."""
    ours: bool


Across = Callable[[Point], float]
"""Where a point lies on the horizontal axis."""


def plot_quality(
    points: Sequence[Point],
    noisy: float,
    metric: str,
    pairs: int,
    out: Path,
    *,
    force: bool = False,
) -> None:
    """Draw quality against cost and against delay, side by side.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    AudioFileError
        If the picture exists already (without `force`) or cannot be written.
    """
    check_picture(out, force=force)
    figure = new_figure(10.0, 4.4)
    cost, delay = figure.subplots(1, 2, sharey=True)
    streams = [point for point in points if point.delay_ms is not None]
    panels: tuple[tuple[Any, Sequence[Point], Across], ...] = (
        (cost, points, lambda point: point.cpu_per_second),
        (delay, streams, lambda point: point.delay_ms or 0.0),
    )
    for axis, shown, across in panels:
        _scatter(axis, shown, across, noisy)
        axis.margins(x=0.16, y=0.12)
    _log_scale(cost)
    cost.set(xlabel="CPU time per second of live sound (s, log scale)", ylabel=f"{metric} (MOS)")
    delay.set(xlabel="Delay of the algorithm (ms)")
    delay.set_xlim(left=0)
    for axis, title in ((cost, "Quality and cost"), (delay, "Quality and delay")):
        axis.set_title(title, fontsize=10, loc="left", fontweight="bold")
    note = f"{pairs} pairs; bars: 95 % confidence of the change"
    figure.text(0.995, 0.008, note, ha="right", fontsize=7.5, color="#777777")
    figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))
    figure.draw_without_rendering()  # settles where things are, and there they stay
    figure.set_layout_engine("none")
    for axis, shown, across in panels:
        _name(axis, shown, across)
    save(figure, out, force=force)


def _log_scale(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _scatter(axis: Any, points: Sequence[Point], across: Across, noisy: float) -> None:
    axis.axhline(noisy, color=NOISY_COLOUR, linestyle=(0, (4, 2)), linewidth=1.0)
    axis.annotate(
        "noisy",
        (1.0, noisy),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8,
        color="#777777",
    )
    for point in points:
        style: dict[str, Any] = {
            "color": OURS if point.ours else OTHERS,
            "marker": MARKERS[0] if point.ours else MARKERS[1],
            "markersize": 6.0,
        }
        at = ([across(point)], [point.quality], [point.half_width])
        axis.errorbar(*at, linestyle="none", ecolor="#bbbbbb", elinewidth=0.9, **style)
    plain(axis)


def _name(axis: Any, points: Sequence[Point], across: Across) -> None:
    """Write each point's name beside it, where it hides neither another name nor a point."""
    places = {point: (across(point), point.quality) for point in points}
    own, taken = _obstacles(axis, places)
    for point in sorted(points, key=lambda point: -point.quality):
        others = [box for box in taken if box is not own[point]]
        options = [
            _labelled(axis, point, places[point], (right * far, up * far), others, price)
            for far, price in ((9, 0.0), (16, 40.0), (24, 100.0))
            for right, up in ASIDE
        ]
        best = min(options, key=lambda option: option[0])
        for option in options:
            if option is not best:
                option[1].remove()
        taken.append(best[2])


def _obstacles(
    axis: Any, places: dict[Point, tuple[float, float]]
) -> tuple[dict[Point, Any], list[Any]]:
    """Return the box of each point, and those and all others that a name must not hide."""
    from matplotlib.transforms import Bbox

    pixels, renderer = axis.figure.dpi / 72.0, axis.figure.canvas.get_renderer()
    own, bars = {}, []
    for point, place in places.items():
        x, y = axis.transData.transform(place)
        # A name close to a point that is not its own would be taken for that one's.
        own[point] = Bbox.from_bounds(x - 8 * pixels, y - 5 * pixels, 16 * pixels, 10 * pixels)
        bottom, top = (
            axis.transData.transform((place[0], point.quality + side * point.half_width))[1]
            for side in (-1, 1)
        )
        bars.append(Bbox.from_extents(x - pixels, bottom, x + pixels, top))
    texts = [text.get_window_extent(renderer) for text in axis.texts]
    return own, [*own.values(), *texts, *bars]


def _labelled(
    axis: Any,
    point: Point,
    place: tuple[float, float],
    offset: tuple[float, float],
    taken: list[Any],
    price: float,
) -> tuple[float, Any, Any]:
    """Write a name at an offset in points; return how bad it is there, the text and its box."""
    from matplotlib.text import Text

    pixels, renderer = axis.figure.dpi / 72.0, axis.figure.canvas.get_renderer()
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 4}
    text = axis.annotate(
        point.name,
        place,
        xytext=offset,
        textcoords="offset points",
        ha=("center", "left", "right")[int(np.sign(offset[0]))],
        va=("center", "bottom", "top")[int(np.sign(offset[1]))],
        fontsize=LABEL_POINTS,
        fontweight="bold" if point.ours else "normal",
        color=OURS if point.ours else "#333333",
        arrowprops=line if price else None,
    )
    text.update_positions(renderer)
    box = Text.get_window_extent(text, renderer)  # the name's alone, without its line
    outside = box.width * box.height - _shared(box, axis.get_window_extent())
    hidden = sum(_shared(box, other) for other in taken)
    return hidden + 5.0 * outside + price * pixels**2, text, box


def _shared(one: Any, other: Any) -> float:
    """Return the area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def plain(axis: Any) -> None:
    """Give an axis the looks of all these pictures."""
    axis.tick_params(labelsize=8.5)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["bottom", "left"]].set_color("#bbbbbb")
    axis.grid(color="#e9e9e9", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.xaxis.label.set_size(9)
    axis.yaxis.label.set_size(9)


def new_figure(width_inches: float, height_inches: float) -> Any:
    """Return an empty figure."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained", dpi=150)
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, out: Path, *, force: bool) -> None:
    """Write a figure as a picture."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format=out.suffix[1:].lower())
    write_whole(out, drawn.getvalue(), force=force)
