#!/usr/bin/env bats
# bats file_tags=mpi
# Jobs side by side in one store, jobs that come after a failed one, and ranks that are killed.
load helpers/common
load helpers/ranks

setup() {
  requires mpi
  new_store
  tiny_model "$tmp/model.safetensors"
}

# job NAME ARGS…: a save of 2 ranks in the background; $tmp/NAME.log and, when it has ended, $tmp/NAME.status. jobs_end
# waits for all of them (and not for what bats started).
jobs=()
job() {
  local name=$1
  shift
  {
    status=0
    timeout 60 mpi 2 save "$@" >"$tmp/$name.log" 2>&1 || status=$?
    echo $status >"$tmp/$name.status"
  } </dev/null 3>&- 4>&- &
  jobs+=($!)
}

jobs_end() {
  wait "${jobs[@]}"
  jobs=()
  cat "$tmp"/?.log
}

# other_model FILE: as tiny_model, of other numbers
other_model() {
  tiny_model "$1"
  random_bytes 2 2000 | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - 2000)) conv=notrunc status=none
}

# holds NAME FILE: the checkpoint is committed, whole, and its tensors are those of FILE
holds() {
  assert_eq "$(state_of "$1")" committed "state of $1" || return 1
  rm -f "$tmp/holds"
  ok mpi 1 load "$store/$1" --to "$tmp/holds" || return 1
  slice "$2" compare "$tmp/holds"
}

# job_is_gone: no rank of a save in this store is left
job_is_gone() {
  eventually 5 not pgrep -f "^ckptfs-mpi save $store/"
}

# --- side by side ------------------------------------------------------------------------------

# bats test_tags=slow,sanitized
@test "two jobs save different names of one store at once, and both are committed, each with its own bytes" {
  other_model "$tmp/other.safetensors"
  job a "$store/run/a" --from "$tmp/model.safetensors"
  job b "$store/run/b" --from "$tmp/other.safetensors"
  jobs_end
  assert_eq "$(cat "$tmp/a.status" "$tmp/b.status")" $'0\n0' "exit statuses"
  holds run/a "$tmp/model.safetensors"
  holds run/b "$tmp/other.safetensors"
  # Each has a number of its own.
  assert_eq "$(ckptfs ls --json "$store" | jq -c '[.[].seq] | sort')" '[1,2]' "sequence numbers"
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "while a job saves a name, another that wants it is told so, and the first one's result is whole" {
  other_model "$tmp/other.safetensors"
  # It waits in its hook until the other one has been told.
  job a "$store/step-1" --from "$tmp/model.safetensors" --pre-commit "while [ ! -e '$tmp/go' ]; do sleep 0.05; done"
  eventually 20 test -d "$store/step-1.partial/.ckptfs"
  on_ranks 2 save "$store/step-1" --from "$tmp/other.safetensors" --coordinator 1
  all_told '1 set_up_storage_writer EBUSY'
  says step-1
  touch "$tmp/go"
  jobs_end
  assert_eq "$(cat "$tmp/a.status")" 0 "exit status of the first"
  holds step-1 "$tmp/model.safetensors"
  on_ranks 2 save "$store/step-1" --from "$tmp/other.safetensors"
  all_told '0 set_up_storage_writer EEXIST'
  holds step-1 "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "of three jobs that start to save one name at the same moment one wins, and the others are told" {
  local round winner
  other_model "$tmp/other.safetensors"
  make_model "$tmp/third.safetensors" small
  for round in 1 2; do
    job a "$store/step-$round" --from "$tmp/model.safetensors"
    job b "$store/step-$round" --from "$tmp/other.safetensors"
    job c "$store/step-$round" --from "$tmp/third.safetensors"
    jobs_end
    winner=$(grep -lx 0 "$tmp"/[abc].status)
    assert_eq "$(wc -w <<<"$winner")" 1 "jobs that won round $round" || return 1
    assert_eq "$(cat "$tmp"/[abc].log | grep -cE '^ckptfs-mpi: rank 0 on [^:]+: set_up_storage_writer: (EBUSY|EEXIST): ')" 2 "jobs that were told in round $round" || return 1
    case $winner in
    *a.status) winner=model ;;
    *b.status) winner=other ;;
    *) winner=third ;;
    esac
    holds "step-$round" "$tmp/$winner.safetensors" || return 1
  done
  ok ckptfs verify "$store"
}

