"""Compare two machines' outputs for one file; fail if they differ by more than int8 rounding.

    compare.py NATIVE EMULATED BOUND_DB

The machines' floating-point transforms differ in their last bits. Now and then that tips an int8
value of the network's input, which moves some gains by a step or two of 1/256; everything else is
equal. BOUND_DB is the highest level of the difference, relative to the output.
"""

from __future__ import annotations

import sys

import numpy as np
import soundfile


def main(native_path: str, emulated_path: str, bound_db: str) -> None:
    """Print the difference of two recordings and leave with 1 where it is too large."""
    (native, native_hz), (emulated, emulated_hz) = (
        soundfile.read(path, dtype="float64") for path in (native_path, emulated_path)
    )
    if native.shape != emulated.shape or native_hz != emulated_hz:
        kinds = f"{native.shape} at {native_hz} Hz, {emulated.shape} at {emulated_hz} Hz"
        sys.exit(f"the files differ in shape or rate: {kinds}")
    difference = native - emulated
    level_db = 10.0 * np.log10(np.mean(difference**2) / np.mean(native**2) + 1e-30)
    print(
        f"{len(native)} samples, {np.mean(difference == 0.0):.2%} equal to the bit, "
        f"largest difference {np.abs(difference).max():.2g} of full scale, "
        f"level of the difference {level_db:.0f} dB of the output's (bound {bound_db} dB)"
    )
    if level_db > float(bound_db):
        sys.exit("the machines do not agree: their difference is more than rounding")


if __name__ == "__main__":
    main(*sys.argv[1:])
