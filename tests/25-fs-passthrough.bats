#!/usr/bin/env bats
# bats file_tags=fuse
# The kernel reads stored files by itself, where it can; where it cannot, the bytes are the same.
# Tag passthrough: what a run with CKPTFS_MOUNT_OPTIONS=passthrough=off leaves out.
load helpers/common
load helpers/counters

setup() {
  requires fuse xxhsum
  mnt=$tmp/mnt
  step=$mnt/run/step-1
}

# one_shard BYTES: a committed checkpoint with the shard big.bin, and one small one
one_shard() {
  plain=$store/run/step-1
  mkdir -p "$plain"
  random_bytes 7 "$1" >"$plain/big.bin"
  echo small >"$plain/small"
  ok ckptfs commit "$plain"
}

# handles WAY ARGS…: helpers/handles.py
handles() {
  ok python3 "$HELPERS/handles.py" "$@"
}

# reads_needed CMD…: runs it; sets $needed to the READ requests that reached the daemon meanwhile.
reads_needed() {
  local before
  before=$(reads_of "$mnt")
  ok "$@"
  needed=$(($(reads_of "$mnt") - before))
  echo "READ requests: $needed"
}

# bats test_tags=slow,passthrough
@test "256 MiB are read without one READ request, and are the stored bytes" {
  requires passthrough
  passthrough_store 700
  one_shard 256MiB
  mount_store "$store" "$mnt"
  assert_eq "$(passthrough_of "$mnt")" 'state="active",reason=""'
  reads_needed cmp "$step/big.bin" "$plain/big.bin"
  assert_eq "$needed" 0
  reads_needed ckpt-test compare "$step/big.bin" "$plain/big.bin" 300 4
  assert_eq "$needed" 0
  reads_needed ckpt-test map-compare "$step/big.bin" "$plain/big.bin"
  assert_eq "$needed" 0
  reads_needed bash -c "xxhsum -H2 <'$step/big.bin'"
  assert_eq "$needed" 0
  assert_eq "${stdout%% *}" "$(getfattr --only-values -n user.ckptfs.xxh128 "$step/big.bin")"
  assert_eq "$(passthrough_of "$mnt")" 'state="active",reason=""'
  umount_store "$mnt"
}

# bats test_tags=fast
@test "with -o passthrough=off the same bytes come by READ requests, and stats says that it was asked for" {
  new_store
  one_shard 8MiB
  mount_store "$store" "$mnt" passthrough=off
  assert_eq "$(passthrough_of "$mnt")" 'state="off",reason="passthrough=off"'
  reads_needed cmp "$step/big.bin" "$plain/big.bin"
  [ "$needed" -gt 0 ] || fail "the counter does not count"
  ok ckpt-test compare "$step/big.bin" "$plain/big.bin" 200 4
  ok ckpt-test map-compare "$step/big.bin" "$plain/big.bin"
  handles mixed "$step/big.bin" "$plain/big.bin"
  handles outlive "$step/big.bin" "$plain/big.bin"
  handles unaligned "$step/big.bin" "$plain/big.bin"
  umount_store "$mnt"
}

# bats test_tags=fast,passthrough
@test "loose files and open checkpoints are handed to the kernel as well" {
  requires passthrough
  passthrough_store
  one_shard 1MiB
  mkdir "$store/run/step-2.tmp"
  random_bytes 8 8MiB >"$store/run/step-2.tmp/part.bin"
  random_bytes 9 8MiB >"$store/run/loose.bin"
  mount_store "$store" "$mnt"
  reads_needed cmp "$mnt/run/step-2.tmp/part.bin" "$store/run/step-2.tmp/part.bin"
  assert_eq "$needed" 0
  reads_needed cmp "$mnt/run/loose.bin" "$store/run/loose.bin"
  assert_eq "$needed" 0
  umount_store "$mnt"
}

