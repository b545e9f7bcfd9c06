# Two commands do everything on a fresh Debian machine:
#   make lab    start a lab, test it end to end, print its addresses and credentials
#   make test   run all tests
# The other targets are parts of them.

PYTHON ?= python3
LAB ?= epoxy-2node
WORKERS ?= 4
# tests of the lab: smoke, one path through each service; all, every test
SUITE ?= smoke
N ?= 30
VENV := .venv
LABCTL := $(VENV)/bin/labctl

# compile each Python module once, not at every start of labctl: a start takes a quarter of the time
unexport PYTHONDONTWRITEBYTECODE

.PHONY: lab test setup setup-lab lint unit contract torture fuzz bench clean

lab: setup-lab
	$(LABCTL) up $(LAB)
	$(LABCTL) test $(LAB) -n $(WORKERS) $(if $(filter smoke,$(SUITE)),--smoke)
	$(LABCTL) info $(LAB) --credentials

test: setup
	./tools/test

# everything: the other drivers, browser, linters
setup:
	@PYTHON=$(PYTHON) ./tools/setup test $(VENV)

setup-lab:
	@PYTHON=$(PYTHON) ./tools/setup $(if $(filter smoke,$(SUITE)),lab,browser) $(VENV)

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

unit: setup
	$(VENV)/bin/pytest tests -m "not system"

# kill labctl N times at random moments on a small lab; print a table
torture: setup
	$(VENV)/bin/python tests/faults/torture.py --rounds $(N)

# hand N damaged and hostile files to labctl; print a table. SEED repeats a run
fuzz: setup
	$(VENV)/bin/python tests/security/fuzz.py -n $(if $(filter file,$(origin N)),1000,$(N)) $(if $(SEED),--seed $(SEED))

# the whole contract for every driver; half an hour with Vagrant and without KVM
contract: setup
	$(VENV)/bin/pytest tests/drivers/test_contract.py --whole-contract

# how long things take, on a machine that does nothing else: docs/performance.md
bench: setup
	$(VENV)/bin/python bench/startup.py
	$(VENV)/bin/python bench/plan_scale.py
	$(VENV)/bin/python bench/up.py
	$(VENV)/bin/python bench/scale.py

clean:
	rm -rf $(VENV) artifacts build
