# shellcheck shell=bash
# Jobs of which every rank is looked at by itself: its exit status, and its own copy of the failure table.

# on_ranks N ARGS…: ckptfs-mpi on N ranks, each to its own end: $told/status.RANK and $told/failures.RANK
# Where set: the job is started by the words of run_as, ckptfs-mpi by those of rank_prefix.
told=$tmp run_as=() rank_prefix=()
on_ranks() {
  ranks=$1
  rm -f "$told"/status.* "$told"/failures.*
  try "${run_as[@]}" launch "$ranks" each-rank "$told/status" "${rank_prefix[@]}" ckptfs-mpi "${@:2}" --failures "$told/failures"
}

# given_up CMD…: it ends as a job in which ranks are missing. MPICH's mpirun adds up how all of them ended.
given_up() {
  try "$@" || return 1
  [ "$CKPT_MPI:$status" != mpich:9 ] || return 0
  assert_status 1
}

# all_did_it: every rank exited with 0, and no table was printed or written
all_did_it() {
  local rank
  for ((rank = 0; rank < ranks; rank++)); do
    assert_eq "$(cat "$told/status.$rank")" 0 "exit status of rank $rank" || return 1
  done
  not grep -q '^ckptfs-mpi: rank ' <<<"$stderr" || fail "a table was printed"
}

# all_told ROW…: every rank exited with 1 and holds the same table, which has these rows, "RANK PHASE ENAME", and no
# other; and they were printed, once
all_told() {
  local rank row
  for ((rank = 0; rank < ranks; rank++)); do
    assert_eq "$(cat "$told/status.$rank")" 1 "exit status of rank $rank" || return 1
    same "$told/failures.0" "$told/failures.$rank" || return 1
  done
  jq -r '.failures[] | "\(.rank) \(.phase) \(.errno)"' "$told/failures.0" >"$tmp/rows"
  assert_eq "$(cat "$tmp/rows")" "$(printf '%s\n' "$@")" "failure table" || return 1
  jq -es '.[].failures | length > 0 and all(.host != "" and .message != "")' "$told/failures.0" >/dev/null ||
    fail "a row has no host or no message" || return 1
  assert_eq "$(sed -nE 's/^ckptfs-mpi: rank ([0-9]+) on [^:]+: ([a-z_]+): (E[A-Z]+): .+/\1 \2 \3/p' <<<"$stderr")" "$(cat "$tmp/rows")" "printed table" || return 1
  assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" $# "rows printed"
}

# nothing_committed: what is there is open, or aborted with a table; the store is well
nothing_committed() {
  ok ckptfs ls "$store" || return 1
  says_not ' committed ' || return 1
  ok ckptfs verify "$store"
}

# tiny_model FILE: the reference's state, in a safetensors file. "sharded" 20x20 is cut by --shard 1, "replicated" is not.
tiny_model() {
  local header='{"replicated":{"dtype":"F32","shape":[100],"data_offsets":[0,400]},"sharded":{"dtype":"F32","shape":[20,20],"data_offsets":[400,2000]}}  '
  # shellcheck disable=SC2059 # the length is made as an escape
  {
    printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
    random_bytes 1 2000
  } >"$1"
}
