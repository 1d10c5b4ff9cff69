#!/usr/bin/env bats
# bats file_tags=fast,fuse
# Writing into what is not committed: it is the user's own folder, with all that POSIX gives.
load helpers/common
load helpers/counters

setup() {
  requires fuse xxhsum
  new_store
  mnt=$tmp/mnt
  mount_store "$store" "$mnt"
  mkdir "$mnt/run1" "$mnt/run1/step-1.tmp"
  dir=$mnt/run1/step-1.tmp
  stored=$store/run1/step-1.tmp
}

# bytes_at FILE OFFSET COUNT
bytes_at() {
  dd if="$1" bs=1 skip="$2" count="$3" status=none
}

# lock_hold KIND FILE: another process that has the lock, until let_go
lock_hold() {
  : >"$tmp/.locked"
  ckpt-test lock "$1" "$2" hold </dev/null >"$tmp/.locked" 2>&1 3>&- 4>&- &
  holder=$!
  echo "$holder" >>"$tmp/.holders"
  eventually 10 grep -q OK "$tmp/.locked"
}

# answers TEXT CMD…: prints just that
answers() {
  ok "${@:2}" || return 1
  assert_eq "$stdout" "$1" "answer of ${*:2}"
}

@test "what is written through the mount is in the stored file at once, wherever it goes" {
  random_bytes 1 300000 >"$tmp/plain"
  cp "$tmp/plain" "$dir/file"
  same "$stored/file" "$tmp/plain"
  random_bytes 2 5000 | dd of="$dir/file" bs=1 seek=123457 conv=notrunc status=none
  random_bytes 2 5000 | dd of="$tmp/plain" bs=1 seek=123457 conv=notrunc status=none
  same "$stored/file" "$tmp/plain"
  same "$dir/file" "$tmp/plain"
  echo tail >>"$dir/file"
  echo tail >>"$tmp/plain"
  same "$dir/file" "$tmp/plain"
  # Far behind the end: a hole that reads as zeros.
  printf x | dd of="$dir/file" bs=1 seek=5000000 conv=notrunc status=none
  printf x | dd of="$tmp/plain" bs=1 seek=5000000 conv=notrunc status=none
  same "$dir/file" "$tmp/plain"
  same "$stored/file" "$tmp/plain"
  umount_store "$mnt"
  same "$stored/file" "$tmp/plain"
}

# bats test_tags=slow,sanitized
@test "a random sequence of reads, writes, truncations, mappings, holes and copies leaves what it leaves on a plain file" {
  local seed=${FSX_SEED:-$RANDOM$RANDOM}
  echo "seed $seed"
  DEADLINE=200 ok ckpt-test fsx "$dir/fsx" "$tmp/fsx" "${FSX_COUNT:-100000}" "$seed"
  says "100000 operations, no difference"
  same "$stored/fsx" "$tmp/fsx"
  umount_store "$mnt"
}

@test "files are cut and grown, also while they are opened" {
  random_bytes 3 100000 >"$dir/file"
  truncate -s 70001 "$dir/file"
  assert_eq "$(stat -c %s "$stored/file")" 70001
  truncate -s 200000 "$dir/file"
  assert_eq "$(stat -c %s "$dir/file")" 200000
  assert_eq "$(bytes_at "$dir/file" 70001 100 | tr -d '\0' | wc -c)" 0
  exec 8<>"$dir/file"
  truncate -s 5 "$dir/file"
  assert_eq "$(stat -L -c %s /proc/self/fd/8)" 5
  exec 8>&-
  # O_TRUNC arrives with the open.
  echo new >"$dir/file"
  assert_eq "$(cat "$stored/file")" new
  errno_is OK open-truncate "$dir/file"
  assert_eq "$(stat -c %s "$stored/file")" 0
  umount_store "$mnt"
}

@test "O_EXCL makes a file once, whoever made it first" {
  errno_is OK create-new "$dir/mine"
  errno_is EEXIST create-new "$dir/mine"
  # Behind the mount, which has just been told that there is none.
  errno_is ENOENT stat "$dir/theirs"
  echo theirs >"$stored/theirs"
  errno_is EEXIST create-new "$dir/theirs"
  assert_eq "$(cat "$dir/theirs")" theirs
  umount_store "$mnt"
}

