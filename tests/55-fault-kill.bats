#!/usr/bin/env bats
# bats file_tags=slow,fuse,fault
# kill -9 of the daemon under readers and in the middle of commits, and of saves: what is committed stays,
# nothing is half committed, and all can be done again. CKPTFS_SEED repeats a run whose seed was printed.
load helpers/common
load helpers/counters
load helpers/kills

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
}

@test "kill -9 of the daemon under 4 readers: they get errors, not other bytes, and the next mount reads well" {
  local i pid readers=()
  committed run/step-1
  mount_store "$store" "$mnt"
  pid=$(daemon_of "$mnt")
  for i in 1 2 3 4; do
    read_until_error "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin" "$tmp/reader.$i" 3>&- 4>&- &
    readers+=($!)
  done
  sleep 0.7
  for i in "${readers[@]}"; do kill -0 "$i" || fail "a reader ended before"; done
  kill -KILL "$pid"
  gone_within 5 "$pid"
  for i in "${readers[@]}"; do
    gone_within 5 "$i" || fail "a reader waits for ever"
    wait "$i" || fail "a reader got other bytes"
  done
  cat "$tmp"/reader.?
  assert_eq "$(grep -lE 'Transport endpoint|Software caused|Input/output error' "$tmp"/reader.? | wc -l)" 4
  forget_mount "$pid"
  ok ckptfs umount "$mnt"
  mount_store "$store" "$mnt"
  same_tree "$mnt/run/step-1" "$store/run/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "kill -9 of the daemon under a mapping and an open file leaves no client that cannot be killed" {
  local pid
  committed run/step-1
  mount_store "$store" "$mnt"
  pid=$(daemon_of "$mnt")
  hold read "$mnt/run/step-1/big.bin"
  kill -KILL "$pid"
  gone_within 5 "$pid"
  kill -KILL "$holder"
  gone_within 2 "$holder"
  forget_mount "$pid"
  eventually 5 ckptfs umount "$mnt"
  not is_mounted "$mnt"
}

@test "8 commits of a daemon that is killed at random moments lose nothing and leave nothing half" {
  kill_commits 8
}

# bats test_tags=mpi
@test "8 saves of ranks that are killed at random moments, all ranks or one, lose nothing and leave nothing half" {
  requires mpi
  kill_saves 8
}
