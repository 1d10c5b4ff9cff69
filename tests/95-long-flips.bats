#!/usr/bin/env bats
# bats file_tags=long,fuse,mpi,fault
# 200 flipped bits for each way of reading. 55-fault-flips.bats says what is asked.
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

@test "200 flipped bits with verify=read: EIO, the block named, the rest well" {
  flips 200 verify=read
}

@test "200 flipped bits with passthrough=off: EIO, the block named, the rest well" {
  flips 200 passthrough=off
}

@test "200 flipped bits with verify=open: EIO, the block named, the rest well" {
  flips 200 verify=open
}
