#!/usr/bin/env bats
# bats file_tags=slow,fuse
# A mount under load: many readers, many shards, commits beside them.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
}

# Anonymous memory of the daemon in KiB: what grows when something is kept for every file.
anonymous_kib() {
  awk '/^RssAnon:/ { print $2 }' "/proc/$(daemon_of "$mnt")/status"
}

@test "readers, listings and commits go on side by side for a while, without an error" {
  local pids=() pid i
  committed run/step-0
  mount_store "$store" "$mnt"
  for i in 1 2 3 4; do
    (for _ in 1 2 3 4 5; do ckpt-test compare "$mnt/run/step-0/big.bin" "$store/run/step-0/big.bin" 40 2 "$i" || exit 1; done) 3>&- &
    pids+=($!)
  done
  # Not below what is being renamed: there a name may go while it is looked at, as on any file system.
  (for _ in $(seq 100); do find "$mnt/run/step-0" -ls >/dev/null && ls "$mnt/run" >/dev/null || exit 1; done) 3>&- &
  pids+=($!)
  for i in 1 2 3 4 5 6; do
    make_files "$store/run/step-$i.tmp" "$i"
    ok ckptfs commit "$store/run/step-$i.tmp"
    eventually 2 cmp "$mnt/run/step-$i/big.bin" "$store/run/step-$i/big.bin"
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "a reader met an error"; done
  ok ckptfs verify "$mnt"
  umount_store "$mnt"
  [ ! -s "$mnt.log" ] || not grep -v 'mounted' "$mnt.log"
}

@test "20,000 shards are listed, found and read, and memory does not grow with every find" {
  local first third
  mkdir -p "$store/run/step-1/a" "$store/run/step-1/b"
  (cd "$store/run/step-1/a" && seq -f 'shard-%05g' 10000 | xargs touch)
  (cd "$store/run/step-1/b" && seq -f 'shard-%05g' 10000 | xargs touch)
  echo content >"$store/run/step-1/b/shard-10000"
  ok ckptfs commit "$store/run/step-1"
  mount_store "$store" "$mnt"
  assert_eq "$(find "$mnt/run/step-1" -type f -size 0 | wc -l)" 19999
  first=$(anonymous_kib)
  find "$mnt/run/step-1" -ls >/dev/null
  find "$mnt/run/step-1" -printf '%i\n' | sort | uniq -d >"$tmp/twice"
  third=$(anonymous_kib)
  assert_eq "$(cat "$tmp/twice")" '' 'inode numbers that occur twice'
  echo "anonymous memory: $first KiB after one find, $third KiB after three"
  [ "$third" -le $((first + 2048)) ] || fail "memory grows"
  ok ckpt-test seekdir "$mnt/run/step-1/a"
  assert_eq "$(cat "$mnt/run/step-1/b/shard-10000")" content
  umount_store "$mnt"
}

@test "a reader can be killed while its read is served" {
  local pid i again=()
  mkdir -p "$store/step-1"
  random_bytes 1 200MiB >"$store/step-1/large.bin"
  ok ckptfs commit "$store/step-1"
  mount_store "$store" "$mnt"
  # So often that it is still at it when it is seen to run.
  for ((i = 0; i < 200; i++)); do again+=("$mnt/step-1/large.bin"); done
  for i in 1 2 3; do
    cat "${again[@]}" >/dev/null 3>&- &
    pid=$!
    eventually 5 grep -q "$mnt" "/proc/$pid/cmdline"
    kill -KILL "$pid"
    gone_within 5 "$pid"
  done
  same "$mnt/step-1/large.bin" "$store/step-1/large.bin"
  umount_store "$mnt"
}

@test "many openers of the virtual sum file share one text" {
  local pids=() pid
  mkdir -p "$store/step-1"
  (cd "$store/step-1" && seq -f 'shard-%05g' 5000 | xargs touch)
  ok ckptfs commit "$store/step-1"
  mount_store "$store" "$mnt"
  for _ in $(seq 12); do
    (cmp "$mnt/step-1/.ckptfs/XXH128SUMS" <(seq -f '99aa06d3014798d86001c324468d497f  shard-%05g' 5000)) 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "a reader got other text"; done
  umount_store "$mnt"
}

@test "two daemons and several commands fight over one index, and all of them win" {
  local pids=() pid i failed=
  committed run/step-0
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/mnt2"
  for i in 1 2 3 4; do
    make_files "$store/run/step-$i.tmp" "$i"
    ckptfs commit "$store/run/step-$i.tmp" >"$tmp/out.$i" 2>&1 3>&- &
    pids+=($!)
    ckptfs reindex "$store" >"$tmp/out.r$i" 2>&1 3>&- &
    pids+=($!)
    rm -f "$store"/.ckptfs/index.db*
    ls -lR "$mnt/run/step-0" "$tmp/mnt2/run/step-0" >"$tmp/out.m$i" 2>&1 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || failed="$failed $pid"; done
  [ -z "$failed" ] || fail "$(grep -E 'ckptfs: |ls: ' "$tmp"/out.*)"
  for i in 0 1 2 3 4; do
    eventually 2 cmp "$mnt/run/step-$i/big.bin" "$store/run/step-$i/big.bin"
    eventually 2 cmp "$tmp/mnt2/run/step-$i/big.bin" "$store/run/step-$i/big.bin"
  done
  ok ckptfs verify "$store"
  umount_store "$mnt"
  umount_store "$tmp/mnt2"
}
