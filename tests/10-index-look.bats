#!/usr/bin/env bats
# bats file_tags=fast
# Looking at a store: ls, show, cat, cp, latest. One store, never changed.
load helpers/common

setup_file() {
  new_store
  committed run1/step-1 1
  make_files "$store/run1/step-2.tmp" 2
  printf 'loose\n' >"$store/run1/config.json"
  mkdir -p "$store/run-a/step-10"
  make_model "$store/run-a/step-10/model.safetensors" small
  ckptfs commit "$store/run-a/step-10" --meta loss=0.5 --meta note=hello 3>&-
  committed run1/step-3 3
  make_files "$store/run1/step-4.partial" 4
  mkdir "$store/run1/step-4.partial/.ckptfs"
  echo '{"why":"test"}' >"$store/run1/step-4.partial/.ckptfs/aborted.json"
  snapshot "$store" >"$tmp/before"
}

# Whatever was looked at, nothing has changed.
teardown_file() {
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

setup() {
  store=$BATS_FILE_TMPDIR/store
}

@test "ls shows every checkpoint at any depth, by bytes of the name, columns two spaces apart" {
  ok ckptfs ls "$store"
  assert_eq "$(head -1 <<<"$stdout" | sed -E 's/ {2,}/|/g')" 'NAME|STATE|STEP|SEQ|SHARDS|SIZE|COMMITTED'
  assert_eq "$(awk 'NR > 1 { print $1 }' <<<"$stdout" | paste -sd' ')" 'run-a/step-10 run1/step-1 run1/step-2.tmp run1/step-3 run1/step-4.partial'
  assert_eq "$(awk 'NR > 1 { print $2 }' <<<"$stdout" | paste -sd' ')" 'committed committed open committed aborted'
  says_like '^run1/step-2.tmp  +open .*waits for'
}

@test "ls has no colours and no trailing blanks" {
  ok ckptfs ls "$store"
  [[ "$stdout" != *$'\e'* ]] || fail "an escape sequence"
  says_not $' \n'
}

@test "ls --json gives the same as numbers and null" {
  ok ckptfs ls --json "$store"
  jq -e 'length == 5 and (.[0] | .name == "run-a/step-10" and .state == "committed" and .step == 10 and .seq == 2 and .shards == 1)
    and (.[1].size == 3548583) and (.[2] | .state == "open" and .seq == null and .committed == null)' "$tmp/.stdout"
}

@test "ls of a group shows what is below it, with the name below the store" {
  ok ckptfs ls "$store/run1"
  assert_eq "$(awk 'NR > 1 { print $1 }' <<<"$stdout" | paste -sd' ')" 'run1/step-1 run1/step-2.tmp run1/step-3 run1/step-4.partial'
}

@test "ls of a checkpoint lists its entries by bytes of the path" {
  ok ckptfs ls "$store/run1/step-1"
  assert_eq "$(head -1 <<<"$stdout" | awk '{ print $1, $2, $3, $4 }')" 'MODE SIZE RANK PATH'
  assert_eq "$(sed 1d <<<"$stdout" | grep -oE '[^ ]+( -> .*)?$' | paste -sd' ')" 'big.bin empty link -> sub/deep/note.txt sub/ sub/block.bin sub/deep/ sub/deep/note.txt'
  says_like '^-rw-r----- .*sub/block.bin$' '^drwxr-xr-x .*sub/$' '^l.*link'
}

@test "ls --json of a checkpoint has sizes in bytes and digests in hex" {
  ok ckptfs ls --json "$store/run1/step-1"
  jq -e 'map(select(.path == "big.bin"))[0] | .size == 2500000 and (.xxh128 | test("^[0-9a-f]{32}$")) and .rank == null' "$tmp/.stdout"
}

@test "ls of an open checkpoint lists what is on disk" {
  ok ckptfs ls "$store/run1/step-2.tmp"
  says big.bin sub/deep/note.txt
  says_not .ckptfs
}

@test "ls of a folder in a checkpoint lists that folder" {
  ok ckptfs ls "$store/run1/step-1/sub"
  says sub/block.bin
  says_not big.bin
}

@test "show prints the key lines of a checkpoint and its tensor sets" {
  ok ckptfs show "$store/run-a/step-10"
  says_like '^name: run-a/step-10$' '^id: [0-9a-f-]{36}$' '^state: committed$' '^step: 10$' '^seq: 2$' '^created: 2' \
    '^committed: 2' '^writer: ckptfs ' '^meta: .*"loss":0.5' '^shards: 1' '^size: [0-9]'
  says_like 'tensors'
}

@test "show --tensors lists every tensor of the file, as the file has them" {
  ok ckptfs show --tensors "$store/run-a/step-10"
  while IFS=$'\t' read -r fqn dtype shape; do
    grep -F -- "$fqn" <<<"$stdout" | grep -qF "$dtype" || fail "no line of $fqn $dtype $shape"
  done < <(slice "$store/run-a/step-10/model.safetensors" list)
}

@test "show --json is one JSON array" {
  ok ckptfs show --json "$store/run-a/step-10"
  jq -e 'length == 1 and (.[0] | .name == "run-a/step-10" and .step == 10 and .seq == 2 and .meta.note == "hello" and .shards == 1)' "$tmp/.stdout"
}

@test "show of an open checkpoint tells what it waits for, of an aborted one why" {
  ok ckptfs show "$store/run1/step-2.tmp"
  says 'state: open' 'run1/step-2'
  ok ckptfs show "$store/run1/step-4.partial"
  says 'state: aborted' '"why"'
}

@test "show of a group or a part of a checkpoint says what it is" {
  fails 1 ckptfs show "$store/run1"
  says group
  fails 1 ckptfs show "$store/run1/step-1/big.bin"
  says 'part of'
}

# bats test_tags=slow,sanitized
@test "cat gives the bytes of a shard, of an open file, of a loose file" {
  local path
  for path in run1/step-1/big.bin run1/step-1/empty run1/step-1/sub/deep/note.txt run1/step-2.tmp/big.bin run1/config.json; do
    ok ckptfs cat "$store/$path"
    same "$tmp/.stdout" "$store/$path"
  done
}

@test "cat gives the virtual files of a checkpoint's control folder" {
  ok ckptfs cat "$store/run1/step-1/.ckptfs/manifest.jsonl"
  same "$tmp/.stdout" "$store/run1/step-1/.ckptfs/manifest.jsonl"
  ok ckptfs cat "$store/run1/step-1/.ckptfs/XXH128SUMS"
  cp "$tmp/.stdout" "$tmp/sums"
  assert_eq "$(cut -c35- "$tmp/sums" | paste -sd' ')" 'big.bin empty sub/block.bin sub/deep/note.txt'
  (cd "$store/run1/step-1" && xxhsum --quiet -c "$tmp/sums")
}

@test "cat of a folder, or of what is not there, says so" {
  fails 1 ckptfs cat "$store/run1/step-1/sub"
  says sub
  fails 1 ckptfs cat "$store/run1/step-1/none"
  says none
  fails 1 ckptfs cat "$store/run1"
}

@test "a closed pipe ends cat without noise" {
  ok bash -c "set -o pipefail; ckptfs cat '$store/run1/step-1/big.bin' 2>'$tmp/err' | head -c 10 >/dev/null; [ \${PIPESTATUS[1]} = 0 ]"
  [ "$(wc -l <"$tmp/err")" -le 1 ]
}

@test "a full disk behind stdout is a failure" {
  [ -w /dev/full ] || requires /dev/full
  ok bash -c "! ckptfs ls '$store' >/dev/full 2>'$tmp/err'"
  grep -q 'ckptfs: ' "$tmp/err"
  ok bash -c "! ckptfs cat '$store/run1/step-1/big.bin' >/dev/full 2>'$tmp/err'"
  grep -q 'ckptfs: ' "$tmp/err"
}

@test "cp copies a checkpoint, a folder in it and a shard, as cp -r would" {
  ok ckptfs cp "$store/run1/step-1" "$tmp/new"
  same_tree "$tmp/new" "$store/run1/step-1"
  mkdir "$tmp/into"
  ok ckptfs cp "$store/run1/step-1" "$tmp/into"
  same_tree "$tmp/into/step-1" "$store/run1/step-1"
  ok ckptfs cp "$store/run1/step-1/sub" "$tmp/into"
  same_tree "$tmp/into/sub" "$store/run1/step-1/sub"
  ok ckptfs cp "$store/run1/step-1/big.bin" "$tmp/into/renamed"
  same "$tmp/into/renamed" "$store/run1/step-1/big.bin"
}

@test "cp keeps modes, times and symbolic links" {
  ok ckptfs cp "$store/run1/step-1" "$tmp/copy"
  assert_eq "$(stat -c '%a %.9Y' "$tmp/copy/big.bin")" "$(stat -c '%a %.9Y' "$store/run1/step-1/big.bin")"
  assert_eq "$(stat -c %a "$tmp/copy/sub/block.bin")" 640
  assert_eq "$(readlink "$tmp/copy/link")" sub/deep/note.txt
}

@test "cp never overwrites" {
  ok ckptfs cp "$store/run1/step-1/big.bin" "$tmp/copy"
  echo mine >"$tmp/copy"
  fails 1 ckptfs cp "$store/run1/step-1/big.bin" "$tmp/copy"
  says "$tmp/copy"
  assert_eq "$(cat "$tmp/copy")" mine
}

@test "cp into a place that is not there fails and leaves nothing" {
  fails 1 ckptfs cp "$store/run1/step-1" "$tmp/none/copy"
  says none
  [ ! -e "$tmp/none" ]
}

@test "cp of a checkpoint into another store gives a committed checkpoint" {
  ok ckptfs init "$tmp/other"
  ok ckptfs cp "$store/run1/step-1" "$tmp/other/copied"
  ok ckptfs verify "$tmp/other"
  says 'copied: ok'
  same "$tmp/other/copied/.ckptfs/manifest.jsonl" "$store/run1/step-1/.ckptfs/manifest.jsonl"
}

@test "latest is the checkpoint that was committed last, as a path that can be used" {
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-3"
  ok ckptfs latest "$store/run-a"
  assert_eq "$stdout" "$store/run-a/step-10"
  cd "$store/run1"
  ok ckptfs latest
  ok ckptfs verify "$stdout"
}

@test "latest as the last component of a path means the same" {
  ok ckptfs show "$store/run1/latest"
  says 'name: run1/step-3'
  ok ckptfs verify "$store/run-a/latest"
  says 'run-a/step-10: ok'
}

@test "latest where nothing is committed fails and says so" {
  ok ckptfs init "$tmp/empty"
  fails 1 ckptfs latest "$tmp/empty"
  says committed
}

@test "a bare checkpoint folder, in no store, can be shown, verified, read and copied" {
  cp -r "$store/run1/step-1" "$tmp/bare"
  ok ckptfs verify "$tmp/bare"
  says 'bare: ok'
  ok ckptfs show "$tmp/bare"
  says 'state: committed'
  ok ckptfs ls "$tmp/bare"
  says sub/block.bin
  ok ckptfs cat "$tmp/bare/sub/deep/note.txt"
  assert_eq "$stdout" 'step 1'
  ok ckptfs cp "$tmp/bare" "$tmp/again"
  same_tree "$tmp/bare" "$tmp/again"
}

@test "ckptfs alone tells the state of the store one stands in" {
  cd "$store/run1"
  ok ckptfs
  says "$store" open aborted
  cd "$BATS_TEST_TMPDIR"
  fails 1 ckptfs
  says 'ckptfs init'
}

@test "a store that cannot be written is read all the same" {
  requires root
  mkdir -m 777 "$tmp/home"
  chmod 755 "$tmp"
  ok "${as_nobody[@]}" ckptfs ls "$store"
  says run1/step-3
  ok "${as_nobody[@]}" ckptfs verify "$store/run-a"
  ok "${as_nobody[@]}" ckptfs latest "$store"
}
