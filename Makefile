# The commands of Headrace. Needs GNU make, a POSIX shell and Python 3.11 to 3.13; `make help` lists what can be done.
#
# Variables: RUNTIME (local, compose), SERVING (gpu, cpu, embedded), TF_SERVING_VERSION, PYTHON, HEADRACE_HTTP_PORT,
# HEADRACE_GRPC_PORT, HEADRACE_SERVING_GRPC_PORT, HEADRACE_SERVING_REST_PORT, HEADRACE_BIND_ADDRESS, HEADRACE_STORE,
# HEADRACE_CONFIG, HEADRACE_RUN ...; every HEADRACE_ variable reaches the programs, from the environment or as
# `make up HEADRACE_HTTP_PORT=9000`.

SHELL := /bin/sh
.DEFAULT_GOAL := help
# With the Python found on this machine; and in .venv, once it is filled.
DEPLOY := @deploy/local/python.sh -m deploy
# By the path behind the link, so that what runs goes on when another Python is chosen beside it.
VENV = "$$(cd .venv && pwd -P)/bin/python"
MODELS ?= --all
TIMES ?= 20
# Two processes; tests that share a stack or a server run in one of them.
QUICK := --ignore=tests/system -m "not long and not full" -n 2 --dist loadgroup
ARGS ?=

.PHONY: help up down restart status logs reload smoke train promote rollback gc tensorboard setup test test-again contract test-system test-long test-full lint format bench images wheel lock protos clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: ## Bring the stack up: install, train what is missing, serve, wait until ready
	$(DEPLOY) up

down: ## Stop the stack
	$(DEPLOY) down

restart: ## Stop the stack and bring it up again, say after a change of code
	$(DEPLOY) restart

status: ## What runs, and whether it is ready (exit code 0 = ready)
	$(DEPLOY) status

logs: ## The last lines of every log, and what follows (FOLLOW=0: the last lines alone)
	$(DEPLOY) logs

reload: ## Make a change of multimodel.config live
	$(DEPLOY) reload

smoke: ## One real predict a model, with its answer
	$(DEPLOY) smoke

train: ## Train and publish new versions, of all models or MODELS="mnist_cnn ..." (ARGS="--quick ...")
	$(DEPLOY) train $(MODELS) $(ARGS)

tensorboard: ## The curves of all trainings, shown by TensorBoard (ARGS="--port 6007 ...")
	$(DEPLOY) tensorboard $(ARGS)

promote: ## Make a model's newest version live and follow new ones (MODEL=NAME; TO=3 pins that version)
	$(DEPLOY) promote "$(MODEL)" "$(TO)"

rollback: ## Go back to the version that was live before, and stay there (MODEL=NAME; TO=1 picks one)
	$(DEPLOY) rollback "$(MODEL)" "$(TO)"

gc: ## Remove old versions, never one that is live or has a label (KEEP=3, MODEL=NAME; all models without)
	$(DEPLOY) gc "$(MODEL)" "$(KEEP)"

setup: ## Fill .venv with what tests and development need; test, lint and bench do it themselves
	$(DEPLOY) setup dev

test: setup ## The quick suite: unit, contract and integration tests (ARGS="-k ..." narrows it)
	@$(VENV) -m pytest $(QUICK) $(ARGS)

test-again: setup ## The quick suite TIMES=20 times, in a random order and beside two busy loops
	@$(VENV) -m tests.again --times $(TIMES) $(QUICK) $(ARGS)

contract: setup ## The exchanges of TensorFlow Serving (TARGET=host:rest:grpc: against any server of that protocol)
	@HEADRACE_CONTRACT_TARGET="$(TARGET)" $(VENV) -m pytest $(if $(TARGET),tests/contract/test_rest.py tests/contract/test_grpc.py,tests/contract) $(ARGS)

test-system: setup ## The stack in containers, on a running Docker engine: start, publish, faults, images
	@$(VENV) -m pytest tests/system $(ARGS)

test-long: setup ## The tests that take minutes
	@$(VENV) -m pytest --ignore=tests/system -m long $(ARGS)

test-full: setup ## The tests that take hours: full trainings, hundreds of kills, long fuzzing
	@$(VENV) -m pytest --ignore=tests/system -m full $(ARGS)

lint: setup ## ruff and mypy
	@$(VENV) -m ruff format --check .
	@$(VENV) -m ruff check .
	@$(VENV) -m mypy

format: setup ## Let ruff write the code as lint wants it
	@$(VENV) -m ruff check --fix .
	@$(VENV) -m ruff format .

bench: setup ## Measure speed on this machine, side by side (ARGS="serving peers" = these parts, ARGS="--help" lists them; PEER_URL)
	@$(VENV) -m benchmarks $(ARGS)

images: setup ## Build the images and write what they are to docs/reference/images.md
	@$(VENV) -m deploy.compose images

wheel: setup ## The library and the command headrace as a wheel in dist/: pip install 'dist/headrace-...whl[server]'
	@$(VENV) -m hatchling build --target wheel --directory dist

lock: setup ## Write requirements/ anew from pyproject.toml (UPGRADE=1: the newest versions that fit)
	@$(VENV) -m deploy.lock $(if $(UPGRADE),--upgrade)

protos: setup ## Compile headrace/protocol/proto/*.proto after a change to them
	@$(VENV) -m deploy.protos

clean: down ## Stop the stack and remove .venvs, caches and logs; the models stay
	@rm -rf .venv .venvs .cache .run .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
