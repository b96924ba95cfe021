# Build, try, test and install teu. The longer recipes are scripts:
# tests/show (what `make run` does) and integration/test (what
# `make test` does).

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo

# .cargo/config.toml names the host as target, for the static build.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TRIPLE     := $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE    := $(TARGET_DIR)/$(TRIPLE)/release

.PHONY: all run test install lint docs bench clean

all:
	$(CARGO) build --release
	ln -sfn $(TRIPLE)/release/teu $(TARGET_DIR)/teu

run: all
	$(CARGO) build --release --package teu-probe
	tests/show $(TARGET_DIR)/teu $(RELEASE)/teu-probe $(TARGET_DIR)/bundle

test:
	integration/test

# Man pages and completions come from the definitions of the command line.
docs: all
	$(CARGO) doc --workspace --no-deps
	$(TARGET_DIR)/teu documentation $(TARGET_DIR)/documentation

install: docs
	install -D $(RELEASE)/teu $(DESTDIR)$(PREFIX)/bin/teu
	integration/install-documentation $(TARGET_DIR)/documentation $(DESTDIR)$(PREFIX)/share

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	! command -v cargo-deny || $(CARGO) deny check

bench: all
	integration/bench/run

clean:
	$(CARGO) clean
