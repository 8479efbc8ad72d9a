"""Trains the network on one GPU, in PyTorch, over mixtures that are made anew on the GPU.

    python bench/gpu.py --speech SPEECH --noise NOISE --work WORK --minutes 13

All processors but one draw mixtures into a pool on the GPU. A batch takes a few of them as they
are; most have the speech of one mixture and, at a new SNR and level, what another one has beside
its speech. Network, loss and features are those of `rtden train`. WORK gets the running mean of
the weights as a run of `rtden train` leaves it, so that `rtden export --work WORK` makes a model;
the means on the way are ``mean-STEP.npz``. Needs the extra `train` (TensorFlow apart), and torch.
"""

from __future__ import annotations

import os

os.environ["KERAS_BACKEND"] = "torch"

import dataclasses
import functools
import json
import math
import multiprocessing
import queue
import threading
import time
from collections.abc import Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Annotated, Any

import keras
import numpy as np
import torch
import typer
from gpu_features import GpuFeatures

from rtden.model import ModelSpec, find_model, load_spec
from rtden.spectral import window_pair
from rtden.training import batches, mixing
from rtden.training.network import load_weights, named_weights, rtden_network
from rtden.training.recipe import Corpus, Recipe
from rtden.training.synthesis import active_rms
from rtden.training.trainer import BEST, check_recipe, save_arrays

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
AT_ONCE = 64
"""Mixtures that reach the GPU together."""
RECOMBINED_CHANCE = 0.75
LEAST_SECONDS = 12.0
"""Time for which mixtures are drawn before the first step, at least."""
SAVE_SECONDS = 90.0
STEPS = 32 if DEVICE == "cuda" else 8
"""Steps whose batches are made together: features of 2000 mixtures cost little more than of 60."""
CONSTANT_BYTES = 2**20
GRADIENT = "gradient"  # its norm, beside the parts of the loss
WARM_UPS = 3  # steps before a graph is captured: plans of transforms and constants are made then
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def keep_constants() -> None:
    """Let constants that are passed to the GPU stay there: each copy would wait for it.

    Keras copies the arrays and numbers of an expression, about 50 a step, with torch.as_tensor.
    """
    kept: dict[Any, Any] = {}
    as_tensor = torch.as_tensor

    def kept_tensor(of: Any, *arguments: Any, **options: Any) -> Any:
        value = of
        if isinstance(of, np.ndarray) and of.nbytes < CONSTANT_BYTES:
            value = (of.shape, of.dtype.str, of.tobytes())
        elif not isinstance(of, (int, float)):
            return as_tensor(of, *arguments, **options)
        key = (type(of), value, arguments, tuple(options.items()))
        if key not in kept:
            kept[key] = as_tensor(of, *arguments, **options)
        return kept[key]

    torch.as_tensor = kept_tensor


Step = Callable[[Any, dict[str, Any]], dict[str, Any]]
Drawn = tuple[int, float, float, float]
"""Where a mixture lies, the levels of its speech and of what is beside it, the end of its band."""


