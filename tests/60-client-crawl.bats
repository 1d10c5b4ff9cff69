#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Those that read everything: copies of a whole run while it is being written, and crawlers.
load helpers/common
load helpers/counters

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run"
}

# write_steps FROM TO: commits of small checkpoints by mv, one after the other.
write_steps() {
  local i
  for i in $(seq "$1" "$2"); do
    make_files "$mnt/run/step-$i.tmp" "$i"
    mv "$mnt/run/step-$i.tmp" "$mnt/run/step-$i" || return 1
  done
}

@test "rsync of a run while checkpoints are committed takes each committed one whole" {
  requires rsync
  mount_store "$store" "$mnt"
  write_steps 1 3
  write_steps 4 15 >"$tmp/writer.log" 2>&1 3>&- &
  local writer=$! round
  for round in 1 2 3 4; do
    # 24: files went while it looked, as those of a temporary name do when it is renamed.
    try rsync -a "$mnt/run/" "$tmp/copy$round/"
    [ "$status" -eq 0 ] || [ "$status" -eq 24 ] || [ "$status" -eq 23 ] || fail "rsync: exit $status" || return 1
    for step in "$tmp/copy$round"/step-?; do
      same_tree "$step" "$store/run/${step##*/}"
    done
  done
  wait "$writer" || fail "the writer failed: $(cat "$tmp/writer.log")"
  ok rsync -a --delete "$mnt/run/" "$tmp/copy/"
  assert_eq "$(find "$tmp/copy" -mindepth 1 -maxdepth 1 | wc -l)" 15 "checkpoints copied"
  for step in "$tmp/copy"/step-*; do same_tree "$step" "$store/run/${step##*/}"; done
  ok ckptfs verify "$store"
}

@test "cp -al of a run links no committed file: EXDEV, and what is committed stays as it is" {
  mount_store "$store" "$mnt"
  write_steps 1 2
  echo loose >"$mnt/run/notes.txt"
  write_steps 3 6 >"$tmp/writer.log" 2>&1 3>&- &
  local writer=$!
  try cp -al "$mnt/run" "$mnt/copy"
  [ "$status" -eq 1 ] || fail "links of committed files should be refused"
  says 'Invalid cross-device link'
  wait "$writer" || fail "the writer failed: $(cat "$tmp/writer.log")"
  # Loose files are linked, as anywhere.
  assert_eq "$(stat -c %h "$store/run/notes.txt")" 2 "links of the loose file"
  ok ckptfs verify "$store"
  ok ckptfs ls "$mnt"
  says_like '^run/step-1 +committed' '^run/step-6 +committed'
}

@test "find, du, file and a crawler verify no shard by looking, and start no removal" {
  requires file
  mount_store "$store" "$mnt"
  write_steps 1 3
  umount_store "$mnt"
  mount_store "$store" "$mnt"
  ok find "$mnt" -type f -newermt 2000-01-01 -size +0 -ls
  ok du -s --apparent-size "$mnt"
  ok ls -lR "$mnt"
  ok python3 -c "import os, sys
for folder, _, files in os.walk(sys.argv[1]):
    for name in files:
        path = os.path.join(folder, name)
        os.stat(path), os.lstat(path), os.access(path, os.W_OK), os.listxattr(path)" "$mnt"
  assert_eq "$(verified_of "$mnt")" 0 "bytes verified"
  # What opens a file has it verified, and no more than that.
  ok file "$mnt/run/step-1/big.bin"
  [ "$(verified_of "$mnt")" -gt 0 ] || fail "an open verifies"
  not ls "$store"/.ckptfs/trash/* || fail "something lies in the trash"
  ok ckptfs ls "$mnt"
  says_like '^run/step-1 +committed' '^run/step-3 +committed'
}
