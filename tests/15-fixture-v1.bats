#!/usr/bin/env bats
# A store of format 1, written long ago: every version must read it as it was read then.
load helpers/common

# A copy: nothing may depend on a fixture's place, and an index beside it must not stay in the clone.
setup() {
  fixture=$CKPT_TOP/tests/fixtures/good/store-v1
  expect=$fixture.expect
  cp -r "$fixture" "$store"
}

# every_line FILE: each of its lines is a line of the last output, blanks squeezed. More may have come since.
every_line() {
  local line count=0
  tr -s ' ' <"$tmp/.stdout" >"$tmp/squeezed"
  while IFS= read -r line; do
    grep -qxF -- "$line" "$tmp/squeezed" || fail "no line: $line" || return 1
    count=$((count + 1))
  done <"$1"
  [ "$count" -gt 0 ] || fail "'$1' is empty"
}

# same_json FILE FILTER: the last output, through jq.
same_json() {
  jq -S "$2" "$tmp/.stdout" >"$tmp/json"
  same "$tmp/json" "$1"
}

# holds FOLDER NAME: the files, bytes and links of that checkpoint, and nothing else.
holds() {
  (
    cd "$1" || exit
    find . -type f -not -path './.ckptfs/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum >"$tmp/sha256"
    find . -type l -printf '%P -> %l\n' | LC_ALL=C sort >"$tmp/links"
  )
  same "$tmp/sha256" "$expect/sha256-$2"
  same "$tmp/links" "$expect/links-$2"
}

# bats test_tags=fast
@test "ls shows the checkpoints of a format 1 store with state, step, seq, size and time" {
  ok ckptfs ls --json "$store"
  same_json "$expect/ls.json" 'map({name, state, step, seq, shards, size, committed})'
  assert_eq "$(jq -r '.[].name' "$tmp/.stdout" | paste -sd' ')" 'run1/plain run1/step-100 run1/step-300.partial'
}

# bats test_tags=fast
@test "ls of a format 1 checkpoint lists its entries with mode, size, rank and digest" {
  local name
  for name in step-100 plain; do
    ok ckptfs ls --json "$store/run1/$name"
    same_json "$expect/ls-$name.json" 'map({path, mode, size, rank, xxh128})'
  done
}

# bats test_tags=fast
@test "show tells of a format 1 checkpoint what it told then, and every tensor" {
  local name
  for name in step-100 plain; do
    ok ckptfs show "$store/run1/$name"
    every_line "$expect/show-$name"
    ok ckptfs show --tensors "$store/run1/$name"
    every_line "$expect/tensors-$name"
  done
}

# bats test_tags=fast
@test "verify finds every shard of a format 1 store well" {
  ok ckptfs verify "$store"
  same "$tmp/.stdout" "$expect/verify"
}

# bats test_tags=fast
@test "a flipped bit in a format 1 pack, own file or manifest is found" {
  local file
  for file in step-100/.ckptfs/pack-00000 plain/optim.txt plain/.ckptfs/manifest.jsonl; do
    ckpt-test flip "$store/run1/$file" 1100 3
    fails 1 ckptfs verify "$store"
    says "run1/${file%%/*}/" || return 1
    assert_eq "$(grep -c ': ok ' <<<"$stdout")" 1 "checkpoints that are well"
    ckpt-test flip "$store/run1/$file" 1100 3
  done
  ok ckptfs verify "$store"
}

# bats test_tags=fast
@test "cat and cp give the bytes of format 1 shards, packed or not, and its sum file" {
  local name
  ok ckptfs cat "$store/run1/step-100/rank-00001/d3@5_0_0"
  assert_eq "$(sha256sum <"$tmp/.stdout" | cut -d' ' -f1)" "$(awk '$2 == "./rank-00001/d3@5_0_0" { print $1 }' "$expect/sha256-step-100")"
  for name in step-100 plain; do
    ok ckptfs cat "$store/run1/$name/.ckptfs/XXH128SUMS"
    same "$tmp/.stdout" "$expect/xxh128-$name"
    ok ckptfs cp "$store/run1/$name" "$tmp/$name"
    holds "$tmp/$name" "$name"
  done
  assert_eq "$(stat -c %a "$tmp/plain/run.sh" "$tmp/plain/optim.txt" | paste -sd' ')" '755 644'
}

# bats test_tags=fast
@test "latest of a format 1 store is the one committed last, and the next commit goes on counting" {
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/plain"
  ok ckptfs commit "$store/run1/step-300.partial"
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-300"
  ok ckptfs ls --json "$store/run1"
  jq -e 'map(select(.name == "run1/step-300"))[0].seq == 3' "$tmp/.stdout"
}

# bats test_tags=fast,fuse
@test "a mount shows a format 1 store: names, bytes, links, sums and attributes" {
  requires fuse xxhsum getfattr
  local mnt=$tmp/mnt name
  mount_store "$store" "$mnt"
  for name in step-100 plain; do
    holds "$mnt/run1/$name" "$name" || return 1
    same "$mnt/run1/$name/.ckptfs/XXH128SUMS" "$expect/xxh128-$name"
    (cd "$mnt/run1/$name" && xxhsum --quiet -c .ckptfs/XXH128SUMS)
  done
  assert_eq "$(readlink "$mnt/run1/.ckptfs/latest")" ../plain
  assert_eq "$(getfattr --only-values -n user.ckptfs.step "$mnt/run1/plain")" 4711
  assert_eq "$(getfattr --only-values -n user.ckptfs.world_size "$mnt/run1/step-100")" 2
  assert_eq "$(getfattr --only-values -n user.ckptfs.fqn "$mnt/run1/step-100/rank-00001/d3@5_0_0")" d3
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-300.partial")" open
  same "$mnt/run1/config.json" "$fixture/run1/config.json"
  umount_store "$mnt"
}

# bats test_tags=slow,mpi
@test "ranks load a format 1 checkpoint, whatever their number, and verify it" {
  requires mpi
  local ranks
  for ranks in 1 2; do
    ok mpi $ranks load "$store/run1/step-100" --to "$tmp/loaded.safetensors"
    (cd "$tmp" && sha256sum --quiet -c "$expect/sha256-loaded")
    rm "$tmp/loaded.safetensors"
  done
  ok mpi 2 verify "$store/run1/step-100"
}
