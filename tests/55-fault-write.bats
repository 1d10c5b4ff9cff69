#!/usr/bin/env bats
# bats file_tags=slow,fuse,fault
# Writing through a mount while the disk runs full, while the daemon is killed, while its calls fail: nothing that is
# committed suffers, nothing is half committed, what was synced is there, and the work goes on.
load helpers/common
load helpers/counters
load helpers/kills
load helpers/write_faults

setup() {
  requires fuse
  mnt=$tmp/mnt
}

# fill_through_mount OPTIONS: everything that a full disk may do to writers
fill_through_mount() {
  local disk=$tmp/disk run=$mnt/run
  small_disk 64 "$disk"
  new_store "$disk/store"
  committed run/step-0
  mount_store "$store" "$mnt" "$1"
  mkdir "$run/step-1.tmp" "$run/step-2.tmp"
  ok dd if="$tmp/in" of="$run/step-2.tmp/small" bs=100k count=4 conv=fsync status=none
  ok dd if="$tmp/in" of="$run/step-1.tmp/synced" bs=1M count=10 conv=fsync status=none
  fails 1 dd if="$tmp/in" of="$run/step-1.tmp/large" bs=1M conv=fsync
  says 'No space left on device'
  [ "$(stat -c %s "$run/step-1.tmp/large")" -gt 20000000 ] || fail "full so early?"
  # The next writer hears the same, whatever it uses.
  fails 1 cp "$tmp/in" "$run/step-1.tmp/copy"
  says 'No space left on device'
  fails 1 fallocate -l 30M "$run/step-1.tmp/reserved"
  says 'No space left on device'
  fails 1 dd if="$tmp/in" of="$run/step-1.tmp/direct" bs=1M oflag=direct
  says 'No space left on device'
  kill -0 "$(daemon_of "$mnt")"
  cmp -n 10485760 "$run/step-1.tmp/synced" "$tmp/in"
  cmp -n "$(stat -c %s "$run/step-1.tmp/large")" "$run/step-1.tmp/large" "$tmp/in"
  same_tree "$run/step-0" "$store/run/step-0"
  ok ckptfs verify "$store"
  says 'run/step-0: ok'
  # Removing works on a full disk, and makes room.
  ok rm "$run/step-1.tmp"/{large,copy,reserved,direct}
  ok mv "$run/step-2.tmp" "$run/step-2"
  ok dd if="$tmp/in" of="$run/step-1.tmp/again" bs=1M count=5 conv=fsync status=none
  ok ckptfs commit "$run/step-1.tmp"
  umount_store "$mnt"
  ok ckptfs verify "$store"
  says 'run/step-0: ok' 'run/step-1: ok (2 shards' 'run/step-2: ok (1 shards'
  mount_store "$store" "$mnt" "$1"
  cmp -n 10485760 "$run/step-1/synced" "$tmp/in"
  cmp -n 5242880 "$run/step-1/again" "$tmp/in"
  umount_store "$mnt"
  drop_disks
}

@test "on a full disk the writer hears of it, nothing else is harmed, and a commit works once there is room" {
  requires loop
  random_bytes 4 70000000 >"$tmp/in"
  fill_through_mount passthrough=off
  rm -rf "$tmp/disk" "$tmp/disk.img"
  fill_through_mount passthrough=auto
}

@test "a commit on a full disk fails, says why, stays open, and works once there is room" {
  requires loop
  local disk=$tmp/disk
  small_disk 64 "$disk"
  new_store "$disk/store"
  committed run/step-0
  mount_store "$store" "$mnt"
  mkdir "$mnt/run/step-1.tmp"
  # So many names that the manifest needs blocks of its own.
  (cd "$mnt/run/step-1.tmp" && seq -f 'shard-%05g' 1500 | xargs touch)
  ok cp "$store/run/step-0/big.bin" "$mnt/run/step-1.tmp/"
  sleep 1
  fill_disk "$disk" 64
  fails 1 mv "$mnt/run/step-1.tmp" "$mnt/run/step-1"
  says 'No space left on device'
  grep -q "cannot commit 'run/step-1.tmp'.*[Nn]o space left" "$mnt.log"
  assert_eq "$(state_of run/step-1.tmp)" open
  not test -e "$store/run/step-1"
  ok ckptfs verify "$store"
  says 'run/step-0: ok'
  rm "$disk/filler"
  ok mv "$mnt/run/step-1.tmp" "$mnt/run/step-1"
  ok ckptfs verify "$store"
  says 'run/step-0: ok' 'run/step-1: ok (1501 shards'
  umount_store "$mnt"
}

@test "8 saves whose daemon is killed at random moments: what was synced is there, open, and is committed after all" {
  new_store
  kill_writers 8
}

@test "a daemon that is killed at a call that makes something durable leaves a checkpoint that is open or committed, whole" {
  requires faults
  new_store
  committed run/step-0
  daemon_loop 6 kill fsync fdatasync syncfs renameat
}

@test "a call that makes something durable fails in the daemon: the commit fails and says so, or has happened" {
  requires faults
  new_store
  committed run/step-0
  daemon_loop 4 EIO fsync syncfs renameat
}

@test "a commit beside a mount that is killed at any call that writes is finished through the mount" {
  requires faults
  new_store
  committed run/step-0
  command_loop 8 kill fsync renameat unlinkat pwrite mkdirat
}
