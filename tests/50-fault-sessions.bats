#!/usr/bin/env bats
# bats file_tags=fault,slow
# Each system call behind sessions, and behind a commit that replaces, fails or is the process's last.
load helpers/common

setup_file() {
  requires faults
  store=$tmp/template
  new_store "$store"
  few_files "$store/run1/step-1" 1
  ckptfs commit "$store/run1/step-1" >/dev/null 3>&-
  few_files "$store/run1/step-1.partial" 2
}

setup() {
  requires faults
  template=$BATS_FILE_TMPDIR/template
}

few_files() {
  mkdir -p "$1/sub"
  random_bytes "$2" 30000 >"$1/a.bin"
  random_bytes "$2$2" 5000 >"$1/b.bin"
  echo "step $2" >"$1/sub/note.txt"
}

# fresh: a new copy of the template as $store.
fresh() {
  rm -rf "$store"
  cp -a "$template" "$store"
}

# faulted CALL K ACTION CMD…: sets $fired and $outcome: the exit status, 137 for SIGKILL.
faulted() {
  local fault=$1:$2:$3
  shift 3
  outcome=0
  # The outer shell says "Killed", and only that is thrown away.
  { CKPTFS_IO_FAULT=$fault PATH=$CKPT_FAULTS:$PATH timeout 60 "$@" >"$tmp/out" 2>&1 3>&- 4>&- </dev/null; } 2>/dev/null || outcome=$?
  fired=no
  ! grep -q '^ckptfs: io fault: ' "$tmp/out" || fired=yes
  printf '%s %s: exit %s, fired: %s\n' "$fault" "$*" "$outcome" "$fired"
  sed 's/^/  /' "$tmp/out"
  case $outcome in
  0 | 1 | 137) ;;
  *) fail "it ended in another way than it may" ;;
  esac
}

# loop AT_LEAST ACTION CHECK PREPARE CMD…: every call in turn; PREPARE comes before each, CHECK behind it.
loop() {
  local at_least=$1 action=$2 check=$3 prepare=$4 call k total=0
  shift 4
  for call in openat openat2 pread pwrite fstat fstatat fsync fdatasync renameat mkdirat unlinkat ftruncate readdir; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 500 ] || fail "no end of $call"
      "$prepare" || return 1
      faulted "$call" "$k" "$action" "$@" || return 1
      [ "$fired" = yes ] || break
      total=$((total + 1))
      "$check" || return 1
    done
  done
  echo "$total faults fired"
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}

leaves_session() {
  ckpt-test session "$store" run1/step-1.partial "sum=$store/run1/step-1.partial/a.bin" "sum=$store/run1/step-1.partial/b.bin" tell=idle >/dev/null
}

fresh_with_session() {
  fresh && leaves_session
}

# The new checkpoint can be committed, and is right.
can_be_committed() {
  ok ckpt-test commit "$store" run1/step-1.partial run1/step-2 || return 1
  ok ckptfs verify "$store" || return 1
  says 'run1/step-1: ok (3 shards, ' 'run1/step-2: ok (3 shards, ' || return 1
  same_tree "$store/run1/step-2" "$template/run1/step-1.partial" || return 1
  assert_eq "$(ls -A "$store/run1/step-2/.ckptfs")" manifest.jsonl
}

@test "wherever a writer of sums fails or is killed, the commit is right all the same" {
  local action
  for action in EIO ENOSPC kill; do
    loop 20 "$action" can_be_committed fresh ckpt-test session "$store" run1/step-1.partial \
      "sum=$store/run1/step-1.partial/a.bin" tell=summing "sum=$store/run1/step-1.partial/b.bin" keep tell=idle || return 1
  done
}

# bats test_tags=long
@test "wherever a writer of sums ends a session for good and fails, nothing is lost" {
  local action
  for action in EIO kill; do
    loop 20 "$action" can_be_committed fresh ckpt-test session "$store" run1/step-1.partial "sum=$store/run1/step-1.partial/a.bin" remove || return 1
  done
}

# bats test_tags=long
@test "wherever a commit that finds sums fails, it is whole or has not happened" {
  loop 60 EIO committed_or_open fresh_with_session ckpt-test commit "$store" run1/step-1.partial run1/step-2
}

@test "wherever a commit that finds sums is killed, it is whole or has not happened" {
  loop 60 kill committed_or_open fresh_with_session ckpt-test commit "$store" run1/step-1.partial run1/step-2
}

committed_or_open() {
  ok ckptfs verify "$store" || return 1
  if [ -e "$store/run1/step-2" ]; then
    [ "$outcome" != 1 ] || fail "it failed, and has happened" || return 1
    same_tree "$store/run1/step-2" "$template/run1/step-1.partial" || return 1
    says 'run1/step-2: ok (3 shards, '
  else
    [ "$outcome" != 0 ] || fail "it did not fail, and has not happened" || return 1
    can_be_committed
  fi
}

# The name is the old one's or the new one's. Only a kill may come between the two, and then both are whole.
old_or_new() {
  ok ckptfs verify "$store" || return 1
  if [ "$outcome" = 0 ]; then
    same_tree "$store/run1/step-1" "$template/run1/step-1.partial" || return 1
    return 0
  fi
  if [ -e "$store/run1/step-1.partial" ]; then
    same_tree "$store/run1/step-1.partial" "$template/run1/step-1.partial" || return 1
    if [ "$outcome" = 1 ] || [ -e "$store/run1/step-1" ]; then
      same_tree "$store/run1/step-1" "$template/run1/step-1" || return 1
    else
      same_tree "$(find "$store/.ckptfs/trash" -name step-1)" "$template/run1/step-1" || return 1
    fi
    ok ckpt-test commit "$store" run1/step-1.partial run1/step-1 replace || return 1
  fi
  ok ckptfs verify "$store/run1/step-1" || return 1
  same_tree "$store/run1/step-1" "$template/run1/step-1.partial" || return 1
  assert_eq "$(ls -A "$store/run1")" step-1
}

# bats test_tags=long
@test "wherever a commit that replaces fails, the old checkpoint is there as it was" {
  loop 80 EIO old_or_new fresh ckpt-test commit "$store" run1/step-1.partial run1/step-1 replace
}

@test "wherever a commit that replaces is killed, no checkpoint is lost" {
  loop 80 kill old_or_new fresh ckpt-test commit "$store" run1/step-1.partial run1/step-1 replace
}
