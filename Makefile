# The only makefile. Everything that is made lies under $(B); a variant is its
# own tree (make B=build/asan CFLAGS=...). `make help` lists the targets.
# CC, CPPFLAGS, CFLAGS and LDFLAGS are the user's and come last; ours are CKPT_*.

# MPI=mpich: with MPICH, which may be installed beside the MPI that mpicc stands for, in a tree of its own.
ifeq ($(MPI),mpich)
B ?= build/mpich
MPICC ?= mpicc.mpich
MPIFORT ?= mpifort.mpich
# Debian builds parallel HDF5 for Open MPI alone, by default.
H5PFC ?=
CKPTFS_MPIRUN ?= mpirun.mpich
FAST_TAGS := fast,mpi,!slow,!long
export CKPTFS_MPIRUN
else ifeq ($(origin MPI),command line)
$(error MPI=$(MPI) is not known; there is MPI=mpich, for others give MPICC and CKPTFS_MPIRUN)
endif
B ?= build
FAST_TAGS ?= fast,!slow,!long
prefix ?= /usr/local
bindir ?= $(prefix)/bin
sbindir ?= $(prefix)/sbin
libdir ?= $(prefix)/lib
includedir ?= $(prefix)/include
mandir ?= $(prefix)/share/man
docdir ?= $(prefix)/share/doc/ckptfs
pkgdatadir ?= $(prefix)/share/ckptfs
bashcompdir ?= $(prefix)/share/bash-completion/completions
zshcompdir ?= $(prefix)/share/zsh/site-functions
CFLAGS ?= -O2 -g
FFLAGS ?= -O2 -g
PKG_CONFIG ?= pkg-config
MPICC ?= mpicc
MPIFORT ?= mpifort
H5PFC ?= h5pfc
BATS ?= bats
CLANG_FORMAT ?= clang-format
CLANG_TIDY ?= clang-tidy
CLIENTS ?=
V ?= 0

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-6s %s\n' '$(1)' '$(patsubst $(B)/%,%,$(2))' ;)
VERSION := $(shell sed -n 's/^.define CKPTFS_VERSION "\(.*\)"/\1/p' index/base/version.h)

# --- what there is to build with ----------------------------------------------

CORE_PKGS := sqlite3 libxxhash jansson libdeflate
MISSING := $(strip $(foreach p,$(CORE_PKGS),$(shell $(PKG_CONFIG) --exists $(p) || echo $(p))))
# -I of others is -isystem here: their headers are not held to our warnings.
as_system = $(patsubst -I%,-isystem%,$(1))
CORE_CFLAGS := $(call as_system,$(shell $(PKG_CONFIG) --cflags $(CORE_PKGS) 2>/dev/null))
CORE_LIBS := $(shell $(PKG_CONFIG) --libs $(CORE_PKGS) 2>/dev/null) -lm
HAVE_FUSE := $(shell $(PKG_CONFIG) --exists fuse3 && echo yes)
FUSE_CFLAGS := $(call as_system,$(shell $(PKG_CONFIG) --cflags fuse3 2>/dev/null))
FUSE_LIBS := $(shell $(PKG_CONFIG) --libs fuse3 2>/dev/null)
# Open MPI speaks --showme; MPICH and its kin print the compiler, then its arguments.
MPI_COMPILE := $(shell $(MPICC) --showme:compile 2>/dev/null || $(MPICC) -compile_info 2>/dev/null | cut -d' ' -f2-)
MPI_LIBS := $(shell $(MPICC) --showme:link 2>/dev/null || $(MPICC) -link_info 2>/dev/null | cut -d' ' -f2-)
MPI_CFLAGS := $(call as_system,$(filter -I% -D%,$(MPI_COMPILE)))
HAVE_MPI := $(if $(MPI_LIBS),yes)
HAVE_FORTRAN := $(and $(HAVE_MPI),$(shell $(MPIFORT) --version 2>/dev/null))
# h5pfc prints its compiler, then the arguments.
HDF5_FLAGS := $(if $(and $(HAVE_FORTRAN),$(H5PFC)),$(shell $(H5PFC) -show 2>/dev/null | cut -d' ' -f2-))

# --- flags ----------------------------------------------------------------------