@test "records that four processes append by two mounts and the store itself are all there, whole" {
  local pids=() pid
  mount_store "$store" "$tmp/mnt2"
  : >"$dir/log"
  ckpt-test append "$dir/log" 2000 a 3>&- 4>&- &
  pids+=($!)
  ckpt-test append "$dir/log" 2000 b 3>&- 4>&- &
  pids+=($!)
  ckpt-test append "$tmp/mnt2/run1/step-1.tmp/log" 2000 c 3>&- 4>&- &
  pids+=($!)
  ckpt-test append "$stored/log" 2000 d 3>&- 4>&- &
  pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid"; done
  assert_eq "$(stat -c %s "$stored/log")" 800000
  assert_eq "$(sort "$stored/log" | uniq -c | awk '{ print $1, length($2), substr($2, 1, 1) }' | tr '\n' ' ')" \
    "2000 99 a 2000 99 b 2000 99 c 2000 99 d "
  eventually 2 cmp "$dir/log" "$stored/log"
  umount_store "$tmp/mnt2"
  umount_store "$mnt"
}

@test "a file that is unlinked while it is open goes on being written, read, measured and opened" {
  exec 8<>"$dir/gone"
  echo before >&8
  rm "$dir/gone"
  not test -e "$stored/gone"
  echo after >&8
  assert_eq "$(stat -L -c '%s %h' /proc/self/fd/8)" "13 0"
  # /proc opens it anew, though it has no name.
  assert_eq "$(tr '\n' ' ' </proc/self/fd/8)" "before after "
  truncate -s 3 /proc/self/fd/8
  assert_eq "$(cat /proc/self/fd/8)" bef
  chmod 600 /proc/self/fd/8
  assert_eq "$(stat -L -c %a /proc/self/fd/8)" 600
  exec 8>&-
  # The name is free for another file.
  echo other >"$dir/gone"
  assert_eq "$(cat "$stored/gone")" other
  umount_store "$mnt"
}

@test "what is written through a shared mapping after its descriptor was closed is in the file" {
  random_bytes 4 300000 >"$dir/file"
  cp "$dir/file" "$tmp/plain"
  ok ckpt-test map-write "$dir/file" 200123 "through a mapping"
  ok ckpt-test map-write "$tmp/plain" 200123 "through a mapping"
  same "$dir/file" "$tmp/plain"
  umount_store "$mnt"
  same "$stored/file" "$tmp/plain"
}

@test "a mapping that outlives its descriptor writes its own place, though another process appends" {
  random_bytes 5 100000 >"$dir/file"
  hold map "$dir/file"
  exec 8>>"$dir/file"
  echo appended >&8
  ok ckpt-test map-write "$dir/file" 10 "in its place"
  exec 8>&-
  let_go
  umount_store "$mnt"
  assert_eq "$(bytes_at "$stored/file" 10 12)" "in its place"
  assert_eq "$(stat -c %s "$stored/file")" 100009
  assert_eq "$(tail -c 9 "$stored/file")" appended
}

@test "room is reserved, holes are punched and found" {
  fallocate -l 1MiB "$dir/file"
  assert_eq "$(stat -c %s "$stored/file")" 1048576
  fallocate -n -o 1MiB -l 1MiB "$dir/file"
  assert_eq "$(stat -c %s "$dir/file")" 1048576
  random_bytes 6 1048576 >"$dir/file"
  cp "$dir/file" "$tmp/plain"
  fallocate -p -o 262144 -l 131072 "$dir/file"
  fallocate -p -o 262144 -l 131072 "$tmp/plain"
  same "$dir/file" "$tmp/plain"
  answers 262144 ckpt-test seek "$dir/file" hole 0
  answers 393216 ckpt-test seek "$dir/file" data 262144
  answers 1048576 ckpt-test seek "$dir/file" hole 393216
  answers ENXIO ckpt-test seek "$dir/file" data 1048576
  # What is committed has no holes.
  committed run1/step-7
  eventually 2 test -e "$mnt/run1/step-7/big.bin"
  answers 2500000 ckpt-test seek "$mnt/run1/step-7/big.bin" hole 0
  answers 77 ckpt-test seek "$mnt/run1/step-7/big.bin" data 77
  umount_store "$mnt"
}

