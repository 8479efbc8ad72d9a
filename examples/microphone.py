"""Microphone to speakers: python examples/microphone.py [SECONDS [INPUT OUTPUT]]."""

import sys
import time

from rtden import open_live

seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
input_name, output_name = sys.argv[2:4] if len(sys.argv) > 3 else (None, None)

with open_live(input_name, output_name) as engine:
    print(f"from {engine.input_name} to {engine.output_name}, {engine.latency.total_ms:.0f} ms")
    ends_at = time.monotonic() + seconds
    while engine.running and time.monotonic() < ends_at:
        time.sleep(0.5)
        status = engine.status()
        print(f"in {status.input_db:.0f} dBFS, out {status.output_db:.0f} dBFS, {status.state}")
