#!/usr/bin/env bats
# bats file_tags=mpi
# Reading: any ranks, any boxes, any memory, whatever it was saved with; each byte verified, and read once a node.
load helpers/common

setup() {
  requires mpi
  new_store
}

# bats test_tags=slow,sanitized
@test "saved on 2 ranks by rows, columns, grids and alike, any boxes into any memory are the bytes that were saved" {
  local seed=${CKPT_SEED:-$RANDOM}
  echo "seed: $seed (CKPT_SEED repeats it)"
  ok mpi-test 2 read save "$store/two"
  ok mpi-test 3 read random "$store/two" "$seed"
}

# bats test_tags=slow
@test "saved on 1 to 4 ranks, loaded on 1 to 4: rows, columns, everything, and by odd ranks alone" {
  local seed=${CKPT_SEED:-$RANDOM}
  echo "seed: $seed (CKPT_SEED repeats it)"
  ok mpi-test 4 read matrix "$store" "$seed"
  ok ckptfs verify "$store"
}

# bats test_tags=slow,sanitized
@test "what all 4 ranks want is read once on the node, into memory, strided memory and through a function" {
  ok mpi-test 4 read save "$store/step-1"
  ok mpi-test 4 read once "$store/step-1" 1
}

# bats test_tags=slow
@test "ranks that cannot see each other's memory read for themselves, and get the same" {
  requires root
  ok mpi-test 2 read save "$store/step-1"
  # Process numbers of its own for each rank: what one says of itself leads nowhere for the other. MPI's own
  # shared memory goes by them, too.
  ok env OMPI_MCA_btl=self,tcp launch 2 \
    unshare --fork --pid --mount-proc ckpt-mpi-test read once "$store/step-1" 2
}

# bats test_tags=slow,sanitized
@test "damage in what all ranks want is told of the one rank that read it, with shard and block" {
  local shard
  ok mpi-test 4 read save "$store/step-1"
  shard=$(find "$store/step-1" -name 'large.same@0' -printf '%P\n')
  ckpt-test flip "$store/step-1/$shard" 3500000
  ok mpi-test 4 read table "$store/step-1"
  assert_eq "$(wc -l <<<"$stdout")" 1 "rows of the table"
  says_like "^[0-3] read_data .*step-1/$shard: block 3 "
}

# bats test_tags=fast
@test "a want that is out of its tensor, of none, without end or of no blob is refused, and its rank named" {
  ok mpi-test 2 read save "$store/step-1"
  ok mpi-test 3 read bad "$store/step-1"
}

# bats test_tags=slow
@test "a read in the background gives the same bytes, and a fault in either half is its rank's" {
  ok mpi-test 2 read save "$store/step-1"
  ok mpi-test 4 read async "$store/step-1"
  ok mpi-test 2 read async-bad "$store/step-1"
}

# bats test_tags=slow
@test "a rank that is stopped while bytes are handed round is named by all others, and they end" {
  local begin=$SECONDS
  ok mpi-test 3 read save "$store/step-1"
  fails 1 mpi-test 4 read stopped "$store/step-1"
  assert_eq "$(grep -c '^rank 2 did not arrive$' <<<"$stdout")" 3 "ranks that say so"
  [ $((SECONDS - begin)) -lt 20 ]
}