@test "copy_file_range copies between plain files and out of committed ones, never into those" {
  random_bytes 7 3000001 >"$dir/from"
  answers 3000001 ckpt-test copy-range "$dir/from" "$dir/to" 3GiB
  same "$stored/to" "$stored/from"
  same "$dir/to" "$tmp/mnt/run1/step-1.tmp/from"
  committed run1/step-7
  eventually 2 test -e "$mnt/run1/step-7/big.bin"
  answers 2500000 ckpt-test copy-range "$mnt/run1/step-7/big.bin" "$dir/shard" 2500000
  same "$stored/shard" "$store/run1/step-7/big.bin"
  fails 1 ckpt-test copy-range "$dir/from" "$mnt/run1/step-7/big.bin" 10
  says EROFS
  # cp asks for it as well.
  cp --reflink=auto "$dir/from" "$dir/again"
  same "$stored/again" "$stored/from"
  umount_store "$mnt"
}

@test "O_DIRECT takes any offset, length and memory" {
  random_bytes 8 100000 >"$dir/file"
  cp "$dir/file" "$tmp/before"
  ok ckpt-test direct "$dir/file"
  assert_eq "$(stat -c %s "$stored/file")" 100000
  cmp <(tail -c +1779 "$stored/file") <(tail -c +1779 "$tmp/before")
  not cmp -s "$stored/file" "$tmp/before"
  # Beside a handle without it.
  exec 8<>"$dir/file"
  ok ckpt-test direct "$dir/file"
  cmp /proc/self/fd/8 "$stored/file"
  exec 8>&-
  umount_store "$mnt"
}

@test "flock, fcntl and OFD locks keep other processes out" {
  local kind
  echo locked >"$dir/file"
  for kind in flock posix ofd; do
    answers OK ckpt-test lock "$kind" "$dir/file"
    lock_hold "$kind" "$dir/file"
    answers EAGAIN ckpt-test lock "$kind" "$dir/file"
    let_go
    answers OK ckpt-test lock "$kind" "$dir/file"
  done
  umount_store "$mnt"
}

@test "10,000 opens leave no descriptor behind" {
  local before
  echo x >"$dir/file"
  ok ckpt-test open-close "$dir/file" 10
  sleep 0.5
  before=$(descriptors_of "$mnt")
  ok ckpt-test open-close "$dir/file" 10000
  # Releases arrive after the closes; a session, the index and the sums have a few of their own.
  fewer() { [ "$(descriptors_of "$mnt")" -le "$((before + 20))" ]; }
  eventually 5 fewer
  umount_store "$mnt"
}

@test "a duplicated descriptor writes after the first one is closed" {
  exec 8>"$dir/file"
  echo one >&8
  exec 9>&8
  exec 8>&-
  echo two >&9
  # Also one that only a child has.
  (
    exec 9>&-
    exec 7>>"$dir/file"
    echo three >&7
  )
  echo four >>"$dir/file"
  exec 9>&-
  assert_eq "$(tr '\n' ' ' <"$stored/file")" "one two three four "
  umount_store "$mnt"
}

@test "what one mount writes, another one reads within a second, and the other way round" {
  mount_store "$store" "$tmp/mnt2"
  other=$tmp/mnt2/run1/step-1.tmp
  random_bytes 9 200000 >"$dir/file"
  same "$other/file" "$stored/file"
  # Both have pages of it; same length, other bytes.
  random_bytes 10 200000 | dd of="$other/file" conv=notrunc status=none
  eventually 1 cmp "$dir/file" "$stored/file"
  random_bytes 11 70000 >>"$dir/file"
  eventually 1 cmp "$other/file" "$stored/file"
  exec 8<"$dir/file"
  cat <&8 >/dev/null
  random_bytes 12 1000 >"$tmp/mnt2/run1/new"
  mv "$tmp/mnt2/run1/new" "$other/file"
  eventually 1 cmp "$dir/file" "$stored/file"
  assert_eq "$(stat -c %s "$dir/file")" 1000
  exec 8<&-
  umount_store "$tmp/mnt2"
  umount_store "$mnt"
}

@test "fsync of files and folders is answered, and O_SYNC writes are written" {
  random_bytes 13 100000 | dd of="$dir/file" conv=fsync status=none
  random_bytes 13 100000 | dd of="$dir/file2" oflag=sync bs=10000 status=none
  random_bytes 13 100000 | dd of="$dir/file3" oflag=dsync,direct bs=4096 status=none
  sync "$dir/file"
  sync -d "$dir/file"
  sync "$dir" "$mnt/run1" "$mnt"
  same "$stored/file" "$stored/file2"
  same "$stored/file" "$stored/file3"
  committed run1/step-7
  eventually 2 test -e "$mnt/run1/step-7/big.bin"
  sync "$mnt/run1/step-7" "$mnt/run1/step-7/big.bin"
  umount_store "$mnt"
}

