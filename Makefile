# make demo and make test are the two commands of the README. Both set up
# whatever they need.
GO ?= go
BIN := bin/kidoban

.PHONY: build demo test bench lint clean
build: ## one static binary in bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/kidoban

clean:
	rm -rf bin demo-out dist
