"""Pictures of what benchmarks found (extra "plot")."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def plot_quality(
    points: Sequence[Point],
    noisy: float,
    metric: str,
    pairs: int,
    out: Path,
    *,
    force: bool = False,
) -> None:
    """Draw quality against real-time factor and against delay, side by side.

    Raises
    ------
    MissingPackageError
        If matplotlib is not installed.
    AudioFileError
        If the picture exists already (without `force`) or cannot be written.
    """
    check_picture(out, force=force)
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = new_figure(10.0, 4.4)
    cost, delay = figure.subplots(1, 2, sharey=True)
    _scatter(cost, points, lambda point: point.cpu_per_second, noisy)
    _scatter(
        delay,
        [point for point in points if point.delay_ms is not None],
        lambda point: point.delay_ms or 0.0,
        noisy,
    )
    cost.set_xscale("log")
    cost.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    cost.xaxis.set_major_formatter(FuncFormatter(lambda factor, _: f"{factor:g}"))
    cost.xaxis.set_minor_formatter(NullFormatter())
    cost.set(
        xlabel="CPU time per second of live sound (s, log scale)",
        ylabel=f"{metric} (mean opinion score, 1 to 4.6)",
    )
    delay.set(xlabel="Delay of the algorithm (ms)")
    cost.set_title("Quality and cost", fontsize=10, loc="left", fontweight="bold")
    delay.set_title("Quality and delay", fontsize=10, loc="left", fontweight="bold")
    for axis in (cost, delay):
        axis.margins(x=0.16, y=0.12)
    delay.set_xlim(left=0)
    figure.text(
        0.995,
        0.008,
        f"{pairs} pairs; bars: 95 % confidence of the change; hollow: needs the whole recording",
        ha="right",
        fontsize=7.5,
        color="#777777",
    )
    figure.get_layout_engine().set(rect=(0, 0.035, 1, 0.965))
    figure.draw_without_rendering()  # settles where things are, and there they stay
    figure.set_layout_engine("none")
    _name(cost, points, lambda point: point.cpu_per_second)
    _name(
        delay,
        [point for point in points if point.delay_ms is not None],
        lambda point: point.delay_ms or 0.0,
    )
    save(figure, out, force=force)


def _scatter(
    axis: Any, points: Sequence[Point], across: Callable[[Point], float], noisy: float
) -> None:
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
        colour = OURS if point.ours else OTHERS
        style = {
            "color": colour,
            "marker": MARKERS[0] if point.ours else MARKERS[1],
            "markersize": 6.0,
            "elinewidth": 0.9,
            "alpha": 0.9,
        }
        if point.delay_ms is None:
            style["markerfacecolor"] = "white"
        axis.errorbar(
            [across(point)],
            [point.quality],
            [point.half_width],
            linestyle="none",
            ecolor="#bbbbbb",
            **style,
        )
    plain(axis)


def _name(axis: Any, points: Sequence[Point], across: Callable[[Point], float]) -> None:
    """Write each point's name beside it, where it hides neither another name nor a point."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    pixels = axis.figure.dpi / 72.0
    spots = {point: axis.transData.transform((across(point), point.quality)) for point in points}
    renderer = axis.figure.canvas.get_renderer()
    # A name close to a point that is not its own would be taken for that one's.
    taken = [
        Bbox.from_bounds(x - 8 * pixels, y - 5 * pixels, 16 * pixels, 10 * pixels)
        for x, y in spots.values()
    ]
    taken += [text.get_window_extent(renderer) for text in axis.texts]
    for point, (x, _) in spots.items():
        bottom, top = (
            axis.transData.transform((1.0, point.quality + side * point.half_width))[1]
            for side in (-1, 1)
        )
        taken.append(Bbox.from_extents(x - pixels, bottom, x + pixels, top))
    frame = axis.get_window_extent()
    for point in sorted(points, key=lambda point: -point.quality):
        own = taken[list(spots).index(point)]
        best: tuple[float, Any, Any] | None = None
        for far, price in ((9, 0.0), (16, 40.0), (24, 100.0)):
            for right, up in ASIDE:
                text = axis.annotate(
                    point.name,
                    (across(point), point.quality),
                    xytext=(right * far, up * far),
                    textcoords="offset points",
                    ha={1: "left", 0: "center", -1: "right"}[right],
                    va={1: "bottom", 0: "center", -1: "top"}[up],
                    fontsize=LABEL_POINTS,
                    fontweight="bold" if point.ours else "normal",
                    color=OURS if point.ours else "#333333",
                    arrowprops={
                        "arrowstyle": "-",
                        "color": "#999999",
                        "linewidth": 0.6,
                        "shrinkA": 0,
                        "shrinkB": 4,
                    }
                    if price
                    else None,
                )
                text.update_positions(renderer)
                box = Text.get_window_extent(text, renderer)  # the name's alone, without its line
                outside = box.width * box.height - _shared(box, frame)
                worth = (
                    sum(_shared(box, other) for other in taken if other is not own)
                    + 5.0 * outside
                    + price * pixels**2
                )
                if best is None or worth < best[0]:
                    if best is not None:
                        best[1].remove()
                    best = (worth, text, box)
                else:
                    text.remove()
        if best is not None:
            taken.append(best[2])


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
