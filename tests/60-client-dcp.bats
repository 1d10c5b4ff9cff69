#!/usr/bin/env bats
# bats file_tags=slow,fuse
# PyTorch's distributed checkpoints on a mount: saved, committed by rule, mounted again, loaded.
load helpers/common
load helpers/clients

setup() {
  requires fuse clients
  requires_client torch
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run" "$tmp/plain"
}

kinds=(sync thread process hf consolidated)

# saves_and_loads RANKS: with every kind of save
saves_and_loads() {
  local shard
  mount_store "$store" "$mnt" autocommit=2 || return 1
  ranks "$1" dcp save "$mnt/run" "${kinds[@]}" || return 1
  all_committed 30 run/step-{0,1,2,4,5} || return 1
  ranks "$1" dcp save "$tmp/plain" sync || return 1
  # The shards are the same wherever they are written; .metadata has an id of its own for each save.
  for shard in "$tmp/plain"/step-0/*.distcp; do
    same "$shard" "$mnt/run/${shard#"$tmp/plain/"}" || return 1
  done
  remount || return 1
  ranks "$1" dcp load "$mnt/run" "${kinds[@]}" || return 1
  umount_store "$mnt"
}

id_of() {
  head -n 1 "$store/run/step-0/.ckptfs/manifest.jsonl" | jq -r .id
}

replaced() {
  is_committed run/step-0 && [ "$(id_of)" != "$id" ]
}

@test "one process saves with DCP, synchronously, in a thread, in a process and as safetensors" {
  saves_and_loads 1
}

@test "two ranks save with DCP, synchronously, in a thread, in a process and as safetensors" {
  saves_and_loads 2
}

@test "four ranks save with DCP, synchronously, in a thread, in a process and as safetensors" {
  saves_and_loads 4
}

@test "a committed name is saved again only with resave=replace, and without it the failure says so" {
  mount_store "$store" "$mnt" autocommit=2
  ranks 1 dcp save "$mnt/run" sync
  all_committed 30 run/step-0
  remount autocommit=2
  snapshot "$store/run" >"$tmp/was"
  fails 1 env RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=0 "$clients_python" -W ignore "$HELPERS/client_dcp.py" save "$mnt/run" sync
  says 'Read-only file system'
  snapshot "$store/run" | same "$tmp/was" -
  grep -q resave=replace "$mnt.log"
  remount autocommit=2,resave=replace
  id=$(id_of)
  ranks 1 dcp save "$mnt/run" sync
  eventually 30 replaced
  ranks 1 dcp load "$mnt/run" sync
  remount
  ranks 1 dcp load "$mnt/run" sync
  umount_store "$mnt"
}

@test "without collectives nothing says that all ranks are done: it waits for a commit, which the command makes" {
  mount_store "$store" "$mnt" autocommit=2
  ranks 2 dcp save "$mnt/run" single
  stays_open 6 run/step-3
  ok ckptfs commit "$mnt/run/step-3"
  remount
  ranks 2 dcp load "$mnt/run" single
  umount_store "$mnt"
}

@test "torch.save writes a file that torch.load maps once it is committed" {
  mount_store "$store" "$mnt"
  mkdir "$mnt/run/step-1.tmp"
  client torch_file save "$mnt/run/step-1.tmp/model.pt"
  digests "$mnt/run/step-1.tmp" >"$tmp/written"
  mv "$mnt/run/step-1.tmp" "$mnt/run/step-1"
  remount
  digests "$mnt/run/step-1" | same "$tmp/written" -
  client torch_file load "$mnt/run/step-1/model.pt"
  umount_store "$mnt"
}
