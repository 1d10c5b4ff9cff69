#!/usr/bin/env bats
# bats file_tags=fault
# Each system call of a commit fails, or is the process's last: whatever happens, the old checkpoint
# reads well, the new one is open or committed and nothing between, and the work can be done again.
load helpers/common

setup_file() {
  requires faults
  store=$tmp/template
  new_store "$store"
  few_files "$store/old/step-1" 1
  ckptfs commit "$store/old/step-1" >/dev/null 3>&-
  few_files "$store/run1/step-2.partial" 2
}

setup() {
  requires faults
  template=$BATS_FILE_TMPDIR/template
}

teardown() {
  forget_cache
  clean_up
}

# Where the index in the store fails, root's lies there. Each store has a name of its own in it.
forget_cache() {
  local file
  for file in "$store/.ckptfs/store.json" "$store"/*/*/.ckptfs/store.json; do
    [ ! -s "$file" ] || rm -f "/var/cache/ckptfs/$(jq -r .id "$file").db"*
  done
}

# few_files DIR SEED: some KiB, with a folder, a symbolic link and tensors.
few_files() {
  mkdir -p "$1/sub"
  random_bytes "$2" 30000 >"$1/a.bin"
  echo "step $2" >"$1/sub/note.txt"
  make_model "$1/model.safetensors" small
  ln -s sub/note.txt "$1/link"
}

# faulted CALL K ACTION CMD…: the programs of the fault build in a fresh copy of the template, $store.
# Sets $fired and $outcome: the exit status, 137 for SIGKILL.
faulted() {
  local fault=$1:$2:$3 action=$3
  shift 3
  forget_cache
  rm -rf "$store"
  cp -a --reflink=auto "$template" "$store"
  outcome=0
  # The outer shell says "Killed", and only that is thrown away.
  { CKPTFS_IO_FAULT=$fault PATH=$CKPT_FAULTS:$PATH timeout 60 "$@" >"$tmp/out" 2>&1 3>&- 4>&- </dev/null; } 2>/dev/null || outcome=$?
  fired=no
  ! grep -q '^ckptfs: io fault: ' "$tmp/out" || fired=yes
  printf '%s %s: exit %s, fired: %s\n' "$fault" "$*" "$outcome" "$fired"
  sed 's/^/  /' "$tmp/out"
  case "$fired $action $outcome" in
  "yes kill 137" | "yes "*" 0" | "yes "*" 1" | "no "*" 0") ;;
  *) fail "it ended in another way than it may" ;;
  esac
}

# old_is_well: the store as a whole, and what was committed before, byte for byte.
old_is_well() {
  ok ckptfs verify "$store" || return 1
  says 'old/step-1: ok (3 shards, ' || return 1
  same_tree "$store/old/step-1" "$template/old/step-1"
}

# new_is_open_or_committed: one name, one state. Sets $state.
new_is_open_or_committed() {
  ok ckptfs ls "$store" || return 1
  state=$(awk '$1 ~ /^run1/ { print $1, $2 }' <<<"$stdout")
  case "$state" in
  'run1/step-2.partial open') [ ! -e "$store/run1/step-2" ] || fail "both names are there" ;;
  'run1/step-2 committed')
    same_tree "$store/run1/step-2" "$template/run1/step-2.partial" || return 1
    # A tensor that could not be read about is no reason to commit without it.
    assert_eq "$(tail -1 "$store/run1/step-2/.ckptfs/manifest.jsonl" | jq -c '[.shards, .tensors]')" '[3,24]' "shards and tensors"
    ;;
  *) fail "half visible: '$state'" ;;
  esac
}

# can_be_finished: a second commit, if there is still something to commit, and all is as if nothing had happened.
can_be_finished() {
  if [ "$state" = 'run1/step-2.partial open' ]; then
    ok ckptfs commit "$store/run1/step-2.partial" || return 1
    assert_eq "$(ls -A "$store/run1/step-2/.ckptfs")" manifest.jsonl "what the second commit left in .ckptfs" || return 1
  fi
  ok ckptfs verify "$store" || return 1
  says 'old/step-1: ok (3 shards, ' 'run1/step-2: ok (3 shards, ' || return 1
  same_tree "$store/run1/step-2" "$template/run1/step-2.partial" || return 1
  ok ckptfs latest "$store" || return 1
  assert_eq "$stdout" "$store/run1/step-2"
}

# commit_loop AT_LEAST ACTION CALL…: every call of that name in turn, until none is left to fail.
# With must_fail=yes none may be got over.
commit_loop() {
  local at_least=$1 action=$2 call k total=0
  for call in "${@:3}"; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 500 ] || fail "no end of $call"
      faulted "$call" "$k" "$action" ckptfs commit "$store/run1/step-2.partial" || return 1
      [ "$fired" = yes ] || break
      total=$((total + 1))
      old_is_well || return 1
      new_is_open_or_committed || return 1
      case "${must_fail:-no} $outcome $state" in
      no\ 0*committed | *\ 1\ *open | *\ 137\ *) ;;
      *) fail "exit $outcome and '$state'" || return 1 ;;
      esac
      can_be_finished || return 1
    done
  done
  echo "$total faults fired"
  # A seam that nothing goes through would make all this pass.
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}

