#!/usr/bin/env bats
# bats file_tags=slow
# Commits that wait: five seconds for a writer to let go.
load helpers/common

setup() {
  new_store
  make_files "$store/step-1"
}

@test "a file that is open for writing is named, and the commit can be done again when it is closed" {
  hold write "$store/step-1/sub/block.bin"
  refuses_commit "$store/step-1" 'step-1/sub/block.bin' 'open for writing'
  let_go
  ok ckptfs commit "$store/step-1"
}

@test "a mapping for writing that outlives its descriptor is seen" {
  hold map "$store/step-1/big.bin"
  refuses_commit "$store/step-1" 'step-1/big.bin' 'open for writing'
  let_go
  ok ckptfs commit "$store/step-1"
}

@test "a writer that lets go in time does not keep the commit from it" {
  local pid
  hold write "$store/step-1/big.bin"
  ckptfs commit "$store/step-1" >"$tmp/out" 2>&1 3>&- &
  pid=$!
  eventually 5 test -e "$store/step-1/.ckptfs/commit.lock"
  let_go
  wait "$pid"
  ok ckptfs verify "$store/step-1"
}

@test "a checkpoint whose save is given up while its commit waits is not committed" {
  local pid rc=0
  hold write "$store/step-1/big.bin"
  ckptfs commit "$store/step-1" >"$tmp/out" 2>&1 3>&- &
  pid=$!
  eventually 5 test -e "$store/step-1/.ckptfs/commit.lock"
  echo '{"why":"the ranks gave up"}' >"$store/step-1/.ckptfs/aborted.json"
  let_go
  wait "$pid" || rc=$?
  assert_eq "$rc" 1 "exit status"
  grep -q 'aborted.json' "$tmp/out"
  [ ! -e "$store/step-1/.ckptfs/manifest.jsonl" ]
}

@test "a commit that is interrupted dies of the signal and leaves the checkpoint open" {
  local pid rc=0
  # It waits up to 5 s for the writer: long enough to be interrupted.
  hold write "$store/step-1/big.bin"
  # A background job of a shell ignores SIGINT; env gives it back.
  env --default-signal=INT ckptfs commit "$store/step-1" >"$tmp/out" 2>&1 3>&- &
  pid=$!
  eventually 5 test -e "$store/step-1/.ckptfs/commit.lock"
  kill -INT "$pid"
  wait "$pid" || rc=$?
  cat "$tmp/out"
  assert_eq "$rc" 130 "exit status"
  let_go
  [ ! -e "$store/step-1/.ckptfs/commit.lock" ]
  [ ! -e "$store/step-1/.ckptfs/manifest.jsonl" ]
  ok ckptfs commit "$store/step-1"
}
