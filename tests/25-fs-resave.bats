#!/usr/bin/env bats
# bats file_tags=fuse
# A committed name that is written again: refused, or, with -o resave=replace, replaced at the commit.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  committed run1/step-1
  committed run1/step-2 2
  cp -a "$store/run1/step-1" "$tmp/was"
  make_files "$tmp/new" 7
  rm "$tmp/new/link"
  save=$mnt/run1/step-1
}

# write_again FOLDER: as a trainer overwrites a checkpoint in place: folders made if missing, shards opened with
# O_TRUNC, one file renamed to its name at the end.
write_again() {
  printf 'done' >"$tmp/new/done"
  python3 - "$tmp/new" "$1" <<'PY'
import os, sys
source, target = sys.argv[1:]
for folder, _, files in os.walk(source):
    to = os.path.join(target, os.path.relpath(folder, source))
    os.makedirs(to, exist_ok=True)
    for name in set(files) - {"done"}:
        with open(os.path.join(folder, name), "rb") as data, open(os.path.join(to, name), "wb") as out:
            out.write(data.read())
with open(os.path.join(target, "done.tmp"), "wb") as out:
    out.write(b"done")
os.rename(os.path.join(target, "done.tmp"), os.path.join(target, "done"))
PY
}

# names DIR: what it lists, on one line, without the control folder.
names() {
  find "$1" -mindepth 1 -maxdepth 1 -not -name .ckptfs -printf '%f\n' | LC_ALL=C sort | paste -sd' '
}

is_old() {
  [ -d "$1/sub" ] && same_tree "$1" "$tmp/was"
}

is_new() {
  [ -d "$1/sub" ] && same_tree "$1" "$tmp/new"
}

in_trash() {
  local found
  found=$(find "$store/.ckptfs/trash" -mindepth 2 -maxdepth 2 -type d -name "$1")
  [ -n "$found" ] || fail "'$1' is not in the trash" || return 1
  echo "$found"
}

logged() {
  grep -qF -- "$1" "$mnt.log" || fail "the log does not hold: $1"
}

@test "by default writing a committed name again answers EROFS, and the log says what to do" {
  mount_store "$store" "$mnt"
  not write_again "$save"
  errno_is EROFS create "$save/new"
  errno_is EROFS truncate "$save/big.bin"
  logged "'run1/step-1' is committed and is not written again"
  logged "-o resave=replace"
  make_files "$mnt/run1/step-1.tmp" 7
  fails 1 mv -T "$mnt/run1/step-1.tmp" "$save"
  is_old "$save"
  is_old "$store/run1/step-1"
  umount_store "$mnt"
}

