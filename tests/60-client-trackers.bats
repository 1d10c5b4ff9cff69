#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Checkpoints of several parts, with pauses longer than the quiet time between them: nothing is committed early.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run"
  mount_store "$store" "$mnt" autocommit=1
}

# commits_whole WORD NAME FILES: what that tool writes is committed once, with all its files, and never taken back.
commits_whole() {
  ok python3 "$HELPERS/trackers.py" "$1" "$mnt/run" 3
  eventually 20 test -e "$store/run/$2/.ckptfs/manifest.jsonl"
  assert_eq "$(grep -c '"shard":' "$store/run/$2/.ckptfs/manifest.jsonl")" "$3" "shards"
  assert_eq "$(grep -c ' committed ' "$mnt.log")" 1 "commits in the log"
  not grep -q 'open again' "$mnt.log"
  ok ckptfs ls "$mnt"
  says_like "^run/$2 +committed"
  ok ckptfs verify "$store"
}

@test "DeepSpeed's tracker comes first: the step is committed when its files are there" {
  commits_whole deepspeed global_step10 3
}

@test "Megatron's tracker comes first: the iteration is committed when its metadata is there" {
  commits_whole megatron iter_0000020 5
}

@test "two DCP folders in one checkpoint with a pause between: neither is committed by itself" {
  commits_whole accelerate checkpoint-30 8
  not ls -d "$store"/run/checkpoint-30/*/.ckptfs
}
