#!/usr/bin/env bats
# bats file_tags=slow,mpi
# The examples, as somebody runs them who loses machines: killed at random, started again on another number of ranks,
# and the field at the end is the same, bit for bit. HEAT_SEED=N repeats a run's random numbers.
load helpers/common

# What is long enough to be killed in the middle, and short enough to be tested.
size=(--grid 240 200 --steps 9000 --every 150)

# Unbroken runs, once for all tests: the fields to compare with.
setup_file() {
  available mpi || return 0
  store=$BATS_FILE_TMPDIR/whole
  new_store "$store"
  unbroken heat 2
  ! available heat-f90 || unbroken heat-f90 2
}

unbroken() {
  ok launch "$2" "$1" --store "$store" --group "$1" "${size[@]}" --out "$BATS_FILE_TMPDIR/$1.bin" || return 1
  says 'starting anew on' 'saved' || return 1
  assert_eq "$(stat -c %s "$BATS_FILE_TMPDIR/$1.bin")" $((240 * 200 * 8)) "bytes of the field"
}

setup() {
  requires mpi
  new_store
  seed=${HEAT_SEED:-$RANDOM}
  RANDOM=$seed
  echo "HEAT_SEED=$seed"
}

# pids_of PROGRAM: the ranks of this test's job
pids_of() {
  local pid
  for pid in $(pgrep -x "$1"); do
    ! tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "--store $store " || echo "$pid"
  done
}

none_left() {
  [ -z "$(pids_of "$1")" ]
}

# start PROGRAM RANKS: in the background, into $tmp/log; its number in $job
start() {
  timeout -k 5 60 launch "$2" "$1" --store "$store" --group run "${size[@]}" --out "$tmp/again.bin" >"$tmp/log" 2>&1 3>&- 4>&- </dev/null &
  job=$!
}

# has_saved N: so many checkpoints, or it has ended
has_saved() {
  [ "$(grep -c '^saved' "$tmp/log")" -ge "$1" ] || not kill -0 "$job" 2>/dev/null
}

# killed PROGRAM RANKS [N]: one rank, or all, by SIGKILL, up to 0.2 seconds after it has saved something (N times)
killed() {
  local pids
  start "$@"
  eventually 20 has_saved "${3:-1}"
  sleep "0.$(printf %03d $((RANDOM % 200)))"
  mapfile -t pids < <(pids_of "$1")
  [ "${#pids[@]}" -gt 0 ] || fail "it had ended before it could be killed: $(cat "$tmp/log")" || return 1
  [ $((RANDOM % 2)) -eq 0 ] || pids=("${pids[$((RANDOM % ${#pids[@]}))]}")
  echo "killing ${#pids[@]} of $2 ranks"
  kill -9 "${pids[@]}" 2>/dev/null || true
  not wait "$job" || fail "killed, and exit status 0"
  # Where one was killed, the launcher ends the others.
  eventually 10 none_left "$1"
  ok ckptfs verify "$store"
}

resumes() {
  ok launch "$2" "$1" --store "$store" --group run "${size[@]}" --out "$tmp/again.bin"
  says 'resumed from'
  same "$BATS_FILE_TMPDIR/$1.bin" "$tmp/again.bin"
}

@test "heat, killed again and again and restarted on other numbers of ranks, ends with the field of an unbroken run" {
  killed heat 3
  killed heat 4
  grep -q 'resumed from run/step-.* on 4 ranks' "$tmp/log" || fail "$(cat "$tmp/log")"
  killed heat 2
  resumes heat 3
}

@test "heat goes on from the newest sound checkpoint where newer ones are damaged" {
  local newest
  killed heat 3 2
  newest=$(ckptfs latest "$store/run")
  ckpt-test flip "$(find "$newest" -name 'pack-*' -print -quit)" 10000
  resumes heat 2
  says "passed over: ${newest#"$store/"}" "saved ${newest#"$store/"}-2"
}

@test "a SIGTERM to one rank of heat saves at once and ends it, and it goes on from there" {
  local step
  start heat 3
  eventually 20 has_saved 1
  kill -TERM "$(pids_of heat | head -1)"
  wait "$job" || fail "$(cat "$tmp/log")"
  step=$(sed -nE 's/^ended by a signal at step ([0-9]+)$/\1/p' "$tmp/log")
  [ -n "$step" ] || fail "$(cat "$tmp/log")"
  resumes heat 2
  says "$(printf 'resumed from run/step-%06d on 2 ranks' "$step")"
}

@test "heat-f90, with parallel HDF5, killed and restarted, ends with the field of an unbroken run" {
  requires heat-f90
  killed heat-f90 4
  killed heat-f90 3
  grep -q 'resumed from .* on 3 ranks' "$tmp/log" || fail "$(cat "$tmp/log")"
  resumes heat-f90 2
}
