# SPDX-License-Identifier: MIT
# A thin face on Meson, so that the usual words work.
#
#   make            build into build/
#   make demo       install what is missing, build, and trace real programs
#   make check      install what is missing, build, run every test   (MODE=asan or MODE=ubsan: with that sanitizer)
#   make bench      measure, beside other tools where they can run
#   make fuzz       fuzz for FUZZ_SECONDS a target (default 60)
#   make install    DESTDIR= PREFIX= as usual

MODE ?=
PREFIX ?= /usr/local
DESTDIR ?=
FUZZ_SECONDS ?= 60
BUILD := build$(if $(MODE),-$(MODE))

.PHONY: all setup configure demo check bench fuzz install clean format

all: configure
	@ninja -C $(BUILD)

configure: $(BUILD)/build.ninja

$(BUILD)/build.ninja:
	@scripts/configure $(BUILD) "$(MODE)" $(PREFIX)

setup:
	@scripts/setup

demo: setup
	@$(MAKE) --no-print-directory all
	@scripts/demo $(BUILD)

check:
	@scripts/setup --check
	@$(MAKE) --no-print-directory all
	@scripts/check $(BUILD)

bench:
	@scripts/setup --bench
	@scripts/configure build-bench release $(PREFIX)
	@ninja -C build-bench
	@bench/run build-bench

fuzz: setup
	@scripts/fuzz $(FUZZ_SECONDS)

# The prefix is written into what is installed, so it is built with it.
install: configure
	@meson configure $(BUILD) -Dprefix=$(PREFIX)
	@ninja -C $(BUILD)
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild --quiet

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build build-*
