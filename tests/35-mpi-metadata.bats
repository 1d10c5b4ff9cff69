#!/usr/bin/env bats
# bats file_tags=mpi
# What is saved of tensors and blobs by whom, what every rank is told of it, and of plans that cannot be.
load helpers/common

setup() {
  requires mpi
  new_store
}

# bats test_tags=fast
@test "a mesh of ranks and a chunk specification give each rank what PyTorch gives it" {
  ok ckpt-mpi-test placement "$CKPT_TOP/tests/fixtures/placements.txt"
  says '284 placements compared'
}

# bats test_tags=fast
@test "every rank is told each tensor's chunks, each rank's blobs, who wrote them and where they lie" {
  ok mpi-test 4 metadata all "$store"
  ok ckptfs verify "$store"
  says 'spread: ok' 'mesh: ok' 'blobs: ok' 'ragged: ok'
}

# bats test_tags=fast
@test "a plan that cannot be is refused on every rank with the tensor, the chunks and the ranks, and the name stays free" {
  ok mpi-test 4 metadata refused "$store/run"
  ok ckptfs verify "$store"
  says 'run/step-1: ok'
  assert_eq "$(state_of run/step-1)" committed
}

# bats test_tags=slow
@test "blobs of two ranks under one key are two bytes entries, in the manifest, in show and in the index" {
  local shard=$tmp/mnt/blobs/rank-00003/rng%2Fstate
  ok mpi-test 4 metadata blobs "$store/blobs"
  ok ckptfs show "$store/blobs"
  says '0 tensors, 3 bytes entries, 9 bytes'
  ok ckptfs show --tensors "$store/blobs"
  assert_eq "$(grep -c '^rng/state ' <<<"$stdout")" 2 'lines of one key'
  assert_eq "$(grep -c '"bytes":"rng/state"' "$store/blobs/.ckptfs/manifest.jsonl")" 2 'bytes lines of one key'
  requires fuse
  mount_store "$store" "$tmp/mnt"
  assert_eq "$(cat "$shard")" 'three!' 'the blob of rank 3'
  assert_eq "$(getfattr --only-values -n user.ckptfs.fqn "$shard")" rng/state
  errno_is ENODATA getxattr "$shard" user.ckptfs.dtype
}
