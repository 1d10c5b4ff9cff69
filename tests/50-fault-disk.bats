#!/usr/bin/env bats
# bats file_tags=fault,root
# File systems that are full or read-only: the true reason in words, nothing half done, and it works once there is room.
load helpers/common

setup() {
  requires loop
  disk=$tmp/disk
  store=$disk/store
}

teardown() {
  # Where no index can lie in the store, root's lies there.
  [ ! -e "$store/.ckptfs/store.json" ] || rm -f "/var/cache/ckptfs/$(jq -r .id "$store/.ckptfs/store.json").db"*
  clean_up
}

# many_files DIR: so many shards that the manifest takes some 300 KiB, and no blocks for bytes.
many_files() {
  mkdir -p "$1"
  (cd "$1" && seq -f 'shard-%05g' 2000 | xargs touch)
  echo content | tee "$1/shard-00001" >"$1/shard-01000"
}

# bats test_tags=slow
@test "a commit whose manifest does not fit on the disk says so, stays open, and works when there is room" {
  small_disk 16 "$disk"
  new_store "$store"
  committed old/step-1
  many_files "$store/step-2.tmp"
  fill_disk "$disk" 64
  fails 1 ckptfs commit "$store/step-2.tmp"
  says_like 'step-2.tmp.*[Nn]o space left'
  assert_eq "$(state_of step-2.tmp)" open
  [ ! -e "$store/step-2" ]
  assert_eq "$(find "$store/step-2.tmp" -name 'manifest*')" '' "what is left of the manifest"
  ok ckptfs verify "$store"
  says 'old/step-1: ok'
  rm "$disk/filler"
  ok ckptfs commit "$store/step-2.tmp"
  ok ckptfs verify "$store"
  says 'old/step-1: ok' 'step-2: ok (2000 shards'
}

# bats test_tags=slow
@test "with no block left at all a commit fails for that reason, and what is committed is read, verified and mounted" {
  requires fuse
  small_disk 16 "$disk"
  new_store "$store"
  committed old/step-1
  make_files "$store/step-2" 2
  rm -f "$store"/.ckptfs/index.db*
  fill_disk "$disk" 0
  fails 1 ckptfs commit "$store/step-2"
  says_like '[Nn]o space left'
  ok ckptfs ls "$store"
  says_like '^old/step-1 +committed'
  says_not 'step-2 *committed'
  ok ckptfs verify "$store"
  ok ckptfs cat "$store/old/step-1/sub/block.bin"
  same "$tmp/.stdout" "$store/old/step-1/sub/block.bin"
  mount_store "$store" "$tmp/mnt"
  same_tree "$tmp/mnt/old" "$store/old"
  umount_store "$tmp/mnt"
  rm "$disk/filler"
  ok ckptfs commit "$store/step-2"
  ok ckptfs verify "$store"
  says 'old/step-1: ok' 'step-2: ok'
}

# bats test_tags=slow
@test "init on a full disk makes no store, and works when there is room" {
  small_disk 8 "$disk"
  mkdir "$store"
  fill_disk "$disk" 0
  fails 1 ckptfs init "$store"
  says_like '[Nn]o space left'
  [ ! -e "$store/.ckptfs/store.json" ]
  rm "$disk/filler"
  ok ckptfs init "$store"
  ok ckptfs ls "$store"
}

# bats test_tags=slow
@test "cp to a full disk says so and leaves nothing there" {
  store=$tmp/store
  new_store
  committed step-1
  small_disk 8 "$disk"
  fill_disk "$disk" 1500
  fails 1 ckptfs cp "$store/step-1" "$disk/copy"
  says_like '[Nn]o space left'
  assert_eq "$(find "$disk" -mindepth 1 -not -name lost+found -not -name filler)" '' "what is left on the disk"
}

# only_enospc RANKS: every row of the failure table is ENOSPC, of a rank there is, each once.
only_enospc() {
  local rows
  rows=$(grep '^ckptfs-mpi: rank ' <<<"$stderr") || fail "no failure table" || return 1
  assert_eq "$(grep -vcE "^ckptfs-mpi: rank [0-$(($1 - 1))] on [^:]+: [a-z_]+: ENOSPC: " <<<"$rows")" 0 "rows that are not ENOSPC" || return 1
  assert_eq "$(cut -d' ' -f3 <<<"$rows" | sort | uniq -d)" '' "ranks with two rows"
}

# bats test_tags=slow,mpi
@test "a save onto a full disk is ENOSPC on the ranks that met it, and the same name can be saved when there is room" {
  requires mpi
  local io kib
  small_disk 24 "$disk"
  new_store "$store"
  committed old/step-1
  make_model "$tmp/model.safetensors" model 12
  for io in posix mpiio; do
    # Room for a part of the shards; then for none.
    for kib in 6000 200; do
      fill_disk "$disk" "$kib"
      fails 1 mpi 3 save "$store/step-2" --from "$tmp/model.safetensors" --io $io || return 1
      only_enospc 3 || return 1
      ok ckptfs verify "$store" || return 1
      says 'old/step-1: ok' || return 1
      [ ! -e "$store/step-2" ] || fail "$io: it has its name" || return 1
      not grep -q committed <<<"$(state_of step-2.partial)" || return 1
      rm "$disk/filler"
    done
    ok mpi 3 save "$store/step-2" --from "$tmp/model.safetensors" --io $io || return 1
    ok mpi 2 load "$store/step-2" --to "$tmp/out" || return 1
    slice "$tmp/model.safetensors" compare "$tmp/out" || return 1
    rm -r "$store/step-2"
  done
}