# bats test_tags=fast,passthrough
@test "verify=read has every read go through the daemon, and says so" {
  requires passthrough
  passthrough_store
  one_shard 4MiB
  mount_store "$store" "$mnt" verify=read
  reads_needed cmp "$step/big.bin" "$plain/big.bin"
  [ "$needed" -ge 4 ] || fail "4 MiB in $needed requests"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "plain and O_DIRECT handles of one file live side by side, come and go, and give the right bytes" {
  new_store
  one_shard 6000000
  mount_store "$store" "$mnt"
  handles mixed "$step/big.bin" "$plain/big.bin"
  handles unaligned "$step/big.bin" "$plain/big.bin"
  ok dd if="$step/big.bin" of="$tmp/copy" bs=1M iflag=direct status=none
  same "$tmp/copy" "$plain/big.bin"
  umount_store "$mnt"
}

# bats test_tags=fast
@test "a mapping that outlives its descriptor keeps the bytes" {
  new_store
  one_shard 8MiB
  mount_store "$store" "$mnt"
  handles outlive "$step/big.bin" "$plain/big.bin"
  ok ckpt-test map-compare "$step/big.bin" "$plain/big.bin"
  umount_store "$mnt"
}

# bats test_tags=slow
@test "processes that open one file both ways at the same time do not disturb each other" {
  local pids=() pid
  new_store
  one_shard 9000000
  mount_store "$store" "$mnt"
  for _ in 1 2 3; do
    (for _ in $(seq 20); do dd if="$step/big.bin" bs=1M iflag=direct status=none | cmp - "$plain/big.bin" || exit 1; done) 3>&- &
    pids+=($!)
    (for _ in $(seq 20); do cmp "$step/big.bin" "$plain/big.bin" || exit 1; done) 3>&- &
    pids+=($!)
    (for _ in $(seq 10); do ckpt-test map-compare "$step/big.bin" "$plain/big.bin" || exit 1; done) 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "a reader met an error"; done
  umount_store "$mnt"
}

# Free KiB of the disk that holds the store.
free_kib() {
  df --output=avail -k "$tmp/disk" | tail -1
}

disk_is_free_again() {
  [ "$(free_kib)" -ge "$1" ]
}

# has_at_most COUNT: descriptors open in the daemon
has_at_most() {
  [ "$(descriptors_of "$mnt")" -le "$1" ]
}

# bats test_tags=slow
@test "5,000 files that were opened and closed are kept open by nobody: not by the daemon, not by the kernel" {
  requires loop
  local before free i
  small_disk 120 "$tmp/disk"
  new_store "$tmp/disk/store"
  free=$(free_kib)
  mkdir -p "$store/run/step-1"
  (cd "$store/run/step-1" && for ((i = 0; i < 5000; i++)); do echo "$i" >"shard-$i"; done)
  ok ckptfs commit "$store/run/step-1"
  mount_store "$store" "$mnt"
  cat "$step/shard-1" >/dev/null
  before=$(descriptors_of "$mnt")
  handles each "$step"
  assert_eq "$stdout" 5000
  handles each "$step"
  assert_eq "$stdout" 5000
  eventually 5 has_at_most $((before + 4)) || fail "$before descriptors before, $(descriptors_of "$mnt") after"
  # A file that the kernel still holds, as a backing file never given back, keeps its 4 KiB when it is removed.
  rm -r "$store/run/step-1"
  eventually 10 disk_is_free_again $((free - 4096))
  kill -0 "$(daemon_of "$mnt")"
  umount_store "$mnt"
}

# bats test_tags=slow
@test "a file that is unlinked from the store while it is open is let go of when it is closed" {
  requires loop
  local free
  small_disk 120 "$tmp/disk"
  new_store "$tmp/disk/store"
  one_shard 40MiB
  mount_store "$store" "$mnt"
  free=$(free_kib)
  exec 8<"$step/big.bin"
  rm -r "$store/run/step-1"
  head -c 1MiB <&8 >/dev/null 2>&1 || true
  not disk_is_free_again $((free + 30000))
  exec 8<&-
  eventually 10 disk_is_free_again $((free + 30000))
  umount_store "$mnt"
}

# bats test_tags=fast
@test "where the store lies on an overlay the reads go another way, and stats and log say why" {
  requires root
  [ "$(stat -f -c %T "$tmp")" != overlayfs ] || skip "overlays do not stack here"
  new_store
  one_shard 3MiB
  mkdir "$tmp/upper" "$tmp/work" "$tmp/merged"
  ok mount -t overlay none -o "lowerdir=$store,upperdir=$tmp/upper,workdir=$tmp/work" "$tmp/merged"
  echo "$tmp/merged" >>"$tmp/.disks"
  mount_store "$tmp/merged" "$mnt"
  ok cmp "$step/big.bin" "$plain/big.bin"
  ok ckpt-test map-compare "$step/big.bin" "$plain/big.bin"
  handles mixed "$step/big.bin" "$plain/big.bin"
  passthrough_of "$mnt" | tee "$tmp/said"
  grep -qE '^state="off",reason="[^"]+"$' "$tmp/said"
  case "${CKPTFS_MOUNT_OPTIONS:-}" in
  *passthrough=off*) ;;
  *) grep -q passthrough "$mnt.log" || fail "the log does not say that the kernel refused" ;;
  esac
  umount_store "$mnt"
}