def draw(mixer: mixing.Mixer, memory: str, samples: int, seed: int, free: Any, made: Any) -> None:
    """Draw mixtures for ever, in a process of its own, into free places of the shared memory."""
    held = SharedMemory(memory)
    places = np.ndarray((held.size // (8 * samples), 2, samples), np.float32, held.buf)
    rng = np.random.default_rng(seed)
    while True:
        mixture, place = mixer.draw(rng), free.get()
        places[place, 0], places[place, 1] = mixture.clean, mixture.noisy
        beside = float(np.sqrt(np.mean((mixture.noisy - mixture.clean) ** 2)))
        made.put((place, active_rms(mixture.clean), beside, min(mixture.bandwidth_hz, 1e5)))


class Pool:
    """Mixtures on the GPU; new ones take the places of the oldest.

    `signals` are the clean and the noisy ones, (mixtures, 2, samples); `about` has the levels of
    the speech and of what is beside it, and the end of the band in Hz.
    """

    def __init__(self, mixer: mixing.Mixer, samples: int, mixtures: int, workers: int) -> None:
        places = 16 * workers + 2 * AT_ONCE
        self._memory = SharedMemory(create=True, size=places * 8 * samples)
        self._places = np.ndarray((places, 2, samples), np.float32, self._memory.buf)
        # Forks share the recordings and start at once; a new process imports PyTorch for seconds.
        # They use no GPU.
        context = multiprocessing.get_context("fork")
        self._free, self._made = context.Queue(), context.Queue()
        self._ready: queue.Queue[tuple[Any, list[Drawn]]] = queue.Queue(64)
        for place in range(places):
            self._free.put(place)
        for seed in range(workers):
            arguments = (mixer, self._memory.name, samples, seed, self._free, self._made)
            context.Process(target=draw, args=arguments, daemon=True).start()
        self.signals = torch.zeros((mixtures, 2, samples), device=DEVICE)
        self.about = torch.zeros((mixtures, 3), device=DEVICE)
        self.drawn = 0
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self) -> None:
        while True:
            drawn = [self._made.get() for _ in range(AT_ONCE)]
            places = [place for place, *_ in drawn]
            signals = torch.from_numpy(self._places[places])
            for place in places:
                self._free.put(place)
            self._ready.put((signals, drawn))

    def refresh(self, *, wait: bool = False) -> None:
        """Take in what has been drawn since the last call; with `wait`, at least something."""
        while wait or not self._ready.empty():
            signals, drawn = self._ready.get()
            at = self.drawn % len(self.signals)
            self.signals[at : at + AT_ONCE] = signals.to(DEVICE)
            self.about[at : at + AT_ONCE] = torch.tensor([about for _, *about in drawn])
            self.drawn, wait = self.drawn + AT_ONCE, False

    def close(self) -> None:
        """Free the shared memory."""
        self._memory.close()
        self._memory.unlink()


class BatchMaker:
    """Makes batches from a pool, on the GPU; :func:`rtden.training.batches.to_batch` for many."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec, self._features = spec, GpuFeatures(spec, DEVICE)
        bins_hz = np.arange(spec.n_fft // 2 + 1) * (spec.rate_hz / spec.n_fft)
        self._bins_hz = torch.from_numpy(bins_hz.astype(np.float32)).to(DEVICE)
        self._rng = np.random.default_rng(0)

    def __call__(self, pool: Pool, count: int) -> tuple[Any, dict[str, Any]]:
        """Return the features and the targets of `count` mixtures."""
        held = min(pool.drawn, len(pool.signals))
        first, second = torch.from_numpy(self._rng.integers(0, held, (2, count))).to(DEVICE)
        (speech, own, ends_hz), (_, beside, _) = pool.about[first].T, pool.about[second].T
        clean, noisy = pool.signals[first].unbind(1)
        again = self._random(np.less(self._rng.random(count), RECOMBINED_CHANCE))
        # Speech alone stays alone, as often as the mixer draws it.
        again &= (speech > 1e-6) & (own > 1e-3 * speech) & (beside > 1e-6)
        gain = speech / beside.clamp(min=1e-9) * self._random(self._amplitudes(self._snr_db, count))
        there = pool.signals[second]
        mixed = clean + gain[:, None] * (there[:, 1] - there[:, 0])
        wanted = self._random(self._amplitudes(self._level_db, count))
        level = wanted / (mixed.square().mean(dim=1).sqrt() + 1e-9)
        level = torch.minimum(level, 1.0 / (mixed.abs().amax(dim=1) + 1e-9))
        level = torch.where(again, level, 1.0)
        noisy = torch.where(again[:, None], mixed, noisy) * level[:, None]
        overlaps = batches.draw_overlaps(self._spec, count, self._rng)
        return self.finish(clean * level[:, None], noisy, speech * level, ends_hz, overlaps)

    def finish(
        self, clean: Any, noisy: Any, speech: Any, ends_hz: Any, overlaps: list[int]
    ) -> tuple[Any, dict[str, Any]]:
        """Return features and targets of signals, (mixtures, samples).

        `speech` are the levels of the speech, `ends_hz` the ends of its band.
        """
        spec, lead = self._spec, self._spec.n_fft - self._spec.hop
        pairs = [window_pair(spec.n_fft, spec.hop, overlap) for overlap in overlaps]
        analysis, synthesis = (
            torch.from_numpy(np.stack(each)).to(DEVICE) for each in zip(*pairs, strict=True)
        )
        padded = torch.nn.functional.pad(noisy, (lead, lead))
        frames = padded.unfold(1, spec.n_fft, spec.hop)[:, : (padded.shape[1] - lead) // spec.hop]
        power = torch.fft.rfft(frames * analysis[:, None]).abs().square()
        clean = torch.nn.functional.pad(clean, (lead, 0))
        everything = _active_rms(noisy)
        level = torch.where(speech > 0.2 * everything, speech, everything).clamp(min=1e-7)[:, None]
        return self._features(power), {
            "noisy": padded[:, : clean.shape[1]] / level,
            "clean": clean / level,
            "valid_bins": (ends_hz[:, None] * 0.97 > self._bins_hz).float(),
            "analysis": analysis,
            "synthesis": synthesis,
        }

    def _snr_db(self) -> float:
        if self._rng.random() < mixing.HIGH_SNR_CHANCE:
            return self._rng.uniform(*mixing.HIGH_SNR_DB)
        return self._rng.triangular(*mixing.SNR_DB)

    def _level_db(self) -> float:
        return -self._rng.uniform(*mixing.LEVEL_DB)

    @staticmethod
    def _amplitudes(drawn_db: Callable[[], float], count: int) -> Any:
        return np.array([10.0 ** (-drawn_db() / 20.0) for _ in range(count)], np.float32)

    @staticmethod
    def _random(values: Any) -> Any:
        return torch.from_numpy(values).to(DEVICE)


def _active_rms(sound: Any, block_samples: int = 512) -> Any:
    """Return what :func:`rtden.training.synthesis.active_rms` does, for each of many signals."""
    whole = sound[:, : sound.shape[1] // block_samples * block_samples]
    levels = whole.reshape(len(sound), -1, block_samples).square().mean(dim=2)
    counted = levels >= levels.amax(dim=1, keepdim=True) * 1e-3
    return ((levels * counted).sum(dim=1) / counted.sum(dim=1)).sqrt()


class Captured:
    """A step on batches of one shape, as a CUDA graph once it has run a few times.

    A step has thousands of small kernels, and Python starts them more slowly than the GPU runs
    them; a graph starts them all at once.
    """

    def __init__(self, step: Step) -> None:
        self._step, self._graph, self._runs = step, torch.cuda.CUDAGraph(), 0
        self._given: dict[str, Any] = {}
        self._found: dict[str, Any] = {}

    def __call__(self, features: Any, target: dict[str, Any]) -> dict[str, Any]:
        """Take a step; return the parts of its loss, which the next step leaves as they are."""
        if self._runs < WARM_UPS:
            self._runs += 1
            return self._warm_up(features, target)
        given = {"features": features, **target}
        if not self._given:
            self._given = {name: of.clone() for name, of in given.items()}
            held = dict(self._given)
            with torch.cuda.graph(self._graph):
                self._found = self._step(held.pop("features"), held)
        for name, of in given.items():
            self._given[name].copy_(of)
        self._graph.replay()
        return {name: of.clone() for name, of in self._found.items()}

    def _warm_up(self, features: Any, target: dict[str, Any]) -> dict[str, Any]:
        """Take a step as it is, but not on the main stream, which a graph must not have used."""
        beside, main = torch.cuda.Stream(), torch.cuda.current_stream()
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            found = self._step(features, target)
        main.wait_stream(beside)
        return found


class Steps:
    """Steps of AdamW, and a running mean of the weights, which a run returns."""

    def __init__(self, spec: ModelSpec, recipe: Recipe, start: Path | None) -> None:
        keras.config.set_dtype_policy(recipe.precision)
        self.network, self.recipe, self._loss = rtden_network(spec), recipe, recipe.loss(spec)
        if start is not None:
            with np.load(start.with_suffix(".weights.npz")) as named:
                load_weights(self.network, dict(named))
        self._weights: list[Any] = [variable.value for variable in self.network.trainable_variables]
        self._mean = [weight.detach().clone() for weight in self._weights]
        # Tensors, for a graph keeps the numbers that it was captured with.
        self._rate, self._new_share = torch.zeros(2, device=DEVICE).unbind()
        on_gpu = DEVICE == "cuda"
        self._optimizer = torch.optim.AdamW(
            self._weights,
            lr=self._rate,
            weight_decay=recipe.weight_decay,
            fused=on_gpu,
            capturable=on_gpu,
        )
        steps = [functools.partial(self._step, costly=costly) for costly in (False, True)]
        self._steps: list[Step] = [Captured(step) for step in steps] if on_gpu else [*steps]
        self.number, self._found = 0, list[dict[str, Any]]()

    def take(self, features: Any, target: dict[str, Any], progress: float) -> None:
        """Take a step on a batch."""
        every = self.recipe.dnsmos_every
        self._rate.fill_(self.recipe.rate_at(progress))
        keep = min(self.recipe.average, (self.number + 1.0) / (self.number + 11.0))
        self._new_share.fill_(1.0 - keep)
        step = self._steps[self.number % every == every - 1]
        self._found.append(step(features, target))
        self.number += 1

    def gradients(self, features: Any, target: dict[str, Any], *, costly: bool) -> dict[str, Any]:
        """Compute the gradients of a batch; return the parts of its loss, and their norm."""
        loss = self._loss
        mask = self.network(features, training=True)
        denoised = loss.path(target["noisy"], mask, target["analysis"], target["synthesis"])
        parts = loss.parts(denoised, target["clean"], target["valid_bins"], costly=costly)
        self._optimizer.zero_grad(set_to_none=True)
        sum(loss.weights[name] * part for name, part in parts.items()).backward()
        norm = torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        return {name: part.detach() for name, part in {**parts, GRADIENT: norm}.items()}

    def _step(self, features: Any, target: dict[str, Any], *, costly: bool) -> dict[str, Any]:
        found = self.gradients(features, target, costly=costly)
        self._optimizer.step()
        with torch.no_grad():
            change = torch._foreach_sub(self._weights, self._mean)
            torch._foreach_mul_(change, self._new_share)
            torch._foreach_add_(self._mean, change)
        return found

    def means(self) -> str:
        """Return the means of the parts of the loss since the last call."""
        found, self._found = self._found, []
        names = (*self._loss.weights, GRADIENT)
        named = {name: [of[name] for of in found if name in of] for name in names}
        means = {name: float(torch.stack(of).mean()) for name, of in named.items() if of}
        if not all(map(math.isfinite, means.values())):
            raise ArithmeticError(f"loss or gradient are no longer finite: {means}")
        return " ".join(f"{name} {mean:.4f}" for name, mean in means.items())

    def save(self, *paths: Path) -> None:
        """Write the running mean of the weights."""
        now = [weight.detach().clone() for weight in self._weights]
        self._set(self._mean)
        named = named_weights(self.network)
        self._set(now)
        for path in paths:
            save_arrays(path, **{name: value.astype(np.float16) for name, value in named.items()})

    def _set(self, values: list[Any]) -> None:
        with torch.no_grad():
            for weight, value in zip(self._weights, values, strict=True):
                weight.copy_(value)


def main(
    speech: Annotated[Path, typer.Option(help="Folder of speech.")],
    noise: Annotated[Path, typer.Option(help="Folder of noise.")],
    work: Annotated[Path, typer.Option(help="Folder for the results, and the decoded recordings.")],
    start: Annotated[str | None, typer.Option(help="Model to start with.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe, a JSON file.")] = None,
    minutes: Annotated[float, typer.Option(help="Time for everything.")] = 13.0,
    mixtures: Annotated[int, typer.Option(help="Mixtures a step.")] = 64,
    pool: Annotated[int, typer.Option(help="Mixtures on the GPU, a multiple of 64.")] = 16384,
    workers: Annotated[int, typer.Option()] = max(1, (os.cpu_count() or 2) - 1),
) -> None:
    """Train for some minutes."""
    began = time.monotonic()
    keep_constants()
    report = functools.partial(_report, began)
    start_path = None if start is None else find_model(start)
    spec = load_spec(start_path)
    settings = json.loads(recipe.read_text(encoding="utf-8")) if recipe else {}
    chosen = dataclasses.replace(Recipe.from_dict(settings), mixtures=mixtures)
    corpus = Corpus.load(speech, noise, work / "cache", rate_hz=spec.rate_hz, recipe=chosen)
    report("recordings are decoded")
    samples = batches.mixture_samples(spec, chosen.seconds)
    mixer = mixing.Mixer(corpus.speech[0], corpus.noise[0], rate_hz=spec.rate_hz, samples=samples)
    drawing = Pool(mixer, samples, pool, workers)
    check_recipe(work / "recipe.json", spec, chosen)
    named = {"speech": speech, "noise": noise, "start": start_path}
    folders = {name: path and str(path.resolve()) for name, path in named.items()}
    (work / "folders.json").write_text(json.dumps(folders), encoding="utf-8")
    steps, make = Steps(spec, chosen, start_path), BatchMaker(spec)
    drawing.refresh(wait=True)
    until = time.monotonic() + LEAST_SECONDS
    while time.monotonic() < until and drawing.drawn < pool:
        drawing.refresh(wait=True)
    report(f"{drawing.drawn} mixtures are drawn")
    _train(steps, make, drawing, work, 60.0 * minutes - (time.monotonic() - began), report)
    steps.save(work / BEST, work / f"mean-{steps.number}.npz")
    report(f"{steps.number} steps, {drawing.drawn} mixtures drawn")
    drawing.close()


def _train(
    steps: Steps, make: BatchMaker, pool: Pool, work: Path, seconds: float, report: Any
) -> None:
    """Take steps for a time, and write the means of the weights on the way."""
    first = saved = time.monotonic()
    while (progress := (time.monotonic() - first) / max(seconds, 1.0)) < 1.0:
        pool.refresh()
        mixtures = steps.recipe.mixtures
        features, target = make(pool, STEPS * mixtures)
        for at in range(0, STEPS * mixtures, mixtures):
            rows = slice(at, at + mixtures)
            steps.take(features[rows], {name: of[rows] for name, of in target.items()}, progress)
        means = steps.means()
        if math.log2(steps.number / STEPS).is_integer() or steps.number % (STEPS * 8) == 0:
            report(f"step {steps.number}, {pool.drawn} drawn: {means}")
        if time.monotonic() - saved > SAVE_SECONDS:
            saved = time.monotonic()
            steps.save(work / f"mean-{steps.number}.npz")


def _report(began: float, text: str) -> None:
    print(f"{time.monotonic() - began:.0f} s: {text}", flush=True)


if __name__ == "__main__":
    typer.run(main)
