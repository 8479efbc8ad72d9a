"""Write masks.json: every model's mean mask of each band over the noisy recording, as the
runtime of this environment gives it.

python tests/data/make_masks.py        (after a change of a model; with ai-edge-litert on x86-64,
which the file in use is from)
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import soundfile

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
from conftest import DATA, MODELS
from streams import masks_of


def main() -> None:
    """Write the file anew."""
    noisy, _ = soundfile.read(DATA / "noisy.flac", dtype="float32")
    means = {
        path.stem: [
            round(float(mean), 5) for mean in masks_of(path, noisy, every=16).mean(axis=(1, 2))
        ]
        for path in MODELS
    }
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(bands)}" for name, bands in means.items())
    (DATA / "masks.json").write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
