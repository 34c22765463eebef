# The commands of this project. Each does its own set-up; `make` alone lists them.

CARGO ?= cargo
# of the store that `make bench` restores: 7 is about 500 MB
SCALE ?= 1
# of each target that `make fuzz` runs
FUZZ_SECONDS ?= 600
export RUSTDOCFLAGS ?= -D warnings
# Most tests wait most of the time: for servers, for locks, for what they have killed.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: help demo test fuzz bench build-tools

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: build-tools ## restore a generated store into another installation, before your eyes
	scripts/test-servers.sh demo
	$(CARGO) build --release --locked -p pgmig -p pgmig-tests --bin pgmig --bin demo
	@$(CARGO) run --quiet --release --locked -p pgmig-tests --bin demo

test: build-tools ## check the formatting, the lints and the documentation, and run all tests
	scripts/test-servers.sh
	scripts/test-s3.sh
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) doc --workspace --no-deps --locked
	# with those that `cargo test` leaves out since they take long
	$(CARGO) test --workspace --locked -- --include-ignored
	# once more without the C libraries of Zstandard and LZ4
	$(CARGO) test -p dumpfmt --no-default-features --locked
	# once more without buckets, encryption and signatures
	$(CARGO) test -p storage-backends --no-default-features --features conformance --locked
	# once more with inputs that a fuzzer makes up
	$(CARGO) fmt --manifest-path crates/dumpfmt/fuzz/Cargo.toml --check
	# the same ones each time, so that what it says is of the change at hand; `make fuzz` looks for others
	FUZZ_SEED=1 scripts/fuzz.sh 10

fuzz: build-tools ## look for inputs that break the archive library: each target ten minutes, or FUZZ_SECONDS
	scripts/fuzz.sh $(FUZZ_SECONDS)

bench: build-tools ## measure; with the machine to itself, since the numbers are compared
	scripts/test-servers.sh
	$(CARGO) bench -p pgmig-benches --locked
	$(CARGO) build --release --locked -p pgmig -p backup
	$(CARGO) run --release --locked -p pgmig-benches --bin compare -- --scale $(SCALE)
	$(CARGO) run --release --locked -p pgmig-benches --bin backup_run -- --scale $(SCALE)
	scripts/test-s3.sh
	$(CARGO) run --release --locked -p pgmig-benches --bin mirror_run
	# by itself: built together, ours would share the features of its dependencies
	$(CARGO) build --release --locked --manifest-path benches/peers/Cargo.toml --target-dir target
	$(CARGO) run --release --locked -p pgmig-benches --bin archive
	$(CARGO) run --release --locked -p pgmig-benches --bin rewrite

build-tools:
	@scripts/build-tools.sh