CKPT_WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wcast-qual -Wstrict-prototypes \
	-Wmissing-prototypes -Wvla -Wformat=2 -Wundef
# -include banned.h: no file can forget it.
CKPT_CPPFLAGS := -std=c11 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iindex -include index/base/banned.h
# _FORTIFY_SOURCE wants an optimizer, hides bugs from sanitizers, and may be set by a distribution.
unhardened := $(strip $(filter -O0 -Og,$(CFLAGS))$(findstring -fsanitize,$(CFLAGS))$(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)))
CKPT_CFLAGS := $(CKPT_WARNINGS) -fPIC -fstack-protector-strong $(if $(unhardened),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
CKPT_LDFLAGS := -Wl,-z,relro,-z,now -Wl,--as-needed -pthread
compile = $(CC) $(CKPT_CPPFLAGS) $(CKPT_CFLAGS) $(EXTRA_CFLAGS) $(CPPFLAGS) $(CFLAGS)
# gfortran 12 takes every allocatable that is assigned to for uninitialized.
CKPT_FFLAGS := -std=f2008 -Wall -Wextra -Wno-uninitialized -Wno-maybe-uninitialized -Wno-function-elimination -ffp-contract=off -fPIC
compile_fortran = $(MPIFORT) $(CKPT_FFLAGS) $(filter -fsanitize%,$(CFLAGS)) $(FFLAGS)
link = $(CC) $(CKPT_CFLAGS) $(CFLAGS) $(CKPT_LDFLAGS) $(LDFLAGS)

# --- sources and products -------------------------------------------------------

CORE_SRC := $(sort $(wildcard $(patsubst %,index/%/*.c,base db format store view)))
CLI_SRC := $(sort $(wildcard index/cli/*.c))
FS_SRC := $(sort $(wildcard fs/*.c))
MPI_PROG_SRC := $(sort $(wildcard mpi/cli_*.c))
MPI_LIB_SRC := $(filter-out $(MPI_PROG_SRC),$(sort $(wildcard mpi/*.c)))
HELPER_SRC := $(sort $(wildcard tests/helper/*.c))
PMPI_SRC := tests/mpi_helper/pmpi_count.c
MPI_HELPER_SRC := $(filter-out $(PMPI_SRC),$(sort $(wildcard tests/mpi_helper/*.c)))
EXAMPLE_SRC := mpi/examples/heat.c
# A function a parser, of one name: where all of them are in one program, each has its file's.
FUZZ_FILE_SRC := tests/fuzz/fuzz_file.c
FUZZ_SRC := $(filter-out $(FUZZ_FILE_SRC),$(sort $(wildcard tests/fuzz/fuzz_*.c)))
REPLAY_SRC := tests/fuzz/replay.c $(FUZZ_FILE_SRC) $(FUZZ_SRC)
objects = $(patsubst %.c,$(B)/obj/%.o,$(1))
CORE_OBJ := $(call objects,$(CORE_SRC))
CLI_OBJ := $(call objects,$(CLI_SRC))
FS_OBJ := $(call objects,$(FS_SRC))
MPI_PROG_OBJ := $(call objects,$(MPI_PROG_SRC))
MPI_LIB_OBJ := $(call objects,$(MPI_LIB_SRC))
HELPER_OBJ := $(call objects,$(HELPER_SRC))
MPI_HELPER_OBJ := $(call objects,$(MPI_HELPER_SRC))
PMPI_OBJ := $(call objects,$(PMPI_SRC))
EXAMPLE_OBJ := $(call objects,$(EXAMPLE_SRC))
REPLAY_OBJ := $(call objects,$(REPLAY_SRC))
FUZZ_PROGS := $(patsubst tests/fuzz/fuzz_%.c,$(B)/fuzz-%,$(FUZZ_SRC))
# The module, as an application compiles it; its .mod lies beside it.
MODULE_OBJ := $(B)/obj/mpi/ckptfs_mpi_f90.o

CORE_LIB := $(B)/libckptfs-core.a
MPI_STATIC := $(B)/libckptfs-mpi.a
MPI_SONAME := libckptfs-mpi.so.0
MPI_SHARED := $(B)/libckptfs-mpi.so
MPI_PC := $(B)/ckptfs-mpi.pc

# What is built here: what has both its sources and its library.
PRODUCTS := $(CORE_LIB)
PRODUCTS += $(if $(CLI_SRC),$(B)/ckptfs)
PRODUCTS += $(if $(and $(HAVE_FUSE),$(FS_SRC)),$(B)/mount.ckptfs)
PRODUCTS += $(if $(and $(HAVE_MPI),$(MPI_LIB_SRC)),$(MPI_STATIC) $(MPI_SHARED) $(MPI_PC))
PRODUCTS += $(if $(and $(HAVE_MPI),$(MPI_PROG_SRC)),$(B)/ckptfs-mpi)
PRODUCTS += $(if $(HELPER_SRC),$(B)/ckpt-test $(B)/ckpt-fuzz-replay)
PRODUCTS += $(if $(HAVE_MPI),$(B)/ckpt-mpi-test $(B)/libpmpi-count.so $(B)/heat)
PRODUCTS += $(if $(HAVE_FORTRAN),$(B)/ckpt-fortran-test)
PRODUCTS += $(if $(HDF5_FLAGS),$(B)/heat-f90)
BUILT_SRC := $(CORE_SRC) $(CLI_SRC) $(if $(HAVE_FUSE),$(FS_SRC)) \
	$(if $(HAVE_MPI),$(MPI_LIB_SRC) $(MPI_PROG_SRC) $(MPI_HELPER_SRC) $(PMPI_SRC) $(EXAMPLE_SRC)) $(HELPER_SRC) $(REPLAY_SRC)

all: $(PRODUCTS) ## build the programs and libraries
	$(if $(HAVE_FUSE),,@echo 'left out: mount.ckptfs (no fuse3; install libfuse3-dev)')
	$(if $(HAVE_MPI),,@echo 'left out: ckptfs-mpi, libckptfs-mpi (no $(MPICC); install libopenmpi-dev)')
	$(if $(HAVE_FORTRAN),,@echo 'left out: what is written in Fortran (no $(MPIFORT); install gfortran)')
	$(if $(or $(HDF5_FLAGS),$(if $(HAVE_FORTRAN),,yes)),,@echo 'left out: heat-f90 ($(if $(H5PFC),no $(H5PFC); install libhdf5-openmpi-dev,no parallel HDF5 for this MPI))')
	@:

# Objects are made anew when the commands that make them change.
FLAGS_TEXT = $(compile) $(FUSE_CFLAGS) $(MPI_CFLAGS) | $(link) | $(compile_fortran)
$(B)/flags: FORCE
	$(if $(MISSING),@echo 'cannot build: $(MISSING) not found by $(PKG_CONFIG); run scripts/install-deps' >&2; exit 1)
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(FLAGS_TEXT))' | cmp -s - $@ || echo '$(subst ','\'',$(FLAGS_TEXT))' >$@

$(CORE_OBJ): EXTRA_CFLAGS = $(CORE_CFLAGS)
$(FS_OBJ): EXTRA_CFLAGS = $(FUSE_CFLAGS)
$(MPI_LIB_OBJ) $(MPI_PROG_OBJ) $(MPI_HELPER_OBJ) $(PMPI_OBJ): EXTRA_CFLAGS = $(MPI_CFLAGS)
# Built as an application is. No fused operations: the field is compared bit for bit.
$(EXAMPLE_OBJ): EXTRA_CFLAGS = $(MPI_CFLAGS) -Impi -ffp-contract=off
# What ckptfs_mpi.h does not declare is no part of the interface.
$(MPI_LIB_OBJ): EXTRA_CFLAGS += -fvisibility=hidden
$(B)/obj/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)$(compile) -MMD -MP -c -o $@ $<

# ar adds to an archive that is there, and would keep what was taken out of the sources.
$(CORE_LIB): $(CORE_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

$(MPI_STATIC): $(MPI_LIB_OBJ) $(CORE_OBJ)
	$(call say,AR,$@)rm -f $@ && $(AR) rcs $@ $^

# --exclude-libs: what the core exports is none of the library's interface.
$(MPI_SHARED): $(MPI_LIB_OBJ) $(CORE_LIB)
	$(call say,LD,$@)$(link) -shared -Wl,-soname,$(MPI_SONAME) -Wl,--exclude-libs,ALL -o $@ $^ $(MPI_LIBS) $(CORE_LIBS)

$(B)/ckptfs: $(CLI_OBJ) $(CORE_LIB)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(CORE_LIBS)

$(B)/mount.ckptfs: $(FS_OBJ) $(CORE_LIB)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(FUSE_LIBS) $(CORE_LIBS)

$(B)/ckptfs-mpi: $(MPI_PROG_OBJ) $(MPI_STATIC)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(MPI_LIBS) $(CORE_LIBS)

$(B)/ckpt-test: $(HELPER_OBJ) $(CORE_LIB)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(CORE_LIBS)

# libFuzzer's own name is what it calls.
$(call objects,$(FUZZ_SRC)): EXTRA_CFLAGS = $(if $(findstring fuzzer,$(CFLAGS)),,-DLLVMFuzzerTestOneInput=$(basename $(notdir $<)))
$(B)/ckpt-fuzz-replay: $(REPLAY_OBJ) $(CORE_LIB)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(CORE_LIBS)

$(B)/fuzz-%: $(B)/obj/tests/fuzz/fuzz_%.o $(call objects,$(FUZZ_FILE_SRC)) $(CORE_LIB)
	$(call say,LD,$@)$(link) -fsanitize=fuzzer -o $@ $^ $(CORE_LIBS)

$(B)/ckpt-mpi-test: $(MPI_HELPER_OBJ) $(MPI_STATIC)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(MPI_LIBS) $(CORE_LIBS)

$(B)/heat: $(EXAMPLE_OBJ) $(MPI_STATIC)
	$(call say,LD,$@)$(link) -pie -o $@ $^ $(MPI_LIBS) $(CORE_LIBS)

$(MODULE_OBJ): mpi/ckptfs_mpi.f90 $(B)/flags
	@mkdir -p $(@D)
	$(call say,FC,$<)$(compile_fortran) -J $(@D) -c -o $@ $<

$(B)/ckpt-fortran-test: tests/mpi_helper/fortran_test.f90 $(MODULE_OBJ) $(MPI_STATIC)
	$(call say,FC,$@)$(compile_fortran) -I $(dir $(MODULE_OBJ)) -pthread -o $@ $^ $(CORE_LIBS)

$(B)/heat-f90: mpi/examples/heat.f90 $(MODULE_OBJ) $(MPI_STATIC)
	$(call say,FC,$@)$(compile_fortran) -I $(dir $(MODULE_OBJ)) -pthread -o $@ $^ $(HDF5_FLAGS) $(CORE_LIBS)

# Preloaded by tests: counts the MPI calls of a program.
$(B)/libpmpi-count.so: $(PMPI_OBJ)
	$(call say,LD,$@)$(link) -shared -o $@ $^ $(MPI_LIBS)

$(MPI_PC): Makefile index/base/version.h FORCE
	@mkdir -p $(@D)
	@printf '%s\n' 'libdir=$(libdir)' 'includedir=$(includedir)' '' 'Name: ckptfs-mpi' \
		'Description: collective writer and reader of ckptfs checkpoints' 'Version: $(VERSION)' \
		'Cflags: -I$${includedir}' 'Libs: -L$${libdir} -lckptfs-mpi' \
		'Libs.private: $(CORE_LIBS) -pthread' >$@

-include $(patsubst %.c,$(B)/obj/%.d,$(BUILT_SRC))

faults: ## build the tree whose system calls can be made to fail (build/faults)
	$(Q)$(MAKE) B=build/faults CPPFLAGS='$(CPPFLAGS) -DCKPT_TEST_FAULTS' all

# --- tests ----------------------------------------------------------------------

# Run a second time without passthrough; tag once is for what takes its time, however bytes move.
MOUNT_TESTS = $(sort $(wildcard tests/2?-fs-*.bats))

check: all ## run the fast tests (under a minute) [MPI=mpich: those of MPI, built with MPICH]
	$(Q)CKPTFS_BUILD=$(abspath $(B)) $(BATS) --filter-tags '$(FAST_TAGS)' $(MORE_TAGS) tests

# Tests that wait for quiet times and for large clients more than they work: they run beside the others.
WAITING_TESTS = $(sort $(wildcard tests/60-client-*.bats)) tests/25-fs-autocommit.bats tests/25-fs-removal.bats
OTHER_TESTS = $(filter-out $(WAITING_TESTS),$(sort $(wildcard tests/*.bats)))
# Each lane has the mounts of its own: a namespace that a test makes takes a copy of all that it sees along, and keeps
# other tests' daemons alive.
apart = $(if $(filter 0,$(shell id -u)),unshare --mount)
run_bats = CKPTFS_BUILD=$(abspath $(B)) CLIENTS=$(CLIENTS) $(BATS)

# In steps of their own: what install-deps brings is looked for by a make started after it.
test: ## install what is missing, build, run all tests but the long ones [CLIENTS=all]
	$(Q)CLIENTS=$(CLIENTS) scripts/install-deps
	$(Q)$(MAKE) all
	$(Q)$(MAKE) faults
	$(Q)$(MAKE) -j2 test-others test-waiting
	@echo 'What may not run beside others:'
	$(Q)$(run_bats) --filter-tags 'alone,!long' tests
	$(Q)$(again) $(run_bats) --filter-tags 'alone,!long,!passthrough,!once' $(MOUNT_TESTS)

test-others:
	$(Q)$(apart) env $(run_bats) --filter-tags '!long,!alone' $(OTHER_TESTS)

# The mount with the reads going through the daemon.
again = CKPTFS_MOUNT_OPTIONS=passthrough=off
# Shown when all of them are done: two reports in one would be hard to read.
test-waiting:
	$(Q)code=0; { $(apart) env $(run_bats) --filter-tags '!long,!alone' $(WAITING_TESTS) || code=$$?; \
	echo 'The mount again, with the reads going through the daemon:'; \
	$(apart) env $(again) $(run_bats) --filter-tags '!long,!alone,!passthrough,!once' $(MOUNT_TESTS) || code=$$?; \
	} >$(B)/test-waiting.log 2>&1; cat $(B)/test-waiting.log; exit $$code

test-long: all faults ## run what takes long, in slices that go on where the last one stopped; then break lines on purpose
	$(Q)CKPTFS_BUILD=$(abspath $(B)) scripts/test-long && scripts/mutants

bench: all ## print speeds as ratios to the native file system and to peers
	$(Q)CKPTFS_BUILD=$(abspath $(B)) scripts/bench.py $(BENCH)

demo: ## install what is missing, build, and show what it does on a real model [MODEL=FILE]
	$(Q)scripts/install-deps build demo
	$(Q)$(MAKE) all
	$(Q)CKPTFS_BUILD=$(abspath $(B)) scripts/demo.sh

SAN_CFLAGS := -O1 -g -fno-omit-frame-pointer
# Tag sanitized: too slow for make check, and worth it here.
asan: ## build with address and undefined-behaviour sanitizers, run the fast tests and some more
	$(Q)UBSAN_OPTIONS=print_stacktrace=1 $(MAKE) B=build/asan \
		CFLAGS='$(SAN_CFLAGS) -fsanitize=address,undefined -fno-sanitize-recover=undefined' \
		MORE_TAGS='--filter-tags sanitized,!long' check

# Parsers, and commands that only look, have one thread. Programs that run for their own sake take minutes there, and
# nothing of ours runs beside them. Of MPI only what needs no MPI runtime: Open MPI's own races are not ours to find.
TSAN_ALONE = $(addsuffix .bats,$(addprefix tests/10-index-,doctor formats formats-dcp fuzz-replay history init look options rules states))
TSAN_INDEX_TESTS = $(filter-out $(TSAN_ALONE),$(wildcard tests/10-index-*.bats)) tests/15-views-map.bats
TSAN_MOUNT_TESTS = $(filter-out $(addprefix tests/,20-fs-run.bats 25-fs-programs.bats 25-fs-many.bats),$(MOUNT_TESTS))
run_tsan = CKPTFS_BUILD=$(abspath build/tsan) TSAN_OPTIONS=exitcode=99 $(BATS)

tsan: ## build with the thread sanitizer, run the tests of the index, the mount and the asynchronous save
	$(Q)$(MAKE) B=build/tsan CFLAGS='$(SAN_CFLAGS) -fsanitize=thread' all
	$(Q)$(MAKE) -j2 --output-sync=target tsan-index tsan-mount
tsan-index:
	$(Q)$(apart) env $(run_tsan) --filter-tags '!long,!mpi' $(TSAN_INDEX_TESTS)
	$(Q)$(run_tsan) -f 'a process alone' tests/35-mpi-async.bats
tsan-mount:
	$(Q)$(apart) env $(run_tsan) --filter-tags '!long,!mpi' $(TSAN_MOUNT_TESTS)

FUZZ ?=
fuzz: ## fuzz every parser of what comes from outside for FUZZ_SECS seconds [FUZZ='PARSER...' FUZZ_SECS=60]
	$(Q)scripts/install-deps build fuzz
	$(Q)$(MAKE) B=build/fuzz CC=clang CFLAGS='$(SAN_CFLAGS) -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined' fuzz-programs
	$(Q)CKPTFS_BUILD=build/fuzz scripts/fuzz $(FUZZ)
fuzz-programs: $(FUZZ_PROGS)

# --- installation ---------------------------------------------------------------

MAN_PAGES := $(wildcard index/cli/*.1 fs/*.8 index/store/*.5 mpi/*.1 mpi/*.3)
man_dest = $(mandir)/man$(patsubst .%,%,$(suffix $(1)))/$(notdir $(1))
HEADERS := $(wildcard mpi/ckptfs_mpi.h mpi/ckptfs_mpi_placement.h mpi/ckptfs_mpi.f90)
EXAMPLES := $(wildcard mpi/examples/*)
# Source and destination of every installed file, joined by a colon.
INSTALL_PROGS := $(foreach p,$(filter %/ckptfs %/ckptfs-mpi,$(PRODUCTS)),$(p):$(bindir)/$(notdir $(p))) \
	$(foreach p,$(filter %/mount.ckptfs,$(PRODUCTS)),$(p):$(sbindir)/$(notdir $(p))) \
	$(foreach p,$(filter $(MPI_SHARED),$(PRODUCTS)),$(p):$(libdir)/$(MPI_SONAME))
INSTALL_DATA := $(foreach p,$(filter $(MPI_STATIC),$(PRODUCTS)),$(p):$(libdir)/$(notdir $(p))) \
	$(foreach p,$(filter $(MPI_PC),$(PRODUCTS)),$(p):$(libdir)/pkgconfig/$(notdir $(p))) \
	$(if $(HAVE_MPI),$(foreach p,$(HEADERS),$(p):$(includedir)/$(notdir $(p)))) \
	$(if $(HAVE_MPI),$(foreach p,$(EXAMPLES),$(p):$(docdir)/examples/$(notdir $(p)))) \
	$(foreach p,$(MAN_PAGES),$(p):$(call man_dest,$(p))) \
	scripts/ckptfs_dcp.py:$(pkgdatadir)/ckptfs_dcp.py \
	scripts/completion/ckptfs.bash:$(bashcompdir)/ckptfs scripts/completion/_ckptfs:$(zshcompdir)/_ckptfs
# The second is how mount(8) calls the helper for a mount that is there: /proc/mounts says fuse.ckptfs.
INSTALL_LINK := $(if $(filter $(MPI_SHARED),$(PRODUCTS)),$(MPI_SONAME):$(libdir)/libckptfs-mpi.so) \
	$(if $(filter %/mount.ckptfs,$(PRODUCTS)),mount.ckptfs:$(sbindir)/mount.fuse.ckptfs)
put = install -D -m $(1) '$(word 1,$(subst :, ,$(2)))' '$(DESTDIR)$(word 2,$(subst :, ,$(2)))' &&

install: all ## install below $(DESTDIR)$(prefix)
	$(Q)$(foreach f,$(INSTALL_PROGS),$(call put,755,$(f))) :
	$(Q)$(foreach f,$(INSTALL_DATA),$(call put,644,$(f))) :
	$(Q)$(foreach l,$(INSTALL_LINK),ln -sf '$(word 1,$(subst :, ,$(l)))' '$(DESTDIR)$(word 2,$(subst :, ,$(l)))' &&) :

uninstall: ## remove what install put there
	$(Q)rm -f $(foreach f,$(INSTALL_PROGS) $(INSTALL_DATA) $(INSTALL_LINK),'$(DESTDIR)$(word 2,$(subst :, ,$(f)))')

dist: ## pack the committed sources into build/ckptfs-VERSION.tar.gz
	@mkdir -p $(B)
	$(Q)git archive --prefix=ckptfs-$(VERSION)/ -o $(B)/ckptfs-$(VERSION).tar.gz HEAD
	@echo $(B)/ckptfs-$(VERSION).tar.gz

# --- style ----------------------------------------------------------------------

C_FILES := $(sort $(foreach d,index/* fs mpi mpi/* tests/*,$(wildcard $(d)/*.c $(d)/*.h)))
SHELL_FILES = $(shell grep -lsE '^\#!.*\b(ba)?sh\b' $(wildcard scripts/* .ci/*) /dev/null) \
	$(shell find tests scripts/completion -name '*.bash' 2>/dev/null)
BATS_FILES = $(wildcard tests/*.bats)

fmt: ## format all C files
	$(Q)$(CLANG_FORMAT) -i $(C_FILES)

fmt-check: ## fail where fmt would change something
	$(Q)$(CLANG_FORMAT) --dry-run --Werror $(C_FILES)

layering: all ## prove who may include and link what
	$(Q)scripts/layering.sh $(B)

style: ## check ceilings of files and functions, and unique names
	$(Q)scripts/style.sh

# A stamp a source: it is looked at again when it, or a header that its object knows, has changed.
TIDY_STAMPS := $(patsubst %.c,$(B)/tidy/%.ok,$(BUILT_SRC))
tidy_checks = $(if $(filter index/cli/% mpi/cli_% mpi/examples/% tests/%,$<),--checks=-concurrency-mt-unsafe)
$(patsubst %.c,$(B)/tidy/%.ok,$(CORE_SRC)): EXTRA_CFLAGS = $(CORE_CFLAGS)
$(patsubst %.c,$(B)/tidy/%.ok,$(FS_SRC)): EXTRA_CFLAGS = $(FUSE_CFLAGS)
$(patsubst %.c,$(B)/tidy/%.ok,$(MPI_LIB_SRC) $(MPI_PROG_SRC) $(MPI_HELPER_SRC) $(PMPI_SRC)): EXTRA_CFLAGS = $(MPI_CFLAGS)
$(patsubst %.c,$(B)/tidy/%.ok,$(EXAMPLE_SRC)): EXTRA_CFLAGS = $(MPI_CFLAGS) -Impi
$(B)/tidy/%.ok: %.c $(B)/obj/%.o .clang-tidy
	@mkdir -p $(@D)
	$(call say,TIDY,$<)$(CLANG_TIDY) --quiet $(tidy_checks) $< -- $(CKPT_CPPFLAGS) $(EXTRA_CFLAGS) $(CPPFLAGS) 2>$@.log \
		|| { cat $@.log >&2; exit 1; }
	@touch $@
tidy: $(TIDY_STAMPS)

cppcheck:
	@mkdir -p $(B)/cppcheck
	$(Q)cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning,portability,performance --inline-suppr \
		--cppcheck-build-dir=$(B)/cppcheck -j2 -D_GNU_SOURCE -Iindex $(BUILT_SRC)

shell-lint:
	$(Q)$(if $(strip $(SHELL_FILES)),shellcheck $(SHELL_FILES))
	$(Q)$(if $(strip $(BATS_FILES)),shellcheck -s bash $(BATS_FILES))

man-lint:
	$(Q)$(if $(MAN_PAGES),mandoc -T lint -W warning $(MAN_PAGES))

# Two at a time, unless this make was told how many.
two_jobs = $(if $(filter -j%,$(MAKEFLAGS)),,-j2)
lint: fmt-check style shell-lint man-lint ## all static checks: gcc -Werror, clang-tidy, cppcheck, shellcheck, mandoc, format
	$(Q)$(MAKE) $(two_jobs) B=build/lint CFLAGS='-O2 -g -Werror' all
	$(Q)$(MAKE) $(two_jobs) B=build/lint CFLAGS='-O2 -g -Werror' tidy cppcheck

clean: ## remove build/
	$(Q)rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | while IFS='	' read -r t text; do printf '  %-11s %s\n' "$$t" "$$text"; done

FORCE:
.PHONY: all faults check test test-others test-waiting test-long bench demo asan tsan tsan-index tsan-mount fuzz fuzz-programs install uninstall dist fmt fmt-check layering style \
	tidy cppcheck shell-lint man-lint lint clean help FORCE
