# `make` alone lists the targets. FDB=1 adds the FoundationDB backend to every one of them, and fails where its client
# library is missing. PG=1 adds PostgreSQL to the tests of the layers above it, and fails where no server is installed;
# any other PG is a regular expression, of the tests of package dserver to which it is added. CONSOLE=1 makes it a failure that no
# Chromium is there to try the console in.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
# The linter is run at one version and is not in go.mod: whoever uses the library must not inherit its dependencies.
GOLANGCI  ?= $(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# So is the generator of the site, and what makes releases.
HUGO      ?= $(GO) run github.com/gohugoio/hugo@v0.160.0
GORELEASER ?= $(GO) run github.com/goreleaser/goreleaser/v2@v2.15.0
# The tool, and where its manual page and its completions are written.
TOOL      ?= $(GO) run ./cmd/dserver
MANUAL    ?= bin/manual
KILLS     ?= 200
FUZZTIME  ?= 30s
BENCH     ?=

export FDB PG CONSOLE
FDB_HEADER := $(firstword $(wildcard /usr/include/foundationdb/fdb_c.h /usr/local/include/foundationdb/fdb_c.h))
ifeq ($(FDB),1)
  TAGS := -tags fdb
  ifeq ($(FDB_HEADER),)
    $(error FDB=1 was asked for, but foundationdb/fdb_c.h is not installed: install the FoundationDB client package)
  endif
endif

.PHONY: help check fmt vet lint build test bench long crash fuzz golden site manual snapshot release

help: ## list the targets
	@sed -nE 's/^([a-z]+):.*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r t d; do printf '  make %-8s %s\n' "$$t" "$$d"; done

check: fmt vet lint build ## formatting, vet, lint and build, all without running a test

fmt: ## fail when a file is not formatted
	@files=$$(git ls-files -co --exclude-standard -- '*.go' | while read -r f; do [ ! -e "$$f" ] || gofmt -l "$$f"; done); \
	if [ -n "$$files" ]; then echo "not formatted, run gofmt -w on:"; echo "$$files"; exit 1; fi

vet: ## go vet, with the tag fdb as well where its client is installed
	$(GO) vet $(TAGS) ./...
	@if [ -n "$(FDB_HEADER)" ]; then set -x; $(GO) vet -tags fdb ./...; fi

lint: ## golangci-lint with .golangci.yml
	$(GOLANGCI) run $(if $(TAGS),--build-tags fdb) ./...

build: ## build every package
	$(GO) build $(TAGS) ./...

test: ## all tests, with the race detector, in random order
	$(GO) test $(TAGS) -race -shuffle=on -timeout 30m ./...

bench: ## every load beside its hand-written baseline, as a table (BENCH='-runs 3 -load call64' for flags)
	$(GO) run $(TAGS) ./bench $(BENCH)

long: ## every test with LONG=1, which makes the random ones run for long
	LONG=1 $(GO) test $(TAGS) -count=1 -timeout 6h ./...

crash: ## kill -9, KILLS times (200); and processes that are stopped, or cut off the network, a tenth as often
	KILLS=$(KILLS) $(GO) test $(TAGS) -count=1 -timeout 2h -v -run 'Kill|ThatIsStopped|ThatIsCutOff' ./...

fuzz: ## each fuzz target for FUZZTIME (30s)
	@for p in $$($(GO) list $(TAGS) ./...); do \
	  for f in $$($(GO) test $(TAGS) -list '^Fuzz' "$$p" | grep '^Fuzz' || true); do \
	    echo "$$p $$f"; $(GO) test $(TAGS) -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) "$$p"; \
	  done; \
	done

golden: ## write the golden files anew; look at the difference before you commit it
	GOLDEN=1 $(GO) test $(TAGS) -count=1 -run 'Golden' ./...

site: ## the documents as a site, in site/public; a link to a page that is not there fails (HUGO=hugo for one that is installed)
	$(HUGO) --source site --panicOnWarning

manual: ## the tool's manual page and completions, in bin/manual
	mkdir -p $(MANUAL)/completions
	$(TOOL) man >$(MANUAL)/dserver.1
	$(TOOL) completion bash >$(MANUAL)/completions/dserver.bash
	$(TOOL) completion zsh >$(MANUAL)/completions/_dserver
	$(TOOL) completion fish >$(MANUAL)/completions/dserver.fish

snapshot: ## what a release would have, in dist; nothing is published
	$(GORELEASER) release --snapshot --clean

release: ## a draft of the release of the tag that is checked out, with the newest part of CHANGELOG.md (GITHUB_TOKEN)
	mkdir -p bin
	awk '/^## \[/ { n += $$2 != "[Unreleased]" } n == 1' CHANGELOG.md >bin/notes.md
	$(GORELEASER) release --clean --release-notes bin/notes.md
