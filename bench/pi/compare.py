"""Compare what two machines made of one recording: fail where the difference is more than int8 rounding explains.

The machines' transforms and logarithms differ in their last bits. Now and then that tips an int8 number of the network's input, and for as
long as the network remembers it the gains are others by some steps of 1/256; everything else is equal.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
import soundfile

REMEMBERED_SECONDS = 2.7
"""How long a number that was tipped may be heard of: the network's memory and a frame."""
TIPPED_DB = -30.0
"""Largest level of the difference meanwhile, relative to the output."""
BLOCK_SAMPLES = 1024


def tipped(difference_db: np.ndarray, bound_db: float, blocks: int) -> list[slice]:
    """Return where a difference is above a bound, block by block, in stretches of at most so many blocks."""
    found: list[slice] = []
    for block in np.flatnonzero(difference_db > bound_db):
        if not found or block >= found[-1].start + blocks:
            found.append(slice(int(block), int(block) + 1))
        found[-1] = slice(found[-1].start, int(block) + 1)
    return found


def main() -> None:
    """Print the difference of two recordings and leave with 1 where it is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("native")
    parser.add_argument("emulated")
    parser.add_argument("--bound-db", type=float, required=True, help="largest level of the difference, relative to the output")
    parser.add_argument("--tips", type=int, default=0, help=f"so often it may be larger, up to {TIPPED_DB:.0f} dB, for {REMEMBERED_SECONDS} s")
    arguments = parser.parse_args()
    (native, native_hz), (emulated, emulated_hz) = (soundfile.read(path, dtype="float64") for path in (arguments.native, arguments.emulated))
    if native.shape != emulated.shape or native_hz != emulated_hz:
        sys.exit(f"the recordings differ in shape or rate: {native.shape} at {native_hz} Hz, {emulated.shape} at {emulated_hz} Hz")
    difference = native - emulated
    energy = np.add.reduceat(difference**2, np.arange(0, len(difference), BLOCK_SAMPLES)) / BLOCK_SAMPLES / np.mean(native**2)
    stretches = tipped(10.0 * np.log10(energy + 1e-30), arguments.bound_db, round(REMEMBERED_SECONDS * native_hz / BLOCK_SAMPLES)) if arguments.tips else []
    print(f"{len(native)} samples, {np.mean(difference == 0.0):.2%} equal to the bit, largest difference {np.abs(difference).max():.2g} of full scale")
    for stretch in stretches:
        level_db = 10.0 * np.log10(np.mean(energy[stretch]))
        print(f"a number tipped at {stretch.start * BLOCK_SAMPLES / native_hz:.2f} s: {level_db:.0f} dB of the output's level (bound {TIPPED_DB:.0f} dB)")
        if level_db > TIPPED_DB:
            sys.exit("the machines do not agree: their difference is more than a tipped number explains")
        energy[stretch] = 0.0
    level_db = 10.0 * np.log10(np.mean(energy) + 1e-30)
    print(f"{'elsewhere ' if stretches else ''}level of the difference {level_db:.0f} dB of the output's (bound {arguments.bound_db:.0f} dB)")
    if level_db > arguments.bound_db or len(stretches) > arguments.tips:
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main()
