#!/usr/bin/env bats
# bats file_tags=long,fuse,fault
# What 25-fs-programs.bats, 25-fs-two-mounts.bats and 55-fault-write.bats ask, many times and for longer.
load helpers/common
load helpers/counters
load helpers/kills
load helpers/write_faults
load helpers/programs
load helpers/apart
load helpers/polls

# What a long test may take; scripts/test-long gives it that.
setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
}

teardown() {
  local rc=0
  drop_apart || rc=1
  clean_up || rc=1
  return $rc
}

@test "60 saves whose daemon is killed at random moments: what was synced is there, open, and is committed after all" {
  kill_writers 60
}

# bats test_tags=root
@test "-o ro mounts show nothing that is open, at any moment of a minute" {
  requires root unshare nsenter
  make_files "$tmp/source" 7
  poll_while_others_save 60
}

# each_call ACTION CALL…
each_call() {
  requires faults
  committed run/step-0
  daemon_loop 5 "$@"
}

@test "a daemon that is killed at any call that changes something leaves a checkpoint that is open or committed, whole" {
  each_call kill pwrite mkdirat unlinkat fsync fdatasync syncfs renameat ftruncate
}

@test "a daemon that is killed at any call that looks leaves a checkpoint that is open or committed, whole" {
  each_call kill openat readdir fstatfs
}

@test "whichever call that changes something fails in the daemon for want of space, the commit is whole or has not happened" {
  each_call ENOSPC pwrite mkdirat fsync fdatasync renameat
}

@test "whichever call that changes something fails in the daemon because of the disk, the commit is whole or has not happened" {
  each_call EIO pwrite mkdirat unlinkat fsync fdatasync syncfs renameat
}

@test "a commit beside a mount that is killed at any call is finished through the mount" {
  requires faults
  committed run/step-0
  command_loop 60 kill openat openat2 pread pwrite fstat fstatat fsync fdatasync syncfs renameat mkdirat unlinkat readdir statx
}

@test "each of stress-ng's file system stressors by itself, four at a time, verified" {
  requires stress-ng
  local stressor
  mount_store "$store" "$mnt"
  for stressor in "${stressors[@]}"; do
    stress "$mnt/run/$stressor.tmp" 4 "--$stressor" 4
    assert_eq "$(ls -A "$mnt/run/$stressor.tmp")" '' "what $stressor left"
    rm -r "$mnt/run/$stressor.tmp"
  done
  umount_store "$mnt"
  ok ckptfs verify "$store"
}

@test "a hundred thousand random operations on a file of a mount say and do what they do on a plain one" {
  local seed=${CKPTFS_SEED:-$RANDOM}
  echo "seed $seed"
  mount_store "$store" "$mnt"
  mkdir "$mnt/run" "$mnt/run/step-1.tmp"
  DEADLINE=230 ok ckpt-test fsx "$mnt/run/step-1.tmp/file" "$tmp/file" 100000 "$seed"
  same "$mnt/run/step-1.tmp/file" "$tmp/file"
  ok mv "$mnt/run/step-1.tmp" "$mnt/run/step-1"
  same "$mnt/run/step-1/file" "$tmp/file"
  umount_store "$mnt"
  ok ckptfs verify "$store"
}
