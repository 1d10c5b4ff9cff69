#!/usr/bin/env bats
# bats file_tags=mpi
# Saves in the background, chunks with strides, blobs: what mpi_helper/mpi_test_async.c does, and what lies on disk then.
load helpers/common

setup() {
  requires mpi
  new_store
}

# Every case of the program; what it saved is sound, and nothing else is left.
all_cases() {
  ok "$@" "$store"
  ok ckptfs verify "$store"
  assert_eq "$(state_of faults)" committed
  assert_eq "$(find "$store" -name '*.partial')" '' 'open checkpoints that are left'
}

# bats test_tags=slow,sanitized
@test "an asynchronous save keeps the bytes of the moment it began, while two ranks compute on; faults in both halves fail it" {
  all_cases mpi-test 2 async
}

# bats test_tags=slow
@test "the same in a process alone, without MPI" {
  all_cases ckpt-mpi-test async-alone
}

# bats test_tags=slow
@test "the same on four ranks, for every subset of them that fails" {
  all_cases mpi-test 4 async
}

# bats test_tags=fast
@test "chunks with ghost cells around them, or in Fortran order, are stored as a dense copy of them is" {
  ok mpi-test 3 strides "$store"
  ok ckptfs verify "$store"
  same_tree "$store/cells-strided" "$store/cells-dense"
  same_tree "$store/cells-copied" "$store/cells-dense"
  same_tree "$store/turned-strided" "$store/turned-dense"
  same "$store/cells-strided/.ckptfs/pack-00000" "$store/cells-dense/.ckptfs/pack-00000"
  same "$store/cells-copied/.ckptfs/pack-00000" "$store/cells-dense/.ckptfs/pack-00000"
}
