"""The ring buffer between a device's callback and the worker.

One writer and one reader, each in its own thread, without a lock: each side advances a counter that
only it writes. The writer never waits. If the reader falls behind by more than the ring holds, the
oldest samples are lost and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rtden.types import Array


def bytes_of(block: Any) -> memoryview:
    """Return a block's memory as bytes; of bytes already viewed so, the same object."""
    viewed = isinstance(block, memoryview) and block.format == "B"
    return block if viewed else memoryview(block).cast("B")


class Ring:
    """A queue of samples from one thread to another that drops the oldest when it is full.

    Blocks are float32 of shape (samples, channels) in C order, as arrays or bytes; one has at most
    `capacity_samples`. Counters since the beginning: `written_samples`; `read_samples`, which the
    reader has passed; of these `lost_samples`, which it never got (overwritten, or dropped to bound
    the delay); `missing_samples`, which it asked for in vain.
    """

    def __init__(self, capacity_samples: int, channels: int = 1) -> None:
        self.capacity_samples, self.channels = capacity_samples, channels
        self._memory = np.zeros((capacity_samples, channels), np.float32)
        # Callbacks copy bytes: an assignment of numpy's takes several times as long when it is not
        # in the processor's caches.
        self._bytes, self.sample_bytes = self._memory.data.cast("B"), 4 * channels
        # End of the block that is being copied in; ahead of written_samples meanwhile.
        self._writing = self.written_samples = 0
        self.read_samples = 0
        self._drop_before = 0  # set by the writer: the reader skips older samples
        self.lost_samples = self.missing_samples = 0

    @property
    def fill_samples(self) -> int:
        """Samples held for the reader."""
        return self.written_samples - max(
            self.read_samples, self._drop_before, self.written_samples - self.capacity_samples
        )

    def write(self, block: Any) -> None:
        """Append a block of at most `capacity_samples` samples (writer's side)."""
        if not len(block):
            return
        data = bytes_of(block)
        at = self.written_samples % self.capacity_samples * self.sample_bytes
        self._writing = end = self.written_samples + len(data) // self.sample_bytes
        first = len(self._bytes) - at
        if len(data) <= first:
            self._bytes[at : at + len(data)] = data
        else:
            self._bytes[at:], self._bytes[: len(data) - first] = data[:first], data[first:]
        self.written_samples = end

    def drop_oldest(self, keep_samples: int) -> None:
        """Make the reader skip all but the newest `keep_samples` samples (writer's side)."""
        self._drop_before = max(0, self.written_samples - keep_samples)

    def read_into(self, out: Any) -> int:
        """Move the oldest samples into the block `out`; return how many.

        Reader's side. Missing samples are counted, and their part of `out` stays as it was.
        """
        if not len(out):
            return 0
        data = bytes_of(out)
        wanted = len(data) // self.sample_bytes
        while True:
            start = max(self.read_samples, self._drop_before, self._writing - self.capacity_samples)
            samples = min(wanted, self.written_samples - start)
            at = start % self.capacity_samples * self.sample_bytes
            size, first = samples * self.sample_bytes, len(self._bytes) - at
            if size <= first:
                data[:size] = self._bytes[at : at + size]
            else:
                data[:first], data[first:size] = self._bytes[at:], self._bytes[: size - first]
            if start >= self._writing - self.capacity_samples:  # not overtaken while copying
                break
        self.lost_samples += start - self.read_samples
        self.missing_samples += wanted - samples
        self.read_samples = start + samples
        return samples

    def skip(self, samples: int) -> None:
        """Discard the oldest samples and count them as lost (reader's side)."""
        self.read_samples += samples
        self.lost_samples += samples

    def view(self, start: int, stop: int) -> Array:
        """Return a copy of held samples by their numbers since the beginning, (samples, channels).

        For any thread: samples that are written meanwhile may be mixed in.
        """
        copied: Array = self._memory[np.arange(start, stop) % self.capacity_samples]
        return copied
