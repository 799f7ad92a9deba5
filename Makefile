# Everything goes through the scripts, each of which can be called alone and says at its head what it does.
#
#   PG_CONFIG=path   the Postgres to build for (default: the distribution's)
#   T=...            which tests of one layer: names for test-regress and test-isolation, arguments for test-clients, …
#   HILLSTROM=path   the data file for the demo

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

LAYERS := fmt clippy core pgrx regress isolation clients dump upgrade crash

.PHONY: help setup build install demo test check-versions $(LAYERS:%=test-%) bench-decide bench-decide-all bench-dispatch bench-learn bench-learn-nothing bench-predict bench-curve bench-budgets bench-base bench-campaign bench-statistics bench-lift bench-aggregates bench-evaluate bench-quality bench-bandit bench-identity bench-identity-online clean-cluster

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24
	@echo "  make test-LAYER       one layer alone: $(LAYERS)"

setup: ## install what is missing on this machine (packages by apt, cargo-pgrx, target/venv)
	@scripts/setup.sh

build: setup ## release build, into a private Postgres under target/
	@scripts/build.sh

install: setup ## release build, into your own Postgres: make install PG_CONFIG=/path/to/pg_config
	@scripts/build.sh --install

demo: build ## run the demo on a cluster of its own that stays up afterwards
	@scripts/demo.sh

test: setup ## every test
	@tests/run

check-versions: setup ## does it compile for Postgres 14 to 18? (fetches the versions that are missing)
	@scripts/versions.sh

$(LAYERS:%=test-%): test-%: setup
	@tests/run $*

bench-decide: build ## decide() through pgbench against a bare INSERT of the same row
	@benches/decide.sh

bench-decide-all: build ## decide_all over a million customers against INSERT … SELECT of the same rows
	@benches/decide_all.sh

bench-dispatch: build ## dispatch_all of a whole audience against INSERT … SELECT of the same rows, and claims of them
	@benches/dispatch.sh

bench-learn: build ## learn on a million closed decisions, and with nothing new
	@benches/learn.sh

bench-learn-nothing: build ## learn with nothing new, on a log of ten million decisions (13 GB of disk)
	@benches/learn_nothing.sh

bench-predict: build ## decide_all against Vowpal Wabbit on the same customers
	@benches/predict.sh

bench-curve: build ## what a decision costs as actions and features grow
	@benches/curve.sh

bench-budgets: build ## decide() under two budgets against decide() without
	@benches/budgets.sh

bench-evaluate: build ## off-policy estimates against obp on the small Open Bandit Dataset (Python 3.11)
	@benches/evaluate.sh

bench-base: ## forms of the base and of action features, in simulated worlds (pure core; about 20 minutes)
	@cargo bench -p decisioning-core --bench base

bench-campaign: ## the learner in simulated campaigns, or on classification sets (pure core; SEEDS=1..9 PER_DAY=2000, CLASSES=dir)
	@cargo bench -p decisioning-core --bench campaign

bench-statistics: ## what estimators and intervals of measure are worth, in simulations (pure core; T=adaptive or T=insights alone)
	@cargo bench -p decisioning-core --bench statistics -- $(T)

bench-lift: build ## lift and group_balance over ten million decisions against a plain grouped count and the report (13 GB of disk)
	@benches/lift.sh

bench-aggregates: build ## statistics as parallel aggregates against a plain count
	@benches/aggregates.sh

bench-quality: build ## learning quality in simulated campaigns, beside Vowpal Wabbit and MABWiser (takes hours)
	@benches/learning.sh

bench-bandit: build ## bandits on classification sets and, with HILLSTROM=path, the Hillstrom replay
	@benches/learning.sh bandit

bench-identity: build ## identity against Splink on FEBRL and messy customers: CUSTOMERS=file.csv, SETS="100000:42 …"
	@benches/identity.sh

bench-identity-online: build ## latencies of resolve_identity and runs over changes: RECORDS=1000000, CUSTOMERS=file.csv
	@benches/identity_online.sh

clean-cluster: ## stop and delete the demo's cluster and what failed tests left
	@scripts/cluster.sh clean
