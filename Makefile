# `make help` lists the targets. Each makes the environment first; a second time that takes no time.

STORIES ?= 400
TEST_STORIES ?= 48
SEED ?= 1
FLINK_PORT ?= 8081

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
# A process a core of the smallest machine; tests of one file share what they set up.
PARALLEL := -n 2 --dist loadfile
ROOMS := storygan_tf storygan_cli components pipeline serving

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow test-all test-gpu prove-kills prove-fuzz prove-flink prove-cluster prove-workers prove-newest-tf prove-reloads prove-malformed prove-soak prove-busy flink-up flink-down lint format lock clean clean-env

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup:  ## make .venv with the locked packages and the project
	@sh scripts/setup_env.sh

run: setup  ## render stories and run the pipeline on them: pictures in runs/quick
	STORYGAN=$(BIN)/storygan STORIES=$(STORIES) TEST_STORIES=$(TEST_STORIES) SEED=$(SEED) sh scripts/first_run.sh

test: setup  ## pass the tests, without the slow ones
	$(PYTEST) $(PARALLEL) -m "not slow"

test-slow: setup  ## pass the slow tests
	$(PYTEST) $(PARALLEL) -m slow

test-all: setup  ## pass all tests
	$(PYTEST) $(PARALLEL)

test-gpu: setup  ## pass the tests that need a GPU
	$(PYTEST) -m gpu

prove-kills: setup  ## kill a training ten times with SIGKILL: the weights stay what they would have been
	STORYGAN_KILLS=10 $(PYTEST) -s tests/end_to_end/test_kills.py

prove-fuzz: setup  ## damage data sets of every layout 2,000 times: every story is accepted or set aside with a reason
	STORYGAN_MUTATIONS=2000 $(PYTEST) -s -m slow tests/storygan_tf/data/datasets/test_fuzz.py

prove-flink: setup  ## prepare stories on a Flink cluster, whose task managers are killed: the same records
	STORYGAN_FLINK=full $(PYTEST) -s tests/end_to_end/test_flink.py

prove-cluster: setup  ## run every container command of the compiled pipelines, as each launcher starts them
	STORYGAN_CLUSTER=full $(PYTEST) -s tests/end_to_end/cluster

prove-workers: setup  ## train by two workers, stopped, then killed as pods of a Kubernetes Job: the same weights
	$(PYTEST) -s tests/end_to_end/test_workers.py

prove-newest-tf: setup  ## load the export where only the newest TensorFlow is installed: the same pictures
	$(PYTEST) -s tests/storygan_tf/export/test_signatures.py -k newest

# The next three ask the local server, or with STORYGAN_SERVING_TARGET=host:port a real one (docs/serving.md).
prove-reloads: setup  ## replace the served model five times under 10,000 requests, roll it back: none fails
	STORYGAN_REQUESTS=10000 $(PYTEST) -s tests/serving/test_reloads.py

prove-malformed: setup  ## send a server 5,000 malformed requests: each gets its status, good ones succeed
	STORYGAN_MALFORMED=5000 $(PYTEST) -s tests/serving/test_malformed.py

prove-soak: setup  ## ask a server for 30 minutes without a pause: its memory stays
	STORYGAN_SOAK_MINUTES=30 $(PYTEST) -s tests/serving/test_soak.py

prove-busy: setup  ## pass the tests on a busy machine, in random order, and on one core (needs stress-ng)
	PYTHON=$(BIN)/python sh scripts/prove_busy.sh

flink-up: setup  ## start a Flink cluster of local processes (Java 17 and Maven)
	$(BIN)/python scripts/flink/cluster.py up --port $(FLINK_PORT)

flink-down:  ## stop it
	$(BIN)/python scripts/flink/cluster.py down

lint: setup  ## check style and types
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is locked stays as it is where setup.py allows it; `make lock UPGRADE=--upgrade` takes the newest of everything.
# The platform is the oldest that scripts/setup_env.sh lets through. What the extra `gpu` adds is for the image alone.
COMPILE = $(BIN)/uv pip compile setup.py --python-version 3.10 --python-platform x86_64-manylinux_2_28 --quiet
lock: setup  ## write requirements.lock and requirements.gpu.lock from setup.py
	$(COMPILE) $(addprefix --extra ,pipeline render eval parquet serving kubeflow s3 dev) --output-file requirements.lock \
		--custom-compile-command "make lock" $(UPGRADE)
	{ echo "# What the extra \`gpu\` adds to requirements.lock; made by \`make lock\`."; \
		$(COMPILE) --extra gpu --constraint requirements.lock --no-annotate --no-header | grep ^nvidia-; } >requirements.gpu.lock

clean:  ## remove what tools left behind
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(ROOMS) tests -name __pycache__ -type d -prune -exec rm -rf {} +

clean-env:  ## remove the environment, and what a Flink cluster is made of
	rm -rf .venv .flink
