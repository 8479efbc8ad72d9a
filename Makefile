# make demo          install what rtden needs, and clean a bundled recording in real time
# make test          lint, and all tests (unit, training, system, second-runtime, integrations),
#                    three jobs at a time; installs what they need
# make unit          the fast tests; they use neither TensorFlow nor system packages
# make torch         train a few steps on PyTorch as well (CUDA builds: 3 GB); not in make test
# make docs          build the documentation into site/; warnings are errors
# make dist          build a wheel and a source archive into dist/
# make bench-check   has rtden become slower? Ratios of times to the recorded ones; not in make test
# make pi-test       follow docs/pi.md in emulated systems (root, the network, 2 GB, half an hour)

# Python compiles what is imported and keeps it; compiling everything costs 0.4 GB, and nothing, a
# quarter of the tests' time: they start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL := install --quiet --no-compile
PYTEST := $(BIN)/python -m pytest
PARALLEL := --numprocesses auto --dist worksteal
# Jobs of make test at a time, and real-time tests.
JOBS := 3
LANES := 2
# Sound in real time comes before all else on the machine, where the user may say so.
URGENT := $(if $(filter -10,$(shell nice -n -10 nice 2>/dev/null)),nice -n -10)
# Where fixtures of a file are dear: each file in one process.
BY_FILE := --numprocesses auto --dist loadfile
SYSTEM_PACKAGES := libportaudio2 pulseaudio pulseaudio-utils libasound2-plugins systemd dbus chromium \
	chromium-driver openssl zsh fish
# tflite-runtime, the runtime for 32-bit ARM, ends at Python 3.11.
OLD_PYTHON := $(firstword $(foreach name,python3.11 python3.10,$(if $(shell $(name) -c "import sys" 2>/dev/null && echo yes),$(name))))

TORCH := "torch>=2.7,<2.14"

.PHONY: demo test lint unit training torch system parallel real-time alone packages second-runtime integrations docs dist \
	pi-test bench bench-check clean

demo: $(VENV)/.run
	@mkdir -p demo
	$(BIN)/rtden live --in tests/data/noisy.flac --out demo/heard.wav --record demo --force
	$(BIN)/rtden plot demo/noisy.wav demo/cleaned.wav demo/before-after.png --force

# Tests that play sound mostly wait. The others, and what is installed, run beside them; tests with the
# lowest priority.
test:
	$(MAKE) --jobs=$(JOBS) --output-sync=target PRIORITY="nice -n 19" \
		real-time lint docs unit second-runtime integrations training parallel
	$(MAKE) alone

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PRIORITY) $(BIN)/mypy

unit: $(VENV)/.compiled
	$(PRIORITY) $(PYTEST) tests/unit $(PARALLEL)

training: $(VENV)/.compiled
	$(PRIORITY) $(PYTEST) tests/training $(BY_FILE)

# PyTorch, the other backend of Keras, lies apart: nothing else needs it.
torch: $(VENV)/torch/.run
	$(PRIORITY) env PYTHONPATH=$(abspath $(VENV)/torch) $(PYTEST) tests/torch

system: parallel real-time alone

parallel: packages $(VENV)/.compiled
	$(PRIORITY) $(PYTEST) tests/system $(BY_FILE) -m "not real_time and not alone"

real-time: packages $(VENV)/.dev
	$(URGENT) $(PYTEST) tests/system -m real_time --numprocesses $(LANES) --dist worksteal

alone: packages $(VENV)/.dev
	$(URGENT) $(PYTEST) tests/system -m alone

packages:
	@.ci/system-packages $(SYSTEM_PACKAGES)

# Every shipped model must also run under tflite-runtime 2.14, with the numpy that it needs.
ifneq ($(OLD_PYTHON),)
second-runtime: $(VENV)-tflite/.run
	$(PRIORITY) $(VENV)-tflite/bin/python -m pytest \
		tests/unit/test_autoencoder.py tests/unit/test_denoiser.py \
		-k "not memory_does_not_grow and not costs_little"
else ifneq ($(CI),)
second-runtime:
	@echo "tflite-runtime needs Python 3.10 or 3.11, and CI must test it: install one." >&2; exit 1
else
second-runtime:
	@echo "NOT RUN: the models under tflite-runtime; that needs Python 3.10 or 3.11, neither is here."
endif

# In an environment of its own: Pipecat wants another protobuf than TensorFlow. In one process: to
# import the frameworks is most of the work.
integrations: $(VENV)-integrations/.run
	$(PRIORITY) $(VENV)-integrations/bin/python -m pytest tests/integrations

docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(VENV)/.dev
	$(BIN)/python -m hatchling build -d dist

pi-test: $(VENV)/.run $(if $(OLD_PYTHON),$(VENV)-tflite/.run)
	bench/pi/run $(SYSTEMS)

bench: $(VENV)/.run
	$(BIN)/rtden bench

bench-check: $(VENV)/.run
	$(BIN)/python bench/check.py

$(BIN)/python:
	@$(PYTHON) -c "import ensurepip" 2>/dev/null || .ci/system-packages python3-venv
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(INSTALL) "pip>=25"  # half the time of Python 3.11's own; installs elsewhere, too

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(PIP) $(INSTALL) --editable ".[plot]"
	@touch $@

# The package pesq comes as source: it needs a compiler and Python's headers.
HEADERS := import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	@command -v gcc >/dev/null || .ci/system-packages gcc libc6-dev
	@$(PYTHON) -c '$(HEADERS)' || .ci/system-packages python3-dev
	$(PIP) $(INSTALL) --editable ".[dev]"
	@touch $(VENV)/.run $@

# The large packages compile what is imported first, and librosa compiles to machine code, which is
# half a minute of work: here once, not in every process that tests.
COMPILE := import distributed, faster_whisper, hypothesis, keras, librosa, matplotlib.pyplot, \
		numpy, pystoi, pytest, speechmos.dnsmos, starlette.testclient, uvicorn; \
	mel = librosa.feature.melspectrogram(y=numpy.ones(8000, "f")); \
	librosa.feature.inverse.mel_to_audio(mel, n_iter=1)

$(VENV)/.compiled: $(VENV)/.dev
	TF_CPP_MIN_LOG_LEVEL=3 NUMBA_OPT=0 $(PRIORITY) $(BIN)/python -c '$(COMPILE)'
	@touch $@

$(VENV)/torch/.run: $(VENV)/.dev
	$(PIP) $(INSTALL) --upgrade --target $(VENV)/torch $(TORCH)
	@touch $@

$(VENV)-tflite/.run: pyproject.toml | $(BIN)/python
	$(OLD_PYTHON) -m venv --without-pip $(VENV)-tflite
	$(PRIORITY) $(PIP) --python $(VENV)-tflite $(INSTALL) --editable ".[tflite-runtime,test]"
	$(PIP) --python $(VENV)-tflite uninstall --quiet --yes ai-edge-litert
	@touch $@

$(VENV)-integrations/.run: pyproject.toml | $(BIN)/python
	$(PYTHON) -m venv --without-pip $(VENV)-integrations
	$(PRIORITY) $(PIP) --python $(VENV)-integrations $(INSTALL) --editable ".[pipecat,livekit,examples,test]"
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-tflite $(VENV)-integrations demo build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
