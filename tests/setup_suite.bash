# shellcheck shell=bash
# Once for the whole run: where the programs are, a clean environment, the launcher of MPI jobs.

setup_suite() {
  CKPT_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  CKPT_BUILD=$(realpath "${CKPTFS_BUILD:-$CKPT_TOP/build}")
  [ -x "$CKPT_BUILD/ckptfs" ] || {
    echo "no programs in $CKPT_BUILD; run 'make' first" >&2
    return 1
  }
  # Other users' test daemons must be able to come here; bats makes the folder 0700.
  chmod 755 "$BATS_RUN_TMPDIR" "$BATS_SUITE_TMPDIR"
  copy_programs
  export CKPT_TOP CKPT_BUILD CKPT_FAULTS=$CKPT_TOP/build/faults
  export PATH=$CKPT_BIN:$PATH:/usr/sbin:/sbin
  # Nothing of the person who runs the tests decides how they end.
  unset CKPTFS_STORE CKPTFS_FAULT CKPTFS_IO_FAULT MAKEFLAGS MAKELEVEL
  export LC_ALL=C.UTF-8 TZ=UTC HOME=$BATS_SUITE_TMPDIR XDG_CACHE_HOME=$BATS_SUITE_TMPDIR/cache
  export BATS_TEST_TIMEOUT=${BATS_TEST_TIMEOUT:-240}
  # A sanitizer's finding must not look like one of our exit codes.
  export ASAN_OPTIONS=${ASAN_OPTIONS:-}:exitcode=99 UBSAN_OPTIONS=${UBSAN_OPTIONS:-}:exitcode=99
  umask 022
  choose_launcher
}

# A copy in a place that every user can reach: the clone may lie in somebody's home.
copy_programs() {
  local program
  export CKPT_BIN=$BATS_SUITE_TMPDIR/bin
  mkdir "$CKPT_BIN"
  for program in ckptfs mount.ckptfs ckptfs-mpi ckpt-test; do
    [ ! -x "$CKPT_BUILD/$program" ] || cp "$CKPT_BUILD/$program" "$CKPT_BIN/"
  done
}

# mpi N ARGS… runs N ranks of ckptfs-mpi, more than there are processors if need be. A program, so that
# timeout, env and setpriv can start it.
choose_launcher() {
  cat >"$CKPT_BIN/mpi" <<'END'
#!/bin/sh
root=
[ "$(id -u)" -ne 0 ] || root=--allow-run-as-root
# Open MPI leaks by itself; leaks of ours are looked for in the other programs.
export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0"
# Ranks that wait for each other on too few processors must not spin.
export OMPI_MCA_mpi_yield_when_idle=1
# After a failed rank mpirun would wait a second or two before it ends the others.
export OMPI_MCA_odls_base_sigkill_timeout=0
ranks=$1
shift
exec mpirun $root --oversubscribe --bind-to none -n "$ranks" ckptfs-mpi "$@"
END
  chmod 755 "$CKPT_BIN/mpi"
}
