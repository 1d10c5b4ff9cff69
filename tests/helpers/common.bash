# shellcheck shell=bash
# What every bats file loads: running commands, comparing, making stores and checkpoints.
#
#   ok CMD…            must exit 0           fails N CMD…     must exit N and say something
#   says TEXT…         all in its output     says_not TEXT…   none of them
# The last command's $status, $stdout, $stderr and $output (both) can be looked at. Everything is
# logged, and bats shows the log of a test that fails.
bats_require_minimum_version 1.5.0

HELPERS=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source=tests/helpers/mounts.bash
source "$HELPERS/mounts.bash"
# shellcheck source=tests/helpers/disk.bash
source "$HELPERS/disk.bash"

# The folder of this test, or, in setup_file, of this file.
tmp=${BATS_TEST_TMPDIR:-$BATS_FILE_TMPDIR}
store=$tmp/store

fail() {
  printf 'FAILED: %s\n' "$*"
  return 1
}

# try CMD…: run it under a deadline, note how it ended. Ending by a signal is never what a test wants.
try() {
  status=0
  printf '$ %s\n' "$*"
  timeout -k 5 "${DEADLINE:-100}" "$@" >"$tmp/.stdout" 2>"$tmp/.stderr" 3>&- 4>&- </dev/null || status=$?
  # Bytes of shards are no text: what is asked of them is asked of the file.
  stdout=$(tr -d '\0' <"$tmp/.stdout")
  stderr=$(tr -d '\0' <"$tmp/.stderr")
  output=$stdout${stdout:+${stderr:+$'\n'}}$stderr
  printf '%.20000s\n[exit %s]\n' "$output" "$status"
  [ "$status" -lt 124 ] || fail "ended by a signal or the deadline: $*" || return 1
  [ "$status" -ne 99 ] || fail "a sanitizer found something: $*"
}

ok() {
  try "$@" || return 1
  assert_status 0
}

fails() {
  local expected=$1
  shift
  try "$@" || return 1
  assert_status "$expected" || return 1
  [ -n "$output" ] || fail "exit $expected without a word"
}

# xxh64_of: XXH3-64 of stdin, however this xxhsum words it.
xxh64_of() {
  xxhsum -H3 - | grep -oE '[0-9a-f]{16}'
}

# not CMD…: it must fail. (A bare `! CMD` never fails a test.)
not() {
  ! "$@"
}

assert_status() {
  [ "$status" -eq "$1" ] || fail "exit status is $status, should be $1"
}

assert_eq() {
  [ "$1" = "$2" ] || fail "${3:-value} differs"$'\n'"  is:        $1"$'\n'"  should be: $2"
}

says() {
  local text
  for text in "$@"; do
    [[ "$output" == *"$text"* ]] || fail "the output does not hold: $text" || return 1
  done
}

says_not() {
  local text
  for text in "$@"; do
    [[ "$output" != *"$text"* ]] || fail "the output holds: $text" || return 1
  done
}

# says_like REGEX…: some line of the output matches each (extended regular expressions).
says_like() {
  local regex
  for regex in "$@"; do
    grep -qE -- "$regex" <<<"$output" || fail "no line of the output matches: $regex" || return 1
  done
}

# same FILE OTHER: the same bytes.
same() {
  cmp "$1" "$2" || fail "'$1' and '$2' differ"
}

# same_tree DIR OTHER: the same names and bytes, control folders left out.
same_tree() {
  diff -r --no-dereference --exclude=.ckptfs "$1" "$2" || fail "'$1' and '$2' differ"
}

# errno_is ENAME CALL PATH…: what ckpt-test says of that call.
errno_is() {
  local expected=$1
  shift
  try ckpt-test errno "$@" || return 1
  assert_status 0 || return 1
  assert_eq "$stdout" "$expected" "errno of $*"
}

