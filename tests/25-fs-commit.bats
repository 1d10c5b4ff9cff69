#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Commits of what was written through a mount: nothing is read again, nobody is surprised.
load helpers/common
load helpers/counters

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
}

# written NAME [SEED]: make_files through the mount, and all of it summed
written() {
  make_files "$mnt/$1" "${2:-1}"
  summed "$1"
}

# summed NAME: the mount has written down the sums of it
summed() {
  ok ckpt-test control "$mnt" 10 "$1"
  assert_eq "$stdout" "OK " "answer of the daemon"
}

# trace_daemon [MNT]: what the daemon reads from now on stands in $tmp/trace.daemon
trace_daemon() {
  requires strace root
  local pid
  pid=$(daemon_of "${1:-$mnt}")
  strace -f -y -qq -e trace=read,pread64,preadv,preadv2,mmap,copy_file_range,sendfile -o "$tmp/trace.daemon" -p "$pid" 3>&- 4>&- &
  tracer=$!
  eventually 10 not grep -q '^TracerPid:[[:space:]]*0$' /proc/"$pid"/task/*/status
}

end_trace() {
  kill "$tracer"
  wait "$tracer" || true
}

# shard_bytes FILE…: bytes of shards that the traced calls have moved
shard_bytes() {
  cat "$@" | grep -E '<[^>]*/(big\.bin|block\.bin|note\.txt)>' | awk '/= [0-9]+$/ { sum += $NF } /mmap/ { sum += 1 } END { print sum + 0 }'
}

is_committed() {
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$1" 2>/dev/null)" committed "state of $1"
}

@test "a folder that loses its temporary name is a committed checkpoint when mv returns" {
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-1.tmp"
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  is_committed "$mnt/run1/step-1"
  errno_is ENOENT stat "$mnt/run1/step-1.tmp"
  errno_is EROFS open-write "$mnt/run1/step-1/big.bin"
  ok ckptfs verify "$store"
  says "run1/step-1: ok (4 shards"
  make_files "$tmp/plain"
  same_tree "$tmp/plain" "$mnt/run1/step-1"
  grep -qE "committed 'run1/step-1.tmp' as 'run1/step-1': 4 shards" "$mnt.log"
  umount_store "$mnt"
}

