#!/usr/bin/env bats
# bats file_tags=mpi
# Each case of PyTorch's torch/distributed/checkpoint/_experimental/test_checkpoint_writer.py, as it is called there, and
# what is true of its code without being asserted: the order of the steps, who runs the hooks, what a failure of one means.
load helpers/common
load helpers/ranks

setup() {
  requires mpi
  new_store
}

# counted N ARGS…: ckpt-mpi-test on N ranks, its barriers counted in $tmp/count.RANK
counted() {
  ok launch "$1" env "LD_PRELOAD=$CKPT_BUILD/libpmpi-count.so" "PMPI_COUNT_FILE=$tmp/count" ckpt-mpi-test "${@:2}"
}

# barriers_are COUNT: on every rank
barriers_are() {
  local file
  [ -e "$tmp/count.0" ] || fail "nothing was counted" || return 1
  for file in "$tmp"/count.*; do
    assert_eq "$(grep '^barrier ' "$file")" "barrier $1" "calls of ${file##*.}" || return 1
  done
}

# hook_lines FILE: what the ranks' hooks wrote there, in rank order
hook_lines() {
  LC_ALL=C sort "$1"
}

# --- TestCheckpointWriterConfig ----------------------------------------------------------------

# bats test_tags=fast
@test "write_barrier_timeout_secs is 600 by default, and 300 is kept (test_default_values, test_custom_values)" {
  ok mpi-test 1 writer config -
}

# bats test_tags=slow
@test "the time-out is that of the configuration: a rank that is stopped in the barrier is named after 1 s" {
  tiny_model "$tmp/model.safetensors"
  local begin=$SECONDS
  given_up env CKPTFS_FAULT=barrier@1:stop mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" --timeout 1
  says_like '^ckptfs-mpi: rank 1 on [^:]+: barrier: ETIMEDOUT: .*within 1 s'
  assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1 "rows"
  [ $((SECONDS - begin)) -le 8 ] || fail "it took $((SECONDS - begin)) s"
  nothing_committed
}

# --- TestCheckpointWriter --------------------------------------------------------------------------

# bats test_tags=fast
@test "a write makes the folders above it and the rank's shards, and what is loaded back is the same (test_write_creates_checkpoint_file)" {
  not test -e "$store/run"
  ok mpi-test 1 writer no-hooks "$store/run/deep/step-1000"
  ok ckptfs ls "$store/run/deep/step-1000"
  says 'rank-00000/model.weight@0_0' 'rank-00000/model.bias@0' 'rank-00000/optimizer.exp_avg@0_0' 'rank-00000/epoch@0' 'rank-00000/step@0' 'rank-00000/optimizer.groups'
  # epoch is 5 and step is 1000, for whoever reads the bytes without us
  assert_eq "$(ckptfs cat "$store/run/deep/step-1000/rank-00000/epoch@0" | od -An -td8 | tr -d ' ')" 5 epoch
  assert_eq "$(ckptfs cat "$store/run/deep/step-1000/rank-00000/step@0" | od -An -td8 | tr -d ' ')" 1000 step
}

# bats test_tags=fast
@test "every write calls the barrier exactly once on every rank (test_write_calls_barrier)" {
  counted 2 writer hooks "$store/step-1"
  barriers_are 1
}

# bats test_tags=slow
@test "the second write of a writer is its second barrier" {
  counted 2 writer two-writes "$store/step-1"
  barriers_are 2
}

# bats test_tags=slow
@test "the program calls the barrier once as well, and a load never" {
  tiny_model "$tmp/model.safetensors"
  ok launch 2 env "LD_PRELOAD=$CKPT_BUILD/libpmpi-count.so" "PMPI_COUNT_FILE=$tmp/count" ckptfs-mpi save "$store/step-1" --from "$tmp/model.safetensors"
  barriers_are 1
  rm "$tmp"/count.*
  ok launch 2 env "LD_PRELOAD=$CKPT_BUILD/libpmpi-count.so" "PMPI_COUNT_FILE=$tmp/count" ckptfs-mpi load "$store/step-1"
  barriers_are 0
}

# bats test_tags=fast
@test "pre_commit and post_commit are called once a rank, with the caller's path and extra=value (test_write_calls_commit_hooks)" {
  cd "$store"
  ok mpi-test 2 writer hooks "../store/./step-1"
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "hook commands: the caller's path byte for byte, extra=value, rank and world size, pre_commit before the commit and post_commit after it" {
  tiny_model "$tmp/model.safetensors"
  # shellcheck disable=SC2016 # the hook's shell expands it
  local hook='echo "$CKPTFS_RANK/$CKPTFS_WORLD_SIZE $CKPTFS_PATH extra=$CKPTFS_ARG_extra $(test -e .ckptfs/manifest.jsonl && echo committed || echo open)"'
  cd "$store"
  ok mpi 2 save "../store/./step-1" --from "$tmp/model.safetensors" --arg 'extra=va lue' --pre-commit "$hook >>'$tmp/pre'" --post-commit "$hook >>'$tmp/post'"
  assert_eq "$(hook_lines "$tmp/pre")" "0/2 ../store/./step-1 extra=va lue open"$'\n'"1/2 ../store/./step-1 extra=va lue open"
  assert_eq "$(hook_lines "$tmp/post")" "0/2 ../store/./step-1 extra=va lue committed"$'\n'"1/2 ../store/./step-1 extra=va lue committed"
}

# bats test_tags=fast
@test "without a communicator there is no barrier and no MPI, and a write succeeds with its hooks (test_write_without_barrier)" {
  ok env "LD_PRELOAD=$CKPT_BUILD/libpmpi-count.so" "ASAN_OPTIONS=$ASAN_OPTIONS:verify_asan_link_order=0" ckpt-mpi-test writer-alone hooks "$store/step-1"
  ok ckptfs verify "$store"
  says 'step-1: ok'
}

# bats test_tags=slow
@test "without hooks a write succeeds, and calls the barrier once (test_write_without_commit_hook)" {
  counted 2 writer no-hooks "$store/step-1"
  barriers_are 1
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "close does nothing the second time, and returns 0 (test_close)" {
  ok mpi-test 2 writer close -
  ok ckpt-mpi-test writer-alone close -
}

# --- not asserted there, but so -------------------------------------------------------------------------

# bats test_tags=slow
@test "a pre_commit that fails on one rank is a vote: every rank is told, nobody waits for the barrier, the name can be saved again" {
  ok mpi-test 3 writer hook-fails "$store/step-1"
  assert_eq "$(state_of step-1)" committed
}

# bats test_tags=slow
@test "a pre_commit command that fails on one rank names it on all of them, and no post_commit runs" {
  tiny_model "$tmp/model.safetensors"
  # shellcheck disable=SC2016 # the hook's shell expands it
  on_ranks 3 save "$store/step-1" --from "$tmp/model.safetensors" --pre-commit 'test "$CKPTFS_RANK" != 2' --post-commit "touch '$tmp/after'"
  all_told '2 pre_commit EIO'
  nothing_committed
  [ ! -e "$tmp/after" ]
}

# bats test_tags=slow
@test "a post_commit that fails is in every rank's table, and the checkpoint is committed" {
  tiny_model "$tmp/model.safetensors"
  # shellcheck disable=SC2016 # the hook's shell expands it
  on_ranks 2 save "$store/step-1" --from "$tmp/model.safetensors" --post-commit 'test "$CKPTFS_RANK" != 1'
  all_told '1 post_commit EIO'
  assert_eq "$(state_of step-1)" committed
  ok ckptfs verify "$store"
}
