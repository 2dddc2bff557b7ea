# The two commands a newcomer needs. Both need Rust (rustup), a C compiler and make, and nothing else.

CARGO ?= cargo
GUESTS := word-count join-orders sessionize misbehaving stores caller ledger bench-guest
GUEST_FLAGS := $(addprefix -p ,$(GUESTS)) --target wasm32-wasip2 --profile guest

# The same task in other languages. What builds them is installed here, and nowhere else.
OTHERS := word_count_python word_count_javascript
BUILT := target/wasm32-wasip2/guest
TOOLS := target/guest-tools
PYTHON ?= python3
WIT := $(wildcard wit/*.wit wit/deps/*/*.wit)

.DELETE_ON_ERROR:
.PHONY: demo demo-rollback test sim mutants bench build guests target

## Runs the whole way of a record on this machine, with a crash in the middle, and checks every count.
demo: build
	target/debug/pelton-demo

## A bad version that takes itself back as a canary, and a rewind of what it did.
demo-rollback: build
	target/debug/pelton-demo-rollback

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
	@for guest in $(OTHERS); do \
	    file=$(BUILT)/$$guest.wasm log=$(BUILT)/$$guest.log; \
	    $(MAKE) --no-print-directory --silent $$file >$$log 2>&1 && continue; \
	    rm -f $$file; \
	    echo "left out: $$guest, which needs python3 with pip, or Node.js with npm; $$log says what is missing" >&2; \
	    test -z "$$PELTON_REQUIRE_LANGUAGES" || exit 1; \
	done

$(BUILT)/word_count_python.wasm: plugins/word-count/python/app.py $(WIT) $(TOOLS)/python/installed
	$(TOOLS)/python/bin/componentize-py -q -d wit -w task componentize -p plugins/word-count/python app -o $@

$(TOOLS)/python/installed: plugins/word-count/python/requirements.txt
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

# A synchronous one: the engine has no concurrency within a component.
$(BUILT)/word_count_javascript.wasm: plugins/word-count/javascript/app.js $(WIT) $(TOOLS)/javascript/installed
	$(TOOLS)/javascript/node_modules/.bin/componentize-qjs --sync --wit wit --world task --js $< --output $@

$(TOOLS)/javascript/installed: plugins/word-count/javascript/package.json plugins/word-count/javascript/package-lock.json
	rm -rf $(@D)
	mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	touch $@

target:
	@rustup target list --installed 2>/dev/null | grep -q wasm32-wasip2 || rustup target add wasm32-wasip2

## How fast it is: the parts, then the whole beside a plain get loop. Takes some minutes; writes target/bench/figures.json.
bench: build
	$(CARGO) bench --workspace --bench parts --profile dev
	target/debug/pelton-bench
