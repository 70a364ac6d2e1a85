# SPDX-License-Identifier: BSD-2-Clause
#
# make                 everything: daemon, library, examples
# make demo            the main job, end to end, on real files
# make demo-http       a folder to look at with a browser, on http://127.0.0.1:8080/
# make deps check      install what the tests need (Debian, Ubuntu), then run them all
# make bench           comparisons, side by side
# make deps-bench bench-cold   install what it needs (Debian, Ubuntu); cold files beside hot ones, five minutes
# make install         to DESTDIR and PREFIX; make uninstall undoes it
# make format tidy     lay the sources out; check them
#
# DEBUG=1 (no optimisation, symbols), SANITIZE=address,undefined, V=1 (show commands), CC=clang, BUILD=dir

VERSION := 1.0.0
SOVERSION := 1

PREFIX ?= /usr/local
SBINDIR = $(PREFIX)/sbin
LIBDIR = $(PREFIX)/lib
INCLUDEDIR = $(PREFIX)/include
MANDIR = $(PREFIX)/share/man
BUILD ?= build

# ---- What there is ------------------------------------------------------------------------------------

LIB_SRC := lib/build.c lib/client.c lib/fdmsg.c lib/frame.c lib/queue.c lib/queue_wire.c lib/ready.c lib/request.c \
	lib/sendfile.c lib/slots.c lib/spawn.c lib/stage.c lib/wire.c

