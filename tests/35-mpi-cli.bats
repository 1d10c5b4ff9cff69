#!/usr/bin/env bats
# bats file_tags=mpi
# The program ckptfs-mpi: commands at the commit, tables in files, meshes, the bar, the status of a mount, bench.
# shellcheck disable=SC2016 # commands in single quotes are for the shells of the ranks
load helpers/common
load helpers/ranks

setup() {
  requires mpi
  new_store
  model=$tmp/model.safetensors
  tiny_model "$model"
  # Open MPI leaks by itself, also where it runs without mpirun.
  export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
}

teardown() {
  drop_mounts
}

# bats test_tags=slow,sanitized
@test "misuse of an option is exit 2, said once, and touches nothing" {
  local options
  snapshot "$store" >"$tmp/before"
  fails 2 mpi 2 save "$store/a" --from "$model" --arg k=1 --arg k=2
  assert_eq "$(grep '^ckptfs-mpi: ' <<<"$stderr")" "ckptfs-mpi: option '--arg': the key 'k' is given twice"
  for options in '--arg a-b=c' '--layout tree' '--mesh 1' '--mesh 2x2 --placements S0,S1' '--mesh 1 --placements Q' \
    '--mesh 1 --placements S0 --shard 0' '--aggregators 1' '--blob x' '--rounds 2'; do
    # shellcheck disable=SC2086 # words
    fails 2 ckptfs-mpi save "$store/a" --from "$model" $options || return 1
    assert_eq "$(grep -c '^ckptfs-mpi: ' <<<"$stderr")" 1 "lines about $options" || return 1
  done
  fails 2 ckptfs-mpi bench "$store" --size 0
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=fast
@test "both commands run on every rank, with the caller's path byte for byte, in the checkpoint's folder" {
  local rank path="$store/./run1//step-1"
  export noted=$tmp/noted CKPTFS_ARG_old=gone
  local note='printf "%s|" "$CKPTFS_PATH" "$CKPTFS_RANK/$CKPTFS_WORLD_SIZE" "$(pwd -P)" "$CKPTFS_ARG_extra" "${CKPTFS_ARG_old-none}" "$(cat)" >>"$noted.$CKPTFS_RANK"'
  ok mpi 2 save "$path" --from "$model" --pre-commit "$note; printf 'pre\n' >>\$noted.\$CKPTFS_RANK" \
    --post-commit "$note; printf 'post\n' >>\$noted.\$CKPTFS_RANK" --arg 'extra=a "b" $c=d'
  for rank in 0 1; do
    printf '%s|%s/2|%s|a "b" $c=d|none||%s\n' "$path" $rank "$store/run1/step-1.partial" pre "$path" $rank "$store/run1/step-1" post >"$tmp/expected"
    same "$noted.$rank" "$tmp/expected"
  done
}

# bats test_tags=slow,sanitized
@test "no rank's second command runs before every rank's first has ended, and the commit is between them" {
  export noted=$tmp/noted
  ok mpi 3 save "$store/a" --from "$model" --pre-commit 'sleep 0.$((CKPTFS_RANK * 2)); test ! -e .ckptfs/manifest.jsonl && echo pre >>"$noted"' \
    --post-commit 'test -e .ckptfs/manifest.jsonl && echo post >>"$noted"'
  assert_eq "$(cat "$noted")" "$(printf '%s\n' pre pre pre post post post)"
}

# bats test_tags=slow,sanitized
@test "a first command that fails is a vote: the rank, its exit status and its last words are named, nothing is committed" {
  on_ranks 3 save "$store/a" --from "$model" --pre-commit '[ $CKPTFS_RANK = 1 ] || exit 0; echo first >&2; printf "no\troom\n" >&2; exit 3' \
    --post-commit "touch '$tmp/post'"
  all_told '1 pre_commit EIO'
  says 'exit status 3: no room' first
  [ ! -e "$tmp/post" ]
  nothing_committed
  ok ckptfs show "$store/a.partial"
  says 'exit status 3'
  on_ranks 2 save "$store/a" --from "$model"
  all_did_it
}

# bats test_tags=fast
@test "a second command that fails leaves the checkpoint committed, and the failure is told" {
  on_ranks 2 save "$store/a" --from "$model" --post-commit '[ $CKPTFS_RANK = 0 ] || kill -SEGV $$'
  all_told '1 post_commit EIO'
  says SIGSEGV
  ok ckptfs verify "$store/a"
  says 'a: ok'
}

# bats test_tags=slow
@test "a command that outlives the time-out is killed with all its children, and its rank is named by all" {
  export nap=4242.$BASHPID
  on_ranks 3 save "$store/a" --from "$model" --timeout 2 --pre-commit '[ $CKPTFS_RANK != 2 ] || { sleep $nap | cat; }'
  all_told '2 pre_commit ETIMEDOUT'
  not pgrep -f "sleep $nap"
  nothing_committed
}

# bats test_tags=slow
@test "a signal ends the command, and the save with it" {
  export nap=4343.$BASHPID
  on_ranks 2 save "$store/a" --from "$model" --pre-commit '[ $CKPTFS_RANK = 1 ] || exit 0; kill -TERM $PPID; sleep $nap'
  assert_eq "$(jq -c '[.failures[] | [.rank, .phase, .errno]]' "$told/failures.0")" '[[1,"pre_commit","EINTR"]]'
  not pgrep -f "sleep $nap"
  nothing_committed
}

# bats test_tags=fast
@test "a save goes on while a command leaves something in the background" {
  local begin=$SECONDS
  ok mpi 2 save "$store/a" --from "$model" --pre-commit 'sleep 30 >/dev/null & echo "started" >&2; echo $! >"pid.$CKPTFS_RANK"'
  says started 'a: saved'
  [ $((SECONDS - begin)) -lt 28 ]
  xargs kill <"$store/a/pid.0"
  xargs kill <"$store/a/pid.1"
}

# bats test_tags=slow,sanitized
@test "of a load, the first command runs before the output takes its name, and keeps it from that" {
  ok mpi 2 save "$store/a" --from "$model"
  export out=$tmp/out
  fails 1 mpi 2 load "$store/a" --to "$out" --pre-commit 'test "$CKPTFS_RANK" = 0' --post-commit 'touch "$out.post"'
  says_like '^ckptfs-mpi: rank 1 on [^:]+: pre_commit: EIO: '
  assert_eq "$(find "$tmp" -name 'out*')" ''
  ok mpi 2 load "$store/a" --to "$out" --pre-commit 'test ! -e "$out" && test "$(pwd -P)" = "$CKPTFS_PATH"' --post-commit 'test -e "$out"'
  slice "$model" compare "$out"
  fails 1 mpi 2 load "$store/a" --to "$out.2" --post-commit 'exit 9'
  says 'exit status 9'
  same "$out" "$out.2"
}

# bats test_tags=fast
@test "commit and import run the commands as well" {
  make_files "$store/run/step-1.tmp"
  ok mpi 2 commit "$store/run/step-1.tmp" --pre-commit 'test -e big.bin' --post-commit 'test -e .ckptfs/manifest.jsonl'
  make_files "$tmp/from"
  fails 1 mpi 2 import "$tmp/from" "$store/run/step-2" --pre-commit 'test ! -e big.bin'
  says_like '^ckptfs-mpi: rank 0 .*: pre_commit: ' '^ckptfs-mpi: rank 1 .*: pre_commit: '
}

# bats test_tags=slow,sanitized
@test "every rank writes its table, an empty one or the failing ranks" {
  ok mpi 2 save "$store/a" --from "$model" --failures "$tmp/t"
  assert_eq "$(cat "$tmp/t.0" "$tmp/t.1")" $'{"failures":[]}\n{"failures":[]}'
  fails 1 mpi 2 save "$store/b" --from "$tmp/none.safetensors" --failures "$tmp/t"
  assert_eq "$(jq -r '.failures[] | "\(.rank) \(.phase) \(.errno)"' "$tmp/t.0")" '0 set_up_storage_writer ENOENT'
  same "$tmp/t.0" "$tmp/t.1"
  fails 1 mpi 2 load "$store/a" --failures "$tmp/no/such"
  says "no/such.0"
  assert_eq "$(find "$tmp" -name 't.*.tmp')" ''
}

# bats test_tags=slow
@test "after a time-out every rank that lives has written its table, and no other run's is left" {
  echo old >"$tmp/t.2"
  fails 1 env CKPTFS_FAULT=write_data@2:stop mpi 4 save "$store/a" --from "$model" --timeout 2 --failures "$tmp/t"
  assert_eq "$(jq -r '.failures[] | "\(.rank) \(.phase) \(.errno)"' "$tmp/t.0")" '2 write_data ETIMEDOUT'
  same "$tmp/t.0" "$tmp/t.1"
  same "$tmp/t.0" "$tmp/t.3"
  # mpirun continues what is stopped before it kills it: for a moment that rank may go on, to its own table.
  [ ! -e "$tmp/t.2" ] || not grep -qx old "$tmp/t.2"
}

# bats test_tags=slow,sanitized
@test "a mesh cuts by its placements, and what was saved comes back on any number of ranks" {
  local placements
  for placements in S0,S1 S1,S0 R,S1 S0,S0; do
    ok mpi 4 save "$store/${placements/,/-}" --from "$model" --mesh 2x2 --placements $placements || return 1
  done
  ok ckptfs ls "$store/S0-S1"
  says rank-00000/sharded@0_0 rank-00001/sharded@0_10 rank-00002/sharded@10_0 rank-00003/sharded@10_10
  ok ckptfs ls "$store/S1-S0"
  says rank-00001/sharded@10_0 rank-00002/sharded@0_10
  ok ckptfs ls "$store/S0-S0"
  says rank-00001/sharded@5_0 rank-00003/sharded@15_0
  ok ckptfs ls "$store/R-S1"
  assert_eq "$(grep -c sharded@ <<<"$stdout")" 2
  ok mpi 3 load "$store/R-S1" --to "$tmp/out"
  slice "$model" compare "$tmp/out"
}

# bats test_tags=slow,sanitized
@test "layout global, blobs and the background are to be had from the command line" {
  local size
  random_bytes 7 5000 >"$tmp/rng"
  ok mpi 3 save "$store/a" --from "$model" --layout global --aggregators 2 --min-rate 1MiB --blob "rng/state=$tmp/rng"
  slice "$model" compare "$store/a/model.safetensors"
  ok mpi 2 save "$store/b" --from "$model" --async --blob "rng/state=$tmp/rng" --io mpiio
  ok ckptfs cp "$store/b" "$tmp/plain"
  same "$tmp/rng" "$tmp/plain/rank-00000/rng%2Fstate"
  size=$(($(stat -c %s "$tmp/rng") + 2000))
  for async in '' --async; do
    # shellcheck disable=SC2086
    ok mpi 3 load "$store/b" --to "$tmp/out" $async || return 1
    says "($size bytes" || return 1
    slice "$model" compare "$tmp/out" || return 1
  done
  fails 1 mpi 2 save "$store/c" --from "$model" --blob "x=$tmp/none"
  says "$tmp/none" 'rank 0 on '
}

# bats test_tags=slow,sanitized
@test "faults of the background are met from the command line" {
  CKPTFS_FAULT=write_data_async@1 on_ranks 2 save "$store/a" --from "$model" --async
  all_told '1 write_data_async EIO'
  nothing_committed
  ok mpi 2 save "$store/a" --from "$model"
  CKPTFS_FAULT=read_data_async@0 on_ranks 2 load "$store/a" --async --to "$tmp/out"
  all_told '0 read_data_async EIO'
  [ ! -e "$tmp/out" ]
}

# bats test_tags=slow,sanitized
@test "the bar is drawn where it is asked for, no wider than the terminal, and is erased" {
  local line width
  ok mpi 2 save "$store/a" --from "$model"
  [[ "$stderr" != *$'\r'* ]] || fail "a bar into a pipe"
  for width in 50 120; do
    ok env CKPTFS_PROGRESS=1 COLUMNS=$width mpi 2 save "$store/w$width" --from "$model" || return 1
    tr '\r' '\n' <"$tmp/.stderr" | sed 's/\x1b\[K//g' >"$tmp/bars"
    grep -q '100%' "$tmp/bars" || fail "no bar: $(cat "$tmp/bars")" || return 1
    while IFS= read -r line; do
      [ ${#line} -lt $width ] || fail "wider than $width columns: $line" || return 1
    done <"$tmp/bars"
    assert_eq "$(tail -c 4 "$tmp/.stderr")" $'\r\x1b[K' 'the end of what was drawn' || return 1
  done
  grep -q '2.0 KiB of 2.0 KiB' "$tmp/bars"
  ok mpi 2 load "$store/a" --progress
  grep -q loading "$tmp/.stderr"
}

# bats test_tags=slow,fuse
@test "a save that runs stands in the status of a mount and in ls, with its bytes and ranks, and is gone from there at its end" {
  local pid row
  requires fuse jq
  mount_store "$store" "$tmp/mnt"
  mpi 3 save "$tmp/mnt/run1/step-1" --from "$model" --coordinator 2 --pre-commit "while [ ! -e '$tmp/go' ]; do sleep 0.05; done" >"$tmp/log" 2>&1 3>&- &
  pid=$!
  eventually 20 grep -q '"total_bytes":2000' "$tmp/mnt/.ckptfs/status"
  row=$(jq -c '.[] | [.name, .doing, .ranks, .done_bytes, .total_bytes]' "$tmp/mnt/.ckptfs/status")
  assert_eq "$row" '["run1/step-1.partial","saving",3,2000,2000]'
  jq -e '.[0] | (.since | test("^20[0-9-]+T[0-9:.]+Z$")) and .slowest_rank < 3 and .pid > 1' "$tmp/mnt/.ckptfs/status"
  ok ckptfs ls "$store"
  says "waits for writer on $(hostname), pid $(jq '.[0].pid' "$tmp/mnt/.ckptfs/status") (2.0 KiB of 2.0 KiB)"
  touch "$tmp/go"
  wait $pid || fail "$(cat "$tmp/log")"
  assert_eq "$(jq length "$tmp/mnt/.ckptfs/status")" 0
  assert_eq "$(ls "$store/.ckptfs/saves" 2>/dev/null)" ''
  ok ckptfs verify "$tmp/mnt/run1/step-1"
  umount_store "$tmp/mnt"
}

# bats test_tags=slow
@test "what a killed save noted is believed by nobody, and is removed by the next" {
  local signal_status=0
  CKPTFS_FAULT=pre_commit@0:kill timeout 60 mpi 2 save "$store/a" --from "$model" >"$tmp/log" 2>&1 3>&- || signal_status=$?
  [ $signal_status -ne 0 ] && [ $signal_status -ne 124 ]
  [ -n "$(ls "$store/.ckptfs/saves")" ]
  ok ckptfs verify "$store"
  ok ckptfs ls "$store"
  says_not 'writer on'
  ok mpi 2 save "$store/a" --from "$model"
  assert_eq "$(ls "$store/.ckptfs/saves" 2>/dev/null)" ''
}

# bats test_tags=slow,sanitized
@test "bench measures in one JSON object or a table, and leaves nothing behind, also when it fails" {
  requires jq
  ok mpi 2 bench "$store" --size 8MiB --rounds 2 --json
  jq -e '.ranks == 2 and .bytes == 8388608 and .shards == 2 and .layout == "shards" and (.async | not)' <<<"$stdout"
  jq -e '[.save.seconds, .load.seconds] | all(length == 2 and all(. > 0))' <<<"$stdout"
  ok mpi 2 bench "$store" --shards 100 --async --json
  jq -e '.shards == 200 and .bytes == 51200 and (.async.stopped_seconds | length) == 1 and .async.memcpy_seconds[0] > 0' <<<"$stdout"
  ok mpi 2 bench "$store" --size 1MiB --layout global
  says_like '^2 ranks, 1.0 MiB in [0-9]+ shards?, layout global$' '^save  +1  +[0-9.]+  ' '^load  +1  +[0-9.]+  '
  for phase in write_data post_commit read_data; do
    fails 1 env CKPTFS_FAULT=$phase@0 mpi 2 bench "$store" --size 1MiB || return 1
    says_like "^ckptfs-mpi: rank 0 on [^:]+: $phase: EIO: " || return 1
  done
  fails 1 mpi 2 bench "$tmp" --size 1MiB
  says 'ckptfs init'
  fails 1 mpi 2 bench "$store" --size 1KiB
  says 4
  ok ckptfs ls "$store"
  assert_eq "$(find "$store" -name 'ckptfs-bench*')" ''
  assert_eq "$(ls "$store/.ckptfs/trash" 2>/dev/null)" ''
}
