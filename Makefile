# Build, try, test and install teu. The longer recipes are scripts: tests/show
# (what `make run` does), integration/test (what `make test` does) and
# integration/bench/run.

PREFIX  ?= /usr/local
DESTDIR ?=
CARGO   ?= cargo
# What to build for, such as x86_64-unknown-linux-musl; empty: what packaging/target
# finds best.
TARGET  ?=

# .cargo/config.toml names the host as target, for the static build.
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TRIPLE     := $(shell rustc -vV 2> /dev/null | sed -n 's/^host: //p')
DEBUG      := $(TARGET_DIR)/$(TRIPLE)/debug
MANUAL     := $(TARGET_DIR)/manual
BINARY     := $(TARGET_DIR)/teu
SHARE      := $(DESTDIR)$(PREFIX)/share
ZSH        := $(SHARE)/zsh/site-functions
# The name by which containerd finds teu as its shim: a link, so that the two are always
# the same version.
SHIM       := containerd-shim-teu-v2

# Each builds the release for one architecture, where one cargo cannot for both.
CARGO_x86_64  ?= $(CARGO)
CARGO_aarch64 ?= $(CARGO)

.PHONY: all binary run test races vm-test bench release install files built uninstall lint manual docs clean

# All that `make install` installs.
all: binary manual

binary:
	target='$(TARGET)'; target=$${target:-$$(packaging/target $(TARGET_DIR))} && \
	TEU_COMMIT=$$(git describe --always --dirty 2> /dev/null) \
		$(CARGO) build --release --bin teu --target $$target && \
	cp --remove-destination $(TARGET_DIR)/$$target/release/teu $(TARGET_DIR)/teu

# The probe as the tests use it: optimizing it would only take time.
run: binary
	$(CARGO) build --package teu-probe
	tests/show $(TARGET_DIR)/teu $(DEBUG)/teu-probe $(TARGET_DIR)/bundle

test:
	integration/test

# What wants another machine: cgroup v2 and v1, systemd, AppArmor, SELinux.
vm-test: binary
	integration/run vm --runtime $(TARGET_DIR)/teu

# The tests that race, a hundred times as often as in `make test`; takes hours.
races: binary
	TEU_TEST_ROUNDS=10000 $(CARGO) test --test cli -- \
		cves:: hundreds_ change_places killed any_order shim::order shim::leaks shim::recovery shim::faults

# All benchmarks of runtimes and shims, in some minutes, and docs/bench-*.svg. Backtraces
# would be a part of what is measured.
bench: export RUST_BACKTRACE := 0
bench: binary
	mkdir -p $(TARGET_DIR)/bench
	integration/run bench --v1 --results $(TARGET_DIR)/bench/commands.json
	integration/run bench scale --v1 --results $(TARGET_DIR)/bench/scale.json
	integration/run bench shim --turns 10 --shims 100 --results $(TARGET_DIR)/bench/shims.json
	integration/run bench plot $(TARGET_DIR)/bench docs

# Man pages and completions come from the definitions of the command line.
manual:
	$(CARGO) run --example docs -- $(MANUAL)

# Tarballs, Debian packages and checksums for both architectures, in dist/.
release:
	+CARGO_x86_64='$(CARGO_x86_64)' CARGO_aarch64='$(CARGO_aarch64)' \
		packaging/release $(abspath $(TARGET_DIR))

docs: manual
	$(CARGO) doc --workspace --no-deps

# Without cargo, as after sudo, what was built before is installed.
install: $(if $(shell command -v $(CARGO)),all,built)
	$(MAKE) --no-print-directory files

# The files alone, of any build: its BINARY and MANUAL.
files:
	install -D $(BINARY) $(DESTDIR)$(PREFIX)/bin/teu
	ln -sf teu $(DESTDIR)$(PREFIX)/bin/$(SHIM)
	install -d $(SHARE)/man/man8
	install -m 644 $(MANUAL)/man/man8/*.8 $(SHARE)/man/man8
	install -D -m 644 $(MANUAL)/completions/teu.bash $(SHARE)/bash-completion/completions/teu
	install -D -m 644 $(MANUAL)/completions/_teu $(ZSH)/_teu
	install -D -m 644 $(MANUAL)/completions/teu.fish $(SHARE)/fish/vendor_completions.d/teu.fish

built:
	@test -x $(TARGET_DIR)/teu && test -d $(MANUAL) || \
		{ echo 'There is no cargo in PATH, and nothing built: run "make" first.' >&2; exit 1; }

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/teu $(DESTDIR)$(PREFIX)/bin/$(SHIM)
	rm -f $(SHARE)/man/man8/teu.8 $(SHARE)/man/man8/teu-*.8
	rm -f $(SHARE)/bash-completion/completions/teu
	rm -f $(ZSH)/_teu
	rm -f $(SHARE)/fish/vendor_completions.d/teu.fish

lint:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	! command -v cargo-deny > /dev/null || $(CARGO) deny check

clean:
	$(CARGO) clean
