#!/usr/bin/env bats
# bats file_tags=fuse
# Committed checkpoints are removed through a mount as any folder is, and lie in the trash then.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  committed run1/step-1
  committed run1/step-2 2
  cp -a "$store/run1/step-1" "$tmp/was"
}

# in_trash NAME: the folder of the removed checkpoint of that last component.
in_trash() {
  local found
  found=$(find "$store/.ckptfs/trash" -mindepth 2 -maxdepth 2 -type d -name "$1")
  [ -n "$found" ] || fail "'$1' is not in the trash" || return 1
  echo "$found"
}

# is_removed NAME: it is gone from the store and the mount, and lies in the trash, whole.
is_removed() {
  [ ! -e "$store/$1" ] || fail "'$1' is in the store" || return 1
  [ ! -e "$mnt/$1" ] || fail "'$1' is in the mount" || return 1
  same_tree "$(in_trash "${1##*/}")" "$tmp/was"
}

# is_whole FOLDER: every name and byte of run1/step-1 is there.
is_whole() {
  [ -d "$1/sub/deep" ] && same_tree "$1" "$tmp/was"
}

# names DIR: what it lists, on one line.
names() {
  find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | LC_ALL=C sort | paste -sd' '
}

# links_are TOP SUB: the link counts of run1/step-1 and of its folder sub.
links_are() {
  [ "$(stat -c %h "$mnt/run1/step-1" "$mnt/run1/step-1/sub" | paste -sd' ')" = "$1 $2" ]
}

logged() {
  grep -qF -- "$1" "$mnt.log" || fail "the log does not hold: $1"
}

@test "rm -r of a committed checkpoint moves it into the trash, whole, and undelete brings it back" {
  mount_store "$store" "$mnt"
  ls -lR "$mnt" >/dev/null
  ok rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  assert_eq "$(ls "$mnt/run1")" step-2
  logged "'run1/step-1' is being removed"
  logged "ckptfs undelete $store/run1/step-1"
  ok ckptfs undelete "$mnt/run1/step-1"
  is_whole "$mnt/run1/step-1"
  ok ckptfs verify "$store/run1/step-1"
  umount_store "$mnt"
}

@test "shutil.rmtree, find -delete and rsync --delete remove one as well" {
  requires rsync
  committed run1/step-3 1
  committed run1/step-4 1
  mount_store "$store" "$mnt"
  ok python3 -c 'import shutil, sys; shutil.rmtree(sys.argv[1])' "$mnt/run1/step-1"
  is_removed run1/step-1
  ok find "$mnt/run1/step-3" -delete
  is_removed run1/step-3
  mkdir "$tmp/empty"
  ok rsync -r --delete "$tmp/empty/" "$mnt/run1/step-4/"
  ok rmdir "$mnt/run1/step-4"
  is_removed run1/step-4
  same_tree "$mnt/run1/step-2" "$store/run1/step-2"
  umount_store "$mnt"
}

@test "a user who owns a checkpoint removes it through a mount of root's, and another one cannot" {
  requires root
  committed run1/step-3 3
  rm -r "$store/run1/step-1"
  cp -a "$tmp/was" "$store/run1/step-1.tmp"
  rm -r "$store/run1/step-1.tmp/.ckptfs"
  chown -Rh 65534:65534 "$store/run1/step-1.tmp"
  ckptfs commit "$store/run1/step-1.tmp" >/dev/null
  chmod 1777 "$store/run1"
  chmod 755 "$tmp" "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" 2>/dev/null || true
  mount_store "$store" "$mnt"
  "${as_nobody[@]}" test -x "$mnt/run1" || skip "this folder is not reachable for another user"
  fails 1 "${as_nobody[@]}" rm -r "$mnt/run1/step-3"
  says 'Permission denied'
  same_tree "$mnt/run1/step-3" "$store/run1/step-3"
  ok "${as_nobody[@]}" rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
}

@test "each unlink shows in listings at once, and what is left is served and verified" {
  mount_store "$store" "$mnt"
  cd "$mnt/run1/step-1"
  ls -lR . >/dev/null
  rm sub/block.bin
  assert_eq "$(ls -A sub)" deep
  errno_is ENOENT stat sub/block.bin
  assert_eq "$(stat -c %h . sub | paste -sd' ')" "3 3"
  rm sub/deep/note.txt
  assert_eq "$(ls -A sub/deep)" ""
  rmdir sub/deep
  assert_eq "$(ls -A sub)" ""
  assert_eq "$(stat -c %h sub)" 2
  rmdir sub
  assert_eq "$(names .)" "big.bin empty link"
  assert_eq "$(stat -c %h .)" 2
  errno_is ENOENT stat sub
  same big.bin "$tmp/was/big.bin"
  grep -q '^ckptfs_verified_bytes_total [1-9]' "$mnt/.ckptfs/stats"
  # The checkpoint is listed in its group, under its name.
  assert_eq "$(names "$mnt/run1")" "step-1 step-2"
  cd "$tmp"
  assert_eq "$(ls "$mnt/run1")" "step-1"$'\n'"step-2"
  rm "$mnt/run1/step-1"/{big.bin,empty,link}
  rmdir "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
}

@test "damage in what is left of a checkpoint under removal answers EIO" {
  mount_store "$store" "$mnt"
  rm "$mnt/run1/step-1/empty"
  ckpt-test flip "$(in_trash step-1)/big.bin" 1000000 3 2>/dev/null ||
    printf '\xff' | dd of="$(in_trash step-1)/big.bin" bs=1 seek=1000000 conv=notrunc status=none
  fails 1 cat "$mnt/run1/step-1/big.bin"
  says 'Input/output error'
  logged 'run1/step-1/big.bin'
  umount_store "$mnt"
}

@test "unlink and rmdir answer as on any folder, and refused ones begin nothing" {
  mount_store "$store" "$mnt"
  errno_is ENOTEMPTY rmdir "$mnt/run1/step-1"
  errno_is ENOTEMPTY rmdir "$mnt/run1/step-1/sub"
  errno_is EISDIR unlink "$mnt/run1/step-1/sub"
  errno_is ENOTDIR rmdir "$mnt/run1/step-1/empty"
  errno_is ENOENT unlink "$mnt/run1/step-1/none"
  is_whole "$store/run1/step-1"
  not grep -q 'being removed' "$mnt.log"
  umount_store "$mnt"
}

@test "a checkpoint under removal refuses every other change" {
  mount_store "$store" "$mnt"
  rm "$mnt/run1/step-1/empty"
  errno_is EROFS create "$mnt/run1/step-1/new"
  errno_is EROFS mkdir "$mnt/run1/step-1/new"
  errno_is EROFS truncate "$mnt/run1/step-1/big.bin"
  errno_is EROFS chmod "$mnt/run1/step-1/big.bin"
  fails 1 mv "$mnt/run1/step-1" "$mnt/run1/step-9"
  fails 1 mv "$mnt/run1/step-1/big.bin" "$mnt/run1/big.bin"
  ok rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
}

@test "a pinned checkpoint answers EPERM, and the rest of its group goes" {
  committed run1/sub/step-3 3
  echo loose >"$store/run1/log"
  ok ckptfs pin "$store/run1/step-1"
  mount_store "$store" "$mnt"
  fails 1 rm -r "$mnt/run1"
  says "step-1" 'Operation not permitted'
  logged "it is pinned"
  is_whole "$mnt/run1/step-1"
  is_whole "$store/run1/step-1"
  assert_eq "$(ls "$mnt/run1")" step-1
  in_trash step-2
  in_trash step-3
  umount_store "$mnt"
}

@test "rm -r of a group removes its checkpoints, loose files and open ones" {
  committed run1/sub/step-3 3
  make_files "$store/run1/step-4.tmp" 4
  echo loose >"$store/run1/log"
  mount_store "$store" "$mnt"
  ok rm -r "$mnt/run1"
  assert_eq "$(ls -A "$mnt")" ""
  assert_eq "$(ls -A "$store")" .ckptfs
  in_trash step-1
  in_trash step-2
  in_trash step-3
  umount_store "$mnt"
}

@test "who has a shard open, or stands in the checkpoint, goes on reading" {
  mount_store "$store" "$mnt"
  exec 8<"$mnt/run1/step-1/big.bin" 9<"$mnt/run1/step-1/sub/block.bin"
  rm "$mnt/run1/step-1/big.bin"
  same /dev/fd/8 "$tmp/was/big.bin"
  assert_eq "$(stat -L -c %s /dev/fd/8)" 2500000
  ok rm -r "$mnt/run1/step-1"
  cmp - "$tmp/was/sub/block.bin" <&9
  exec 8<&- 9<&-
  umount_store "$mnt"
}

@test "other mounts see a checkpoint go, and come back, within a second" {
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  same_tree "$tmp/mnt2/run1/step-1" "$tmp/was"
  rm "$mnt/run1/step-1/empty"
  eventually 1 test ! -e "$tmp/mnt2/run1/step-1"
  assert_eq "$(ls "$tmp/mnt2/run1")" step-2
  ok ckptfs undelete "$store/run1/step-1"
  eventually 1 test -e "$tmp/mnt2/run1/step-1/empty"
  eventually 1 test -e "$mnt/run1/step-1/empty"
  is_whole "$mnt/run1/step-1"
  is_whole "$tmp/mnt2/run1/step-1"
  logged "the removal of 'run1/step-1' is over"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "undelete half way ends the removal, and what stood in the way of a listing is gone" {
  mount_store "$store" "$mnt"
  ls -lR "$mnt/run1/step-1" >/dev/null
  rm -r "$mnt/run1/step-1/sub" "$mnt/run1/step-1/link"
  assert_eq "$(names "$mnt/run1/step-1")" "big.bin empty"
  ok ckptfs undelete "$store/run1/step-1"
  eventually 2 is_whole "$mnt/run1/step-1"
  eventually 2 links_are 3 3
  ok rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
}

@test "the mount ends, or its daemon is killed, during a removal: it lies in the trash, whole" {
  mount_store "$store" "$mnt"
  rm -r "$mnt/run1/step-1/sub"
  umount_store "$mnt"
  same_tree "$(in_trash step-1)" "$tmp/was"
  ok ckptfs undelete "$store/run1/step-1"
  mount_store "$store" "$mnt"
  rm -r "$mnt/run1/step-1/sub"
  kill -KILL "$(daemon_of "$mnt")"
  umount -l "$mnt"
  forget_mount "$(daemon_of "$mnt")"
  same_tree "$(in_trash step-1)" "$tmp/was"
  mount_store "$store" "$mnt"
  assert_eq "$(ls "$mnt/run1")" step-2
  ok ckptfs undelete "$store/run1/step-1"
  is_whole "$store/run1/step-1"
  ok ckptfs verify "$store/run1/step-1"
  umount_store "$mnt"
}

@test "a removal goes on when the index is emptied, or asked for the name, half way" {
  mount_store "$store" "$mnt"
  rm "$mnt/run1/step-1/empty"
  ok ckptfs ls "$store"
  says_not 'step-1  committed'
  assert_eq "$(names "$mnt/run1/step-1")" "big.bin link sub"
  rm -f "$store"/.ckptfs/index.db*
  same "$mnt/run1/step-1/sub/block.bin" "$tmp/was/sub/block.bin"
  ok ckptfs reindex "$store"
  ok rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
}

@test "several processes that remove one checkpoint at a time" {
  local pids=() pid
  mkdir "$store/run1/many"
  for i in $(seq 300); do echo "$i" >"$store/run1/many/f$i"; done
  ckptfs commit "$store/run1/many" >/dev/null
  mount_store "$store" "$mnt"
  for i in 1 2 3 4; do
    rm -rf "$mnt/run1/many" 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || true; done
  rm -rf "$mnt/run1/many"
  [ ! -e "$mnt/run1/many" ]
  assert_eq "$(find "$(in_trash many)" -maxdepth 1 -type f | wc -l)" 300
  umount_store "$mnt"
}

@test "two mounts that remove one checkpoint: one wins, and nothing is lost" {
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  ls "$tmp/mnt2/run1/step-1" >/dev/null
  rm "$mnt/run1/step-1/empty"
  try rm -r "$tmp/mnt2/run1/step-1"
  ok rm -r "$mnt/run1/step-1"
  is_removed run1/step-1
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "a checkpoint of the same name may be written while the old one is being removed" {
  mount_store "$store" "$mnt"
  rm -r "$mnt/run1/step-1"
  make_files "$mnt/run1/step-1.tmp" 7
  mv "$mnt/run1/step-1.tmp" "$mnt/run1/step-1"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  ok rm -r "$mnt/run1/step-1"
  assert_eq "$(find "$store/.ckptfs/trash" -mindepth 2 -maxdepth 2 -type d -name step-1 | wc -l)" 2
  umount_store "$mnt"
}

@test "an empty folder may be the first that is removed" {
  mkdir -p "$store/run1/step-3/empty"
  echo x >"$store/run1/step-3/shard"
  ckptfs commit "$store/run1/step-3" >/dev/null
  mount_store "$store" "$mnt"
  ok rmdir "$mnt/run1/step-3/empty"
  assert_eq "$(ls -A "$mnt/run1/step-3")" shard
  assert_eq "$(names "$(in_trash step-3)")" ".ckptfs empty shard"
  umount_store "$mnt"
}

# bats test_tags=slow,once
@test "a removal that stops half way is undone after 60 seconds, for who stands in it, too" {
  local sleeper
  mount_store "$store" "$mnt"
  ls -lR "$mnt/run1/step-1" >/dev/null
  exec 8<"$mnt/run1/step-1/big.bin"
  (cd "$mnt/run1/step-1/sub/deep" && exec sleep 100) 3>&- 8<&- &
  sleeper=$!
  rm -r "$mnt/run1/step-1/sub" "$mnt/run1/step-1/big.bin"
  assert_eq "$(names "$mnt/run1/step-1")" "empty link"
  sleep 55
  [ ! -e "$store/run1/step-1" ]
  eventually 10 test -e "$store/run1/step-1"
  eventually 1 is_whole "$mnt/run1/step-1"
  logged "the removal of 'run1/step-1' has stalled for 60 s: it is undone"
  eventually 2 links_are 3 3
  same "$mnt/run1/step-1/big.bin" "$tmp/was/big.bin"
  same /dev/fd/8 "$tmp/was/big.bin"
  ok ckptfs verify "$store/run1/step-1"
  exec 8<&-
  kill "$sleeper"
  ok rm -r "$mnt/run1/step-1"
  umount_store "$mnt"
}

@test "removed checkpoints are purged by age, but the last of a group stays" {
  mount_store "$store" "$mnt"
  rm -r "$mnt/run1/step-1"
  umount_store "$mnt"
  sleep 2
  mount_store "$store" "$mnt" trash=1s
  eventually 5 grep -q "purged 'run1/step-1'" "$mnt.log"
  rm -r "$mnt/run1/step-2"
  umount_store "$mnt"
  sleep 2
  mount_store "$store" "$mnt" trash=1s
  sleep 1
  in_trash step-2
  not grep -q "purged 'run1/step-2'" "$mnt.log"
  umount_store "$mnt"
}

@test "a full disk with something in the trash: no writer meets ENOSPC, and df counts it as free" {
  requires loop
  local disk=$tmp/disk free
  small_disk 300 "$disk"
  new_store "$disk/store"
  for i in 1 2 3; do
    mkdir -p "$store/run1/step-$i"
    random_bytes "$i" 40000000 >"$store/run1/step-$i/w.bin"
    ckptfs commit "$store/run1/step-$i" >/dev/null
  done
  mount_store "$store" "$mnt"
  rm -r "$mnt/run1/step-1" "$mnt/run1/step-2"
  sync
  free=$(df --output=avail -B1 "$disk" | tail -n 1)
  eventually 3 bash -c "[ \$(df --output=avail -B1 '$mnt' | tail -n 1) -gt $((free + 70000000)) ]"
  # More than is free, less than is free with the trash.
  ok dd if=/dev/zero of="$mnt/run1/big" bs=1M count=$(((free + 60000000) / 1048576))
  grep -q "purged 'run1/step-1'" "$mnt.log"
  ok rm "$mnt/run1/big"
  ok ckptfs verify "$store/run1/step-3"
  umount_store "$mnt"
}

@test "status tells what is written, and what is being removed" {
  mount_store "$store" "$mnt"
  assert_eq "$(jq -c . "$mnt/.ckptfs/status")" '[]'
  mkdir "$mnt/run1/step-3.tmp"
  exec 8>"$mnt/run1/step-3.tmp/shard"
  rm "$mnt/run1/step-1/empty"
  eventually 5 bash -c "jq -e 'any(.name == \"run1/step-3.tmp\" and .doing == \"writing\" and .open_files == 1)' '$mnt/.ckptfs/status'"
  jq -e 'any(.name == "run1/step-1" and .doing == "removing")' "$mnt/.ckptfs/status"
  exec 8>&-
  eventually 10 bash -c "jq -e 'any(.name == \"run1/step-3.tmp\" and .doing == \"idle\")' '$mnt/.ckptfs/status'"
  rm -r "$mnt/run1/step-1" "$mnt/run1/step-3.tmp"
  not jq -e 'any(.name == "run1/step-1")' "$mnt/.ckptfs/status"
  umount_store "$mnt"
}

@test "a copy that gets the numbers of a checkpoint under removal is not mixed up with it" {
  mount_store "$store" "$mnt"
  rm "$mnt/run1/step-1/empty"
  cp -a "$(in_trash step-1)" "$store/run1/copy"
  ls "$mnt/run1" >/dev/null
  try cat "$mnt/run1/copy/sub/deep/note.txt"
  [ "$status" -ne 0 ] || same "$tmp/.stdout" "$tmp/was/sub/deep/note.txt"
  ok rm -r "$mnt/run1/step-1"
  eventually 1 is_whole "$mnt/run1/copy"
  is_whole "$store/run1/copy"
  umount_store "$mnt"
}
