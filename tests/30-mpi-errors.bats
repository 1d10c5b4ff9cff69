#!/usr/bin/env bats
# bats file_tags=mpi
# Bad input and failing ranks: a clear error, the right exit status, nothing committed.
load helpers/common

setup() {
  requires mpi
  new_store
  make_model "$tmp/model.safetensors" small
}

# Nothing committed; nothing but an aborted open checkpoint may be left.
nothing_committed() {
  ok ckptfs ls "$store"
  says_not ' committed '
  ok ckptfs verify "$store"
}

# once TEXT: bad input is said once, not by every rank.
once() {
  assert_eq "$(grep -cF -- "$1" <<<"$stderr")" 1 "lines that say '$1'"
}

# bats test_tags=slow,sanitized
@test "misuse is exit 2, said once, and touches nothing" {
  snapshot "$store" >"$tmp/before"
  fails 2 mpi 2 save "$store/step-1"
  once '--from'
  fails 2 mpi 2 nonsense
  once "'nonsense'"
  fails 2 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors" --coordinator 2
  fails 2 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors" --nonsense
  once nonsense
  fails 2 mpi 1 load
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=slow,sanitized
@test "an input that is missing, no safetensors file, or cut is named" {
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/none.safetensors"
  says none.safetensors
  echo 'not a model' >"$tmp/bad.safetensors"
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/bad.safetensors"
  says bad.safetensors
  head -c 10000 "$tmp/model.safetensors" >"$tmp/cut.safetensors"
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/cut.safetensors"
  says cut.safetensors
  nothing_committed
}

# bats test_tags=slow,sanitized
@test "a name that is taken or not allowed is refused" {
  committed step-1
  snapshot "$store" >"$tmp/before"
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  says step-1 committed
  fails 1 mpi 2 save "$store/step-2.tmp" --from "$tmp/model.safetensors"
  says temporary
  fails 1 mpi 2 save "$store/step-1/inner" --from "$tmp/model.safetensors"
  fails 1 mpi 2 save "$store/1/2/3/4/5/6/7/8/9" --from "$tmp/model.safetensors"
  fails 1 mpi 2 save "$store/.ckptfs/x" --from "$tmp/model.safetensors"
  snapshot "$store" | grep -v ' \./1\| \. $' >"$tmp/after"
  grep -v ' \. $' "$tmp/before" >"$tmp/was"
  same "$tmp/was" "$tmp/after"
}

# bats test_tags=slow
@test "a folder that is in no store, and a store of a newer format, are refused" {
  mkdir "$tmp/plain"
  fails 1 mpi 2 save "$tmp/plain/step-1" --from "$tmp/model.safetensors"
  says 'ckptfs init'
  [ -z "$(ls -A "$tmp/plain")" ]
  sed -i 's/"ckptfs":1/"ckptfs":2/' "$store/.ckptfs/store.json"
  fails 1 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  says newer
}

# bats test_tags=slow
@test "load of what is not committed, or not there, fails and leaves no output" {
  make_files "$store/step-1.tmp"
  fails 1 mpi 2 load "$store/step-1.tmp" --to "$tmp/out"
  fails 1 mpi 2 load "$store/none" --to "$tmp/out"
  says none
  [ ! -e "$tmp/out" ]
  assert_eq "$(find "$tmp" -name 'out*')" ''
}

# bats test_tags=slow
@test "load never overwrites its own input, and replaces --to only when all is well" {
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  fails 1 mpi 2 load "$store/step-1" --to "$tmp/no-such-folder/out"
  says no-such-folder
  echo precious >"$tmp/out"
  ckpt-test flip "$store/step-1/.ckptfs/pack-00000" 5000
  fails 1 mpi 2 load "$store/step-1" --to "$tmp/out"
  assert_eq "$(cat "$tmp/out")" precious
  assert_eq "$(find "$tmp" -name 'out?*')" ''
}

# bats test_tags=slow
@test "in each phase of a save a failing rank is in the table, alone, and nothing is committed" {
  local phase
  for phase in set_up_storage_writer prepare_local_plan write_data pre_commit barrier; do
    fails 1 env "CKPTFS_FAULT=$phase@1" mpi 3 save "$store/step-1" --from "$tmp/model.safetensors"
    assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1 "rows of the failure table" || return 1
    says_like "^ckptfs-mpi: rank 1 on [^:]+: $phase: EIO: " || return 1
    nothing_committed || return 1
  done
  for phase in prepare_global_plan finish; do
    fails 1 env "CKPTFS_FAULT=$phase@0" mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
    says_like "^ckptfs-mpi: rank 0 on [^:]+: $phase: EIO: " || return 1
    nothing_committed || return 1
  done
  ok mpi 3 save "$store/step-1" --from "$tmp/model.safetensors"
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "in each phase of a load a failing rank is in the table, alone" {
  local phase
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  for phase in set_up_storage_reader read_metadata prepare_local_plan read_data; do
    fails 1 env "CKPTFS_FAULT=$phase@1" mpi 2 load "$store/step-1" --to "$tmp/out"
    [ "$phase" = read_metadata ] || says_like "^ckptfs-mpi: rank 1 on [^:]+: $phase: EIO: " || return 1
    [ ! -e "$tmp/out" ] || fail "an output after a failure in $phase" || return 1
  done
}

# bats test_tags=slow
@test "an unknown word in CKPTFS_FAULT is misuse" {
  fails 2 env CKPTFS_FAULT=nonsense@1 mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  says nonsense
  fails 2 env CKPTFS_FAULT=write_data@1:explode mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  says explode
}

# bats test_tags=slow
@test "a rank that does not arrive is named when the time-out is over, and all ranks end" {
  local begin=$SECONDS
  fails 1 env CKPTFS_FAULT=write_data@1:stop mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" --timeout 3
  says_like '^ckptfs-mpi: rank 1 on .*: ETIMEDOUT: '
  assert_eq "$(grep -c '^ckptfs-mpi: rank ' <<<"$stderr")" 1
  [ $((SECONDS - begin)) -lt 30 ]
  eventually 5 not pgrep -f "ckptfs-mpi save $store"
  nothing_committed
}

# bats test_tags=slow
@test "a rank that is killed takes the job down, and the name can be saved again" {
  local signal_status=0
  CKPTFS_FAULT=write_data@1:kill timeout 60 mpi 3 save "$store/step-1" --from "$tmp/model.safetensors" >"$tmp/log" 2>&1 3>&- || signal_status=$?
  cat "$tmp/log"
  [ "$signal_status" -ne 0 ] && [ "$signal_status" -ne 124 ]
  eventually 5 not pgrep -f "ckptfs-mpi save $store"
  nothing_committed
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  ok mpi 2 load "$store/step-1" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
}

# bats test_tags=slow
@test "a full disk is ENOSPC in the table, and what was committed before stays readable" {
  requires loop
  small_disk 24 "$tmp/disk"
  new_store "$tmp/disk/store"
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  make_model "$tmp/large.safetensors" model 40
  fails 1 mpi 2 save "$store/step-2" --from "$tmp/large.safetensors"
  says_like '^ckptfs-mpi: rank [01] on .*: ENOSPC: '
  ok ckptfs verify "$store"
  says 'step-1: ok'
  says_not 'step-2: ok'
  ok mpi 2 load "$store/step-1" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
  ok mpi 2 save "$store/step-2" --from "$tmp/model.safetensors"
}

# bats test_tags=slow
@test "a store that cannot be written names the cause on a rank" {
  requires root
  chmod 755 "$tmp"
  fails 1 "${as_nobody[@]}" TMPDIR=/tmp mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  says_like 'EACCES|EROFS'
  nothing_committed
}
