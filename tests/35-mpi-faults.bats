#!/usr/bin/env bats
# bats file_tags=mpi
# Ranks that fail, end or stop in any phase: who is in the table, on every rank, and what is left behind.
load helpers/common

# In memory, where there is room for it: hundreds of saves, each of which syncs, and time-outs that a busy disk would
# outlast.
setup() {
  requires mpi
  [ ! -w /dev/shm ] || memory=$(mktemp -d /dev/shm/ckptfs-XXXXXX)
  new_store "${memory:-$tmp}/store"
}

teardown() {
  [ -z "${memory:-}" ] || rm -rf "$memory"
}

# A launcher that lets the survivors of a rank live.
recovering=(env OMPI_MCA_orte_enable_recovery=1 launch)
needs_recovery() {
  [ "$CKPT_MPI" = openmpi ] || skip "needs mpirun --enable-recovery of Open MPI"
}

# bats test_tags=slow
@test "whatever phase of a save or a load whatever ranks fail in, all ranks hold one table of just these, and the name can be saved again" {
  ok mpi-test 4 faults "$store"
  # What failed last in each phase was saved again; nothing is left open.
  ok ckptfs ls "$store"
  says_not ' aborted ' ' open '
  ok ckptfs verify "$store"
}

# bats test_tags=fast
@test "without a communicator the library works before MPI_Init, while MPI runs and after MPI_Finalize, as rank 0" {
  ok mpi-test 1 faults-alone "$store"
  ok ckptfs verify "$store"
}

# bats test_tags=fast
@test "a job does not begin where ranks were told different things, and says on all ranks what is wrong" {
  ok mpi-test 4 faults-begin
}

# bats test_tags=slow
@test "a rank that is killed, exits or stops is named by every survivor in 8 seconds, and when it wakes up too late finds itself named" {
  local rank
  needs_recovery
  DEADLINE=60 ok "${recovering[@]}" 12 ckpt-mpi-test faults-lost "$store" "$tmp/lost" \
    save:write_data:kill:2 save:finish:exit:1 save:finish:stop:1
  # All but the killed one and the one that exited.
  for rank in 0.0 0.2 0.3 1.1 1.2 1.3 2.0 2.1 2.2 2.3; do
    grep -q '^ok ' "$tmp/lost-$rank" || fail "rank ${rank#*.} of job ${rank%.*}: $(cat "$tmp/lost-$rank")" || return 1
  done
  assert_eq "$(find "$tmp" -name 'lost-*' | wc -l)" 10
  ok ckptfs ls "$store"
  says_not ' committed '
  ok ckptfs verify "$store"
  ok mpi-test 4 faults-again "$store"/g{0,1,2}
}

# bats test_tags=slow
@test "where the launcher lets survivors live, each writes its own table and exits with 1, and one prints it" {
  local begin=$SECONDS rank
  needs_recovery
  make_model "$tmp/model.safetensors" small
  DEADLINE=60 ok "${recovering[@]}" 4 each-rank "$tmp/status" env 'CKPTFS_FAULT=finish@0:kill' \
    ckptfs-mpi save "$store/step-1" --from "$tmp/model.safetensors" --timeout 2 --failures "$tmp/failures"
  [ $((SECONDS - begin)) -le 8 ] || fail "it took $((SECONDS - begin)) s"
  assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1 'rows printed'
  says_like '^ckptfs-mpi: rank 0 on [^:]+: finish: ETIMEDOUT: did not arrive within 2 s'
  assert_eq "$(cat "$tmp/status.0")" 137
  for rank in 1 2 3; do
    assert_eq "$(cat "$tmp/status.$rank")" 1 "exit status of rank $rank" || return 1
    assert_eq "$(jq -r '.failures[] | "\(.rank) \(.phase) \(.errno)"' "$tmp/failures.$rank")" '0 finish ETIMEDOUT' || return 1
  done
  assert_eq "$(state_of step-1.partial)" aborted
  ok ckptfs show "$store/step-1.partial"
  says ETIMEDOUT finish
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "under a launcher that ends the job with its first dead rank, nothing is committed and the name can be saved again" {
  local action begin
  make_model "$tmp/model.safetensors" small
  for action in exit kill; do
    begin=$SECONDS
    status=0
    CKPTFS_FAULT=write_data@1:$action timeout 60 mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" >"$tmp/log" 2>&1 3>&- || status=$?
    cat "$tmp/log"
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ]
    assert_eq "$(grep -c 'warning: faults on demand are in force' "$tmp/log")" 1 'warnings'
    [ $((SECONDS - begin)) -le 8 ] || fail "it took $((SECONDS - begin)) s"
    eventually 5 not pgrep -f "ckptfs-mpi save $store"
    ok ckptfs ls "$store"
    says_not ' committed '
  done
  ok mpi 3 save "$store/step-1" --from "$tmp/model.safetensors"
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "rank 0 is told how far all ranks are, and at the end that all is done" {
  ok mpi-test 2 progress told "$store/step-1"
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "a rank may take longer than the time-out to move its bytes, as long as the slowest disk would" {
  ok mpi-test 4 progress slow "$store/step"
  ok ckptfs ls "$store"
  says_like '^step-1  +committed'
  not grep -q '^step-0 .*committed' <<<"$stdout"
}
