#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Libraries that write one file: safetensors, torch.save, numpy.memmap, HDF5.
load helpers/common
load helpers/clients

setup() {
  requires_client torch h5py safetensors pytest
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run"
  mount_store "$store" "$mnt"
}

@test "safetensors, torch.save, numpy.memmap and h5py write through the mount, and read what was committed" {
  mkdir "$mnt/run/step-1.tmp"
  client files write "$mnt/run/step-1.tmp"
  assert_eq "$(stat -c %a "$mnt/run/step-1.tmp/model.safetensors")" "$(stat -c %a "$store/run/step-1.tmp/model.safetensors")" "mode"
  client files read "$mnt/run/step-1.tmp"
  digests "$mnt/run/step-1.tmp" >"$tmp/written"
  ok mv "$mnt/run/step-1.tmp" "$mnt/run/step-1"
  client files read "$mnt/run/step-1"
  umount_store "$mnt"
  mount_store "$store" "$mnt" ro
  digests "$mnt/run/step-1" | diff "$tmp/written" -
  client files read "$mnt/run/step-1"
  ok ckptfs verify "$store"
}

@test "h5py's own test suite passes with its folder on the mount" {
  mkdir "$mnt/run/scratch"
  # The variable leaves out the tests that root fails anywhere: permissions do not stop it.
  CIBUILDWHEEL=1 TMPDIR=$mnt/run/scratch client files h5py
  says ' passed'
  says_not ' failed'
}
