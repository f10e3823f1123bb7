# The project's words; `make` alone lists them. GPU=1 before any of them fetches libtorch's CUDA half too.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test build serve bench openapi lint dashboard-check docker-check libtorch

# What `cargo deny` looks at. `advisories` fetches its database; without a way to it, leave that out.
DENY ?= advisories bans licenses sources

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "make %-15s %s\n", $$1, $$2 }'

demo: build ## draw faces, train twice on 40 labels, predict, serve on; DEMO_EXIT=1 ends after the predictions
	target/release/mixmatch demo $(ARGS)

test: libtorch ## all tests
	@if [ ! -d ../shared/data ]; then echo "make test: SKIPPED: what runs on real data, as there is no ../shared/data" >&2; fi
	@if cargo nextest --version >/dev/null 2>&1; then \
	  cargo nextest run --locked $(ARGS); \
	else \
	  echo "make test: cargo-nextest is not installed; \`cargo test\` runs the same tests" >&2; \
	  cargo test --locked $(ARGS); \
	fi

build: libtorch ## the release binary, target/release/mixmatch
	cargo build --release --locked

serve: build ## the service; ARGS="--data-dir DIR --listen ADDR"
	target/release/mixmatch serve $(ARGS)

# What the benchmarks compare with, in an environment of its own: about 5 GB. PEERS names a Python that has it already.
PEERS ?= target/peers/bin/python

# Whose images: a folder with images.zip and train.csv (columns image, label). Without it, docs/benchmarks.md's data sets.
export BENCH_DATA := $(DATA)

ifeq ($(PEERS),target/peers/bin/python)
bench: target/peers/.stamp
endif
# Whether there is data comes first, before anything is fetched or compiled.
bench: bench-data build ## ours against PyTorch, OpenVINO, LitServe … on this machine, in an hour; DATA=DIR with images.zip and train.csv
	cargo bench --locked --bench micro
	benches/train.py --peers $(PEERS)
	benches/train.py --peers $(PEERS) --size 64 --steps 8
	benches/engine.py --peers $(PEERS)
	benches/serving.py --peers $(PEERS)
	benches/neighbour.py
	benches/import.py --peers $(PEERS)
	benches/growth.py
	benches/checkpoint.py

.PHONY: bench-data
bench-data:
	@benches/serving.py --check

# A stamp of its own: the Python in it is a link to the system's, which nobody else may touch.
target/peers/.stamp: benches/peers/requirements.txt
	python3 -m venv target/peers
	target/peers/bin/pip install --quiet --disable-pip-version-check -r benches/peers/requirements.txt
	touch $@

openapi: libtorch ## write openapi/openapi.json and docs/hyper-parameters.md from the code
	cargo run --quiet --locked -- openapi >openapi/openapi.json.new
	mv openapi/openapi.json.new openapi/openapi.json
	cargo run --quiet --locked -- presets >docs/hyper-parameters.md.new
	mv docs/hyper-parameters.md.new docs/hyper-parameters.md

lint: libtorch ## formatting, clippy, documentation, licences and sources, unused dependencies
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --locked
	@if cargo deny --version >/dev/null 2>&1; then \
	  echo "cargo deny --locked check $(DENY)"; \
	  cargo deny --log-level error --locked check $(DENY); \
	else \
	  echo "make lint: SKIPPED: cargo-deny is not installed here (cargo install cargo-deny --locked); CI runs it" >&2; \
	fi
	@if cargo machete --version >/dev/null 2>&1; then \
	  echo "cargo machete"; \
	  cargo machete; \
	else \
	  echo "make lint: SKIPPED: cargo-machete is not installed here (cargo install cargo-machete --locked); CI runs it" >&2; \
	fi

dashboard-check: build ## the dashboard in a headless browser; needs Node 20.19, npm and Chromium
	scripts/dashboard_check.sh target/release/mixmatch

docker-check: build ## check docker/ as far as that goes without a Docker engine
	docker/check.sh

libtorch:
	@scripts/libtorch.sh
