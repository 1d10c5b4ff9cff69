#!/usr/bin/env bats
# bats file_tags=fuse
# When shards are checked against their sums: at the first open, at each read, or never, as verify= says.
load helpers/common
load helpers/counters

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  step=$mnt/run/step-1
  plain=$store/run/step-1
}

# shards BYTES…: a committed checkpoint with shards a, b, … of these sizes
shards() {
  local names=(a b c d e f) i=0 bytes
  mkdir -p "$plain"
  for bytes in "$@"; do
    random_bytes $((i + 1)) "$bytes" >"$plain/${names[i]}"
    i=$((i + 1))
  done
  ok ckptfs commit "$plain"
}

# verifies BYTES CMD…: it exits 0, and so many bytes are verified by it
verifies() {
  local before
  before=$(verified_of "$mnt")
  ok "${@:2}"
  assert_eq $(($(verified_of "$mnt") - before)) "$1" "bytes verified by $2 $3"
}

# opens PATH…: each of them can be opened
opens() {
  local path
  for path in "$@"; do errno_is OK open "$path" || return 1; done
}

blocks() {
  ok python3 "$HELPERS/handles.py" blocks "$@"
}

# damage_lines: what the log says of damage
damage_lines() {
  grep ': block ' "$mnt.log"
}

# bats test_tags=fast
@test "the first open verifies the whole shard once, for all that open it at the same time, and the next ones do not" {
  shards 40000000 3000000
  mount_store "$store" "$mnt"
  verifies 40000000 python3 "$HELPERS/handles.py" together 8 "$step/a"
  assert_eq "$stdout" 'OK 8'
  verifies 0 python3 "$HELPERS/handles.py" together 8 "$step/a"
  verifies 3000000 ckpt-test errno open "$step/b"
  verifies 0 ckpt-test errno open "$step/b"
  assert_eq "$(counter "$mnt" ckptfs_corrupt_blocks_total)" 0
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a shard whose file was touched since is verified again" {
  shards 3000000
  mount_store "$store" "$mnt"
  verifies 3000000 ckpt-test errno open "$step/a"
  chmod 600 "$plain/a"
  verifies 3000000 ckpt-test errno open "$step/a"
  cp "$plain/a" "$tmp/again"
  mv "$tmp/again" "$plain/a"
  verifies 3000000 ckpt-test errno open "$step/a"
  verifies 0 ckpt-test errno open "$step/a"
  same "$step/a" "$plain/a"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a bit that flips after the first read, with the mtime put back, is EIO at the next open" {
  shards 3000000 3000000
  mount_store "$store" "$mnt"
  same "$step/a" "$plain/a"
  ckpt-test flip "$plain/a" 2500000 3
  errno_is EIO open "$step/a"
  errno_is EIO open-direct "$step/a"
  same "$step/b" "$plain/b"
  ckpt-test flip "$plain/a" 2500000 3
  same "$step/a" "$plain/a"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a bit that flips while somebody has the shard open is EIO for the next who opens it" {
  shards 3000000
  mount_store "$store" "$mnt"
  hold read "$step/a"
  ckpt-test flip "$plain/a" 1500000
  errno_is EIO open "$step/a"
  errno_is EIO open-direct "$step/a"
  ckpt-test flip "$plain/a" 1500000
  same "$step/a" "$plain/a"
  let_go
  same "$step/a" "$plain/a"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a shard that is opened before its pass has ended and after it gives the right bytes to both" {
  shards 24000000
  mount_store "$store" "$mnt" verify_open_max=1MiB
  hold read "$step/a"
  for _ in $(seq 20); do
    same "$step/a" "$plain/a"
    ok ckpt-test map-compare "$step/a" "$plain/a"
  done
  ok python3 "$HELPERS/handles.py" mixed "$step/a" "$plain/a"
  let_go
  umount_store "$mnt"
}

