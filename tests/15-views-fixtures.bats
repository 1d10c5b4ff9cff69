#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Checkpoints that PyTorch wrote, as numpy and safetensors read the views of them.
load helpers/common
load helpers/clients
load helpers/client_views

fixtures=(dcp-1rank dcp-2ranks)

setup() {
  requires fuse clients
  kept=$CKPT_TOP/tests/fixtures
  mnt=$tmp/mnt
}

# in_store: the fixtures as committed checkpoints of $store
in_store() {
  local name
  new_store
  mkdir "$store/run"
  for name in "${fixtures[@]}"; do
    cp -r --no-preserve=mode "$kept/$name" "$store/run/$name"
    ok ckptfs commit "$store/run/$name" || return 1
  done
}

# in_folder: the fixtures in $tmp/plain/run, which is no store
in_folder() {
  local name
  mkdir -p "$tmp/plain/run"
  for name in "${fixtures[@]}"; do
    cp -r --no-preserve=mode "$kept/$name" "$tmp/plain/run/$name"
  done
  snapshot "$tmp/plain" >"$tmp/plain.was"
}

# on_mount DIR: every tensor of both, in DIR of a mount
on_mount() {
  check_views numpy "$kept/dcp-1rank.expect.json" "$1/dcp-1rank/.ckptfs" "$kept/dcp-2ranks.expect.json" "$1/dcp-2ranks/.ckptfs"
}

# by_command DIR: every tensor of both, by ckptfs cp and ckptfs cat
by_command() {
  local name
  for name in "${fixtures[@]}"; do
    copied "$1/$name" "$tmp/copy/$name" || return 1
    cat_gives "$1/$name" "$tmp/copy/$name" || return 1
    check_views numpy "$kept/$name.expect.json" "$tmp/copy/$name" || return 1
  done
}

@test "each tensor of PyTorch's checkpoints is what was saved, through .npy and safetensors, on a mount of their store" {
  in_store
  mount_store "$store" "$mnt"
  on_mount "$mnt/run"
  umount_store "$mnt"
}

@test "each tensor of PyTorch's checkpoints is what was saved when ckptfs cp and cat read the views in a store" {
  in_store
  by_command "$store/run"
}

@test "each tensor of PyTorch's checkpoints is what was saved when ckptfs cp and cat read a folder that is no store" {
  in_folder
  by_command "$tmp/plain/run"
  snapshot "$tmp/plain" | same "$tmp/plain.was" -
}

@test "each tensor of PyTorch's checkpoints is what was saved on a mount of a folder that is no store, and nothing is written there" {
  in_folder
  mount_store "$tmp/plain" "$mnt"
  on_mount "$mnt/run"
  same_tree "$tmp/plain" "$mnt"
  umount_store "$mnt"
  snapshot "$tmp/plain" | same "$tmp/plain.was" -
}

@test "a view has the same bytes on a mount of a store, on one of a plain folder, and by ckptfs cat" {
  local view=run/dcp-2ranks/.ckptfs/safetensors/all.safetensors
  in_store
  in_folder
  mount_store "$store" "$mnt"
  mount_store "$tmp/plain" "$mnt.plain"
  same "$mnt/$view" "$mnt.plain/$view"
  ckptfs cat "$store/$view" | same "$mnt/$view" -
  ckptfs cat "$mnt/$view" | same "$mnt/$view" -
  umount_store "$mnt.plain"
  umount_store "$mnt"
}
