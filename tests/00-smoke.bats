#!/usr/bin/env bats
# bats file_tags=fast
# If these fail, nothing else is worth reading.
load helpers/common

@test "every program tells its version and its usage on stdout, and exits 0" {
  local program
  # Open MPI leaks by itself.
  export ASAN_OPTIONS=$ASAN_OPTIONS:detect_leaks=0
  for program in ckptfs mount.ckptfs ckptfs-mpi; do
    [ -x "$CKPT_BIN/$program" ] || continue
    ok "$program" --version
    [[ "$stdout" =~ ^"$program "[0-9]+\.[0-9]+ ]] || fail "no version"
    assert_eq "$stderr" ""
    ok "$program" --help
    [[ "$stdout" == *[Uu]sage* ]] || fail "no usage"
    assert_eq "$stderr" ""
  done
}

@test "a folder of files becomes a committed checkpoint that can be listed, read and verified" {
  ok ckptfs init "$store"
  make_files "$store/run1/step-1"
  ok ckptfs commit "$store/run1/step-1"
  ok ckptfs ls "$store"
  says_like '^run1/step-1 +committed +1 +1 +4 '
  ok ckptfs verify "$store"
  says "run1/step-1: ok (4 shards, "
  ok ckptfs cat "$store/run1/step-1/big.bin"
  same "$tmp/.stdout" "$store/run1/step-1/big.bin"
}

@test "a mounted checkpoint holds the bytes that were committed, and unmounts cleanly" {
  requires fuse
  new_store
  committed run1/step-1
  mount_store "$store" "$tmp/mnt"
  same_tree "$tmp/mnt/run1/step-1" "$store/run1/step-1"
  umount_store "$tmp/mnt"
}

@test "two MPI ranks save a model that loads again with the same bytes" {
  requires mpi
  new_store
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/run1/step-1" --from "$tmp/model.safetensors"
  ok mpi 2 load "$store/run1/step-1" --to "$tmp/again.safetensors"
  slice "$tmp/model.safetensors" compare "$tmp/again.safetensors"
}