# bats test_tags=fast
@test "damage is one line in the log with shard, block, bytes, both sums and the command, and is counted" {
  shards 3000000
  ckpt-test flip "$plain/a" 2500000 3
  mount_store "$store" "$mnt"
  for _ in 1 2 3; do errno_is EIO open "$step/a"; done
  damage_lines
  assert_eq "$(damage_lines | wc -l)" 1
  damage_lines | grep -qE "'run/step-1/a': block 2 \(bytes 2097152-2999999\): xxh3-64 is [0-9a-f]{16}, should be [0-9a-f]{16}; run 'ckptfs verify $store/run/step-1'"
  [ "$(counter "$mnt" ckptfs_corrupt_blocks_total)" -ge 1 ]
  fails 1 ckptfs verify "$store"
  says "block 2 (bytes 2097152-2999999)"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verify=read notices a bit that flips while the shard is open" {
  shards 5000000
  mount_store "$store" "$mnt" verify=read
  blocks "$step/a" "$plain/a" 3
  assert_eq "$(paste -sd, <<<"$stdout")" '0 right,1 right,2 right,3 EIO,4 right'
  ckpt-test flip "$plain/a" $((3 * 1048576 + 77))
  blocks "$step/a" "$plain/a"
  assert_eq "$(paste -sd, <<<"$stdout")" '0 right,1 right,2 right,3 right,4 right'
  damage_lines | grep -q 'block 3 (bytes 3145728-4194303)'
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verify=read verifies what is read and nothing at open, mappings too" {
  shards 5000000
  ckpt-test flip "$plain/a" 4999999 7
  mount_store "$store" "$mnt" verify=read
  verifies 0 ckpt-test errno open "$step/a"
  assert_eq "$stdout" OK
  ok cmp -n 1048576 "$step/a" "$plain/a"
  [ "$(verified_of "$mnt")" -ge 1048576 ]
  ok cmp -n 1048576 "$step/a" "$plain/a" 3145728 3145728
  try ckpt-test pread "$step/a" 4900000 10
  says EIO
  # The page that cannot be verified cannot be mapped: SIGBUS, and no other end.
  status=0
  python3 "$HELPERS/handles.py" touch "$step/a" 4999998 3>&- 4>&- || status=$?
  assert_status 135
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verify=off verifies nothing and hands out what is stored" {
  shards 3000000
  cp "$plain/a" "$tmp/good"
  ckpt-test flip "$plain/a" 1500000
  mount_store "$store" "$mnt" verify=off
  verifies 0 cmp "$step/a" "$plain/a"
  not cmp -s "$step/a" "$tmp/good"
  ok ckpt-test map-compare "$step/a" "$plain/a"
  assert_eq "$(counter "$mnt" ckptfs_corrupt_blocks_total)" 0
  assert_eq "$(verified_of "$mnt")" 0
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verify=open verifies whole even what is larger than verify_open_max" {
  shards 8000000 8000000
  ckpt-test flip "$plain/a" 7999999
  mount_store "$store" "$mnt" verify=open,verify_open_max=1MiB
  errno_is EIO open "$step/a"
  verifies 8000000 ckpt-test errno open "$step/b"
  same "$step/b" "$plain/b"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verify=auto reads what is larger than verify_open_max block by block, and a pass behind it fails later opens" {
  shards 8000000 8000000 1000000
  ckpt-test flip "$plain/a" $((5 * 1048576 + 12345))
  mount_store "$store" "$mnt" verify=auto,verify_open_max=1MiB
  blocks "$step/a" "$plain/a"
  assert_eq "$(cut -d' ' -f1,2 <<<"$stdout" | paste -sd,)" '0 right,1 right,2 right,3 right,4 right,5 EIO,6 right,7 right'
  eventually 10 bash -c "[ \"\$(ckpt-test errno open '$step/a')\" = EIO ]"
  errno_is EIO open "$step/a"
  same "$step/b" "$plain/b"
  ok ckpt-test map-compare "$step/b" "$plain/b"
  verifies 1000000 ckpt-test errno open "$step/c"
  umount_store "$mnt"
}

large_is_trusted() {
  local before
  before=$(verified_of "$mnt")
  [ "$before" -ge 8000000 ] && cmp -s "$step/a" "$plain/a" && [ "$(verified_of "$mnt")" = "$before" ]
}

