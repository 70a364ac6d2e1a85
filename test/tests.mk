# SPDX-License-Identifier: BSD-2-Clause
# Tests, checks and benchmarks. Included by the Makefile at the top.

TEST_SRC := $(wildcard test/unit/*_test.cc test/integration/*_test.cc test/hostile/*_test.cc)
SUPPORT_SRC := $(wildcard test/support/*.cc)
BENCH_SRC := $(wildcard test/bench/bench_*.c)
BENCH_COMMON := test/bench/common.c
COLD_SRC := $(wildcard test/bench/cold/*.c)
SLOWFS := $(BUILD)/test/support/slowfs

TEST_BIN := $(TEST_SRC:test/%.cc=$(BUILD)/test/%)
SUPPORT_OBJ := $(SUPPORT_SRC:%.cc=$(BUILD)/obj/%.o)
BENCH_BIN := $(BENCH_SRC:test/bench/%.c=$(BUILD)/bench/%)
SERVER_LIB := $(BUILD)/libserver.a

# Compiling tests takes longer than running them, three times as long if optimised under the sanitizers. What they have in common
# compares megabytes.
TEST_OPTIMISE := -O0
$(SUPPORT_OBJ): TEST_OPTIMISE := $(if $(DEBUG),-O0,-O1)

TEST_CXXFLAGS = -std=c++17 $(TEST_OPTIMISE) -g -Wall -Wextra -Wshadow -Werror $(SAN) -D_GNU_SOURCE -Iinclude -I. \
	-DSOURCE_DIR='"$(CURDIR)"' -DBUILD_DIR='"$(abspath $(BUILD))"' -DSFD_VERSION='"$(VERSION)"' -DTEST_CC='"$(CC)"' \
	-DTEST_CXX='"$(CXX)"' -DSANITIZE_FLAGS='"$(SAN)"' -MMD -MP $(CXXFLAGS)

# What `make check` and `make lint` run beside a compiler and make: Debian's names.
TEST_PACKAGES := g++ busybox chromium curl libgtest-dev pkgconf mandoc strace procps libfuse3-dev fuse3 e2fsprogs xfsprogs btrfs-progs \
	libuv1-dev
# liburing is there for its header, which a benchmark includes.
LINT_PACKAGES := clang clang-format clang-tidy cppcheck valgrind liburing-dev
# For `make bench-cold`, and for what `make bench` compares the queue with. gnuplot draws a chart; without it there is none.
BENCH_PACKAGES := libuv1-dev liburing-dev libfuse3-dev fuse3 pkgconf gnuplot-nox

# For `make bench-http`, which also needs what `make deps` installs.
HTTP_PACKAGES := wrk nginx-light curl

AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
install_packages = dpkg-query -W -f '$${db:Status-Status}\n' $(1) 2>/dev/null | grep -c '^installed$$' | grep -qx $(words $(1)) || \
	{ $(AS_ROOT) apt-get update -q && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y $(1); }

.PHONY: deps deps-lint deps-bench deps-bench-http
deps:
	$(call install_packages,$(TEST_PACKAGES))

deps-lint:
	$(call install_packages,$(LINT_PACKAGES))

deps-bench:
	$(call install_packages,$(BENCH_PACKAGES))

deps-bench-http: deps
	$(call install_packages,$(HTTP_PACKAGES))

$(SERVER_LIB): $(SERVER_OBJ)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/test/%.o: test/%.cc $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) $(TEST_CXXFLAGS) -c $< -o $@

$(BUILD)/test/%: $(BUILD)/obj/test/%.o $(SUPPORT_OBJ) $(SERVER_LIB) $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CXX) $(SAN) $< $(SUPPORT_OBJ) $(SERVER_LIB) $(STATIC) -lgtest -lgtest_main $(TEST_LIBS) -pthread -o $@

# An event library, to see that a queue's descriptor suits it.
$(BUILD)/test/integration/queue_fd_test: TEST_LIBS := -luv

# Of the HTTP server what needs no system.
HTTPD_PURE := $(BUILD)/obj/examples/httpd/request.o $(BUILD)/obj/examples/httpd/response.o
$(BUILD)/test/unit/httpd_request_test: TEST_LIBS := $(HTTPD_PURE)
$(BUILD)/test/unit/httpd_request_test: $(HTTPD_PURE)

.SECONDARY: $(TEST_SRC:%.cc=$(BUILD)/obj/%.o) $(SUPPORT_OBJ)

# A daemon that kills itself where a test wants it to: server/fault.h.
FAULT_SRC := $(shell grep -l fault_point server/*.c)
FAULT_OBJ := $(FAULT_SRC:%.c=$(BUILD)/fault/obj/%.o)
FAULT_DAEMON := $(BUILD)/fault/sendfiled

$(BUILD)/fault/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -DSFD_FAULTS -c $< -o $@

$(FAULT_DAEMON): $(FAULT_OBJ) $(MAIN_OBJ) $(SERVER_OBJ) $(BUILD)/obj/lib/wire.o
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $(FAULT_OBJ) $(filter-out $(FAULT_SRC:%.c=$(BUILD)/obj/%.o),$(filter-out $(FAULT_OBJ),$^)) -o $@

# A program of its own, which tests and benchmarks start.
$(SLOWFS): test/support/slowfs.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) $$(pkg-config --cflags fuse3) -MF $@.d $(ALL_LDFLAGS) $< \
		$$(pkg-config --libs fuse3) -o $@

# A malloc(3) that fails when a test wants it to.
NOMEM := $(BUILD)/test/support/nomem.so

$(NOMEM): test/support/nomem.c test/support/nomem.h $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(filter-out $(SAN),$(ALL_CFLAGS)) -MF $@.d -fPIC -shared $< -o $@

# `make check TESTS=unit` runs what lies there; `make check FILTER='Send*'` is passed on to Google Test.
.PHONY: check tests
tests: all $(TEST_BIN) $(SLOWFS) $(FAULT_DAEMON) $(NOMEM)

check: tests
	$(Q)BUILD=$(abspath $(BUILD)) FILTER='$(FILTER)' test/run $(sort $(foreach t,$(or $(TESTS),unit integration hostile),$(filter $(BUILD)/test/$(t)%,$(TEST_BIN))))

# ---- Benchmarks

$(BUILD)/bench/%: test/bench/%.c $(BENCH_COMMON) test/bench/common.h $(STATIC) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -MF $@.d $(ALL_LDFLAGS) $< $(BENCH_COMMON) $(STATIC) -o $@

# The queue beside libuv and io_uring. What is not installed is left out, and the program says so.
HAVE_UV := $(shell pkg-config --exists libuv 2>/dev/null && echo 1)
HAVE_URING := $(shell pkg-config --exists 'liburing >= 2.3' 2>/dev/null && echo 1)
QUEUE_SRC := $(filter-out %/$(if $(HAVE_UV),no,via)_libuv.c %/$(if $(HAVE_URING),no,via)_uring.c,$(wildcard test/bench/queue/*.c)) \
	test/bench/cold/supervise.c $(BENCH_COMMON)
QUEUE_OBJ := $(QUEUE_SRC:%.c=$(BUILD)/obj/%.o)
QUEUE_BIN := $(BUILD)/bench/bench_queue

$(QUEUE_BIN): $(QUEUE_OBJ) $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $^ $(if $(HAVE_UV),-luv) $(if $(HAVE_URING),-luring) -pthread -o $@

# ROUNDS, if set, says how often the last of these measures what; see test/bench/queue/main.c for its other settings.
.PHONY: bench
bench: all $(BENCH_BIN) $(QUEUE_BIN)
	$(Q)for b in $(BENCH_BIN) $(QUEUE_BIN); do ROUNDS='$(ROUNDS)' SFD_DAEMON=$(abspath $(DAEMON)) $$b || exit 1; done

# `make deps-bench bench-cold`: cold files beside hot ones, five minutes long, not part of `make bench`.
# ROUNDS, PHASE_SECONDS and LARGE_ROUNDS, if set, say how often what is measured, and how long a phase is.
COLD_OBJ := $(COLD_SRC:%.c=$(BUILD)/obj/%.o) $(BENCH_COMMON:%.c=$(BUILD)/obj/%.o)
COLD_BIN := $(BUILD)/bench/bench_cold

.PHONY: bench-cold bench-cold-needs
bench-cold-needs:
	@for h in uv.h fuse3/fuse_lowlevel.h; do \
		printf '#define FUSE_USE_VERSION 35\n#include <%s>\n' $$h | $(CC) -E -D_GNU_SOURCE -x c - >/dev/null 2>&1 || \
		{ echo "$$h is missing: 'make deps-bench' installs $(BENCH_PACKAGES)" >&2; exit 1; }; done

# What the other benchmarks use too needs nothing.
$(filter-out $(QUEUE_OBJ),$(COLD_OBJ)): | bench-cold-needs

$(COLD_BIN): $(COLD_OBJ) $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $^ -luv -pthread -o $@

bench-cold: bench-cold-needs all $(COLD_BIN) $(SLOWFS)
	$(Q)SFD_DAEMON=$(abspath $(DAEMON)) $(COLD_BIN) $(SLOWFS) $(BUILD)/bench '$(ROUNDS)' '$(PHASE_SECONDS)' '$(LARGE_ROUNDS)'

# `make deps-bench-http bench-http`: the HTTP server beside nginx; ROUNDS and SECONDS_EACH.
.PHONY: bench-http
bench-http: all $(SLOWFS)
	$(Q)SFD_DAEMON=$(abspath $(DAEMON)) test/bench/http.sh $(BUILD)

# ---- Layout and static checks, on our own files

C_FILES = $(wildcard include/sendfiled/*.h lib/*.[ch] server/*.[ch] server/os/*.h server/os/*/*.[ch] examples/*.c examples/*/*.[ch] test/*/*.[ch] test/bench/*/*.[ch] test/*/*.cc)
TIDY_FILES = $(LIB_SRC) $(SERVER_SRC) $(MAIN_SRC) $(wildcard examples/*.c examples/*/*.c test/bench/*.c test/bench/*/*.c test/support/*.c)

.PHONY: format format-check tidy cppcheck mandoc lint
format:
	clang-format -i $(C_FILES)

format-check:
	clang-format --dry-run --Werror $(C_FILES)

tidy:
	clang-tidy --quiet --warnings-as-errors='*' $(TIDY_FILES) -- -std=gnu11 $(DEFS) -Iinclude -I.

cppcheck:
	cppcheck --quiet --error-exitcode=1 --inline-suppr --enable=warning,performance,portability --std=c11 $(DEFS) \
		--suppress=missingIncludeSystem -Iinclude -I. $(TIDY_FILES)

# Whether other pages that ours refer to are installed here says nothing about ours.
mandoc:
	@! mandoc -T lint doc/*.[0-9] 2>/dev/null | grep -v -e 'referenced manual not found'

lint: format-check tidy cppcheck mandoc