@test "another user writes what the modes allow, and takes set-user-ID off what he writes" {
  requires root
  chmod 777 "$dir"
  ok "${as_nobody[@]}" sh -c "echo mine >'$dir/theirs'"
  assert_eq "$(stat -c '%u %a' "$stored/theirs")" "65534 644"
  echo root >"$dir/root"
  chmod 600 "$dir/root"
  fails 2 "${as_nobody[@]}" sh -c "echo no >>'$dir/root'"
  fails 1 "${as_nobody[@]}" cat "$dir/root"
  # A file nobody may read is opened for writing by who may write.
  : >"$dir/dropbox"
  chmod 622 "$dir/dropbox"
  ok "${as_nobody[@]}" sh -c "echo dropped >>'$dir/dropbox'"
  assert_eq "$(cat "$stored/dropbox")" dropped
  # Behind the mount: such bits are neither shown nor kept.
  echo tool >"$stored/tool"
  chmod 4777 "$stored/tool"
  eventually 2 test -e "$dir/tool"
  ok "${as_nobody[@]}" sh -c "echo changed >>'$dir/tool'"
  assert_eq "$(stat -c %a "$stored/tool")" 777
  umount_store "$mnt"
}

# bats test_tags=passthrough
@test "a write(2) of a few bytes costs no request of its own where the kernel writes by itself" {
  local before
  requires passthrough
  [ "$(passthrough_of "$mnt")" = 'state="active",reason=""' ] || skip "passthrough is off: $(passthrough_of "$mnt")"
  before=$(counter "$mnt" ckptfs_write_requests_total)
  random_bytes 14 4000000 | dd of="$dir/file" bs=1000 status=none
  assert_eq "$(counter "$mnt" ckptfs_write_requests_total)" "$before"
  # Those of O_DIRECT do come to the daemon.
  ok ckpt-test direct "$dir/file"
  assert_eq "$(counter "$mnt" ckptfs_write_requests_total)" "$((before + 1))"
  umount_store "$mnt"
}

@test "a file that is open while its folder is committed is read on, opened again for reading, and not for writing" {
  random_bytes 15 200000 >"$dir/shard"
  exec 8<"$dir/shard"
  ok ckptfs commit "$stored"
  eventually 2 test -e "$mnt/run1/step-1/shard"
  same /proc/self/fd/8 "$store/run1/step-1/shard"
  cmp <(cat <&8) "$store/run1/step-1/shard"
  errno_is OK open /proc/self/fd/8
  fails 2 sh -c 'echo more >>/proc/self/fd/8'
  fails 1 truncate -s 5 /proc/self/fd/8
  exec 8<&-
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "an executable is written, run, and busy while it runs" {
  cp "$(command -v sleep)" "$dir/nap"
  chmod 755 "$dir/nap"
  ok "$dir/nap" 0
  "$dir/nap" 20 3>&- 4>&- &
  holder=$!
  eventually 5 grep -qa nap "/proc/$holder/cmdline"
  errno_is ETXTBSY open-write "$dir/nap"
  kill "$holder"
  wait "$holder" || true
  eventually 5 ckpt-test errno open-write "$dir/nap"
  umount_store "$mnt"
}

@test "with a full disk the writer hears ENOSPC, and nothing else is harmed" {
  requires loop
  umount_store "$mnt"
  small_disk 32 "$tmp/disk"
  new_store "$tmp/disk/store"
  mkdir "$store/run1"
  echo kept >"$store/run1/kept"
  fill_disk "$tmp/disk" 2048
  mount_store "$store" "$mnt"
  fails 1 dd if=/dev/zero of="$mnt/run1/big" bs=64k count=200
  says "No space left"
  fails 1 fallocate -l 20MiB "$mnt/run1/more"
  says "No space left"
  assert_eq "$(cat "$mnt/run1/kept")" kept
  rm "$mnt/run1/big"
  ok dd if=/dev/zero of="$mnt/run1/small" bs=64k count=10 status=none
  umount_store "$mnt"
}
