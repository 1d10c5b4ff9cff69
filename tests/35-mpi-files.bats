#!/usr/bin/env bats
# bats file_tags=mpi
# File mode: files that an application writes itself, the newest sound checkpoint, signals that ask for one.
load helpers/common

setup() {
  requires mpi
  new_store
}

# file_of_all_is_right NAME RANKS: what that many ranks of `mpi-test N files` have written together
file_of_all_is_right() {
  local rank
  for ((rank = 0; rank < $2; rank++)); do
    head -c 300000 /dev/zero | tr '\0' "\\$(printf %o $((97 + rank)))"
  done | cmp - "$store/$1/together/field.bin"
}

# damage NAME [OFFSET]: flip a bit in its big file, which the file system's times do not show
damage() {
  ckpt-test flip "$store/$1/big.bin" "${2:-1200000}"
}

# bats test_tags=fast
@test "files that ranks write together and each for itself are one checkpoint, with step and meta" {
  ok mpi-test 2 files "$store/run1/step" save
  file_of_all_is_right run1/step-save 2
  assert_eq "$(cat "$store/run1/step-save/own/deep/1.txt")" own/deep/1.txt
  ok ckptfs show "$store/run1/step-save"
  says 'step: 7' '"code":"test"' 'world_size: 2'
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "a vote against, a bad name, a name that is taken: each is one row on every rank, and the name can be saved again" {
  ok mpi-test 4 files "$store/run1/step" votes names taken nested
  ok ckptfs ls "$store"
  says_not aborted ' open '
  assert_eq "$(grep -c ' committed ' <<<"$stdout")" 5 "committed checkpoints"
  file_of_all_is_right run1/step-votes 4
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "a rank that fails in any phase of files_begin and files_commit is in the table, alone" {
  ok mpi-test 3 files "$store/run1/step" faults
  file_of_all_is_right run1/step-faults 3
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "files that failed are aborted with the table, which show tells" {
  CKPTFS_FAULT=pre_commit@1 try mpi-test 2 files "$store/run1/step" save
  [ "$status" -ne 0 ]
  assert_eq "$(state_of run1/step-save.partial)" aborted
  ok ckptfs show "$store/run1/step-save.partial"
  says pre_commit EIO '"rank":1'
  ok mpi-test 2 files "$store/run1/step" save
  assert_eq "$(state_of run1/step-save)" committed
}

# bats test_tags=slow
@test "what is no file, among those that were written, keeps the checkpoint from being committed" {
  local held=$store/run1/step-slow.partial
  MPI_TEST_SECS=2 timeout 60 mpi-test 2 files "$store/run1/step" slow >"$tmp/log" 2>&1 3>&- &
  local job=$!
  eventually 10 test -e "$held/own/deep/1.txt"
  mkfifo "$held/pipe"
  not wait "$job"
  grep -q "pipe" "$tmp/log" || fail "the FIFO is not named: $(cat "$tmp/log")"
  assert_eq "$(state_of run1/step-slow.partial)" aborted
}

# bats test_tags=slow
@test "a job of which every rank is killed between begin and commit leaves a name that can be saved again" {
  MPI_TEST_SECS=30 timeout 60 mpi-test 2 files "$store/run1/step" slow >"$tmp/log" 2>&1 3>&- &
  local job=$!
  eventually 10 test -e "$store/run1/step-slow.partial/own/deep/1.txt"
  kill -9 $(pgrep -f "files $store/run1/step slow")
  not wait "$job"
  MPI_TEST_SECS=0 ok mpi-test 2 files "$store/run1/step" slow
  assert_eq "$(state_of run1/step-slow)" committed
}

# bats test_tags=slow,sanitized
@test "latest is the newest committed checkpoint, on every rank" {
  ok mpi-test 2 latest "$store/run1" none
  committed run1/step-1 1
  committed run1/step-2 2
  committed run2/step-9 3
  make_files "$store/run1/step-3.partial"
  ok mpi-test 2 latest "$store/run1" run1/step-2
  ok mpi-test 2 latest "$store" run2/step-9
}

# bats test_tags=slow
@test "latest walks back over damaged ones, and names each" {
  local i
  for i in 1 2 3 4; do committed "run1/step-$i" "$i"; done
  damage run1/step-4 2400000
  rm "$store/run1/step-3/sub/block.bin"
  ok mpi-test 4 latest "$store/run1" run1/step-2 'step-4/big.bin: block' 'step-3/sub/block.bin: missing'
  ok mpi-test 1 latest "$store/run1" run1/step-2 'step-4/big.bin: block' 'step-3/sub/block.bin: missing'
  # A manifest that cannot be used has no place in the order, and is said first.
  printf x >>"$store/run1/step-2/.ckptfs/manifest.jsonl"
  ok mpi-test 3 latest "$store/run1" run1/step-1 step-2/.ckptfs/manifest.jsonl step-4 step-3
}

# bats test_tags=slow
@test "where all are damaged, nothing is found, and the newest damage is told" {
  committed run1/step-1 1
  committed run1/step-2 2
  damage run1/step-1
  damage run1/step-2
  ok mpi-test 2 latest "$store/run1" none step-2/big.bin step-1/big.bin
}

# bats test_tags=slow
@test "what is removed while it is verified is neither found nor called damaged, and what came meanwhile is found" {
  committed run1/step-1 1
  committed run1/step-2 2
  CKPTFS_FAULT=read_data@1:stop timeout 60 mpi-test 2 latest "$store/run1" run1/step-3 >"$tmp/log" 2>&1 3>&- &
  local job=$!
  eventually 10 is_stopped "latest $store/run1"
  ok ckptfs rm "$store/run1/step-2"
  committed run1/step-3 3
  # It stops once more where it verifies that one.
  eventually 20 gone_on "$job" "latest $store/run1"
  wait "$job" || fail "$(cat "$tmp/log")"
}

# gone_on JOB ARGS: whatever is stopped of it goes on; true when it has ended
gone_on() {
  local pid
  for pid in $(pids_stopped "$2"); do
    kill -CONT "$pid"
  done
  not kill -0 "$1"
}

pids_stopped() {
  local pid
  for pid in $(pgrep -f "ckpt-mpi-test $1"); do
    [ "$(ps -o stat= -p "$pid" | cut -c1)" != T ] || echo "$pid"
  done
}

is_stopped() {
  [ -n "$(pids_stopped "$1")" ]
}

# bats test_tags=slow
@test "latest refuses what is in no store, and a file" {
  mkdir "$tmp/plain"
  committed step-1
  fails 1 mpi-test 2 latest "$tmp/plain" step-1
  says 'ckptfs init'
  fails 1 mpi-test 2 latest "$store/step-1/big.bin" step-1
  says 'is a file'
}

# bats test_tags=fast
@test "should_save tells every rank what any of them has caught, once, the highest of several" {
  ok mpi-test 3 signals
}

# bats test_tags=slow
@test "Fortran arrays, with ghost cells, are stored in their own shape and load on other numbers of ranks" {
  requires ckpt-fortran-test
  ok launch 3 ckpt-fortran-test save "$store/run1/step-3"
  ok launch 2 ckpt-fortran-test load "$store/run1/step-3"
  ok launch 1 ckpt-fortran-test load "$store/run1/step-3"
  ok ckptfs show "$store/run1/step-3"
  says 'step: 3' '"code":"fortran"'
  ok ckptfs show --tensors "$store/run1/step-3"
  says_like '^ghosted +F64 +\[5,12\] ' '^cube +F32 +\[5,3,7\] ' '^line +I32 +\[12\] ' '^whole +F64 +\[3\] +24 +1$'
  # a(i,j) in Fortran is a[i-1,j-1] in a row-major file: 1 + 100, 1 + 200, ...
  ok mpi 2 load "$store/run1/step-3" --to "$tmp/out.safetensors"
  python3 - "$tmp/out.safetensors" <<'END'
import json, struct, sys
data = open(sys.argv[1], "rb").read()
size = struct.unpack("<Q", data[:8])[0]
header = json.loads(data[8 : 8 + size])
def values(name, code):
    start, end = header[name]["data_offsets"]
    raw = data[8 + size + start : 8 + size + end]
    return list(struct.unpack("<%d%s" % (len(raw) // struct.calcsize(code), code), raw))
assert header["cube"]["shape"] == [5, 3, 7], header
assert values("ghosted", "d") == [i + 100 * j for i in range(1, 6) for j in range(1, 13)]
assert values("cube", "f") == [i + 100 * j + 10000 * k for i in range(1, 6) for j in range(1, 4) for k in range(1, 8)]
assert values("line", "i") == list(range(1, 13))
assert values("whole", "d") == [1, 2, 3]
END
}

# bats test_tags=slow
@test "a Fortran program gets codes and reasons where it asks for them, and ends where it does not" {
  requires ckpt-fortran-test
  ok launch 2 ckpt-fortran-test errors "$store/run1"
  ok launch 2 ckpt-fortran-test save "$store/run1/step-3"
  fails 1 launch 2 ckpt-fortran-test save "$store/run1/step-3"
  assert_eq "$(grep -c '^ckptfs: rank 1 on .*: set_up_storage_writer: EEXIST: ' <<<"$stderr")" 1 "rows of the failure table"
}
