#!/usr/bin/env bats
# bats file_tags=fault
# Manifests that break one rule each: every way to a checkpoint says which, and the others are read as before.
# One store for all, which nobody changes: bad/CASE for each case, and good/step-1.
load helpers/common

setup_file() {
  new_store
  committed good/step-1
  python3 "$HELPERS/bad_manifests.py" "$store/bad"
  # The words that each case expects are no part of the checkpoint.
  mkdir "$tmp/expect"
  for case in "$store"/bad/*; do
    mv "$case/expect" "$tmp/expect/${case##*/}"
  done
  snapshot "$store" >"$tmp/before"
}

# Whatever was tried, nothing has changed.
teardown_file() {
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

setup() {
  store=$BATS_FILE_TMPDIR/store
  good=$store/good/step-1
  mnt=$tmp/mnt
  readarray -t cases < <(ls "$BATS_FILE_TMPDIR/expect")
  [ "${#cases[@]}" -ge 70 ] || fail "only ${#cases[@]} cases"
}

# expected CASE: the words of its error.
expected() {
  cat "$BATS_FILE_TMPDIR/expect/$1"
}

# each_is_named FILE: of every case, a line of FILE has the manifest and what is wrong with it.
each_is_named() {
  local case text count=0
  for case in "${cases[@]}"; do
    text=$(expected "$case")
    grep -F "bad/$case/.ckptfs/manifest.jsonl" "$1" | grep -qF -- "$text" || fail "$case: no line with '$text'" || return 1
    count=$((count + 1))
  done
  echo "$count cases are named"
}

# bats test_tags=fast
@test "verify of a store names every manifest that breaks a rule, and finds the others well" {
  fails 1 ckptfs verify "$store"
  cat "$tmp/.stdout" "$tmp/.stderr" >"$tmp/all"
  each_is_named "$tmp/all"
  says 'good/step-1: ok (4 shards, '
  assert_eq "$(grep -c ': ok ' "$tmp/all")" 1 "checkpoints that are well"
  # A newer format is no damage: it is said on stderr, and does not keep the rest from being checked.
  grep -q 'newer-version.*upgrade' "$tmp/.stderr"
}

# bats test_tags=fast
@test "ls of a store names every manifest that breaks a rule, and lists the others" {
  fails 1 ckptfs ls "$store"
  each_is_named "$tmp/.stderr"
  says_like '^good/step-1 +committed +1 +1 +4 '
}

# bats test_tags=slow
@test "reindex names every manifest that breaks a rule, and goes on" {
  fails 1 ckptfs reindex "$store"
  each_is_named "$tmp/.stderr"
  ok ckptfs ls "$store/good"
  says_like '^good/step-1 +committed +1 +1 +4 '
}

# bats test_tags=slow
@test "verify, show, ls, cat and cp of one such checkpoint say what is wrong with it, and give no byte" {
  local case text command
  for case in "${cases[@]}"; do
    text=$(expected "$case")
    for command in verify show ls; do
      fails 1 ckptfs $command "$store/bad/$case" || return 1
      says "bad/$case/.ckptfs/manifest.jsonl" "$text" || return 1
    done
    fails 1 ckptfs cat "$store/bad/$case/rank-00000/notes.txt" || return 1
    says "$text" || return 1
    assert_eq "$stdout" '' "bytes of $case" || return 1
    fails 1 ckptfs cp "$store/bad/$case" "$tmp/copy" || return 1
    says "$text" || return 1
    [ ! -e "$tmp/copy" ] || fail "a copy of $case" || return 1
  done
}

# bats test_tags=slow
@test "a bare folder with such a manifest, in no store, is refused as well" {
  local case
  for case in "${cases[@]}"; do
    cp -r "$store/bad/$case" "$tmp/bare"
    fails 1 ckptfs verify "$tmp/bare" || return 1
    says "$(expected "$case")" || return 1
    rm -r "$tmp/bare"
  done
}

# shown MNT: through a mount, each case is EIO with the reason in the log, once; the good one is read.
shown() {
  local case
  for case in "${cases[@]}"; do
    errno_is EIO read "$1/bad/$case/rank-00000/notes.txt" || return 1
    errno_is EIO read "$1/bad/$case/empty" || return 1
    not ls -U "$1/bad/$case" >"$tmp/names" 2>&1 || fail "$case is listed" || return 1
  done
  same_tree "$1/good/step-1" "$good"
  ok ls "$1/bad" || return 1
  each_is_named "$1.log" || return 1
  assert_eq "$(grep -c manifest.jsonl "$1.log")" "${#cases[@]}" "lines of the log about manifests"
}

# bats test_tags=slow,fuse
@test "through a mount such a checkpoint is EIO, with one log line that says why; the others are read" {
  requires fuse
  mount_store "$store" "$mnt"
  shown "$mnt"
  umount_store "$mnt"
}

# bats test_tags=slow,mpi
@test "ranks load nothing from a checkpoint with such a manifest" {
  requires mpi
  local case
  for case in truncated wrong-sum shard-twice path-outside-dotdot size-overflow unknown-key newer-version; do
    fails 1 mpi 2 load "$store/bad/$case" --to "$tmp/out" || return 1
    says "$(expected "$case")" || return 1
    [ ! -e "$tmp/out" ] || return 1
  done
}

# bats test_tags=fast
@test "the checkpoint that the bad ones are made from is well" {
  python3 "$HELPERS/bad_manifests.py" --good "$tmp/good"
  ok ckptfs verify "$tmp/good"
  says 'good: ok (6 shards, '
  ok ckptfs show --tensors "$tmp/good"
  says 'model.w' BF16
  ok ckptfs cat "$tmp/good/rank-00001/b"
  assert_eq "$stdout" bbbbbbbbbbbbbbbbbbbb
}
