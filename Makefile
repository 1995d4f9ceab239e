# Thin: each target sets up .venv, then calls Python. Without make, see README for the same commands.
# More arguments go into ARGS: make train ARGS="--data fashion-mnist", make book ARGS=05
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: train test book site pdf lint loc bench gradescope clean

train: $(VENV)/ready
	$(BIN)/python -m minivit train --overwrite $(ARGS)

test: $(VENV)/ready
	$(BIN)/python -m pytest $(ARGS)

book: $(VENV)/ready
	$(BIN)/python -m scripts.book $(ARGS)

site: $(VENV)/site
	$(BIN)/python -m scripts.book_site $(ARGS)

pdf: $(VENV)/site
	$(BIN)/python -m scripts.book_site --pdf

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

loc: $(VENV)/ready
	$(BIN)/python -m scripts.loc

bench: $(VENV)-bench/ready
	$(VENV)-bench/bin/python -m benchmarks.cpu --peers processes torch torch.compile jax gemm --variants default haswell one-core --save $(ARGS)

$(VENV)/ready: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

$(VENV)/site: requirements-site.txt $(VENV)/ready
	$(BIN)/python -m pip install --quiet --requirement requirements-site.txt
	touch $@

$(VENV)-bench/ready: requirements-bench.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --requirement requirements-bench.txt
	touch $@

gradescope: $(VENV)/ready
	$(BIN)/python -m scripts.gradescope $(ARGS)

clean:
	rm -rf $(VENV) $(VENV)-bench build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
