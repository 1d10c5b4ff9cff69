#!/usr/bin/env bats
# bats file_tags=fast,fuse
# What other processes do to a store while it is mounted.
load helpers/common

setup() {
  requires fuse
  new_store
  committed run1/step-1
  mnt=$tmp/mnt
}

@test "a checkpoint that another process commits shows within a second, in every mount" {
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  # Both have looked, and hold what they saw.
  errno_is ENOENT stat "$mnt/run1/step-2"
  errno_is ENOENT stat "$tmp/mnt2/run1/step-2"
  ls "$mnt/run1" "$tmp/mnt2/run1" >/dev/null
  committed run1/step-2 2
  eventually 1 test -e "$mnt/run1/step-2/big.bin"
  eventually 1 test -e "$tmp/mnt2/run1/step-2/big.bin"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-2")" committed
  same_tree "$mnt/run1/step-2" "$store/run1/step-2"
  same_tree "$tmp/mnt2/run1/step-2" "$store/run1/step-2"
  eventually 1 bash -c "[ \"\$(readlink '$mnt/run1/.ckptfs/latest')\" = ../step-2 ]"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "a commit through the path of a mount shows there when the command returns" {
  make_files "$store/run1/step-2.tmp"
  mount_store "$store" "$mnt"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-2.tmp")" open
  ls -l "$mnt/run1" "$mnt/run1/step-2.tmp" >/dev/null
  ok ckptfs commit "$mnt/run1/step-2.tmp"
  ok getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-2"
  assert_eq "$stdout" committed
  same_tree "$mnt/run1/step-2" "$store/run1/step-2"
  umount_store "$mnt"
}

@test "what is written into an open checkpoint beside the mount is seen through it" {
  mkdir "$store/run1/step-2.tmp"
  mount_store "$store" "$mnt"
  echo one >"$store/run1/step-2.tmp/log"
  eventually 1 grep -q one "$mnt/run1/step-2.tmp/log"
  echo two >>"$store/run1/step-2.tmp/log"
  eventually 1 grep -q two "$mnt/run1/step-2.tmp/log"
  random_bytes 9 100000 >"$store/run1/step-2.tmp/new"
  eventually 1 cmp "$mnt/run1/step-2.tmp/new" "$store/run1/step-2.tmp/new"
  rm "$store/run1/step-2.tmp/log"
  eventually 1 test ! -e "$mnt/run1/step-2.tmp/log"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "what plain tools move and remove beside the mount goes, and what was open stays readable" {
  committed run1/step-2 2
  mount_store "$store" "$mnt"
  cat "$mnt/run1/step-1/big.bin" >/dev/null
  exec 8<"$mnt/run1/step-2/big.bin"
  cp "$store/run1/step-2/big.bin" "$tmp/was"
  rm -r "$store/run1/step-2"
  eventually 1 test ! -e "$mnt/run1/step-2"
  mv "$store/run1/step-1" "$store/run1/step-1-moved"
  eventually 1 test -e "$mnt/run1/step-1-moved/big.bin"
  eventually 1 test ! -e "$mnt/run1/step-1"
  same "$mnt/run1/step-1-moved/big.bin" "$store/run1/step-1-moved/big.bin"
  exec 8<&-
  umount_store "$mnt"
}

@test "a checkpoint that was replaced by another of the same name shows the new one" {
  mount_store "$store" "$mnt"
  same "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  rm -r "$store/run1/step-1"
  committed run1/step-1 5
  eventually 1 cmp "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  umount_store "$mnt"
}

@test "who stands in a checkpoint that was replaced gets no byte of the other, and no damage is reported" {
  mount_store "$store" "$mnt"
  cp "$store/run1/step-1/big.bin" "$tmp/was"
  cd "$mnt/run1/step-1"
  cat sub/block.bin >/dev/null
  rm -r "$store/run1/step-1"
  committed run1/step-1 5
  eventually 1 cmp "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  try cat big.bin
  [ "$status" -ne 0 ] || same "$tmp/.stdout" "$tmp/was"
  says_not 'Input/output error'
  cd "$tmp"
  grep -q '^ckptfs_corrupt_blocks_total 0$' "$mnt/.ckptfs/stats"
  umount_store "$mnt"
}

@test "a checkpoint of another store, with the same sequence number, in the place of one that was read" {
  local other=$tmp/other
  mount_store "$store" "$mnt"
  cp "$store/run1/step-1/big.bin" "$tmp/was"
  cd "$mnt/run1/step-1"
  same big.bin "$tmp/was"
  ckptfs init "$other" >/dev/null
  make_files "$other/run1/step-1" 5
  ckptfs commit "$other/run1/step-1" >/dev/null
  rm -r "$store/run1/step-1"
  cp -r "$other/run1/step-1" "$store/run1/step-1"
  try cat sub/block.bin
  [ "$status" -ne 0 ] || fail "bytes of the other"
  says_not 'Input/output error'
  eventually 1 cmp "$mnt/run1/step-1/big.bin" "$other/run1/step-1/big.bin"
  # Whoever stands in the old one gets its bytes or an error, never a mixture.
  try cat big.bin
  [ "$status" -ne 0 ] || same "$tmp/.stdout" "$tmp/was"
  try ckpt-test compare sub/block.bin "$other/run1/step-1/sub/block.bin" 5
  [ "$status" -ne 0 ] || fail "bytes of the other"
  cd "$tmp"
  same_tree "$mnt/run1/step-1" "$other/run1/step-1"
  grep -q '^ckptfs_corrupt_blocks_total 0$' "$mnt/.ckptfs/stats"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "a manifest under a temporary name commits nothing" {
  committed run1/step-2 2
  mount_store "$store" "$mnt"
  assert_eq "$(readlink "$mnt/run1/.ckptfs/latest")" ../step-2
  mv "$store/run1/step-2" "$store/run1/step-2.tmp"
  eventually 1 test -e "$mnt/run1/step-2.tmp"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-2.tmp")" open
  eventually 2 bash -c "[ \"\$(readlink '$mnt/run1/.ckptfs/latest')\" = ../step-1 ]"
  mv "$store/run1/step-2.tmp" "$store/run1/step-3"
  eventually 1 bash -c "[ \"\$(getfattr --only-values -n user.ckptfs.state '$mnt/run1/step-3')\" = committed ]"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "with verify=read a damaged block is EIO and one log line that says where, what and what to do; the others are read" {
  local line
  ckpt-test flip "$store/run1/step-1/big.bin" 1500000 4
  mount_store "$store" "$mnt" verify=read
  fails 1 cat "$mnt/run1/step-1/big.bin"
  fails 1 cat "$mnt/run1/step-1/big.bin"
  fails 1 ckpt-test pread "$mnt/run1/step-1/big.bin" 1500000 10
  says EIO
  ok ckpt-test pread "$mnt/run1/step-1/big.bin" 0 1048576
  cmp -n 1048576 "$tmp/.stdout" "$store/run1/step-1/big.bin"
  ok ckpt-test pread "$mnt/run1/step-1/big.bin" 2097152 1048576
  assert_eq "$(stat -c %s "$tmp/.stdout")" 402848
  ok cat "$mnt/run1/step-1/sub/block.bin"
  line=$(grep 'block 1 ' "$mnt.log")
  cat "$mnt.log"
  assert_eq "$(grep -c 'big.bin' "$mnt.log")" 1 "log lines"
  grep -qF "run1/step-1/big.bin" <<<"$line"
  grep -qE 'bytes 1048576-2097151.*xxh3-64 is [0-9a-f]{16}, should be [0-9a-f]{16}' <<<"$line"
  grep -qF "ckptfs verify" <<<"$line"
  awk '$1 == "ckptfs_corrupt_blocks_total" { exit !($2 >= 1) }' "$mnt/.ckptfs/stats"
  umount_store "$mnt"
}

@test "a bit that flips after the first read, the mtime put back, is found when the bytes are read again" {
  mount_store "$store" "$mnt"
  same "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  ckpt-test flip "$store/run1/step-1/big.bin" 100 1
  umount_store "$mnt"
  mount_store "$store" "$mnt"
  fails 1 cat "$mnt/run1/step-1/big.bin"
  umount_store "$mnt"
}

@test "a shard that is missing, short or replaced by a link or a folder is EIO, never other bytes, and the mount lives on" {
  local big=$store/run1/step-1/big.bin
  cp -a "$big" "$tmp/good"
  mount_store "$store" "$mnt"
  truncate -s 1000000 "$big"
  errno_is EIO read "$mnt/run1/step-1/big.bin"
  rm "$big"
  errno_is EIO read "$mnt/run1/step-1/big.bin"
  echo secret >"$tmp/secret"
  ln -s "$tmp/secret" "$big"
  errno_is EIO read "$mnt/run1/step-1/big.bin"
  rm "$big"
  mkdir "$big"
  errno_is EIO read "$mnt/run1/step-1/big.bin"
  rmdir "$big"
  mkfifo "$big"
  errno_is EIO read "$mnt/run1/step-1/big.bin"
  rm "$big"
  cp -a "$tmp/good" "$big"
  ok cat "$mnt/run1/step-1/sub/block.bin"
  ok cat "$mnt/run1/step-1/big.bin"
  same "$tmp/.stdout" "$tmp/good"
  umount_store "$mnt"
}

@test "a shard that is cut while it is read or mapped is an error, never the end of the daemon" {
  mount_store "$store" "$mnt"
  exec 8<"$mnt/run1/step-1/big.bin"
  head -c 4096 <&8 >/dev/null
  truncate -s 10 "$store/run1/step-1/big.bin"
  try cat <&8
  exec 8<&-
  try ckpt-test map-sum "$mnt/run1/step-1/big.bin" || true
  kill -0 "$(daemon_of "$mnt")"
  ok cat "$mnt/run1/step-1/sub/block.bin"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "a manifest that is damaged beside the mount is EIO or no checkpoint any more, and the others stay" {
  committed run1/step-2 2
  mount_store "$store" "$mnt"
  echo junk >>"$store/run1/step-2/.ckptfs/manifest.jsonl"
  sleep 1.1
  try cat "$mnt/run1/step-2/big.bin"
  [ "$status" -ne 0 ] || fail "served without a manifest"
  ok cat "$mnt/run1/step-1/big.bin"
  umount_store "$mnt"
}

@test "the index deleted, or overwritten with garbage, while mounted does not disturb readers" {
  mount_store "$store" "$mnt"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  rm -f "$store"/.ckptfs/index.db*
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  committed run1/step-2 2
  eventually 1 test -e "$mnt/run1/step-2/big.bin"
  same_tree "$mnt/run1/step-2" "$store/run1/step-2"
  random_bytes 4 30000 | dd of="$store/.ckptfs/index.db" conv=notrunc status=none
  committed run1/step-3 3
  eventually 2 test -e "$mnt/run1/step-3/big.bin"
  same_tree "$mnt/run1/step-3" "$store/run1/step-3"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  ok ckptfs ls "$store"
  assert_eq "$(grep -c committed <<<"$stdout")" 3
  umount_store "$mnt"
}

@test "only the owner of the store and root may give orders to the daemon" {
  requires root
  chmod 755 "$tmp"
  make_files "$store/run1/step-2.tmp"
  mount_store "$store" "$mnt" allow_other
  ok "${as_nobody[@]}" ckpt-test control "$mnt" 1 run1/step-2.tmp
  says EPERM
  ok ckpt-test control "$mnt" 1 run1/none
  says ENOENT
  ok ckpt-test control "$mnt" 1 ../escape
  says_like '^E'
  ok ckpt-test control "$mnt" 99 run1
  says_like 'E(INVAL|NOTTY|NOTSUP|OPNOTSUPP)'
  ok ckpt-test control "$mnt" 1 run1 7
  says_like 'E(INVAL|NOTTY|NOTSUP|OPNOTSUPP|PROTO)'
  ok ckpt-test control "$mnt" 1 run1/step-2.tmp
  says_like '^OK'
  [ -e "$store/run1/step-2/.ckptfs/manifest.jsonl" ]
  umount_store "$mnt"
}

@test "two mounts of one store read, commit and see each other's work" {
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2" ro
  make_files "$store/run1/step-2.tmp" 2
  eventually 1 test -e "$mnt/run1/step-2.tmp/big.bin"
  ok ckptfs commit "$mnt/run1/step-2.tmp"
  eventually 1 test -e "$tmp/mnt2/run1/step-2/big.bin"
  ok ckpt-test compare "$mnt/run1/step-2/big.bin" "$tmp/mnt2/run1/step-2/big.bin" 50 4
  umount_store "$mnt"
  same_tree "$tmp/mnt2/run1/step-2" "$store/run1/step-2"
  umount_store "$tmp/mnt2"
}

@test "a killed daemon leaves a store that is whole" {
  mount_store "$store" "$mnt"
  cat "$mnt/run1/step-1/big.bin" >/dev/null
  kill -KILL "$(daemon_of "$mnt")"
  gone_within 5 "$(daemon_of "$mnt")"
  ok ckptfs umount "$mnt"
  ok ckptfs verify "$store"
  mount_store "$store" "$mnt"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  umount_store "$mnt"
}
