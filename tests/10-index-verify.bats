#!/usr/bin/env bats
# bats file_tags=fast
# Damage is found, named to the block, and nothing else is blamed.
load helpers/common

setup() {
  new_store
  committed run1/step-1
  dir=$store/run1/step-1
}

# Block sum of what is on disk: block_sum FILE BLOCK
block_sum() {
  dd if="$1" bs=1M skip="$2" count=1 status=none | xxh64_of
}

@test "verify of several paths, of a group and of a store checks every committed one" {
  committed run1/step-2
  committed run2/step-1
  make_files "$store/run2/step-2.tmp"
  ok ckptfs verify "$store/run1/step-1" "$store/run2"
  assert_eq "$(cut -d' ' -f1-2 <<<"$stdout" | paste -sd' ')" 'run1/step-1: ok run2/step-1: ok'
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok (4 shards, 3548583 ' <<<"$stdout")" 3
}

@test "open checkpoints never make verify fail" {
  make_files "$store/run1/step-2.partial"
  ok ckptfs verify "$store/run1/step-2.partial"
  ok ckptfs verify "$store"
  says_not 'step-2.partial: ok'
}

@test "a flipped bit is named with its block and both sums, the mtime put back or not" {
  local offset=$((1048576 + RANDOM * 30)) was
  echo "offset $offset"
  was=$(block_sum "$dir/big.bin" 1)
  ckpt-test flip "$dir/big.bin" "$offset" 5
  fails 1 ckptfs verify "$store"
  says "run1/step-1/big.bin: block 1 (bytes 1048576-2097151): xxh3-64 is $(block_sum "$dir/big.bin" 1), should be $was"
  says_not 'block 0' 'block 2' 'sub/block.bin' ': ok'
}

@test "flips in the first, the last, and every other block are all named" {
  local offset
  for offset in 0 1048575 1048576 2097152 2499999; do
    ckpt-test flip "$dir/big.bin" "$offset"
    fails 1 ckptfs verify "$dir"
    says "big.bin: block $((offset / 1048576)) (bytes"
    assert_eq "$(grep -c 'big.bin: block' <<<"$stdout")" 1
    ckpt-test flip "$dir/big.bin" "$offset"
  done
  ok ckptfs verify "$dir"
}

@test "a missing, short, long, replaced shard and one that is a symbolic link or a folder" {
  cp -a "$dir/big.bin" "$tmp/good"
  rm "$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: missing'
  head -c 2499999 "$tmp/good" >"$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: ' 2499999 2500000
  (cat "$tmp/good" && echo) >"$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: ' 2500001 2500000
  rm "$dir/big.bin"
  ln -s "$tmp/good" "$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: ' 'symbolic link'
  rm "$dir/big.bin"
  mkdir "$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: '
  rmdir "$dir/big.bin"
  mkfifo "$dir/big.bin"
  fails 1 ckptfs verify "$dir"
  says 'run1/step-1/big.bin: '
  rm "$dir/big.bin"
  cp -a "$tmp/good" "$dir/big.bin"
  ok ckptfs verify "$dir"
}

@test "a folder of the way that became a symbolic link is not followed" {
  mv "$dir/sub" "$tmp/elsewhere"
  ln -s "$tmp/elsewhere" "$dir/sub"
  fails 1 ckptfs verify "$dir"
  says 'sub/block.bin'
  fails 1 ckptfs cat "$dir/sub/block.bin"
}

@test "any flipped bit of the manifest is found" {
  local size offset i
  size=$(stat -c %s "$dir/.ckptfs/manifest.jsonl")
  for i in 1 2 3 4 5 6; do
    offset=$((RANDOM * 32768 % size + RANDOM % 7))
    [ "$offset" -lt "$size" ] || offset=$((size - 1))
    echo "offset $offset"
    ckpt-test flip "$dir/.ckptfs/manifest.jsonl" "$offset" "$i"
    fails 1 ckptfs verify "$dir"
    says '.ckptfs/manifest.jsonl'
    ckpt-test flip "$dir/.ckptfs/manifest.jsonl" "$offset" "$i"
  done
  ok ckptfs verify "$dir"
}

@test "cat gives no wrong byte: it stops before the damaged block" {
  cp "$dir/big.bin" "$tmp/good"
  ckpt-test flip "$dir/big.bin" 1500000
  fails 1 ckptfs cat "$dir/big.bin"
  says 'block 1' 'ckptfs verify'
  assert_eq "$(stat -c %s "$tmp/.stdout")" 1048576
  cmp -n 1048576 "$tmp/.stdout" "$tmp/good"
}

@test "cp of a damaged checkpoint fails and leaves nothing" {
  ckpt-test flip "$dir/big.bin" 1500000
  fails 1 ckptfs cp "$dir" "$tmp/copy"
  says 'block 1'
  [ ! -e "$tmp/copy" ]
  assert_eq "$(find "$tmp" -name '*copy*')" ''
  fails 1 ckptfs cp "$dir/big.bin" "$tmp/copy"
  [ ! -e "$tmp/copy" ]
}

@test "a damaged checkpoint does not keep the others from being listed and verified" {
  committed run1/step-2
  committed run1/step-3
  echo junk >>"$store/run1/step-2/.ckptfs/manifest.jsonl"
  fails 1 ckptfs verify "$store"
  says 'run1/step-1: ok' 'run1/step-3: ok' run1/step-2/.ckptfs/manifest.jsonl
  fails 1 ckptfs ls "$store"
  says_like '^run1/step-1 +committed' '^run1/step-3 +committed'
  says run1/step-2
}

@test "files that came later are no part of the checkpoint and no damage" {
  echo later >"$dir/later.txt"
  ok ckptfs verify "$dir"
  says '4 shards'
}

@test "verify needs a path, and says what a part of a checkpoint is" {
  fails 2 ckptfs verify
  fails 1 ckptfs verify "$dir/big.bin"
  says 'part of'
  fails 1 ckptfs verify "$store/none"
}