# as_user SCRIPT: in a mount namespace of its own, where everybody may open /dev/fuse, as where udev runs.
as_user() {
  ok unshare --mount bash -euc "
    export tmp='$tmp' store='$store' mnt='$mnt'
    mount -t tmpfs none '$tmp/dev'
    mknod -m 666 '$tmp/dev/fuse' c 10 229
    mount --bind '$tmp/dev/fuse' /dev/fuse
    ${as_nobody[*]@Q} bash -euc '$1'"
}

user_setup() {
  requires root fusermount3
  chmod 755 "$tmp"
  mkdir "$tmp/home" "$tmp/dev" "$mnt"
  chown 65534:65534 "$mnt" "$tmp/home"
  cp "$HELPERS/handles.py" "$tmp/"
}

# bats test_tags=fast
@test "an ordinary user reads everything through fusermount3, and stats says why it is slower" {
  new_store
  one_shard 9000000
  make_files "$store/run/step-2" 2
  chmod 644 "$store/run/step-2/sub/block.bin"
  ok ckptfs commit "$store/run/step-2"
  chown -R 65534:65534 "$store"
  user_setup
  # shellcheck disable=SC2016
  as_user '
    ckptfs mount "$store" "$mnt"
    diff -r --no-dereference --exclude=.ckptfs "$store" "$mnt"
    ckpt-test compare "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin" 200 4
    ckpt-test map-compare "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin"
    python3 "$tmp/handles.py" mixed "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin"
    (cd "$mnt/run/step-2" && xxhsum --quiet -c .ckptfs/XXH128SUMS)
    ckptfs verify "$mnt"
    grep "^ckptfs_passthrough" "$mnt/.ckptfs/stats"
    ckptfs umount "$mnt"'
  says 'state="off"'
  says_not 'reason=""'
}

# bats test_tags=fast
@test "an ordinary user reads a store of somebody else, in which nothing is changed" {
  new_store
  one_shard 3000000
  snapshot "$store" >"$tmp/before"
  user_setup
  # shellcheck disable=SC2016
  as_user '
    ckptfs mount "$store" "$mnt"
    cmp "$mnt/run/step-1/big.bin" "$store/run/step-1/big.bin"
    cmp "$mnt/run/step-1/.ckptfs/manifest.jsonl" "$store/run/step-1/.ckptfs/manifest.jsonl"
    ckptfs ls "$mnt"
    ckptfs verify "$mnt"
    ckptfs umount "$mnt"'
  says_like '^run/step-1 +committed'
  says 'run/step-1: ok'
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}