# --- one after the other -----------------------------------------------------------------------------

# bats test_tags=slow,sanitized
@test "an aborted save tells its table in 'ckptfs show', and its name is saved again" {
  CKPTFS_FAULT=write_data@1:enospc on_ranks 2 save "$store/run/step-1" --from "$tmp/model.safetensors"
  all_told '1 write_data ENOSPC'
  assert_eq "$(state_of run/step-1.partial)" aborted
  ok ckptfs show "$store/run/step-1.partial"
  says 'state: aborted'
  sed -n 's/^aborted: //p' <<<"$stdout" | jq -e '.failures | length == 1 and .[0].rank == 1 and .[0].phase == "write_data" and .[0].errno == "ENOSPC"'
  ok ckptfs verify "$store"
  ok mpi 2 save "$store/run/step-1" --from "$tmp/model.safetensors"
  holds run/step-1 "$tmp/model.safetensors"
  ok ckptfs ls "$store"
  says_not aborted partial
}

# --- killed ------------------------------------------------------------------------------------------

# after_kill NAME: the job has ended; nothing is half there; the name is saved again, or is committed and whole
after_kill() {
  job_is_gone || return 1
  ok ckptfs verify "$store" || return 1
  if [ -e "$store/$1/.ckptfs/manifest.jsonl" ]; then
    holds "$1" "$tmp/model.safetensors"
    return
  fi
  if [ -e "$store/$1.partial/.ckptfs/manifest.jsonl" ]; then
    # All of it is there but its name: that is said, and what to do.
    fails 1 mpi 2 save "$store/$1" --from "$tmp/model.safetensors" || return 1
    says "ckptfs commit $1.partial" || return 1
    ok ckptfs commit "$store/$1.partial" || return 1
    holds "$1" "$tmp/model.safetensors"
    return
  fi
  not test -e "$store/$1" || fail "'$1' is there and not committed" || return 1
  not grep -q ' committed ' <<<"$(ckptfs ls "$store" 3>&-)" || return 1
  ok mpi 2 save "$store/$1" --from "$tmp/model.safetensors" || return 1
  holds "$1" "$tmp/model.safetensors"
}

# killed_in PHASE RANK ARGS…: that rank of 3 is killed there, under the launcher as people use it
killed_in() {
  local begin=$SECONDS status=0
  CKPTFS_FAULT=$1@$2:kill timeout 60 mpi 3 "${@:3}" >"$tmp/log" 2>&1 3>&- 4>&- </dev/null || status=$?
  cat "$tmp/log"
  [ "$status" -ne 0 ] || fail "exit 0, though rank $2 was killed in $1" || return 1
  [ $((SECONDS - begin)) -lt 20 ] || fail "the job took $((SECONDS - begin)) s to end"
}

# bats test_tags=slow,sanitized
@test "a rank that is killed while it writes takes the job down; nothing is half there, and the name is saved again" {
  killed_in write_data 1 save "$store/step-1" --from "$tmp/model.safetensors" --timeout 10
  after_kill step-1
}