@test "with resave=replace the new files show under the name, and replace the old ones at the commit" {
  mount_store "$store" "$mnt" resave=replace
  mount_store "$store" "$tmp/mnt2"
  ls -lR "$save" >/dev/null
  write_again "$save"
  is_new "$save"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$save")" open
  assert_eq "$(names "$mnt/run1")" "step-1 step-2"
  logged "'run1/step-1' is written again"
  # Nothing has happened to the old one: not in the store, nor for others.
  is_old "$store/run1/step-1"
  is_old "$tmp/mnt2/run1/step-1"
  assert_eq "$(names "$tmp/mnt2/run1")" "step-1 step-1.partial step-2"
  ok ckptfs commit "$save"
  is_new "$save"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$save")" committed
  is_new "$store/run1/step-1"
  is_old "$(in_trash step-1)"
  [ ! -e "$store/run1/step-1.partial" ]
  eventually 1 cmp "$tmp/mnt2/run1/step-1/big.bin" "$tmp/new/big.bin"
  is_new "$tmp/mnt2/run1/step-1"
  ok ckptfs verify "$store/run1/step-1"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "a rename onto a committed checkpoint replaces it" {
  mount_store "$store" "$mnt" resave=replace
  cp -r "$tmp/new" "$mnt/run1/step-1.tmp"
  ok mv -T "$mnt/run1/step-1.tmp" "$save"
  is_new "$save"
  is_new "$store/run1/step-1"
  is_old "$(in_trash step-1)"
  ok ckptfs verify "$store/run1/step-1"
  umount_store "$mnt"
}

@test "readers of the old files go on reading them, before and after the commit" {
  mount_store "$store" "$mnt" resave=replace
  exec 8<"$save/big.bin" 9<"$save/sub/block.bin"
  write_again "$save"
  cmp - "$tmp/was/big.bin" <&8
  ok ckptfs commit "$save"
  cmp - "$tmp/was/sub/block.bin" <&9
  exec 8<&- 9<&-
  umount_store "$mnt"
}

@test "what was written again survives the daemon as an open checkpoint beside the old one" {
  local pid
  mount_store "$store" "$mnt" resave=replace
  write_again "$save"
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  umount -l "$mnt"
  forget_mount "$pid"
  mount_store "$store" "$mnt" resave=replace
  is_old "$save"
  is_new "$save.partial"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$save.partial")" open
  # The next attempt begins anew: nothing of the one that died is left in it.
  echo more >"$save/more"
  assert_eq "$(ls -A "$save")" more
  # The kernel keeps names of what it has just seen there for a second.
  eventually 1 test ! -e "$save/big.bin"
  umount_store "$mnt"
}

@test "two mounts that write one name again share the open checkpoint" {
  mount_store "$store" "$mnt" resave=replace
  mount_store "$store" "$tmp/mnt2" resave=replace
  echo rank0 >"$save/rank0"
  echo rank1 >"$tmp/mnt2/run1/step-1/rank1"
  eventually 1 test -e "$save/rank1"
  eventually 1 test -e "$tmp/mnt2/run1/step-1/rank0"
  ok ckptfs commit "$save"
  assert_eq "$(names "$store/run1/step-1")" "rank0 rank1"
  eventually 2 bash -c "[ \"\$(getfattr --only-values -n user.ckptfs.state '$tmp/mnt2/run1/step-1')\" = committed ]"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}

@test "a folder of that name that nobody is known to have begun is left alone" {
  make_files "$store/run1/step-1.partial" 9
  cp -a "$store/run1/step-1.partial" "$tmp/theirs"
  mount_store "$store" "$mnt" resave=replace
  errno_is EBUSY create "$save/new"
  logged "ckptfs abort"
  same_tree "$store/run1/step-1.partial" "$tmp/theirs"
  is_old "$save"
  umount_store "$mnt"
}

@test "folders, links and shards can be the first that is made; each process looks the name up again" {
  mount_store "$store" "$mnt" resave=replace
  ls "$save" >/dev/null
  mkdir "$save/folder"
  assert_eq "$(ls -A "$save")" folder
  ln -s folder "$mnt/run1/step-2/link2"
  assert_eq "$(ls -A "$mnt/run1/step-2")" link2
  umount_store "$mnt"
}

@test "removing what was written again brings the old one back" {
  mount_store "$store" "$mnt" resave=replace
  write_again "$save"
  is_new "$save"
  ok rm -r "$save"
  eventually 1 is_old "$save"
  is_old "$store/run1/step-1"
  [ ! -e "$store/run1/step-1.partial" ]
  write_again "$save"
  is_new "$save"
  # Not while its files are being summed.
  eventually 10 ckptfs abort "$store/run1/step-1.partial"
  eventually 1 is_old "$save"
  umount_store "$mnt"
}

@test "a pinned checkpoint is not written again" {
  ok ckptfs pin "$store/run1/step-1"
  mount_store "$store" "$mnt" resave=replace
  errno_is EROFS create "$save/new"
  logged "'run1/step-1' is pinned"
  is_old "$save"
  umount_store "$mnt"
}

@test "a completion rule commits what was written again" {
  local folder=$store/run1/checkpoint-5
  mkdir "$folder"
  echo '{"global_step": 5}' >"$folder/trainer_state.json"
  random_bytes 1 300000 >"$folder/model.safetensors.bin"
  ckptfs commit "$folder" >/dev/null
  mount_store "$store" "$mnt" resave=replace,autocommit=1
  random_bytes 2 300000 >"$mnt/run1/checkpoint-5/model.safetensors.bin"
  echo '{"global_step": 5, "again": true}' >"$mnt/run1/checkpoint-5/trainer_state.json"
  eventually 15 grep -q again "$folder/trainer_state.json"
  [ -e "$folder/.ckptfs/manifest.jsonl" ]
  in_trash checkpoint-5
  ok ckptfs verify "$folder"
  umount_store "$mnt"
}

@test "a NAME.partial that somebody wrote through an earlier mount is never dropped for a new save" {
  mount_store "$store" "$mnt" resave=replace
  mkdir "$mnt/run1/step-9.partial"
  echo mine >"$mnt/run1/step-9.partial/by-hand"
  umount_store "$mnt"
  make_files "$store/run1/step-9" 9
  ok ckptfs commit "$store/run1/step-9"
  mount_store "$store" "$mnt" resave=replace
  not bash -c "echo again >'$mnt/run1/step-9/new'"
  assert_eq "$(cat "$store/run1/step-9.partial/by-hand")" mine "what was written by hand"
  eventually 2 grep -q "run1/step-9.partial' exists and was not begun by a save that ended" "$mnt.log"
}
