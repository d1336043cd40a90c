# make demo and make test are the two commands of the README; both set up
# whatever they need. make help lists the rest.
GO ?= go
BIN := bin/kidoban
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
TIMEOUT ?= 45m
# Sizes of the census that make bench measures; 100000 takes another six minutes.
CENSUS ?= 1000 10000

.PHONY: help build demo demo-stop test lint unit race deploy bench docs release release-check clean
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n",$$1,$$2}' Makefile

# The linker leaves the file in the page cache in large pieces, of which Linux maps
# each whole wherever the program touches it. Let go, it is read by pages, as after a
# start of the machine.
build: ## one static binary: bin/kidoban
	@scripts/htmx.sh
	@CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/kidoban
	@dd of=$(BIN) oflag=nocache conv=notrunc,fdatasync count=0 2>/dev/null || true

demo: build ## the whole story: a weak server, the gateway before it, audits and attacks on both
	@scripts/demo.sh

demo-stop: ## end what make demo left running
	@scripts/demo-stop.sh

test: ## everything: set-up, lint, all tests, race detector on the concurrent parts
	@scripts/setup.sh
	@scripts/htmx.sh
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory unit
	@$(MAKE) --no-print-directory race
	@$(MAKE) --no-print-directory deploy

lint: ## gofmt, vet, staticcheck
	@bad=$$(git ls-files '*.go' 2>/dev/null | grep -v /testdata/ | xargs -r gofmt -l); \
	  if [ -n "$$bad" ]; then echo "gofmt these: $$bad"; exit 1; fi
	@$(GO) vet ./...
	@$(GO) run $(STATICCHECK) ./...
	@echo "lint: clean"

unit:
	$(GO) test -timeout $(TIMEOUT) ./...

# The race detector slows the audit's switch matrix tenfold, so of the audit it
# sees the parts that share state: ledger, kills, hostile servers, whole runs.
race:
	$(GO) test -race -short -timeout $(TIMEOUT) ./wire ./oauth ./outbound ./limit ./mcp ./solo ./vault ./account ./authserver ./gateway ./census
	$(GO) test -race -short -timeout $(TIMEOUT) -run 'Kill|Ledger|Hostile|SafeLab|Recorder' ./audit

# The chart, the compose file, the container file and the systemd unit; a module
# of its own, so that the program does not depend on Helm.
deploy: ## render and check the chart, the compose file, the container file, the systemd unit
	cd deploy/check && $(GO) test -timeout $(TIMEOUT) ./...

bench: build ## the numbers in the docs: go benchmarks and whole-process ratios
	$(GO) test -run '^$$' -bench . -benchtime 0.3s ./...
	KIDOBAN_BENCH_CONSOLE=1 $(GO) test -run '^$$' -bench Console -benchtime 1x -timeout 20m ./console
	@$(BIN) bench gateway --halt-poll
	@scripts/bench-census.sh $(CENSUS)

docs: build ## write the generated pages under docs/
	@$(BIN) docs docs/flaws
	@$(BIN) config docs >docs/config.md
	@$(BIN) config schema >docs/schema/gateway.schema.json

release: ## archives for Linux, macOS, Windows with checksums and SBOM in dist/
	@scripts/release.sh

# Two builds in two places must give the same bytes.
release-check: ## build the release twice and compare the bytes
	@scripts/release-check.sh

clean: ## remove what make made
	rm -rf bin demo-out dist
