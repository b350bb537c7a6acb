# One command each, the same on a fresh machine, in development and in continuous integration.
#
#   make run                  a guided demonstration on real files (SOURCE=/path chooses them)
#   make test                 lint, types, then every test
#   make lint                 ruff and mypy --strict alone
#   make bench                Pilulier beside restic on a 3.2 GiB pharmacy, its upkeep, the web, continuous mode (SCALE=0.05: a quick look)
#   make sweep                every crash point, power cut, disk error and network fault (SWEEP="--sample 9" is quicker)
#   make fuzz                 every format from outside, 20 s each (FUZZ_SECONDS=600 FUZZ=--target=pack-walk)
#   make agent-bundle         the agent as one file for a PC without Python: build/pilulier-agent
#   make clean                remove the environment and caches

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test lint bench environment tools sweep fuzz agent-bundle clean

PYTHON_IN := .venv/bin/python
PACKAGES := $(patsubst %/__init__.py,%,$(wildcard transport/__init__.py appliance/__init__.py agent/__init__.py webui/__init__.py))
SCALE ?= 1
FUZZ_SECONDS ?= 20
FUZZ ?=
SOURCE ?=
TESTS ?= tests
# Two workers, a file's tests in one of them: journeys wait more than they compute. PARALLEL= to see them one by one.
PARALLEL ?= -n 2 --dist loadfile

help:
	@sed -n '/^#   make/s/^# //p' Makefile

environment:
	@.ci/prepare environment

# What tests compare with, drive, or need to make files as people have them.
tools:
	@.ci/prepare tool rdiff rdiff
	@.ci/prepare tool setfattr attr
	@.ci/prepare tool setfacl acl
	@.ci/prepare tool chromium chromium
	@.ci/prepare tool systemd-analyze systemd
	@.ci/prepare tool curl curl
	@.ci/prepare tool jq jq
	@.ci/prepare tool dbus-daemon dbus
	@.ci/prepare tool notify-send libnotify-bin
	@.ci/prepare tool pg_createcluster postgresql
	@.ci/prepare tool mkfs.btrfs btrfs-progs
	@.ci/prepare tool mariadbd mariadb-server-core mariadb-client

run: environment
	@$(PYTHON_IN) -m tests.journeys.demo $(if $(SOURCE),--source "$(SOURCE)")

lint: environment
	$(PYTHON_IN) -m ruff check .
	$(PYTHON_IN) -m mypy --strict $(PACKAGES)

test: lint tools
	$(PYTHON_IN) -m pytest -q $(PARALLEL) $(TESTS)

bench: environment
	@.ci/prepare tool restic restic
	$(PYTHON_IN) -m tests.benchmarks.run --scale $(SCALE)
	$(PYTHON_IN) -m tests.benchmarks.upkeep --scale $(SCALE)
	$(PYTHON_IN) -m tests.benchmarks.web_restore --scale $(SCALE)
	$(PYTHON_IN) -m tests.benchmarks.web_pages
	$(PYTHON_IN) -m tests.benchmarks.continuous --scale $(SCALE)

SWEEP ?=
sweep: environment
	$(PYTHON_IN) -m tests.sweeps.store $(SWEEP)
	$(PYTHON_IN) -m tests.sweeps.network

fuzz: environment
	@$(PYTHON_IN) -m pip install --quiet --only-binary atheris --editable '.[fuzz]' || true
	$(PYTHON_IN) -m tests.fuzz.run --seconds $(FUZZ_SECONDS) $(FUZZ)

agent-bundle: environment
	@.ci/bundle

clean:
	rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
