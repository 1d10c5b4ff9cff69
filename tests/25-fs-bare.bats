#!/usr/bin/env bats
# bats file_tags=fuse
# The mount of a folder that is no store: read-only, nothing is written into it, nothing that was never
# committed is verified; commands find their way through it.
load helpers/common

setup() {
  requires fuse
  dir=$tmp/dir
  mnt=$tmp/mnt
  step=$mnt/run/step-7
  mkdir -p "$dir/run/step-7" "$dir/run/step-8"
  make_model "$dir/run/step-7/model.safetensors" model 3
  cp "$dir/run/step-7/model.safetensors" "$dir/run/step-8"
  printf '{"model_type":"none"}\n' >"$dir/run/step-7/config.json"
  echo text >"$dir/notes.txt"
}

# names_in DIR: what it lists, in one line
names_in() {
  find "$1" -mindepth 1 -maxdepth 1 -printf '%f\n' | LC_ALL=C sort | paste -sd' '
}

# show_folder DIR: mounted on $mnt; its index is kept out of the user's cache
show_folder() {
  mount_store "$1" "$mnt" "index=$tmp/index.db"
}

# a checkpoint that was committed in some store, with its manifest, as dir/run/step-9
bring_committed() {
  new_store
  committed run/step-9 9
  cp -r "$store/run/step-9" "$dir/run"
}

# bats test_tags=fast
@test "what is no store is shown read-only as it is, and as it changes, and nothing is written into it" {
  snapshot "$dir" >"$tmp/before"
  show_folder "$dir"
  grep -q "is no store: .*read-only.* verified" "$mnt.log" || fail "$(cat "$mnt.log")"
  same_tree "$dir" "$mnt"
  errno_is EROFS create "$mnt/new"
  fails 1 cp "$dir/notes.txt" "$step/config.json"
  says 'Read-only file system'
  errno_is EROFS mkdir "$mnt/run/new"
  errno_is EROFS unlink "$step/config.json"
  fails 1 mv "$step" "$mnt/run/step-10"
  says 'Read-only file system'
  snapshot "$dir" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  echo more >>"$dir/notes.txt"
  mkdir "$dir/run/step-11"
  eventually 3 test -d "$mnt/run/step-11"
  eventually 3 cmp "$dir/notes.txt" "$mnt/notes.txt"
  umount_store "$mnt"
  assert_eq "$(find "$dir" -name '.ckptfs*')" ''
}

# bats test_tags=fast
@test "its control folder has README, stats and status, and no store.json" {
  show_folder "$dir"
  assert_eq "$(names_in "$mnt/.ckptfs")" 'README stats status'
  ok cat "$mnt/.ckptfs/README"
  says 'no store' 'cannot be verified' '.ckptfs/hf'
  ok cat "$mnt/.ckptfs/status"
  assert_eq "$stdout" '[]'
  errno_is ENOENT open "$mnt/.ckptfs/store.json"
}

# bats test_tags=fast
@test "views of what was recognised lie in control folders that are never listed" {
  local view
  show_folder "$dir"
  assert_eq "$(names_in "$step")" 'config.json model.safetensors'
  assert_eq "$(names_in "$step/.ckptfs")" 'hf safetensors tensors'
  for view in hf/model.safetensors hf/config.json safetensors/all.safetensors tensors/step.npy; do
    ckptfs cat "$dir/run/step-7/.ckptfs/$view" >"$tmp/expected"
    same "$tmp/expected" "$step/.ckptfs/$view"
  done
}

@test "a view that somebody holds open does not keep others from what the folder holds by now" {
  local view=$step/.ckptfs/safetensors/all.safetensors
  show_folder "$dir"
  hold read "$view"
  ok head -c 5000 "$view"
  make_model "$tmp/larger" model 6
  mv "$tmp/larger" "$dir/run/step-7/model.safetensors"
  ckptfs cat "$dir/run/step-7/.ckptfs/safetensors/all.safetensors" >"$tmp/expected"
  eventually 4 cmp "$tmp/expected" "$view"
  let_go
  same "$tmp/expected" "$view"
  umount_store "$mnt"
}

# reopened: opens anew what the holder has open, which is no look-up of a name
reopened() {
  local fd
  for fd in "/proc/$holder/fd/"*; do
    [[ $(readlink "$fd") != *.npy ]] || cat "$fd" || return
  done
}

@test "a view that was looked up before the folder changed is stale, and never another tensor" {
  local views=$step/.ckptfs/tensors last
  show_folder "$dir"
  last=$(find "$views" -name '*.npy' -printf '%f\n' | LC_ALL=C sort | tail -1)
  hold read "$views/$last"
  ok cmp "$views/$last" <(reopened)
  make_model "$tmp/larger" model 6
  mv "$tmp/larger" "$dir/run/step-7/model.safetensors"
  ckptfs cat "$dir/run/step-7/.ckptfs/tensors/$last" >"$tmp/expected"
  eventually 4 cmp "$tmp/expected" "$views/$last"
  reopened >"$tmp/out" 2>"$tmp/why" && fail "a stale view was opened"
  grep -F 'Stale file handle' "$tmp/why"
  let_go
  umount_store "$mnt"
}

@test "a companion outside the checkpoint that is closed to others closes the views" {
  printf '{}\n' >"$dir/run/tokenizer.json"
  show_folder "$dir"
  assert_eq "$(stat -c %a "$step/.ckptfs/hf/tokenizer.json")" 444
  chmod 600 "$dir/run/tokenizer.json"
  mode_is() { [ "$(stat -c %a "$step/.ckptfs/hf/tokenizer.json")" = "$1" ]; }
  eventually 5 mode_is 400
  umount_store "$mnt"
}

