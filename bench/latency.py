"""What a lower latency costs, and a file's lead-in gains: streams by their overlap, and files.

    python bench/latency.py --pairs FOLDER

FOLDER holds `clean/` and `noisy/` with the same file names. Prints the latency of the algorithm and
the mean scores; in brackets the change against the longest overlap, file by file, with its 95 %
confidence.
"""

from __future__ import annotations

import typer
from common import ModelOption, PairsOption, ProcessesOption, changes_table, one_sentence, screen

from rtden.denoiser import settings_for_latency
from rtden.measure.scores import StreamProcessor, score_pairs
from rtden.model import find_model, load_spec
from rtden.settings import Settings

LATENCIES_MS = (47, 35, 30, 25, 20, 15)
FILES = "files"
"""The row of whole recordings, with the lead-in of :mod:`rtden.recording`."""
METRICS = ("PESQ-WB", "ESTOI", "SI-SDR", "OVRL", "P.808")


def main(pairs: PairsOption, model: ModelOption = None, processes: ProcessesOption = None) -> None:
    """Score overlaps on pairs."""
    with one_sentence("latency"):
        spec, settings = load_spec(path := find_model(model)), {}
        for wish_ms in LATENCIES_MS:
            chosen, latency = settings_for_latency(wish_ms, model=path)
            settings[f"{1000.0 * latency.seconds:.0f} ms"] = chosen
        systems = {
            name: StreamProcessor(path, chosen, lead_in=False) for name, chosen in settings.items()
        }
        settings[FILES], systems[FILES] = Settings(), StreamProcessor(path)
        found = score_pairs(pairs, systems, metrics=METRICS, processes=processes)
    overlaps = [str(of.overlap_samples or spec.longest_overlap) for of in settings.values()]
    screen.print(f"{len(found.files)} pairs, model {spec.name}, one hop of {spec.hop} a step")
    screen.print(changes_table(found, "Latency", Overlap=overlaps))


if __name__ == "__main__":
    typer.run(main)
