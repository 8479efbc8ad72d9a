from __future__ import annotations

import threading

import numpy as np
from properties import given, settings, st

from rtden.ring import Ring


def counting(start: int, samples: int) -> np.ndarray:
    return np.arange(start, start + samples, dtype=np.float32)


@settings(max_examples=200)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=60))
def test_every_sample_is_read_once_in_order_or_counted_as_lost(
    moves: list[tuple[bool, int]],
) -> None:
    ring, written = Ring(40), 0
    read: list[float] = []
    for is_write, samples in moves:
        if is_write:
            ring.write(counting(written, samples))
            written += samples
        else:
            out = np.full((samples, 1), -1.0, np.float32)
            got = ring.read_into(out)
            read.extend(out[:got, 0])
            assert (out[got:] == -1.0).all()
    out = np.empty((40, 1), np.float32)
    read.extend(out[: ring.read_into(out), 0])
    assert read == sorted(set(read))
    assert ring.fill_samples == 0
    assert len(read) + ring.lost_samples == written


def test_overrun_loses_the_oldest_and_counts_them() -> None:
    ring = Ring(10)
    for start in range(0, 25, 5):
        ring.write(counting(start, 5))
    out = np.zeros((10, 1), np.float32)
    assert ring.read_into(out) == 10
    assert (out[:, 0] == counting(15, 10)).all()
    assert ring.lost_samples == 15


def test_underrun_is_counted_and_leaves_the_rest_untouched() -> None:
    ring = Ring(10)
    ring.write(counting(0, 3))
    out = np.full((8, 1), 7.0, np.float32)
    assert ring.read_into(out) == 3
    assert ring.missing_samples == 5
    assert (out[3:] == 7.0).all()


def test_writer_can_drop_the_oldest() -> None:
    ring = Ring(100)
    ring.write(counting(0, 60))
    ring.drop_oldest(20)
    assert ring.fill_samples == 20
    out = np.zeros((20, 1), np.float32)
    ring.read_into(out)
    assert out[0, 0] == 40
    assert ring.lost_samples == 40


def test_reader_can_skip() -> None:
    ring = Ring(100)
    ring.write(counting(0, 60))
    ring.skip(50)
    out = np.zeros((1, 1), np.float32)
    ring.read_into(out)
    assert out[0, 0] == 50
    assert ring.lost_samples == 50


def test_two_threads_hammer_it_and_no_sample_is_torn_or_out_of_order() -> None:
    ring, total, read = Ring(4096, 2), 400_000, []

    def write() -> None:
        rng, position = np.random.default_rng(1), 0
        while position < total:
            samples = min(int(rng.integers(1, 700)), total - position)
            block = counting(position, samples)
            ring.write(np.stack([block, -block], axis=1))
            position += samples

    writer = threading.Thread(target=write)
    writer.start()
    rng, out = np.random.default_rng(2), np.zeros((900, 2), np.float32)
    while writer.is_alive() or ring.fill_samples:
        wanted = int(rng.integers(1, 900))
        got = ring.read_into(out[:wanted])
        read.append(out[:got].copy())
    writer.join()
    samples = np.concatenate(read)
    assert (samples[:, 0] == -samples[:, 1]).all()
    assert (np.diff(samples[:, 0]) > 0).all()
    assert len(samples) + ring.lost_samples == total