@test "a folder that is one checkpoint can be mounted by itself, and has its views at the top of the mount" {
  show_folder "$dir/run/step-7"
  assert_eq "$(names_in "$mnt")" 'config.json model.safetensors'
  ckptfs cat "$dir/run/step-7/.ckptfs/hf/model.safetensors" >"$tmp/expected"
  same "$tmp/expected" "$mnt/.ckptfs/hf/model.safetensors"
  ok ckptfs show "$mnt"
  says 'name: step-7' 'tensor set .: '
}

# bats test_tags=fast
@test "commands go through the mount to the folder itself, with views too" {
  show_folder "$dir"
  ok ckptfs show "$step"
  says 'name: step-7' 'state: open' 'tensor set .: '
  ok ckptfs ls "$step"
  says model.safetensors
  ok ckptfs ls "$step/.ckptfs/tensors"
  says .ckptfs/tensors/embed.weight.npy
  ckptfs cat "$dir/run/step-7/.ckptfs/safetensors/all.safetensors" >"$tmp/expected"
  same "$tmp/expected" <(ckptfs cat "$step/.ckptfs/safetensors/all.safetensors")
  ok ckptfs cp "$step/.ckptfs/hf" "$tmp/model"
  assert_eq "$(names_in "$tmp/model")" 'config.json model.safetensors'
  fails 1 ckptfs verify "$step"
  says 'nothing can be verified'
  fails 1 ckptfs show "$mnt/run"
  says 'checkpoints lie in it'
  fails 1 ckptfs commit "$step"
  says 'in no store'
}

# bats test_tags=fast
@test "a checkpoint that lies in it with its manifest is committed there, and verified" {
  bring_committed
  show_folder "$dir"
  same_tree "$store/run/step-9" "$mnt/run/step-9"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run/step-9" 2>/dev/null)" committed
  ok ckptfs verify "$mnt/run/step-9"
  says 'step-9: ok'
  printf 'x' | dd of="$dir/run/step-9/big.bin" bs=1 seek=5 conv=notrunc status=none
  errno_is EIO open "$mnt/run/step-9/big.bin"
  grep -q "'run/step-9/big.bin': block 0 " "$mnt.log" || fail "$(cat "$mnt.log")"
  errno_is EROFS unlink "$mnt/run/step-9/big.bin"
  assert_eq "$(find "$dir" -name '.ckptfs*' | wc -l)" 1
}

# bats test_tags=fast
@test "without a mount point it is mounted over itself, and the message tells what that means" {
  ok ckptfs mount "$dir" -o "index=$tmp/index.db" 3>&- 4>&-
  says "'$dir' is no store" read-only verified
  says_not 'no checkpoint is recognised'
  is_mounted "$dir"
  ok ckptfs cat "$dir/run/step-7/.ckptfs/tensors/step.npy"
  ok ckptfs mount "$dir" 3>&- 4>&-
  says 'already'
  fails 1 ckptfs mount "$dir/run" "$tmp/other"
  ok ckptfs umount "$dir"
  not is_mounted "$dir"
  mkdir "$tmp/empty"
  ok ckptfs mount "$tmp/empty" -o "index=$tmp/empty.db" 3>&- 4>&-
  says 'no checkpoint is recognised in it yet'
  ok ckptfs umount "$tmp/empty"
}

@test "it can be mounted again when its daemon was killed, and finds its index again" {
  local pid index
  mount_store "$dir" "$mnt"
  index=$(sed -n "s/.*the index of '[^']*' is '\([^']*\)'.*/\1/p" "$mnt.log")
  [ -n "$index" ] || fail "$(cat "$mnt.log")"
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  gone_within 10 "$pid"
  forget_mount "$pid"
  fails 1 ckptfs show "$step"
  says 'ckptfs umount'
  ok ckptfs umount "$mnt"
  mount_store "$dir" "$mnt"
  grep -qF "is '$index'" "$mnt.log" || fail "$(cat "$mnt.log")"
  same_tree "$dir" "$mnt"
  umount_store "$mnt"
  rm -f "$index"*
}

@test "a folder on a read-only disk, of a user who may not write, is shown" {
  requires root
  small_disk 16 "$tmp/disk"
  cp -r "$dir/." "$tmp/disk"
  mount -o remount,ro "$tmp/disk"
  show_folder "$tmp/disk"
  same_tree "$tmp/disk" "$mnt"
  ok ckptfs show "$step"
  says 'tensor set .: '
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a mistyped path, a file, and a folder in a store are no folder to be mounted" {
  mkdir "$mnt"
  fails 1 ckptfs mount "$dir/rum" "$mnt"
  says "'$dir/rum' does not exist"
  fails 1 ckptfs mount "$dir/notes.txt" "$mnt"
  says "'$dir/notes.txt' is a file"
  fails 32 mount.ckptfs "$dir" "$dir/run"
  says "lies inside the folder '$dir'"
  bring_committed
  fails 1 ckptfs mount "$store/run" "$mnt"
  says 'is a group, not a store' "ckptfs mount $store"
  fails 1 ckptfs mount "$dir/run/step-9/sub" "$mnt"
  says 'is a part of the checkpoint'
  not is_mounted "$mnt"
}