# bats test_tags=slow
@test "whichever call that makes a commit durable fails with EIO, the checkpoint is open and can be committed" {
  local must_fail=yes
  commit_loop 8 EIO fsync fdatasync syncfs
}

# bats test_tags=slow
@test "whichever call that makes or names files fails with EIO, a commit is whole or has not happened" {
  commit_loop 40 EIO renameat pwrite mkdirat unlinkat openat
}

# bats test_tags=slow
@test "whichever call that reads fails with EIO, nothing is committed with less than there is: no shard, no tensor" {
  commit_loop 60 EIO openat2 pread fstat
}

# bats test_tags=slow
@test "wherever the disk runs full, a commit is whole or has not happened" {
  commit_loop 12 ENOSPC fsync fdatasync syncfs renameat pwrite mkdirat
}

# bats test_tags=slow
@test "wherever a commit is killed, the checkpoint is open or committed, and the next commit finishes it" {
  commit_loop 45 kill fsync fdatasync syncfs renameat pwrite mkdirat unlinkat openat
}

# bats test_tags=slow,mpi
@test "a call that fails on one rank of a save is in the table with that rank's own errno, and nothing is committed" {
  requires mpi
  local case rank errno
  make_model "$tmp/model.safetensors" model 3
  new_store
  for case in 'pwrite:1:EDQUOT@1' 'pwrite:2:EIO@0' 'fdatasync:1:EROFS@2' 'openat:3:EMFILE@1'; do
    rank=${case#*@}
    errno=${case##*:}
    errno=${errno%@*}
    fails 1 env "CKPTFS_IO_FAULT=$case" PATH="$CKPT_FAULTS:$PATH" mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" --io posix || return 1
    says 'io fault: ' || return 1
    assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1 "rows of the failure table" || return 1
    says_like "^ckptfs-mpi: rank $rank on [^:]+: [a-z_]+: $errno: " || return 1
    ok ckptfs verify "$store" || return 1
    ok ckptfs ls "$store" || return 1
    says_not ' committed ' || return 1
  done
  ok mpi 3 save "$store/step-1" --from "$tmp/model.safetensors"
  ok mpi 2 load "$store/step-1" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
}

all_calls=(openat openat2 pread pwrite fstat fstatat fsync fdatasync syncfs renameat mkdirat unlinkat symlinkat ftruncate fallocate readdir fstatfs statx)

# The full matrix. In three, so that each ends well within a test's time.
matrix() {
  local action
  for action in "$@"; do
    commit_loop 200 "$action" "${all_calls[@]}" || return 1
  done
}

# bats test_tags=long
@test "whichever call of a commit fails because of the disk, the commit is whole or has not happened" {
  matrix EIO ENOSPC
}

# bats test_tags=long
@test "whichever call of a commit fails for want of rights or resources, the commit is whole or has not happened" {
  matrix EACCES ENOMEM EMFILE
}

# bats test_tags=long
@test "whichever call of a commit is its last, the commit is whole or has not happened" {
  matrix kill
}

# other_loop AT_LEAST ACTION CHECK CMD…: the same for another command in $store; CHECK judges each outcome.
other_loop() {
  local at_least=$1 action=$2 check=$3 call k total=0
  shift 3
  for call in "${all_calls[@]}"; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 500 ] || fail "no end of $call"
      faulted "$call" "$k" "$action" "$@" || return 1
      [ "$fired" = yes ] || break
      total=$((total + 1))
      "$check" || return 1
    done
  done
  echo "$total faults fired"
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}

# An abort drops the checkpoint whole, or leaves it so that it can be dropped, or even committed, whole.
check_abort() {
  old_is_well || return 1
  if [ "$outcome" = 0 ]; then
    [ ! -e "$store/run1/step-2.partial" ] || fail "exit 0, but it is still there" || return 1
  fi
  if [ -e "$store/run1/step-2.partial" ]; then
    same_tree "$store/run1/step-2.partial" "$template/run1/step-2.partial" || return 1
    ok ckptfs abort "$store/run1/step-2.partial" || return 1
  fi
  ok ckptfs ls "$store" || return 1
  says_not step-2 || return 1
  ok ckptfs verify "$store"
}

# bats test_tags=long
@test "wherever an abort fails or is killed, the checkpoint is there whole or gone whole" {
  local action
  for action in EIO EACCES kill; do
    other_loop 100 "$action" check_abort ckptfs abort "$store/run1/step-2.partial" || return 1
  done
}

# A store that is half made can be made; one that is made is one.
check_init() {
  if [ "$outcome" = 0 ]; then
    ok ckptfs ls "$store/run1/new" || return 1
  fi
  ok ckptfs init "$store/run1/new" || return 1
  ok ckptfs ls "$store/run1/new" || return 1
  few_files "$store/run1/new/step-1" 3
  ok ckptfs commit "$store/run1/new/step-1" || return 1
  ok ckptfs verify "$store/run1/new"
}

# bats test_tags=long
@test "wherever an init fails or is killed, it can be done again" {
  local action
  # A plain folder: stores do not nest.
  template=$tmp/plain
  mkdir -p "$template/run1"
  for action in EIO ENOSPC kill; do
    other_loop 60 "$action" check_init ckptfs init "$store/run1/new" || return 1
  done
}
