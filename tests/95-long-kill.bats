#!/usr/bin/env bats
# bats file_tags=long,fuse,mpi,fault
# kill -9 at random moments, many times. 55-fault-kill.bats says what is asked.
load helpers/common
load helpers/counters
load helpers/kills

setup() {
  requires fuse mpi
  new_store
  mnt=$tmp/mnt
}

@test "60 commits of a daemon that is killed at random moments lose nothing and leave nothing half" {
  kill_commits 60
}

@test "60 saves of ranks that are killed at random moments, all ranks or one, lose nothing and leave nothing half" {
  kill_saves 60
}

@test "a daemon that is killed 25 times at random moments under 4 readers never hands out other bytes" {
  local round i pid readers
  kills_begin
  committed run/step-1
  for round in $(seq 25); do
    mount_store "$store" "$mnt"
    pid=$(daemon_of "$mnt")
    readers=()
    for i in 1 2 3 4; do
      read_until_error "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin" "$tmp/reader.$i" 3>&- 4>&- &
      readers+=($!)
    done
    sleep_ms $((RANDOM * 600 / 32768))
    kill -KILL "$pid"
    gone_within 5 "$pid"
    for i in "${readers[@]}"; do
      gone_within 5 "$i" || fail "round $round: a reader waits for ever"
      wait "$i" || fail "round $round: a reader got other bytes"
    done
    forget_mount "$pid"
    ok ckptfs umount "$mnt"
  done
  mount_store "$store" "$mnt"
  same_tree "$mnt/run/step-1" "$store/run/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}
