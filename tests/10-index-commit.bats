#!/usr/bin/env bats
# bats file_tags=fast
# The commit: what it records, what it refuses, and that a refusal changes nothing.
load helpers/common

setup() {
  new_store
}

manifest() {
  cat "$store/$1/.ckptfs/manifest.jsonl"
}

@test "a commit moves and changes no shard" {
  make_files "$store/run1/step-1"
  snapshot "$store/run1/step-1" | grep -v ' \. $' >"$tmp/before"
  ok ckptfs commit "$store/run1/step-1"
  snapshot "$store/run1/step-1" | grep -v '\./\.ckptfs' | grep -v ' \. $' >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "the manifest records every entry with size, mode, time and sums that xxhsum agrees with" {
  local path digest
  make_files "$store/step-7"
  ok ckptfs commit "$store/step-7"
  manifest step-7 | jq -e -s '.[0].ckptfs == 1 and .[0].name == "step-7" and .[0].step == 7 and .[0].seq == 1' >/dev/null
  assert_eq "$(manifest step-7 | jq -r '.shard // empty' | paste -sd' ')" 'big.bin empty sub/block.bin sub/deep/note.txt'
  assert_eq "$(manifest step-7 | jq -r '.dir // empty' | paste -sd' ')" 'sub sub/deep'
  assert_eq "$(manifest step-7 | jq -c 'select(.symlink)')" '{"symlink":"link","target":"sub/deep/note.txt"}'
  assert_eq "$(manifest step-7 | jq -r 'select(.shard == "big.bin") | "\(.size) \(.mode) \(.block) \(.xxh3 | length)"')" '2500000 0644 1048576 48'
  grep '"shard":"big.bin"' "$store/step-7/.ckptfs/manifest.jsonl" | grep -q '"mtime_ns":1767323045123456789'
  assert_eq "$(manifest step-7 | jq -r 'select(.shard == "sub/block.bin") | .mode')" 0640
  manifest step-7 | jq -r 'select(.shard) | "\(.xxh128)  \(.shard)"' >"$tmp/sums"
  (cd "$store/step-7" && xxhsum --quiet -c "$tmp/sums")
  # The block sums are XXH3-64 of each MiB.
  digest=$(head -c 1048576 "$store/step-7/big.bin" | xxh64_of)
  assert_eq "$(manifest step-7 | jq -r 'select(.shard == "big.bin") | .xxh3[0:16]')" "$digest"
  assert_eq "$(manifest step-7 | tail -1 | jq -c '[.end,.shards,.tensors]')" '[true,4,0]'
  assert_eq "$(manifest step-7 | tail -1 | jq -r .xxh128)" "$(manifest step-7 | head -n -1 | xxhsum -H2 | cut -d' ' -f1)"
}

@test "nothing of the commit is left but manifest and index" {
  committed step-1
  assert_eq "$(ls -A "$store/step-1/.ckptfs")" manifest.jsonl
  [ ! -e "$store/.ckptfs/trash" ] || assert_eq "$(ls -A "$store/.ckptfs/trash")" ''
}

@test "a temporary name becomes the lasting one" {
  local name
  for name in step-1.tmp step-2.partial step-3.incomplete tmp_step-4 tmp-step-5 .tmpstep-6 step-7.orbax-checkpoint-tmp-123; do
    make_files "$store/run/$name"
    ok ckptfs commit "$store/run/$name"
    [ ! -e "$store/run/$name" ] || fail "still called $name"
  done
  assert_eq "$(find "$store/run" -mindepth 1 -maxdepth 1 -printf '%f\n' | sort | paste -sd' ')" 'step-1 step-2 step-3 step-4 step-5 step-6 step-7'
  ok ckptfs verify "$store"
}

@test "step and meta are what the writer says" {
  make_files "$store/run1/last"
  ok ckptfs commit "$store/run1/last" --step 4711 --meta loss=1.25 --meta=good=true --meta note='two words' --meta n=12
  manifest run1/last | head -1 | jq -e '.step == 4711 and .meta == {"loss":1.25,"good":true,"note":"two words","n":12}' >/dev/null
}

@test "the step comes from trainer_state.json where the writer says none, else from the name" {
  make_files "$store/a/checkpoint-5"
  echo '{"global_step": 77}' >"$store/a/checkpoint-5/trainer_state.json"
  ok ckptfs commit "$store/a/checkpoint-5"
  manifest a/checkpoint-5 | head -1 | jq -e '.step == 77' >/dev/null
  make_files "$store/a/best"
  ok ckptfs commit "$store/a/best"
  manifest a/best | head -1 | jq -e 'has("step") | not' >/dev/null
}

@test "sequence numbers rise with every commit, also after the index and the counter are gone" {
  committed a
  committed b
  rm -f "$store/.ckptfs/seq" "$store"/.ckptfs/index.db*
  committed c
  assert_eq "$(for name in a b c; do manifest $name | head -1 | jq .seq; done | paste -sd' ')" '1 2 3'
}

@test "all is durable before the manifest has its name, and both names before the command returns" {
  requires strace
  mkdir -p "$store/run1/step-9.tmp/sub"
  echo one >"$store/run1/step-9.tmp/one"
  echo two >"$store/run1/step-9.tmp/sub/two"
  # LeakSanitizer does not work under strace.
  ok env ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f -y -o "$tmp/trace" -e trace=fsync,fdatasync,renameat,renameat2 ckptfs commit "$store/run1/step-9.tmp"
  # What was synced and renamed, in this order, without process ids; a call that was interrupted in the report counts once.
  sed -En "s#.*(f(data)?sync)\\([0-9]+<$store/([^>]*)>.*#sync \\3#p; s#.*renameat2?\\([^\"]*\"([^\"]*)\".*\"([^\"]*)\".*#rename \\1 \\2#p" "$tmp/trace" >"$tmp/order"
  cat "$tmp/order"
  local line
  sed -n '/^rename manifest/q; p' "$tmp/order" >"$tmp/before"
  for line in one sub/two sub .ckptfs .ckptfs/manifest.tmp; do
    grep -qx "sync run1/step-9.tmp/$line" "$tmp/before" || fail "'$line' is not synced before the manifest has its name"
  done
  sed '1,/^rename manifest.tmp manifest.jsonl$/d' "$tmp/order" >"$tmp/after"
  assert_eq "$(head -2 "$tmp/after")" $'sync run1/step-9.tmp/.ckptfs\nrename step-9.tmp step-9'
  sed '1,/^rename step-9.tmp/d' "$tmp/after" | grep -qx 'sync run1' || fail "the new name is not durable"
}

@test "several paths are committed in one command, and one that fails does not stop the others" {
  make_files "$store/a"
  make_files "$store/c"
  fails 1 ckptfs commit "$store/a" "$store/none" "$store/c"
  says none
  assert_eq "$(state_of a) $(state_of c)" 'committed committed'
}

@test "a committed checkpoint is not committed again" {
  committed step-1
  snapshot "$store" >"$tmp/before"
  fails 1 ckptfs commit "$store/step-1"
  says step-1 committed
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "a lasting name that is taken is refused before anything is read" {
  committed step-1
  make_files "$store/step-1.tmp" 2
  snapshot "$store/step-1.tmp" >"$tmp/before"
  fails 1 ckptfs commit "$store/step-1.tmp"
  says "step-1"
  snapshot "$store/step-1.tmp" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  assert_eq "$(state_of step-1.tmp)" open
}

@test "a file that is open for reading does not matter" {
  make_files "$store/step-1"
  hold read "$store/step-1/big.bin"
  ok ckptfs commit "$store/step-1"
  let_go
}

@test "sockets, FIFOs and devices cannot be part of a checkpoint" {
  make_files "$store/step-1"
  mkfifo "$store/step-1/sub/pipe"
  refuses_commit "$store/step-1" step-1/sub/pipe
}

@test "names that are not UTF-8 or hold control characters are named, escaped" {
  make_files "$store/step-1"
  touch "$store/step-1/bad"$'\xff'name
  refuses_commit "$store/step-1" 'bad\xffname' UTF-8
  rm "$store/step-1/bad"*
  touch "$store/step-1/new"$'\n'line
  refuses_commit "$store/step-1" 'new\x0aline'
}

@test "odd but allowed names are kept byte for byte" {
  local name
  for name in 'a b' '-dash' '"quoted"' 'back\slash' "apos'trophe" '{brace}' 'süß→日本' '%41' '.hidden' '~tilde'; do
    mkdir -p "$store/step-1/$name dir"
    echo "$name" >"$store/step-1/$name dir/$name"
  done
  ok ckptfs commit "$store/step-1"
  ok ckptfs verify "$store/step-1"
  ok ckptfs cp "$store/step-1" "$tmp/copy"
  same_tree "$store/step-1" "$tmp/copy"
}

@test "an empty folder is no checkpoint" {
  mkdir "$store/step-1"
  refuses_commit "$store/step-1" step-1
}

@test "a checkpoint neither contains another nor lies in one" {
  committed outer/step-1
  make_files "$store/outer/step-1/inner"
  refuses_commit "$store/outer/step-1/inner"
  rm -r "$store/outer/step-1/inner"
  make_files "$store/outer"
  refuses_commit "$store/outer" step-1
}

@test "names deeper than eight levels are refused" {
  make_files "$store/1/2/3/4/5/6/7/8"
  ok ckptfs commit "$store/1/2/3/4/5/6/7/8"
  make_files "$store/a/2/3/4/5/6/7/8/9"
  refuses_commit "$store/a/2/3/4/5/6/7/8/9"
}

@test "a symbolic link is recorded and never followed" {
  mkdir -p "$store/step-1" "$tmp/outside"
  echo secret >"$tmp/outside/file"
  echo shard >"$store/step-1/shard"
  ln -s "$tmp/outside" "$store/step-1/out"
  ln -s dangling "$store/step-1/gone"
  ok ckptfs commit "$store/step-1"
  assert_eq "$(manifest step-1 | jq -r '.shard // empty')" shard
  assert_eq "$(manifest step-1 | jq -r '.symlink // empty' | paste -sd' ')" 'gone out'
}

@test "hard links become shards with equal sums" {
  mkdir "$store/step-1"
  echo bytes >"$store/step-1/a"
  ln "$store/step-1/a" "$store/step-1/b"
  ok ckptfs commit "$store/step-1"
  assert_eq "$(manifest step-1 | jq -r 'select(.shard) | .xxh128' | uniq | wc -l)" 1
  ok ckptfs verify "$store/step-1"
}

@test "the store itself, a group, a loose file and the control folder cannot be committed" {
  committed run1/step-1
  echo x >"$store/run1/config.json"
  refuses_commit "$store"
  refuses_commit "$store/run1"
  refuses_commit "$store/run1/config.json"
  refuses_commit "$store/.ckptfs"
}

@test "a safetensors file in a checkpoint is understood: its tensors are catalogued" {
  mkdir "$store/step-1"
  make_model "$store/step-1/model.safetensors" small
  ok ckptfs commit "$store/step-1"
  assert_eq "$(manifest step-1 | jq -r '.tensor // empty' | LC_ALL=C sort)" "$(slice "$store/step-1/model.safetensors" list | cut -f1 | LC_ALL=C sort)"
  manifest step-1 | jq -es 'any(.tensor == "d3" and .dtype == "F16" and .shape == [9,4,5] and .chunks[0].shard == "model.safetensors")' >/dev/null
}

@test "a safetensors file that is not understood is a plain shard and a note, not a failure" {
  mkdir "$store/step-1"
  echo 'no model at all, but long enough to look at' >"$store/step-1/model.safetensors"
  ok ckptfs commit "$store/step-1"
  ok ckptfs verify "$store/step-1"
  ok ckptfs show "$store/step-1"
  says 'not understood: model.safetensors: '
}

@test "a checkpoint folder copied into a store by plain tools is committed there" {
  committed run1/step-1
  ok ckptfs init "$tmp/other"
  cp -r "$store/run1/step-1" "$tmp/other/copied"
  ok ckptfs verify "$tmp/other/copied"
  says 'copied: ok'
  ok ckptfs ls "$tmp/other"
  says_like '^copied +committed'
}

@test "two commits of one checkpoint exclude each other: one wins" {
  local a=0 b=0 first second
  make_files "$store/step-1"
  ckptfs commit "$store/step-1" >"$tmp/a" 2>&1 3>&- &
  first=$!
  ckptfs commit "$store/step-1" >"$tmp/b" 2>&1 3>&- &
  second=$!
  wait "$first" || a=$?
  wait "$second" || b=$?
  cat "$tmp/a" "$tmp/b"
  assert_eq "$((a + b))" 1 "sum of both exit statuses"
  ok ckptfs verify "$store/step-1"
}

@test "a dead committer's lock is taken over, a living one's is not" {
  make_files "$store/step-1"
  mkdir -p "$store/step-1/.ckptfs"
  hold read "$store/step-1/empty"
  jq -n --arg host "$(hostname)" --arg boot "$(cat /proc/sys/kernel/random/boot_id)" --argjson pid "$holder" \
    --argjson ticks "$(awk '{ print $22 }' "/proc/$holder/stat")" --argjson ns "$(stat -Lc %i "/proc/$holder/ns/pid")" -c \
    '{host: $host, boot_id: $boot, pid: $pid, start_ticks: $ticks, pid_ns: $ns}' >"$tmp/lock"
  cp "$tmp/lock" "$store/step-1/.ckptfs/commit.lock"
  fails 1 ckptfs commit "$store/step-1"
  says "$holder"
  let_go
  ok ckptfs commit "$store/step-1"
}
