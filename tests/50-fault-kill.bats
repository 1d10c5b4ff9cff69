#!/usr/bin/env bats
# bats file_tags=fault
# kill -9 at moments that nobody chose. A run is repeated with CKPTFS_SEED=N.
load helpers/common

setup() {
  seed=${CKPTFS_SEED:-$RANDOM}
  RANDOM=$seed
  echo "seed: CKPTFS_SEED=$seed"
}

# begin_again: the checkpoint is open, as its writer left it.
begin_again() {
  [ ! -d "$store/run1/step-2" ] || mv "$store/run1/step-2" "$store/run1/step-2.partial"
  rm -rf "$store/run1/step-2.partial/.ckptfs"
}

# kill_after MICROSECONDS: a commit that is killed then. Sets $landed to where it was:
# "between" its first write (the lock) and its last (the lock's removal), "before", or "after".
kill_after() {
  local pid rc=0 delay
  delay=$(printf '%d.%06d' $(($1 / 1000000)) $(($1 % 1000000)))
  ckptfs commit "$store/run1/step-2.partial" >"$tmp/out" 2>&1 3>&- 4>&- </dev/null &
  pid=$!
  sleep "$delay"
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || rc=$?
  case "$rc" in
  0) landed=after ;;
  137)
    landed=before
    ! compgen -G "$store/run1/step-2*/.ckptfs/commit.lock" >/dev/null || landed=between
    ;;
  *) fail "exit $rc: $(cat "$tmp/out")" ;;
  esac
}

# micros CMD…: how long it takes, in microseconds.
micros() {
  local begin=${EPOCHREALTIME/./}
  "$@" >/dev/null 3>&- 4>&- || return 1
  echo $((${EPOCHREALTIME/./} - begin))
}

# rounds COUNT: so many commits, each killed at a random moment.
rounds() {
  local i took='' again landed delay mid=0
  new_store
  committed old/step-1
  mkdir -p "$store/run1/step-2.partial/rank-0"
  for i in 0 1 2 3; do
    random_bytes $((seed + i)) 25000000 >"$store/run1/step-2.partial/rank-0/shard-$i"
  done
  (cd "$store/run1/step-2.partial" && find . -type f -print0 | sort -z | xargs -0 xxhsum -H2) >"$tmp/sums"
  sync -f "$store"
  # The length of a commit, which the machine, and what else it does, decide.
  for i in 1 2 3; do
    begin_again
    again=$(micros ckptfs commit "$store/run1/step-2.partial")
    [ "${took:=$again}" -le "$again" ] || took=$again
  done
  for ((i = 0; i < $1; i++)); do
    begin_again
    delay=$(((RANDOM * 32768 + RANDOM) % took))
    kill_after "$delay" || return 1
    echo "round $i: killed after $delay of $took us, $landed its writes"
    case "$landed" in
    between) mid=$((mid + 1)) ;;
    after) [ "$took" -lt 2000 ] || took=$((took * 4 / 5)) ;;
    esac
    ok ckptfs verify "$store" || return 1
    says 'old/step-1: ok (4 shards, ' || return 1
    ok ckptfs ls "$store" || return 1
    assert_eq "$(grep -cE '^run1/step-2(\.partial +open| +committed) ' <<<"$stdout")" 1 "step-2 under one name, in one state" || return 1
    if [ -d "$store/run1/step-2.partial" ]; then
      ok ckptfs commit "$store/run1/step-2.partial" || return 1
      ok ckptfs verify "$store/run1/step-2" || return 1
    fi
    (cd "$store/run1/step-2" && xxhsum --quiet -c "$tmp/sums") || return 1
  done
  [ $((2 * mid)) -ge "$1" ] || fail "only $mid of $1 kills landed between the first and the last write"
}

# bats test_tags=slow
@test "a commit of 100 MB that is killed at any moment is open or whole, and can be done again" {
  rounds 8
}

# bats test_tags=long
@test "the same a hundred times" {
  rounds 100
}