# eventually SECONDS CMD…: true before that many seconds have passed.
eventually() {
  local deadline=$((SECONDS + $1 + 1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$deadline" ] || fail "still not so: $*" || return 1
    sleep 0.05
  done
}

# requires WORD…: skip where something is not to be had; under CI=true that is a failure.
requires() {
  local word
  for word in "$@"; do
    available "$word" && continue
    [ "${CI:-}" != true ] || fail "not to be had here: $word" || return 1
    skip "needs $word"
  done
}

available() {
  case "$1" in
  fuse) [ -r /dev/fuse ] && [ -w /dev/fuse ] && [ -x "$CKPT_BIN/mount.ckptfs" ] ;;
  mpi) command -v "$CKPTFS_MPIRUN" >/dev/null && [ -x "$CKPT_BIN/ckptfs-mpi" ] ;;
  openmpi) [ "$CKPT_MPI" = openmpi ] ;;
  root) [ "$(id -u)" -eq 0 ] ;;
  loop) [ "$(id -u)" -eq 0 ] && losetup -f >/dev/null 2>&1 ;;
  faults) [ -x "$CKPT_FAULTS/ckptfs" ] ;;
  clients) [ -x "$CKPT_TOP/build/venv/bin/python3" ] ;;
  passthrough) has_passthrough ;; # of helpers/counters.bash
  *) command -v "$1" >/dev/null ;;
  esac
}

# Another user: `ok "${as_nobody[@]}" ckptfs ls`.
as_nobody=(setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all env "HOME=$tmp/home" "XDG_CACHE_HOME=$tmp/home/cache")

# --- stores, checkpoints, models ------------------------------------------------

# new_store [DIR]: an empty store, $store if not said otherwise.
new_store() {
  store=${1:-$tmp/store}
  ckptfs init "$store" >/dev/null 3>&-
}

# A few files as a program would leave them, 3 MiB in all: the same bytes at each call for one SEED.
# make_files DIR [SEED]
make_files() {
  local dir=$1 seed=${2:-1}
  mkdir -p "$dir/sub/deep"
  random_bytes "$seed" 2500000 >"$dir/big.bin"
  random_bytes "$seed" 1048576 >"$dir/sub/block.bin"
  printf 'step %s\n' "$seed" >"$dir/sub/deep/note.txt"
  : >"$dir/empty"
  ln -s sub/deep/note.txt "$dir/link"
  chmod 640 "$dir/sub/block.bin"
  touch -d '2026-01-02 03:04:05.123456789 UTC' "$dir/big.bin"
}

# random_bytes SEED COUNT: the same at each call.
random_bytes() {
  ckpt-test random "$1" "$2"
}

# committed NAME [SEED]: a committed checkpoint of make_files in $store.
committed() {
  make_files "$store/$1" "${2:-1}"
  ckptfs commit "$store/$1" >/dev/null 3>&-
}

# make_model FILE small | model MIB
make_model() {
  python3 "$HELPERS/make_safetensors.py" "$@"
}

slice() {
  python3 "$HELPERS/slice_safetensors.py" "$@"
}

# snapshot DIR: one line for everything in it, by which two states can be compared. The index is a cache and no part.
snapshot() {
  (
    cd "$1" || exit
    find . -name 'index.db*' -prune -o -printf '%y %m %s %T@ %p %l\n' | LC_ALL=C sort -k5
    find . -name 'index.db*' -prune -o -type f -print0 | LC_ALL=C sort -z | xargs -0r xxhsum -H2 --
  )
}

# refuses_commit PATH TEXT…: the commit says no in these words, and nothing has changed.
refuses_commit() {
  snapshot "$store" >"$tmp/before"
  fails 1 ckptfs commit "$1" || return 1
  says "${@:2}" || return 1
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# state_of NAME: what ls says of a checkpoint ("" where it says nothing).
state_of() {
  ckptfs ls "$store" 3>&- | awk -v name="$1" '$1 == name { print $2 }'
}
