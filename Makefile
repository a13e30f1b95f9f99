# The project's commands. `make help` lists them.
# In: Rust (rustup reads rust-toolchain.toml), Go and Python 3 with venv; the last two build the test cluster and the emulated AWS.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

CARGO ?= cargo
# Where cargo puts what it builds; the demo starts the controller from there.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
CHART_CRDS := charts/robotosecret/files/crds

# The tests mostly wait for a cluster, so more of them run at once than there are cores.
export RUST_TEST_THREADS ?= 12

# make demo: KEEP=1 leaves it running; CLUSTER=current uses the cluster that kubectl points at, after asking.
KEEP ?=
CLUSTER ?= new

# make bench: what `testbed bench --help` offers. make e2e: such as ARGS="--only first,modes".
ARGS ?=
COMMA := ,

# As in the Dockerfile: an explicit target keeps crt-static away from build scripts and procedural macros, which can't be static. Rust links with LLVM's
# linker on x86_64 alone; it puts functions of the same code together and packs relocations, which takes a twelfth off the binary.
STATIC := $(shell uname -m)-unknown-linux-gnu
STATIC_FLAGS := -C target-feature=+crt-static $(if $(filter x86_64-%,$(STATIC)),-C link-arg=-Wl$(COMMA)--icf=all -C link-arg=-Wl$(COMMA)-z$(COMMA)pack-relative-relocs)

# The tools of `make deny` and `make sbom` are built once, these versions and no others, each into a folder of its own.
TOOLS := $(TARGET_DIR)/tools
CARGO_DENY := $(TOOLS)/cargo-deny@0.20.2/bin/cargo-deny
CARGO_CYCLONEDX := $(TOOLS)/cargo-cyclonedx@0.5.9/bin/cargo-cyclonedx

.PHONY: help demo test e2e bench lint deny sbom crds docs build clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## see it work: a cluster, an emulated AWS, a mirrored and rotated secret (KEEP=1 leaves it running; CLUSTER=current uses yours)
	$(CARGO) build --locked --package robotosecret --bin robotosecret
	$(CARGO) run --locked --package testbed -- demo --controller $(TARGET_DIR)/debug/robotosecret --cluster $(CLUSTER) $(if $(filter-out 0,$(KEEP)),--keep)

test: ## run all tests, from nothing, against a real API server
	$(CARGO) test --locked --workspace --no-fail-fast

# The packages come first: without root or Debian this ends before anything is built.
e2e: ## as a user meets it: our image and chart on a real node, pods that read the Secrets, faults, upgrades (Debian, root; about 12 minutes once built)
	tests/e2e/packages.sh
	RUSTFLAGS="$(STATIC_FLAGS)" $(CARGO) build --locked --release --package robotosecret --bin robotosecret --target $(STATIC)
	$(CARGO) test --locked --package robotosecret --test e2e -- run --binary $(TARGET_DIR)/$(STATIC)/release/robotosecret $(ARGS)

# The bench is built for release too: it and its emulated AWS share the cores with what they measure.
bench: ## measure the release binary's time, calls, writes and memory beside the goals (about 9 minutes; ARGS="--sizes 1000 --only cold,floor" measures less)
	$(CARGO) build --locked --release --package robotosecret --bin robotosecret
	$(CARGO) run --locked --release --package testbed -- bench --controller $(TARGET_DIR)/release/robotosecret --json $(TARGET_DIR)/bench.json $(ARGS)

lint: ## check formatting, run clippy (any warning fails), and see that no second kube, HTTP or TLS stack came in
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --locked --package robotosecret --test e2e -- --deny warnings
	! $(CARGO) tree --locked --workspace --duplicates --depth 0 | grep -E '^(kube|k8s-openapi|hyper|rustls|ring|aws-lc|openssl|native-tls)'

deny: $(CARGO_DENY) ## check licences, sources, banned and doubled crates, and known holes (fetches RustSec's list; ARGS="licenses bans sources" does without)
	$(CARGO_DENY) --locked check $(ARGS)

sbom: $(CARGO_CYCLONEDX) ## list what the release binary is made of, as CycloneDX JSON in target/sbom.cdx.json
	$(CARGO_CYCLONEDX) cyclonedx --format json --spec-version 1.5 --describe binaries --target x86_64-unknown-linux-gnu
	mv robotosecret_bin.cdx.json $(TARGET_DIR)/sbom.cdx.json
	rm tests/testbed/testbed_bin.cdx.json

$(TOOLS)/%:
	$(CARGO) install --locked --root $(TOOLS)/$(firstword $(subst /, ,$*)) $(firstword $(subst /, ,$*))

crds: ## generate crds/ and the chart's copy of it from the Rust types
	$(CARGO) run --locked --package robotosecret --bin robotosecret -- crds --dir crds
	mkdir -p $(CHART_CRDS)
	rm -f $(CHART_CRDS)/*.yaml
	cp crds/*.yaml $(CHART_CRDS)/

docs: ## put the examples and the chart's values into the documents that show them
	$(CARGO) run --locked --package testbed -- docs

build: ## build the release binary
	$(CARGO) build --locked --release --package robotosecret --bin robotosecret

clean: ## remove what cargo built; the test cluster's binaries stay in ~/.cache/robotosecret-testbed
	$(CARGO) clean
