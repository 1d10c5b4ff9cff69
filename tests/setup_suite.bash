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
  export CKPT_TOP CKPT_BUILD CKPT_FAULTS=${CKPTFS_FAULTS:-$CKPT_TOP/build/faults}
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
  for program in ckptfs mount.ckptfs ckptfs-mpi ckpt-test ckpt-fuzz-replay ckpt-mpi-test ckpt-fortran-test heat heat-f90; do
    [ ! -x "$CKPT_BUILD/$program" ] || cp "$CKPT_BUILD/$program" "$CKPT_BIN/"
  done
}

# Programs, so that timeout, env and setpriv can start them:
#   launch N CMD…   N ranks of a program, more than there are processors if need be
#   mpi N ARGS…     … of ckptfs-mpi         mpi-test N ARGS…   … of ckpt-mpi-test
#   each-rank FILE CMD…   what a rank runs: CMD, its exit status into FILE.RANK, and exit 0, so that the launcher lets
#                         all ranks end by themselves: launch 4 each-rank "$tmp/status" ckptfs-mpi save …
# CKPTFS_MPIRUN is the mpirun of the MPI that the programs were built with; CKPT_MPI says whose it is.
choose_launcher() {
  export CKPTFS_MPIRUN=${CKPTFS_MPIRUN:-mpirun} CKPT_MPI=openmpi
  ! "$CKPTFS_MPIRUN" --version 2>/dev/null | grep -q HYDRA || CKPT_MPI=mpich
  cat >"$CKPT_BIN/launch" <<'END'
#!/bin/sh
# Open MPI leaks by itself; leaks of ours are looked for in the other programs. What is preloaded comes before the
# sanitizer's own library.
export ASAN_OPTIONS="$ASAN_OPTIONS:detect_leaks=0:verify_asan_link_order=0"
ranks=$1
shift
[ "$CKPT_MPI" != mpich ] || exec "$CKPTFS_MPIRUN" -n "$ranks" "$@"
root=
[ "$(id -u)" -ne 0 ] || root=--allow-run-as-root
# Ranks that wait for each other on too few processors must not spin.
export OMPI_MCA_mpi_yield_when_idle=1
# After a failed rank mpirun would wait a second or two before it ends the others.
export OMPI_MCA_odls_base_sigkill_timeout=0
exec "$CKPTFS_MPIRUN" $root --oversubscribe --bind-to none -n "$ranks" "$@"
END
  cat >"$CKPT_BIN/mpi" <<'END'
#!/bin/sh
ranks=$1
shift
exec launch "$ranks" ckptfs-mpi "$@"
END
  sed 's/ckptfs-mpi/ckpt-mpi-test/' "$CKPT_BIN/mpi" >"$CKPT_BIN/mpi-test"
  cat >"$CKPT_BIN/each-rank" <<'END'
#!/bin/sh
file=$1.${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-0}}
shift
"$@"
echo $? >"$file"
END
  chmod 755 "$CKPT_BIN"/{launch,mpi,mpi-test,each-rank}
}