# bats test_tags=fast
@test "the pass behind the first open of a large shard covers all of it, whatever was read" {
  shards 8000000
  mount_store "$store" "$mnt" verify_open_max=1MiB
  ok cmp -n 100 "$step/a" "$plain/a" 100 100
  eventually 10 large_is_trusted || fail "$(verified_of "$mnt") bytes verified"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "sizes and times of verification that cannot be are named" {
  local option
  for option in verify_open_max=-1 verify_open_max=x verify_open_max= verify=; do
    fails 1 mount.ckptfs "$store" "$tmp" -o "$option"
    says "${option%%=*}"
  done
}

# bats test_tags=fast
@test "stat, ls, find, getfattr, df, control folders and the commands that only look never verify" {
  shards 3000000 0 100
  mount_store "$store" "$mnt"
  ok ls -lR "$mnt"
  ok find "$mnt" -size +1 -ls
  ok getfattr --absolute-names -d "$step/a" "$step"
  ok stat "$step/a"
  ok df "$mnt"
  ok cat "$step/.ckptfs/manifest.jsonl" "$step/.ckptfs/XXH128SUMS" "$mnt/.ckptfs/README" "$mnt/.ckptfs/stats" "$mnt/.ckptfs/status"
  ok ckptfs ls "$mnt"
  ok ckptfs ls "$step"
  ok ckptfs show "$step"
  ok test -r "$step/a"
  assert_eq "$(verified_of "$mnt")" 0
  cat "$step/a" >/dev/null
  [ "$(verified_of "$mnt")" -ge 3000000 ]
  umount_store "$mnt"
}

# many_large COUNT MIB: a committed checkpoint of sparse shards: large to hash, quick to make
many_large() {
  local i
  mkdir -p "$plain"
  for ((i = 0; i < $1; i++)); do truncate -s "$2M" "$plain/shard-$i"; done
  ok ckptfs commit "$plain"
}

# bats test_tags=slow
@test "64 first opens of large shards leave ls and df prompt, and their memory is given back" {
  many_large 64 32
  mount_store "$store" "$mnt"
  ok python3 "$HELPERS/storm.py" "$step" "$mnt" 2
  assert_eq "$(verified_of "$mnt")" $((64 * 32 * 1048576))
  echo "anonymous memory: $(anonymous_kib "$mnt") KiB"
  # ThreadSanitizer keeps some MiB of its own for each thread.
  local limit_kib=65536
  [ -z "${TSAN_OPTIONS:-}" ] || limit_kib=262144
  [ "$(anonymous_kib "$mnt")" -lt "$limit_kib" ]
  umount_store "$mnt"
}

# slow_reads: each pread(2) of a shard by the daemon takes 50 ms from now on
slow_reads() {
  local shard paths=()
  for shard in "$plain"/shard-*; do paths+=(-P "$shard"); done
  strace -f -qq -o /dev/null -e trace=pread64,preadv,preadv2 -e inject=pread64,preadv,preadv2:delay_exit=50000 \
    "${paths[@]}" -p "$(daemon_of "$mnt")" 3>&- 4>&- &
  tracer=$!
  eventually 5 is_traced
}

is_traced() {
  not grep -q '^TracerPid:[[:space:]]*0$' /proc/"$(daemon_of "$mnt")"/task/*/status
}

# a_waiting_open SHARD: sets $opener, a process whose open of it is being served
a_waiting_open() {
  env --default-signal=INT ckpt-test errno open "$1" >"$tmp/opened" 2>&1 3>&- 4>&- &
  opener=$!
  # It has begun, and a while later it is not through.
  eventually 5 grep -q ckpt-test "/proc/$opener/comm"
  sleep 0.3
  kill -0 "$opener" 2>/dev/null || fail "the open did not wait: $(cat "$tmp/opened")"
}

# Long: with so many openers strace's delays now and then leave a thread of the daemon stopped ("has delayed
# wait data set already"). The next test has one shard, and asks the same of one waiter.
# bats test_tags=long
@test "whoever waits for a verification can be killed or interrupted at once, and the next one gets the shard" {
  requires strace root
  local signal tracer opener i openers=()
  # 40 shards of 32 blocks at 50 ms each: some 30 s of work for two workers.
  many_large 40 32
  mount_store "$store" "$mnt"
  slow_reads
  for ((i = 2; i < 40; i++)); do
    ckpt-test errno open "$step/shard-$i" >/dev/null 2>&1 3>&- 4>&- &
    openers+=($!)
  done
  DEADLINE=2 ok ls -l "$step"
  DEADLINE=2 ok df "$mnt"
  for signal in KILL INT KILL INT; do
    a_waiting_open "$step/shard-0"
    kill "-$signal" "$opener"
    # 100 ms are promised; strace, through which every thread of the daemon goes here, takes its share.
    gone_within 5 "$opener" || fail "still there 5 seconds after SIG$signal"
    # One of the 38 others as well: they wait in a queue, or for their turn in it.
    kill -KILL "${openers[0]}"
    gone_within 5 "${openers[0]}" || fail "an opener in the queue cannot be killed"
    openers=("${openers[@]:1}")
  done
  for i in "${openers[@]}"; do kill -KILL "$i"; done
  for i in "${openers[@]}"; do gone_within 5 "$i" || fail "an opener cannot be killed"; done
  ok ls "$step"
  kill "$tracer"
  wait "$tracer" || true
  DEADLINE=20 errno_is OK open "$step/shard-0"
  errno_is OK open "$step/shard-39"
  umount_store "$mnt"
}

# bats test_tags=slow
@test "two that open one shard, of which one is killed, leave the other with the shard" {
  requires strace root
  local tracer opener first
  many_large 1 32
  mount_store "$store" "$mnt"
  slow_reads
  a_waiting_open "$step/shard-0"
  first=$opener
  ckpt-test errno open "$step/shard-0" >"$tmp/second" 2>&1 3>&- 4>&- &
  opener=$!
  sleep 0.1
  kill -KILL "$first"
  gone_within 5 "$first"
  kill "$tracer"
  wait "$tracer" || true
  eventually 10 not kill -0 "$opener"
  assert_eq "$(cat "$tmp/second")" OK
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a shard that cannot be verified because it cannot be read is EIO, and others are served" {
  shards 3000000 3000000 3000000 3000000
  mount_store "$store" "$mnt"
  truncate -s 2999999 "$plain/a"
  rm "$plain/b"
  echo longer >>"$plain/c"
  errno_is EIO open "$step/a"
  errno_is EIO open "$step/b"
  errno_is EIO open "$step/c"
  same "$step/d" "$plain/d"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "verified once is verified for this mount only: the next daemon trusts nothing" {
  shards 3000000
  mount_store "$store" "$mnt"
  verifies 3000000 ckpt-test errno open "$step/a"
  umount_store "$mnt"
  mount_store "$store" "$mnt"
  verifies 3000000 ckpt-test errno open "$step/a"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "verify_ttl bounds how long a verification is trusted" {
  shards 3000000
  mount_store "$store" "$mnt" verify_ttl=1
  verifies 3000000 ckpt-test errno open "$step/a"
  sleep 1.5
  verifies 3000000 ckpt-test errno open "$step/a"
  umount_store "$mnt"
}
