"""A picture of scores by SNR, from what `rtden eval --json` wrote.

    python bench/plot_scores.py SCORES.json PICTURE.png [--force]

A panel for each headline metric, the mean of each system with bars of 95 % confidence.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from common import ForceOption, one_sentence

from rtden.measure.evaluation import HEADLINE, NOISY
from rtden.measure.plots import check_picture, new_figure, save
from rtden.measure.tables import LOSS_NOTE, marked

PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES = 2.75, 3.2
# Okabe and Ito's, which the colour-blind can tell apart; the markers differ as well.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
STYLES = [{"color": c, "marker": m} for c, m in zip(COLOURS, "osD^vPX", strict=True)]
NOISY_STYLE = {"color": "#8a8a8a", "marker": "o", "linestyle": "dashed"}


def draw(found: dict[str, Any]) -> Any:
    """Return the figure of an evaluation."""
    systems = {name: known["by_snr"] for name, known in found["systems"].items()}
    shown = [metric for metric in found["metrics"] if metric in HEADLINE]
    groups = [*next(iter(systems.values()))]
    figure = new_figure(max(2, len(shown)) * PANEL_WIDTH_INCHES, PANELS_HEIGHT_INCHES)
    for axis, metric in zip(np.ravel(figure.subplots(1, len(shown))), shown, strict=True):
        for row, (system, of) in enumerate(systems.items()):  # side by side: no bar hides another
            at = np.arange(len(groups)) + 0.06 * (row - (len(systems) - 1) / 2)
            style = STYLES[(row - 1) % len(STYLES)] if system != NOISY else NOISY_STYLE
            means, halves = (
                np.array([of[group][kind][metric] for group in groups], float)  # null: no figure
                for kind in ("mean", "mean_ci95")
            )
            axis.errorbar(at, means, halves, label=system, **style)
        axis.set_title(marked(metric), fontsize=10, loc="left")
        axis.set_xticks(range(len(groups)), [name.removesuffix(" dB") for name in groups])
        axis.grid(axis="y", alpha=0.3)
    note = f"{found['pairs']} pairs; bars: 95 % confidence; {LOSS_NOTE}"
    figure.supxlabel(f"SNR of the noisy file (dB). {note}", fontsize=8)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper left", ncols=len(systems))
    return figure


def main(
    scores: Annotated[Path, typer.Argument(help="The JSON file.")],
    out: Annotated[Path, typer.Argument(help="The picture to write.")],
    force: ForceOption = False,
) -> None:
    """Draw scores."""
    with one_sentence("plot_scores", OSError):
        check_picture(out, force=force)
        save(draw(json.loads(scores.read_text(encoding="utf-8"))), out, force=force, dpi=150)


if __name__ == "__main__":
    typer.run(main)
