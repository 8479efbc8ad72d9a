"""Clean a sound file with numpy arrays: python examples/numpy_array.py NOISY CLEAN."""

import sys

import soundfile

from rtden import denoise

if len(sys.argv) != 3:
    sys.exit(__doc__)
noisy, rate_hz = soundfile.read(sys.argv[1], dtype="float32")
clean = denoise(noisy, rate_hz=rate_hz)  # same shape, type and alignment
soundfile.write(sys.argv[2], clean, rate_hz)
