"""A second thread in one object is refused; streams of several threads compute in turn."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rtden import Denoiser, FrameDenoiser, StreamDenoiser, threads
from rtden.autoencoder import Autoencoder
from rtden.errors import InputError
from rtden.threads import give_turn, take_turn
from rtden.types import Array


class Waiting(Autoencoder):
    """The default network, whose first call waits until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.go_on = threading.Event(), threading.Event()

    def infer(self, columns: Array) -> Array:
        self.inside.set()
        assert self.go_on.wait(30.0)
        return super().infer(columns)


def test_a_second_thread_is_refused_and_the_first_goes_on() -> None:
    noisy = np.random.default_rng(1).uniform(-0.1, 0.1, 4000).astype(np.float32)
    network, found = Waiting(), list[Array]()
    denoiser = Denoiser(network=network)
    first = threading.Thread(target=lambda: found.append(denoiser.feed(noisy)))
    first.start()
    assert network.inside.wait(30.0)
    with pytest.raises(InputError, match="another thread is in this Denoiser; make one for"):
        denoiser.feed(noisy)
    with pytest.raises(InputError, match="another thread is in this Denoiser"):
        denoiser.flush()
    with pytest.raises(InputError, match="another thread is in this Denoiser"):
        denoiser.reset()
    network.go_on.set()
    first.join()
    other = Denoiser()
    np.testing.assert_array_equal(found[0], other.feed(noisy))
    np.testing.assert_array_equal(denoiser.flush(), other.flush())


def test_objects_around_a_denoiser_refuse_it_too() -> None:
    frames, stream = FrameDenoiser(), StreamDenoiser(rate_hz=16000)
    with ThreadPoolExecutor(1) as other:
        for busy, call in (
            (frames, lambda: frames.process(bytes(320))),
            (frames, frames.reset),
            (stream, lambda: stream.feed(np.zeros((160, 1), np.float32))),
            (stream, stream.reset),
        ):
            with busy._busy, pytest.raises(InputError, match=f"is in this {type(busy).__name__}"):
                other.submit(call).result()
    assert frames.process(bytes(320)) == bytes(320)


def test_the_end_of_a_with_block_waits_for_the_thread_that_computes() -> None:
    """So it is when a task that awaits a frame is cancelled."""
    network, frames = Waiting(), FrameDenoiser()
    frames.denoisers[0].network = network
    noisy = np.random.default_rng(1).integers(-3000, 3000, 1600, np.int16)
    with frames:
        first = threading.Thread(target=frames.process, args=(noisy,))
        first.start()
        assert network.inside.wait(30.0)
        threading.Timer(0.2, network.go_on.set).start()
    assert network.go_on.is_set()
    first.join()
    np.testing.assert_array_equal(frames.process(noisy), FrameDenoiser().process(noisy))


def test_a_frame_waits_for_the_streams_that_asked_before_until_they_run_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = Autoencoder()
    columns = np.zeros((network.spec.n_mels, 1, len(network.spec.channels)), np.float32)
    frames, out = FrameDenoiser(), list[bytes]()
    other = threading.Thread(target=lambda: out.append(frames.process(bytes(320))))
    monkeypatch.setattr(threads, "LONGEST_TURN_SECONDS", 30.0)
    take_turn()
    try:
        other.start()
        other.join(0.3)
        assert not out  # not in the middle of this thread's work
        network.infer(columns)
        other.join(30.0)
        assert out == [bytes(320)]
    finally:
        assert give_turn()
    assert not give_turn()
    with pytest.raises(InputError):
        frames.process(bytes(3))
    assert frames.process(bytes(320)) == bytes(320)  # after an error nobody has the turn


def test_who_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "LONGEST_TURN_SECONDS", 0.01)
    frames, out = FrameDenoiser(), list[bytes]()
    other = threading.Thread(target=lambda: out.append(frames.process(bytes(320))))
    take_turn()
    other.start()
    other.join(30.0)
    assert out == [bytes(320)]
    assert give_turn()
    assert frames.process(bytes(320)) == bytes(320)
