from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import (
    BrokenExecutor,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
)
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_MODELS

from rtden import Denoiser, Settings, list_models
from rtden.errors import InputError, RtdenError
from rtden.files import parallel
from rtden.files.parallel import ParallelDenoiser
from rtden.model import find_model
from rtden.stream import StreamDenoiser

MODELS = [*SMALL_MODELS, *(find_model(name) for name in list_models())]
BLOCK = 32768


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """Return a pool of one thread, and make pieces short: what is computed is the same as in processes."""
    monkeypatch.setattr(parallel, "PIECE_BLOCKS", 4)
    monkeypatch.setattr(parallel, "LONGEST_PIECE_BLOCKS", 8)
    with ThreadPoolExecutor(1) as threads:
        yield threads


def run(
    denoiser: Denoiser | ParallelDenoiser, signal: np.ndarray, block: int = BLOCK
) -> tuple[np.ndarray, np.ndarray]:
    parts, top_gains = [], []
    for start in range(0, len(signal), block):
        parts.append(denoiser.feed(signal[start : start + block]))
        top_gains.append(denoiser.top_gains)
    parts.append(denoiser.flush())
    top_gains.append(denoiser.top_gains)
    return np.concatenate(parts), np.concatenate(top_gains)


def assert_equal(model: Path, settings: Settings, pool: Executor, signal: np.ndarray) -> None:
    expected, gains = run(Denoiser(model, settings), signal)
    out, top_gains = run(ParallelDenoiser(model, settings, pool=pool), signal)
    assert out.shape == signal.shape
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5)
    assert np.array_equal(top_gains, gains)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"hops_per_step": 4},
        {"overlap_samples": 96},
        {"iterations": 2, "frames": 4},
        {"strength": 0.7, "limit_db": 15.0},
    ],
    ids=str,
)
def test_pieces_give_what_the_stream_gives(
    model: Path,
    options: dict[str, object],
    pool: Executor,
    recordings: tuple[np.ndarray, np.ndarray],
) -> None:
    signal = np.concatenate([recordings[1], 0.3 * recordings[1][:150000]])
    assert_equal(model, Settings(**{"phase": "warm", **options}), pool, signal)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("pause", [0.0, 1e-5])
def test_long_silence_is_cut_too(
    model: Path,
    pause: float,
    pool: Executor,
    recordings: tuple[np.ndarray, np.ndarray],
    rng: np.random.Generator,
) -> None:
    """The network rests in it: how it ended goes from piece to piece."""
    silence = (pause * rng.uniform(-1.0, 1.0, 600000)).astype(np.float32)
    signal = np.concatenate([recordings[1][:150000], silence, recordings[1][:100000]])
    parallel_denoiser = ParallelDenoiser(model, Settings(iterations=0, phase="warm"), pool=pool)
    longest = max(
        len(parallel_denoiser.feed(signal[start : start + BLOCK]))
        for start in range(0, len(signal), BLOCK)
    )
    assert longest < len(silence)
    assert_equal(model, Settings(iterations=0, phase="warm"), pool, signal)


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
@pytest.mark.parametrize("hops_per_step", [1, 8])
def test_pauses_everywhere_do_not_make_one_long_piece(
    model: Path,
    hops_per_step: int,
    pool: Executor,
    recordings: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    signal = np.concatenate(
        [
            np.concatenate([recordings[1][at : at + 15000], np.zeros(65000, np.float32)])
            for at in range(0, 180000, 15000)
        ]
    )
    signal = np.tile(signal, 3) if hops_per_step == 8 else signal
    pieces, submit = [], pool.submit
    monkeypatch.setattr(
        pool,
        "submit",
        lambda work, *given: (
            (work is parallel._work and pieces.append(len(given[2].columns)))
            or submit(work, *given)
        ),
    )
    assert_equal(model, Settings(phase="warm", hops_per_step=hops_per_step), pool, signal)
    assert len(pieces) > 1
    assert max(pieces) <= 2 * parallel.LONGEST_PIECE_BLOCKS


def test_what_is_not_finite_or_far_too_loud_is_what_a_denoiser_makes_of_it(
    pool: Executor, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    signal = recordings[1].copy()
    signal[::7001], signal[100000], signal[200001] = np.nan, np.inf, 1e37
    assert_equal(find_model(), Settings(), pool, signal)


class Broken:
    """A pool that breaks at once, or as soon as it is asked for a result."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once

    def submit(self, work: Callable[..., object], *given: object) -> Future:
        future: Future = Future()
        if work is parallel._describe:
            future.set_result(work(*given))
        elif self._at_once:
            raise BrokenExecutor
        else:
            future.set_exception(BrokenExecutor())
        return future


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.usefixtures("pool")
def test_a_pool_that_breaks_is_one_sentence(at_once: bool, noise: np.ndarray) -> None:
    denoiser = ParallelDenoiser(pool=Broken(at_once=at_once))
    with pytest.raises(RtdenError, match="ended early"):
        run(denoiser, np.tile(noise, 10))


@pytest.mark.parametrize("samples", [0, 1, 511, 30000, 131072, 131073])
def test_short_recordings_are_whole(
    samples: int, pool: Executor, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    assert_equal(find_model(), Settings(), pool, recordings[1][:samples])


def test_a_stream_after_another_is_new(
    pool: Executor, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    denoiser = ParallelDenoiser(pool=pool)
    first, _ = run(denoiser, recordings[1])
    denoiser.feed(recordings[1][:200000])
    denoiser.reset()
    assert np.array_equal(run(denoiser, recordings[1], block=5000)[0], first)


def test_a_stereo_recording_at_another_rate_in_real_processes(
    monkeypatch: pytest.MonkeyPatch, recordings: tuple[np.ndarray, np.ndarray]
) -> None:
    monkeypatch.setattr(parallel, "PIECE_BLOCKS", 4)
    signal = np.stack([recordings[1], recordings[1][::-1]], axis=1)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        streams = (
            StreamDenoiser(rate_hz=48000, channels=2, pool=pool),
            StreamDenoiser(rate_hz=48000, channels=2, batch_steps=64),
        )
        outputs = [
            np.concatenate(
                [
                    *(s.feed(signal[at : at + BLOCK]) for at in range(0, len(signal), BLOCK)),
                    s.flush(),
                ]
            )
            for s in streams
        ]
    assert outputs[0].shape == signal.shape
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=0, atol=1e-5)


def test_wrong_input_is_refused_as_a_denoiser_refuses_it(pool: Executor) -> None:
    with pytest.raises(InputError, match="mono"):
        ParallelDenoiser(pool=pool).feed(np.zeros((10, 2), np.float32))


def test_the_process_that_reads_loads_no_network(recordings: tuple[np.ndarray, np.ndarray]) -> None:
    """Its memory is the one that a user sees."""
    code = (
        "import sys, numpy as np\nfrom rtden.files.parallel import ParallelDenoiser\nfrom rtden.files.processes import process_pool\n"
        "if __name__ == '__main__':\n"
        "    with process_pool(1) as pool:\n"
        "        denoiser = ParallelDenoiser(pool=pool)\n"
        "        print(len(denoiser.feed(np.zeros(50000, np.float32))) + len(denoiser.flush()), *sys.modules)"
    )
    samples, *loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert samples == "50000"
    assert not {"ai_edge_litert", "tflite_runtime"} & set(loaded)
