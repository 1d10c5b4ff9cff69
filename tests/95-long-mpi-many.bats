#!/usr/bin/env bats
# bats file_tags=long,mpi
# Many ranks, many shards: more of both than the machine has processors, or the pack has rounds.
load helpers/common

setup() {
  requires mpi
  new_store
}

@test "16 ranks save 10,000 shards each; 3 ranks load the same model, and every shard verifies" {
  make_model "$tmp/model.safetensors" many 10000 16
  ok mpi 16 save "$store/step-1" --from "$tmp/model.safetensors"
  says '160000 shards'
  ok ckptfs verify "$store"
  says 'step-1: ok (160000 shards'
  # One pack a node, and not one file a shard.
  assert_eq "$(find "$store/step-1" -type f | wc -l)" 2
  ok mpi 3 load "$store/step-1" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
}