@test "no commit reads a byte of what was summed before: mv, the command in the store, in the mount, in another namespace, another mount" {
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  local i
  for i in 1 2 3 4 5; do written "run1/step-$i.tmp" "$i"; done
  trace_daemon
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok strace -f -y -qq -o "$tmp/trace.2" ckptfs commit "$store/run1/step-2.tmp"
  ok ckptfs commit "$mnt/run1/step-3.tmp"
  # It cannot ask the daemon: what the session says has to do.
  ok unshare -m sh -c "umount -l '$mnt' '$tmp/mnt2' && strace -f -y -qq -o '$tmp/trace.4' ckptfs commit '$store/run1/step-4.tmp'"
  end_trace
  assert_eq "$(shard_bytes "$tmp/trace.daemon")" 0 "bytes that the daemon has read"
  assert_eq "$(shard_bytes "$tmp/trace.2")" 0 "bytes that the command has read"
  assert_eq "$(shard_bytes "$tmp/trace.4")" 0 "bytes that the command has read in another namespace"
  trace_daemon "$tmp/mnt2"
  ok mv "$tmp/mnt2/run1/step-5.tmp" "$tmp/mnt2/run1/step-5"
  end_trace
  assert_eq "$(shard_bytes "$tmp/trace.daemon")" 0 "bytes that the other daemon has read"
  ok ckptfs verify "$store"
  for i in 1 2 3 4 5; do says "run1/step-$i: ok (4 shards"; done
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "a commit right behind the last write is by the command's own process, and still reads nothing twice" {
  requires strace root
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-1.tmp"
  ok strace -f -y -qq -o "$tmp/trace" ckptfs commit "$store/run1/step-1.tmp"
  assert_eq "$(shard_bytes "$tmp/trace")" 0 "bytes that the command has read"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "a file that nothing calls a checkpoint yet is summed all the same" {
  requires strace root
  mount_store "$store" "$mnt"
  written run1/final
  ok strace -f -y -qq -o "$tmp/trace" ckptfs commit "$store/run1/final"
  assert_eq "$(shard_bytes "$tmp/trace")" 0 "bytes that the command has read"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "what is renamed, linked or given another mode after it was summed is not read again" {
  mount_store "$store" "$mnt"
  written run1/step-1.tmp
  trace_daemon
  mv "$mnt/run1/step-1.tmp/sub/block.bin" "$mnt/run1/step-1.tmp/block.bin"
  chmod 600 "$mnt/run1/step-1.tmp/big.bin"
  ln "$mnt/run1/step-1.tmp/sub/deep/note.txt" "$mnt/run1/step-1.tmp/note.txt"
  mv "$mnt/run1/step-1.tmp" "$mnt/run1/other-1.tmp"
  ok mv "$mnt/run1/other-1.tmp" "$mnt/run1/step-1"
  end_trace
  assert_eq "$(shard_bytes "$tmp/trace.daemon")" 0 "bytes that the daemon has read"
  is_committed "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  says "run1/step-1: ok (5 shards"
  assert_eq "$(stat -c %a "$mnt/run1/step-1/big.bin")" 600
  umount_store "$mnt"
}

@test "what is written again after it was summed is committed as it is now" {
  mount_store "$store" "$mnt"
  written run1/step-1.tmp
  local dir=$mnt/run1/step-1.tmp was
  was=$(stat -c %y "$store/run1/step-1.tmp/big.bin")
  # In place and of the same size, with its old time; appended to; cut off; through a mapping; behind the mount.
  printf X | dd of="$dir/big.bin" bs=1 seek=1234567 conv=notrunc status=none
  touch -d "$was" "$dir/big.bin"
  echo more >>"$dir/sub/deep/note.txt"
  truncate -s 1000 "$dir/sub/block.bin"
  echo new >"$dir/empty"
  summed run1/step-1.tmp
  ok ckpt-test map-write "$dir/big.bin" 8192 mapped
  printf Y | dd of="$store/run1/step-1.tmp/sub/block.bin" bs=1 seek=10 conv=notrunc status=none
  cp -r "$store/run1/step-1.tmp" "$tmp/was"
  ok mv "$dir" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  says "run1/step-1: ok (4 shards"
  same_tree "$tmp/was" "$mnt/run1/step-1"
  umount_store "$mnt"
}

@test "a mapping that outlives its descriptor keeps the checkpoint open, and the log names the file" {
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-1.tmp"
  hold map "$mnt/run1/step-1.tmp/big.bin"
  fails 1 mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  says "Device or resource busy"
  grep -qE "run1/step-1.tmp.*big\.bin.*open for writing|big\.bin' is open for writing" "$mnt.log"
  errno_is ENOENT stat "$mnt/run1/step-1"
  fails 1 ckptfs commit "$store/run1/step-1.tmp"
  says big.bin
  let_go
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "a writer in the mount or behind it keeps the checkpoint open" {
  mount_store "$store" "$mnt"
  local where
  make_files "$mnt/run1/step-1.tmp"
  for where in "$mnt" "$store"; do
    hold write "$where/run1/step-1.tmp/sub/block.bin"
    errno_is EBUSY rename "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
    fails 1 ckptfs commit "$mnt/run1/step-1.tmp"
    says sub/block.bin
    let_go
  done
  grep -q "sub/block.bin" "$mnt.log"
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  umount_store "$mnt"
}

# bats test_tags=passthrough
@test "a writer that outlives a killed daemon keeps the checkpoint open" {
  requires root passthrough
  local pid
  mount_store "$store" "$mnt"
  [[ "$(passthrough_of "$mnt")" == *active* ]] || skip "files are not handed to the kernel here"
  make_files "$mnt/run1/step-1.tmp"
  hold write "$mnt/run1/step-1.tmp/big.bin"
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  wait "$pid" || true
  forget_mount "$pid"
  umount -l "$mnt"
  fails 1 ckptfs commit "$store/run1/step-1.tmp"
  says big.bin
  mount_store "$store" "$mnt"
  errno_is EBUSY rename "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  let_go
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "who reads, and who works in the folder, goes on through the commit" {
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-1.tmp"
  make_files "$tmp/plain"
  local number
  number=$(stat -c %i "$mnt/run1/step-1.tmp/big.bin")
  exec 8<"$mnt/run1/step-1.tmp/big.bin"
  cd "$mnt/run1/step-1.tmp/sub"
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  cmp - "$tmp/plain/big.bin" <&8
  assert_eq "$(stat -Lc %i /proc/self/fd/8)" "$number" "inode number of the open file"
  same block.bin "$tmp/plain/sub/block.bin"
  assert_eq "$(cat deep/note.txt)" "step 1"
  errno_is EROFS create new
  cd "$tmp"
  exec 8<&-
  sleep 1
  # A fresh look gives the committed numbers: the checkpoint's slot above, the manifest's line below.
  [ $(($(stat -c %i "$mnt/run1/step-1/big.bin") >> 32)) -eq $(($(stat -c %i "$mnt/run1/step-1") >> 32)) ]
  umount_store "$mnt"
}

@test "while a commit waits, other folders answer at once, and an interrupt ends it" {
  local started waiter
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-1.tmp"
  make_files "$mnt/run2/step-1.tmp"
  hold write "$mnt/run1/step-1.tmp/big.bin"
  env --default-signal=INT mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1" 3>&- 4>&- 2>/dev/null &
  waiter=$!
  sleep 0.5
  started=$(date +%s%N)
  ok ls -l "$mnt" "$mnt/run2" "$mnt/run2/step-1.tmp"
  ok cp "$mnt/run2/step-1.tmp/big.bin" "$mnt/run2/step-1.tmp/copy.bin"
  ok mv "$mnt/run2/step-1.tmp" "$mnt/run2/step-1"
  [ $(($(date +%s%N) - started)) -lt 3000000000 ] || fail "they waited for it"
  kill -0 "$waiter" || fail "the commit did not wait for the writer"
  kill -INT "$waiter"
  gone_within 2 "$waiter" || fail "the commit cannot be interrupted"
  # It stays open, and can be written and committed.
  eventually 2 test -d "$mnt/run1/step-1.tmp"
  errno_is ENOENT stat "$mnt/run1/step-1"
  eventually 2 touch "$mnt/run1/step-1.tmp/new"
  let_go
  eventually 6 mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "a daemon that is killed while it sums leaves a folder that commits as ever" {
  local pid i
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/run1/step-1.tmp"
  random_bytes 7 300000000 >"$mnt/run1/step-1.tmp/large.bin"
  for i in {1..200}; do random_bytes "$i" 3000 >"$mnt/run1/step-1.tmp/small-$i.bin"; done
  sleep 0.2
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  wait "$pid" || true
  forget_mount "$pid"
  unmount "$mnt"
  mount_store "$store" "$mnt"
  printf changed | dd of="$mnt/run1/step-1.tmp/small-1.bin" conv=notrunc status=none
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  says "run1/step-1: ok (201 shards"
  umount_store "$mnt"
}

@test "of two that commit the same folder through two mounts one wins, and the other is told" {
  local first=0 second=0 pid
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  make_files "$mnt/run1/step-1.tmp"
  mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1" 2>"$tmp/first" 3>&- 4>&- &
  pid=$!
  mv "$tmp/mnt2/run1/step-1.tmp" "$tmp/mnt2/run1/step-1" 2>"$tmp/second" 3>&- 4>&- || second=$?
  wait "$pid" || first=$?
  cat "$tmp/first" "$tmp/second"
  assert_eq $((first + second)) 1 "exit statuses added up"
  assert_eq "$(cat "$tmp/first" "$tmp/second" | wc -l)" 1 "lines of complaint"
  ok ckptfs verify "$store"
  says "run1/step-1: ok (4 shards"
  eventually 2 test -e "$mnt/run1/step-1/big.bin"
  eventually 2 test -e "$tmp/mnt2/run1/step-1/big.bin"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "other renames commit nothing" {
  mount_store "$store" "$mnt"
  # Empty; temporary again; part of an open one; a group of committed ones.
  mkdir -p "$mnt/run1/empty.tmp/sub"
  ok mv "$mnt/run1/empty.tmp" "$mnt/run1/empty"
  make_files "$mnt/run1/step-1.tmp/state.partial"
  ok mv "$mnt/run1/step-1.tmp/state.partial" "$mnt/run1/step-1.tmp/state"
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1.partial"
  assert_eq "$(state_of run1/step-1.partial)" open
  find "$store" -name manifest.jsonl >"$tmp/manifests"
  assert_eq "$(cat "$tmp/manifests")" ""
  make_files "$mnt/run2.tmp/step-1"
  ok ckptfs commit "$mnt/run1/step-1.partial"
  is_committed "$mnt/run1/step-1"
  same_tree "$mnt/run1/step-1/state" "$mnt/run2.tmp/step-1"
  umount_store "$mnt"
}

@test "a file that the disk refuses cannot be committed until it is written again" {
  requires strace root
  local pid tracer
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/run1/step-1.tmp"
  pid=$(daemon_of "$mnt")
  strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO:when=1 -p "$pid" 3>&- 4>&- &
  tracer=$!
  eventually 10 not grep -q '^TracerPid:[[:space:]]*0$' /proc/"$pid"/task/*/status
  random_bytes 1 3000000 >"$mnt/run1/step-1.tmp/big.bin"
  eventually 5 grep -q "big.bin' or make it durable: EIO" "$mnt.log"
  end_trace
  errno_is EIO rename "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  fails 1 ckptfs commit "$store/run1/step-1.tmp"
  says "could not be made durable"
  random_bytes 1 3000000 >"$mnt/run1/step-1.tmp/big.bin"
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "others see who writes while a file is open, and nobody when all is summed" {
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/run1/step-1.tmp"
  exec 8>"$mnt/run1/step-1.tmp/log"
  eventually 2 bash -c "tail -n 1 '$store'/run1/step-1.tmp/.ckptfs/session-* | grep -q '\"doing\":\"writing\"'"
  exec 8>&-
  eventually 3 bash -c "tail -n 1 '$store'/run1/step-1.tmp/.ckptfs/session-* | grep -q '\"doing\":\"idle\"'"
  # A daemon that ends leaves what it has summed.
  umount_store "$mnt"
  tail -n 1 "$store"/run1/step-1.tmp/.ckptfs/session-* | grep -q idle
  ok rm -r "$store/run1/step-1.tmp"
}

@test "an open folder that was written to can be removed, moved and begun anew" {
  mount_store "$store" "$mnt"
  written run1/step-1.tmp
  ok rm -r "$mnt/run1/step-1.tmp"
  [ ! -e "$store/run1/step-1.tmp" ] || fail "something is left"
  written run1/step-1.tmp 2
  ok mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  make_files "$tmp/plain" 2
  same_tree "$tmp/plain" "$mnt/run1/step-1"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "a mount that nothing can be written through sums nothing" {
  make_files "$store/run1/step-1.tmp"
  mount_store "$store" "$mnt" ro
  summed run1/step-1.tmp
  [ ! -e "$store/run1/step-1.tmp/.ckptfs" ]
  umount_store "$mnt"
}
