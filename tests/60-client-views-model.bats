#!/usr/bin/env bats
# bats file_tags=slow,fuse
# A model that was saved in shards, as transformers loads it from hf/, with its keys, weights and logits.
load helpers/common
load helpers/clients
load helpers/client_views

setup_file() {
  requires_client transformers torch
  new_store
  mkdir "$store/run" "$tmp/reference"
  mount_store "$store" "$tmp/mnt"
  ranks 4 views_model save "$tmp/mnt/run" "$tmp/reference"
  # One has its configuration in the checkpoint, the other beside it in its group.
  mv "$tmp/mnt/run/flat/config.json" "$tmp/mnt/run/config.json"
  cp -r "$store/run" "$tmp/plain"
  ok ckptfs commit "$tmp/mnt/run/nested" "$tmp/mnt/run/flat"
  umount_store "$tmp/mnt"
}

teardown_file() {
  clean_up
}

setup() {
  saved=$BATS_FILE_TMPDIR
  mnt=$tmp/mnt
}

@test "from_pretrained of a nested and of a flat checkpoint on a mount gives the model that was saved" {
  mount_store "$saved/store" "$mnt" ro
  client views_model load "$mnt/run/nested/.ckptfs/hf" "$saved/reference/nested" "$mnt/run/flat/.ckptfs/hf" "$saved/reference/flat"
  umount_store "$mnt"
}

@test "yesterday's DCP directory gives its model in one command" {
  ok ckptfs cp "$saved/plain/nested/.ckptfs/hf" "$tmp/model"
  ok ckptfs cp "$saved/plain/flat/.ckptfs/hf" "$tmp/flat"
  client views_model load "$tmp/model" "$saved/reference/nested" "$tmp/flat" "$saved/reference/flat"
}

# The real model is there where the demo has been run.
@test "from_pretrained gives the model again that MPI ranks saved in slices" {
  local reference=$saved/reference/flat real=$CKPT_BUILD/demo
  requires mpi
  [ ! -e "$real/config.json" ] || reference=$real
  new_store
  ok mpi 4 save "$store/run/step-1" --from "$reference/model.safetensors" --shard 1
  cp "$reference/config.json" "$store/run/"
  mount_store "$store" "$mnt"
  client views_model load "$mnt/run/step-1/.ckptfs/hf" "$reference"
  umount_store "$mnt"
}
