# The two commands a newcomer needs. Both need Rust (rustup), a C compiler and make, and nothing else.

CARGO ?= cargo
GUESTS := word-count join-orders sessionize misbehaving stores caller ledger bench-guest
GUEST_FLAGS := $(addprefix -p ,$(GUESTS)) --target wasm32-wasip2 --profile guest

.PHONY: demo test sim mutants bench build guests target

## Runs the whole way of a record on this machine, with a crash in the middle, and checks every count.
demo: build
	target/debug/pelton-demo

## Unit tests, the simulator, and everything end to end on real processes and the embedded servers.
test: build
	$(CARGO) test --workspace

## Worlds of the simulator, on every core: how many, or which ones, as in SEEDS=20000..30000.
SEEDS ?= 20000
sim:
	$(CARGO) run --bin pelton-sim -- --seeds $(SEEDS)

## Everything that can be made wrong on purpose, each until something catches it; some minutes.
mutants:
	$(CARGO) run --bin pelton-sim -- --mutants
	$(CARGO) test --workspace --test adapters each_mutant -- --nocapture

build: guests
	$(CARGO) build --workspace

guests: target
	$(CARGO) build $(GUEST_FLAGS)

target:
	@rustup target list --installed 2>/dev/null | grep -q wasm32-wasip2 || rustup target add wasm32-wasip2

## How fast it is: the parts, then the whole beside a plain get loop. Takes some minutes; writes target/bench/figures.json.
bench: build
	$(CARGO) bench --workspace --bench parts --profile dev
	target/debug/pelton-bench
