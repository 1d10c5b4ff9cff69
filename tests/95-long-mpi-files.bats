#!/usr/bin/env bats
# bats file_tags=long,mpi
# File mode where the application writes for a long time.
load helpers/common

setup() {
  requires mpi
  new_store
}

# The session's own time, in seconds.
touched() {
  stat -c %Y "$store/run1/step-slow.partial/.ckptfs/session-"*
}

touched_after() {
  [ "$(touched)" -gt "$1" ]
}

@test "while ranks write files and never call the library, the writer's session is kept alive" {
  local first
  MPI_TEST_SECS=24 timeout 60 mpi-test 2 files "$store/run1/step" slow >"$tmp/log" 2>&1 3>&- &
  local job=$!
  eventually 10 test -e "$store/run1/step-slow.partial/own/deep/1.txt"
  first=$(touched)
  eventually 14 touched_after "$first"
  first=$(touched)
  eventually 14 touched_after "$first"
  wait "$job" || fail "$(cat "$tmp/log")"
  assert_eq "$(state_of run1/step-slow)" committed
}
