# SPDX-License-Identifier: BSD-2-Clause
# Tests, checks and benchmarks. Included by the Makefile at the top.

TEST_SRC := $(wildcard test/unit/*_test.cc test/integration/*_test.cc)
SUPPORT_SRC := $(wildcard test/support/*.cc)
BENCH_SRC := $(wildcard test/bench/bench_*.c)
BENCH_COMMON := test/bench/common.c

TEST_BIN := $(TEST_SRC:test/%.cc=$(BUILD)/test/%)
SUPPORT_OBJ := $(SUPPORT_SRC:%.cc=$(BUILD)/obj/%.o)
BENCH_BIN := $(BENCH_SRC:test/bench/%.c=$(BUILD)/bench/%)
SERVER_LIB := $(BUILD)/libserver.a

TEST_CXXFLAGS = -std=c++17 $(if $(DEBUG),-O0,-O1) -g -Wall -Wextra -Wshadow -Werror $(SAN) -D_GNU_SOURCE -Iinclude -I. \
	-DSOURCE_DIR='"$(CURDIR)"' -DBUILD_DIR='"$(abspath $(BUILD))"' -DSFD_VERSION='"$(VERSION)"' -DTEST_CC='"$(CC)"' \
	-DTEST_CXX='"$(CXX)"' -DSANITIZE_FLAGS='"$(SAN)"' -MMD -MP $(CXXFLAGS)

# What `make check` and `make lint` run beside a compiler and make: Debian's names.
TEST_PACKAGES := g++ libgtest-dev pkgconf mandoc strace procps
LINT_PACKAGES := clang clang-format clang-tidy cppcheck valgrind

AS_ROOT := $(if $(filter 0,$(shell id -u)),,sudo)
install_packages = dpkg-query -W -f '$${db:Status-Status}\n' $(1) 2>/dev/null | grep -c '^installed$$' | grep -qx $(words $(1)) || \
	{ $(AS_ROOT) apt-get update -q && $(AS_ROOT) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y $(1); }

.PHONY: deps deps-lint
deps:
	$(call install_packages,$(TEST_PACKAGES))

deps-lint:
	$(call install_packages,$(LINT_PACKAGES))

$(SERVER_LIB): $(SERVER_OBJ)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(BUILD)/obj/test/%.o: test/%.cc $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CXX,$<)$(CXX) $(TEST_CXXFLAGS) -c $< -o $@

$(BUILD)/test/%: $(BUILD)/obj/test/%.o $(SUPPORT_OBJ) $(SERVER_LIB) $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CXX) $(SAN) $< $(SUPPORT_OBJ) $(SERVER_LIB) $(STATIC) -lgtest -lgtest_main -pthread -o $@

.SECONDARY: $(TEST_SRC:%.cc=$(BUILD)/obj/%.o) $(SUPPORT_OBJ)

# `make check TESTS=unit` runs what lies there; `make check FILTER='Send*'` is passed on to Google Test.
.PHONY: check tests
tests: all $(TEST_BIN)

check: tests
	$(Q)BUILD=$(abspath $(BUILD)) FILTER='$(FILTER)' test/run $(sort $(foreach t,$(or $(TESTS),unit integration),$(filter $(BUILD)/test/$(t)%,$(TEST_BIN))))

# ---- Benchmarks

$(BUILD)/bench/%: test/bench/%.c $(BENCH_COMMON) test/bench/common.h $(STATIC) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -MF $@.d $(ALL_LDFLAGS) $< $(BENCH_COMMON) $(STATIC) -o $@

.PHONY: bench
bench: all $(BENCH_BIN)
	$(Q)for b in $(BENCH_BIN); do SFD_DAEMON=$(abspath $(DAEMON)) $$b || exit 1; done

# ---- Layout and static checks, on our own files

C_FILES = $(wildcard include/sendfiled/*.h lib/*.[ch] server/*.[ch] server/os/*.h server/os/*/*.[ch] examples/*.c test/*/*.[ch] test/*/*.cc)
TIDY_FILES = $(LIB_SRC) $(SERVER_SRC) $(MAIN_SRC) $(wildcard examples/*.c test/bench/*.c)

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
