#!/usr/bin/env bats
# bats file_tags=slow,fuse,mpi,fault
# A single flipped bit anywhere in a store is EIO with the right block named, or does no harm; the rest
# reads well. CKPTFS_SEED repeats a run whose seed was printed. 200 of them: 95-long-flips.bats.
load helpers/common
load helpers/flips

setup() {
  requires fuse mpi
  mkdir -p "$tmp/plain/run"
  flips_store
}

@test "200 flipped bits of shards, last blocks, packs and manifests: EIO, the block named, the rest well" {
  flips 200
}

@test "10 flipped bits with verify=read: EIO, the block named, the rest well" {
  flips 10 verify=read
}