# bats test_tags=long
@test "a rank, or the coordinator, that is killed in any phase of a save takes the job down, and the name is saved again" {
  local phase rank count=0
  for phase in set_up_storage_writer prepare_local_plan prepare_global_plan write_data write_data_async pre_commit barrier finish post_commit; do
    for rank in 0 2; do
      # These run on the coordinator only.
      case $phase@$rank in prepare_global_plan@2 | finish@2) continue ;; esac
      killed_in $phase $rank save "$store/$phase-$rank" --from "$tmp/model.safetensors" --timeout 10 || return 1
      [ $phase != post_commit ] || [ -e "$store/$phase-$rank/.ckptfs/manifest.jsonl" ] || fail "it was not committed before post_commit" || return 1
      after_kill "$phase-$rank" || return 1
      rm -rf "${store:?}"/*
      count=$((count + 1))
    done
  done
  echo "# kills: $count" >&3
}

# bats test_tags=long
@test "a rank that is killed in any phase of a load takes the job down and leaves no output; the next load is well" {
  local phase count=0
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  for phase in set_up_storage_reader read_metadata prepare_local_plan prepare_global_plan read_data read_data_async; do
    killed_in $phase 0 load "$store/step-1" --to "$tmp/out" --timeout 10 || return 1
    [ ! -e "$tmp/out" ] || fail "an output after a kill in $phase" || return 1
    ok mpi 3 load "$store/step-1" --to "$tmp/out" || return 1
    slice "$tmp/model.safetensors" compare "$tmp/out" || return 1
    rm "$tmp/out"
    count=$((count + 1))
  done
  echo "# kills: $count" >&3
}

# is_in_index NAME: without asking a program of ours, which would put it there
is_in_index() {
  [ "$(sqlite3 "file:$store/.ckptfs/index.db?mode=ro" "SELECT count(*) FROM checkpoint WHERE name = '$1'")" = 1 ]
}

# killed_at CALL:K: a save whose coordinator is killed at that call of its own; false where it makes fewer
killed_at() {
  rm -rf "${store:?}"/step-1*
  not env "CKPTFS_IO_FAULT=$1:kill@0" timeout 60 launch 2 "$CKPT_FAULTS/ckptfs-mpi" save "$store/step-1" --from "$tmp/model.safetensors" >"$tmp/log" 2>&1 3>&- 4>&- </dev/null
}

# after_commit_point: committed, though not in the index; the next command puts it there
after_commit_point() {
  not is_in_index step-1 || fail "it is in the index already" || return 1
  job_is_gone || return 1
  assert_eq "$(state_of step-1)" committed || return 1
  is_in_index step-1 || fail "'ckptfs ls' did not put it into the index" || return 1
  holds step-1 "$tmp/model.safetensors" || return 1
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors" || return 1
  says EEXIST
}

# bats test_tags=slow
@test "a coordinator that is killed between the commit point and the index leaves a committed checkpoint, which the next command indexes" {
  requires openmpi faults sqlite3
  local low=1 high=63 k found=
  # The first of its syncs after which the checkpoint has its name.
  while [ $low -le $high ]; do
    k=$(((low + high) / 2))
    if ! killed_at fsync:$k; then
      high=$((k - 1))
    elif [ -e "$store/step-1" ]; then
      found=$k
      break
    else
      low=$((k + 1))
    fi
  done
  [ -n "$found" ] || fail "no sync lies between the commit point and the index"
  echo "killed at sync $found"
  after_commit_point
  ok ckptfs verify "$store"
}

# bats test_tags=long
@test "a coordinator that is killed at any of its calls leaves nothing half: the name is saved again, or committed, in the index or not" {
  requires openmpi faults sqlite3
  local call k behind=0 before=0 indexed=0
  for call in mkdirat pwrite renameat fsync fdatasync unlinkat; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 500 ] || fail "no end of $call"
      killed_at $call:$k || break
      echo "$call:$k"
      if [ ! -e "$store/step-1" ]; then
        before=$((before + 1))
        after_kill step-1 || return 1
      elif is_in_index step-1; then
        indexed=$((indexed + 1))
        after_kill step-1 || return 1
      else
        behind=$((behind + 1))
        after_commit_point || return 1
      fi
    done
  done
  echo "# killed: $before before the commit point, $behind between it and the index, $indexed after" >&3
  [ "$before" -ge 20 ] && [ "$behind" -ge 4 ]
}
