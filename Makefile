# Two commands do everything: `make demo` and `make test`. The rest are for those who work on it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

QUICK := tests/test_imports.py tests/test_house_rules.py tests/test_configs.py \
	tests/shards/test_configfile.py tests/shards/test_cli.py tests/shards/build/test_job.py \
	tests/shards/store/test_verify.py tests/shards/views tests/emo/test_metrics.py \
	tests/emo/data/test_plan.py tests/emo/data/test_orders.py tests/emo/models/test_model.py \
	tests/emo/runs tests/emo/comparison/test_compare.py tests/launch/test_train_sh_alone.py \
	tests/launch/test_failures.py::test_a_run_that_ends_well_says_so_in_five_lines_and_a_file \
	tests/launch/test_failures.py::test_a_bug_on_one_rank_ends_all_and_is_shown_alone

.PHONY: help demo table3 gpu-check test quick check bench torture venv docs docs-check clean

help:
	@grep -E '^## ' Makefile | sed 's/^## //'

venv: $(VENV)/installed

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(f"Python 3.11 or 3.12 is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.11") if v not in ((3, 11), (3, 12)) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	PYTHONWARNINGS='ignore:Editable installation' \
	  $(BIN)/python -m pip install --quiet -c constraints.txt -e '.[sample,dev]'
	touch $@

## make demo    the main job: sample corpus -> shards -> text, audio, fusion -> one table
demo: venv
	bash launch/demo.sh

## make table3  every system of the paper's Table 3 on the demo's corpus -> one comparison
table3: venv
	bash launch/table3.sh

## make test    every test (CPU only, no network)
test: venv
	tests/run.sh

## make quick   the most telling tests, in at most three minutes: configurations, the job, damage,
##              views, plans, metrics, checkpoints, a launched run that ends well and one that fails
quick: venv
	OMP_NUM_THREADS=1 python -m pytest -m "not torture" $(QUICK)

## make check   lint, format, types, dead code, shell scripts, the rules for imports and sizes
check: venv
	ruff check .
	ruff format --check .
	mypy
	vulture
	python -m pytest tests/test_imports.py tests/test_house_rules.py
	find launch slurm benchmarks tests .ci -name '*.sh' -o -name '*.sbatch' -o -path .ci/run | xargs -r shellcheck -x

## make torture every kill, damage and preemption there is (hours); figures go to benchmarks/results
torture: venv
	python -m pytest tests -m torture --timeout 7200

## make bench   the benchmarks; each prints a table of two things measured in one run
bench: venv
	python benchmarks/preprocess.py
	python benchmarks/planning.py
	python benchmarks/reading.py
	python benchmarks/strategies.py
	python benchmarks/training.py
	python benchmarks/saving.py
	python benchmarks/gpu.py
	benchmarks/scaling.sh

## make gpu-check  what a machine with GPUs runs first: every strategy and precision, one table
gpu-check: venv
	python benchmarks/gpu_check.py

## make docs    the documentation, as site/index.html (without the network)
docs: venv
	NO_MKDOCS_2_WARNING=1 mkdocs build --strict

## make docs-check  every command of the tutorial, one after the other, in a new clone (a quarter hour)
docs-check: venv
	python tests/docs_check.py docs/tutorial.md

## make clean   removes what the demo made; keeps the environment
clean:
	rm -rf data runs