# What differs between systems lies in server/os/SYSTEM; nothing else asks which one this is.
OS := $(shell uname -s | tr A-Z a-z)
SERVER_SRC := server/access.c server/account.c server/begin.c server/bytes.c server/channel.c server/child.c \
	server/closer.c server/cold.c server/complaint.c server/delivery.c server/dest.c server/engine.c server/escape.c \
	server/expire.c server/extras.c server/fault.c server/fdpass.c server/helper.c server/helpers.c \
	server/inbox.c server/jobs.c server/journal.c server/limits.c server/listen.c server/log.c server/logger.c \
	server/loop.c server/mailbox.c server/master.c server/mover.c server/notes.c server/notices.c server/open.c \
	server/options.c server/pace.c server/park.c server/ping.c server/pipes.c server/pool.c server/privilege.c \
	server/queue.c server/reader.c server/register.c server/registry.c server/request.c server/residency.c \
	server/restart.c server/root.c server/second.c server/shares.c server/stats.c server/stuck.c server/suspects.c \
	server/table.c server/tick.c server/timer.c server/touch.c server/transfer.c server/turns.c server/watch.c \
	server/worker.c server/writer.c \
	$(wildcard server/os/$(OS)/*.c)
MAIN_SRC := server/main.c

EXAMPLES := $(patsubst examples/%.c,%,$(wildcard examples/*.c))
MAN3_LINKS := $(shell sed -n 's/^\tsfd_\([a-z_]*\);/sfd_\1/p' lib/sendfiled.map)

# ---- How it is built ----------------------------------------------------------------------------------

WARN := -Wall -Wextra -Wshadow -Wconversion -Werror
CWARN := $(WARN) -Wstrict-prototypes -Wmissing-prototypes
# Nodes of lists lie in structs of all kinds: gcc 12 made an endless loop of two loops that move nodes from one list to another.
OPT := $(if $(DEBUG),-O0 -g3,-O2 -g) -fno-strict-aliasing
SAN := $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-omit-frame-pointer -fno-sanitize-recover=all)
HARDEN := $(if $(DEBUG)$(SANITIZE),,-D_FORTIFY_SOURCE=2) -fstack-protector-strong

DEFS := -D_GNU_SOURCE -DSFD_VERSION='"$(VERSION)"' -DSFD_DAEMON_PATH='"$(SBINDIR)/sendfiled"'
ALL_CFLAGS = -std=gnu11 $(OPT) $(CWARN) $(HARDEN) $(SAN) $(DEFS) -Iinclude -I. -MMD -MP $(CFLAGS)
ALL_LDFLAGS = $(SAN) -Wl,-z,relro,-z,now $(LDFLAGS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-6s %s\n' $(1) $(2);)

LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/obj/%.o)
SERVER_OBJ := $(SERVER_SRC:%.c=$(BUILD)/obj/%.o)
MAIN_OBJ := $(MAIN_SRC:%.c=$(BUILD)/obj/%.o)
SONAME := libsendfiled.so.$(SOVERSION)

DAEMON := $(BUILD)/sendfiled
STATIC := $(BUILD)/libsendfiled.a
SHARED := $(BUILD)/$(SONAME)
PC := $(BUILD)/sendfiled.pc
HTTPD_SRC := $(wildcard examples/httpd/*.c)
SFDCAT_SRC := $(wildcard examples/sfdcat/*.c)
EXAMPLE_BIN := $(EXAMPLES:%=$(BUILD)/examples/%) $(addprefix $(BUILD)/examples/,preload.so sfd-httpd sfdcat)

.PHONY: all
all: $(DAEMON) $(STATIC) $(SHARED) $(BUILD)/libsendfiled.so $(PC) $(EXAMPLE_BIN)

# What was built with other flags is built again: the flags are a file that changes with them.
FLAGS_FILE := $(BUILD)/flags
FLAGS_NOW := $(CC) $(CXX) $(ALL_CFLAGS) $(ALL_LDFLAGS)
ifneq ($(MAKECMDGOALS),clean)
$(shell mkdir -p $(BUILD); \
	printf '%s' "$(subst ",\",$(FLAGS_NOW))" | cmp -s - $(FLAGS_FILE) || \
	printf '%s' "$(subst ",\",$(FLAGS_NOW))" >$(FLAGS_FILE))
endif

$(BUILD)/obj/%.o: %.c $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -fPIC -fvisibility=default -c $< -o $@

# The daemon uses the wire format of the library, and nothing else of it.
$(DAEMON): $(MAIN_OBJ) $(SERVER_OBJ) $(BUILD)/obj/lib/wire.o
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $^ -o $@

$(STATIC): $(LIB_OBJ)
	$(call say,AR,$@)rm -f $@ && ar rcs $@ $^

$(SHARED): $(LIB_OBJ) lib/sendfiled.map
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) -shared -Wl,-soname,$(SONAME) -Wl,--version-script=lib/sendfiled.map \
		$(if $(SANITIZE),,-Wl,--no-undefined) $(LIB_OBJ) -o $@

$(BUILD)/libsendfiled.so: $(SHARED)
	$(Q)ln -sf $(SONAME) $@

$(PC): Makefile $(FLAGS_FILE)
	$(Q)printf '%s\n' 'prefix=$(PREFIX)' 'libdir=$${prefix}/lib' 'includedir=$${prefix}/include' '' \
		'Name: sendfiled' 'Description: Files moved on behalf of event-driven servers' 'Version: $(VERSION)' \
		'Libs: -L$${libdir} -lsendfiled' 'Cflags: -I$${includedir}' >$@

$(BUILD)/examples/%: examples/%.c $(STATIC) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -MF $@.d $(ALL_LDFLAGS) $< $(STATIC) -o $@

$(BUILD)/examples/sfd-httpd: $(HTTPD_SRC:%.c=$(BUILD)/obj/%.o)
$(BUILD)/examples/sfdcat: $(SFDCAT_SRC:%.c=$(BUILD)/obj/%.o)
$(BUILD)/examples/sfd-httpd $(BUILD)/examples/sfdcat: $(STATIC)
	@mkdir -p $(@D)
	$(call say,LD,$@)$(CC) $(ALL_LDFLAGS) $(filter %.o,$^) $(STATIC) -o $@

# For LD_PRELOAD: it brings the library along, whose functions are nobody else's business.
$(BUILD)/examples/preload.so: examples/preload/preload.c $(STATIC) $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(call say,CC,$<)$(CC) $(ALL_CFLAGS) -fPIC -shared -Wl,--exclude-libs,ALL -MF $@.d $(ALL_LDFLAGS) $< $(STATIC) \
		-ldl -o $@

.PHONY: demo
demo: all
	$(Q)SFD_DAEMON=$(abspath $(DAEMON)) $(BUILD)/examples/demo

# A server to look at with a browser, until Control-C; PORT=8080.
.PHONY: demo-http
demo-http: all $(if $(shell pkg-config --exists fuse3 2>/dev/null && echo 1),$(BUILD)/test/support/slowfs)
	$(Q)SFD_DAEMON=$(abspath $(DAEMON)) examples/httpd/demo.sh $(BUILD)

include test/tests.mk

# ---- Installing ---------------------------------------------------------------------------------------

D = $(DESTDIR)

.PHONY: install uninstall
install: all
	install -d $(D)$(SBINDIR) $(D)$(LIBDIR)/pkgconfig $(D)$(INCLUDEDIR)/sendfiled
	install -d $(D)$(MANDIR)/man3 $(D)$(MANDIR)/man7 $(D)$(MANDIR)/man8
	install -m 755 $(DAEMON) $(D)$(SBINDIR)/sendfiled
	install -m 755 $(SHARED) $(D)$(LIBDIR)/$(SONAME)
	ln -sf $(SONAME) $(D)$(LIBDIR)/libsendfiled.so
	install -m 644 $(STATIC) $(D)$(LIBDIR)/libsendfiled.a
	install -m 644 include/sendfiled/sendfiled.h $(D)$(INCLUDEDIR)/sendfiled/sendfiled.h
	install -m 644 $(PC) $(D)$(LIBDIR)/pkgconfig/sendfiled.pc
	install -m 644 doc/sendfiled.8 $(D)$(MANDIR)/man8/sendfiled.8
	install -m 644 doc/sendfiled-protocol.7 $(D)$(MANDIR)/man7/sendfiled-protocol.7
	install -m 644 doc/libsendfiled.3 $(D)$(MANDIR)/man3/libsendfiled.3
	for f in $(MAN3_LINKS); do \
		printf '.\\" SPDX-License-Identifier: BSD-2-Clause\n.so man3/libsendfiled.3\n' >$(D)$(MANDIR)/man3/$$f.3 && \
		chmod 644 $(D)$(MANDIR)/man3/$$f.3 || exit 1; done

uninstall:
	rm -f $(D)$(SBINDIR)/sendfiled $(D)$(LIBDIR)/$(SONAME) $(D)$(LIBDIR)/libsendfiled.so $(D)$(LIBDIR)/libsendfiled.a
	rm -f $(D)$(INCLUDEDIR)/sendfiled/sendfiled.h $(D)$(LIBDIR)/pkgconfig/sendfiled.pc
	rm -f $(D)$(MANDIR)/man8/sendfiled.8 $(D)$(MANDIR)/man7/sendfiled-protocol.7 $(D)$(MANDIR)/man3/libsendfiled.3
	rm -f $(MAN3_LINKS:%=$(D)$(MANDIR)/man3/%.3)
	-rmdir $(D)$(INCLUDEDIR)/sendfiled

.PHONY: clean
clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
