"""Draws a batch ahead, prints the processes that do it, and waits to be killed.

python draw_one.py SPEECH NOISE CACHE
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

from rtden.model import ModelSpec
from rtden.training.batches import BatchSource, draw_ahead
from rtden.training.corpus import load_clips

if __name__ == "__main__":
    speech, noise, cache = map(Path, sys.argv[1:])
    talk, hum = (load_clips(of, cache, rate_hz=22050, group_depth=2) for of in (speech, noise))
    source = BatchSource(talk, hum, spec=ModelSpec(name="tiny"), mixtures=1, seconds=1.0, seed=1)
    batches = draw_ahead(source, range(99))
    next(batches)
    children = multiprocessing.active_children()
    sys.stdout.write(" ".join(str(child.pid) for child in children) + "\n")
    sys.stdout.flush()
    time.sleep(300)