# bats test_tags=slow,mpi
@test "a load whose output does not fit says so, and leaves no half of it" {
  requires mpi
  store=$tmp/store
  new_store
  make_model "$tmp/model.safetensors" model 6
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  small_disk 8 "$disk"
  fill_disk "$disk" 2000
  fails 1 mpi 2 load "$store/step-1" --to "$disk/out"
  only_enospc 2
  assert_eq "$(find "$disk" -mindepth 1 -not -name lost+found -not -name filler)" '' "what is left on the disk"
}

# --- read-only ------------------------------------------------------------------------

# read_only_store: two checkpoints on a disk that is mounted read-only; no index beside them.
read_only_store() {
  small_disk 24 "$disk"
  new_store "$store"
  committed run1/step-1
  committed run1/step-2 2
  rm -f "$store"/.ckptfs/index.db*
  mount -o remount,ro "$disk"
  chmod 755 "$tmp"
  mkdir -p "$tmp/home"
  chown 65534:65534 "$tmp/home"
}

# cache_of_nobody: where that user's index of this store lies.
cache_of_nobody() {
  echo "$tmp/home/cache/ckptfs/$(jq -r .id "$store/.ckptfs/store.json").db"
}

# bats test_tags=slow
@test "a store on a read-only file system is read by any user, with the index in that user's cache" {
  read_only_store
  ok "${as_nobody[@]}" ckptfs ls "$store"
  says_like '^run1/step-1 +committed' '^run1/step-2 +committed'
  [ -s "$(cache_of_nobody)" ] || fail "no index in the cache"
  assert_eq "$(stat -c %U "$(cache_of_nobody)")" nobody
  ok "${as_nobody[@]}" ckptfs show "$store/run1/step-1"
  says 'state: committed'
  ok "${as_nobody[@]}" ckptfs ls "$store/run1/step-1"
  says sub/deep/note.txt
  ok "${as_nobody[@]}" ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-2"
  ok "${as_nobody[@]}" ckptfs cat "$store/run1/step-1/big.bin"
  same "$tmp/.stdout" "$store/run1/step-1/big.bin"
  ok ckptfs verify "$store"
  ok ckptfs reindex "$store"
  assert_eq "$(find "$store/.ckptfs" -name 'index*')" '' "an index in the store"
}

# bats test_tags=slow
@test "where there is no cache either, the index is in memory" {
  read_only_store
  chmod 555 "$tmp/home"
  chown 0:0 "$tmp/home"
  ok "${as_nobody[@]}" ckptfs ls "$store"
  says_like '^run1/step-1 +committed' '^run1/step-2 +committed'
  assert_eq "$(ls -A "$tmp/home")" ''
}

# bats test_tags=slow
@test "what would change a read-only store fails for that reason" {
  small_disk 24 "$disk"
  new_store "$store"
  committed run1/step-1
  make_files "$store/run1/step-2.tmp" 2
  mount -o remount,ro "$disk"
  snapshot "$store" >"$tmp/before"
  fails 1 ckptfs commit "$store/run1/step-2.tmp"
  says_like '[Rr]ead-only|cannot write'
  fails 1 ckptfs abort "$store/run1/step-2.tmp"
  says_like '[Rr]ead-only|cannot write'
  fails 1 ckptfs init "$disk/new"
  says_like '[Rr]ead-only'
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=slow,mpi
@test "a save into a read-only store is EROFS in the table" {
  requires mpi
  read_only_store
  make_model "$tmp/model.safetensors" small
  fails 1 mpi 2 save "$store/run1/step-3" --from "$tmp/model.safetensors"
  says_like '^ckptfs-mpi: rank [01] on [^:]+: [a-z_]+: EROFS: '
  ok mpi 2 verify "$store/run1/step-1"
}

# bats test_tags=slow,fuse
@test "a read-only store is mounted, and one log line says where its index lies" {
  requires fuse
  read_only_store
  mount_store "$store" "$tmp/mnt"
  same_tree "$tmp/mnt/run1" "$store/run1"
  assert_eq "$(readlink "$tmp/mnt/run1/.ckptfs/latest")" ../step-2
  umount_store "$tmp/mnt"
  assert_eq "$(grep -c '/var/cache/ckptfs/.*\.db' "$tmp/mnt.log")" 1 "log lines about the index"
}

# bats test_tags=slow,fuse
@test "another user mounts a read-only store, with the index in that user's cache" {
  requires fuse fusermount3
  read_only_store
  mkdir "$tmp/mnt" "$tmp/dev"
  chown 65534:65534 "$tmp/mnt"
  # Where udev does not run, only root may open the device.
  # shellcheck disable=SC2016
  ok unshare --mount bash -euc '
    tmp=$1 store=$2
    shift 2
    mount -t tmpfs none "$tmp/dev"
    mknod -m 666 "$tmp/dev/fuse" c 10 229
    mount --bind "$tmp/dev/fuse" /dev/fuse
    "$@" ckptfs mount "$store" "$tmp/mnt"
    "$@" cmp "$tmp/mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
    "$@" ls "$tmp/mnt/run1"
    "$@" ckptfs umount "$tmp/mnt"' bash "$tmp" "$store" "${as_nobody[@]}"
  says step-1 step-2
  [ -s "$(cache_of_nobody)" ] || fail "no index in the cache"
}
