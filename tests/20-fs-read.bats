#!/usr/bin/env bats
# bats file_tags=fast,fuse
# Reading through one mount of one store that nobody changes.
load helpers/common

setup_file() {
  available fuse || return 0 # each test says so
  new_store
  committed run1/step-1 1
  committed run1/step-2 2
  mkdir -p "$store/run1/logs" "$store/many/step-1"
  printf 'loose\n' >"$store/run1/config.json"
  ln -s config.json "$store/run1/best.json"
  make_files "$store/run1/step-3.tmp" 3
  (cd "$store/many/step-1" && seq -f 'shard-%05g' 3000 | xargs touch)
  echo 1 | tee "$store"/many/step-1/shard-0000? >/dev/null
  ckptfs commit "$store/many/step-1" >/dev/null 3>&-
  mkdir -p "$store/model/step-7"
  make_model "$store/model/step-7/model.safetensors" small
  ckptfs commit "$store/model/step-7" >/dev/null 3>&-
  snapshot "$store" >"$tmp/before"
  mount_store "$store" "$tmp/mnt"
}

teardown_file() {
  local rc=0
  available fuse || return 0
  umount_store "$tmp/mnt" || rc=1
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after" || rc=1
  clean_up || rc=1
  return $rc
}

setup() {
  requires fuse
  store=$BATS_FILE_TMPDIR/store
  mnt=$BATS_FILE_TMPDIR/mnt
  step=$mnt/run1/step-1
  plain=$store/run1/step-1
}

@test "the whole tree is there, with the same names and bytes" {
  same_tree "$mnt" "$store"
}

@test "modes, sizes, times, owners and links are as written" {
  local name
  for name in big.bin empty sub/block.bin sub/deep/note.txt link; do
    assert_eq "$(stat -c '%F %a %s %u %g' "$step/$name")" "$(stat -c '%F %a %s %u %g' "$plain/$name")" "stat of $name"
  done
  for name in big.bin sub/block.bin . sub sub/deep; do
    assert_eq "$(stat -c '%a %u %g %.9Y' "$step/$name")" "$(stat -c '%a %u %g %.9Y' "$plain/$name")" "stat of $name"
  done
  assert_eq "$(readlink "$step/link")" sub/deep/note.txt
  assert_eq "$(cat "$step/link")" 'step 1'
}

@test "link counts are at least 1, and 2 more than the folders of a folder" {
  assert_eq "$(stat -c %h "$step/big.bin" "$step" "$step/sub" "$step/sub/deep" | paste -sd' ')" '1 3 3 2'
}

@test "inode numbers of a committed checkpoint are its slot and the line in the manifest" {
  local line ino
  line=$(grep -n '"shard":"sub/block.bin"' "$plain/.ckptfs/manifest.jsonl" | cut -d: -f1)
  ino=$(stat -c %i "$step/sub/block.bin")
  assert_eq "$((ino & 0xffffffff))" "$line"
  assert_eq "$((ino >> 32))" 1
  assert_eq "$(find "$mnt" -path '*/.ckptfs' -prune -o -type f -printf '%i\n' | sort | uniq -d)" ''
}

@test "reads at random offsets, short and long, behind the end, from many threads" {
  ok ckpt-test compare "$step/big.bin" "$plain/big.bin" 300 1 7
  ok ckpt-test compare "$step/big.bin" "$plain/big.bin" 60 8 11
  ok ckpt-test compare "$step/sub/block.bin" "$plain/sub/block.bin" 100 2
  ok ckpt-test compare "$step/empty" "$plain/empty" 5
  ok ckpt-test compare "$mnt/run1/step-3.tmp/big.bin" "$store/run1/step-3.tmp/big.bin" 100 2
}

@test "files can be mapped, committed or not" {
  ok ckpt-test map-compare "$step/big.bin" "$plain/big.bin"
  ok ckpt-test map-compare "$step/sub/block.bin" "$plain/sub/block.bin"
  ok ckpt-test map-compare "$mnt/run1/step-3.tmp/big.bin" "$store/run1/step-3.tmp/big.bin"
  ok ckpt-test map-compare "$mnt/run1/config.json" "$store/run1/config.json"
}

@test "direct I/O reads the same bytes" {
  ok dd if="$step/big.bin" of="$tmp/copy" bs=1M iflag=direct
  same "$tmp/copy" "$plain/big.bin"
}

@test "cp -r, tar and find see the shards and no control folder" {
  cp -r "$step" "$tmp/copy"
  diff -r "$tmp/copy" "$plain" --exclude=.ckptfs
  [ ! -e "$tmp/copy/.ckptfs" ]
  tar -C "$step" -cf "$tmp/all.tar" .
  mkdir "$tmp/untar"
  tar -C "$tmp/untar" -xf "$tmp/all.tar"
  same_tree "$tmp/untar" "$plain"
  assert_eq "$(find "$mnt" -name .ckptfs)" ''
  assert_eq "$(find "$step" -type f | wc -l)" 4
}

@test "a folder of 3000 shards is listed whole, once each, and a listing goes on where it was" {
  assert_eq "$(find "$mnt/many/step-1" -maxdepth 1 -type f -printf '%f\n' | LC_ALL=C sort)" "$(seq -f 'shard-%05g' 3000)"
  ok ckpt-test seekdir "$mnt/many/step-1"
  assert_eq "$stdout" '3002 entries'
  ok ckpt-test seekdir "$step"
  ok ckpt-test seekdir "$mnt/run1"
  ok ckpt-test seekdir "$mnt"
}

@test "a name that is not there, one that is too long, and a file used as a folder" {
  errno_is ENOENT stat "$step/none"
  errno_is ENOENT stat "$mnt/run1/none"
  errno_is ENOENT open "$step/sub/none"
  errno_is ENAMETOOLONG stat "$step/$(printf 'x%.0s' {1..300})"
  errno_is ENOTDIR stat "$step/big.bin/x"
  errno_is ENOTDIR opendir "$step/big.bin"
  errno_is ENOENT getxattr "$step/none" user.x
}

@test "every change is refused with EROFS in a mount with -o ro, in committed checkpoints and around them" {
  local ro=$tmp/ro where
  mount_store "$store" "$ro" ro
  for where in "$ro/run1/step-1" "$ro/run1" "$ro"; do
    errno_is EROFS create "$where/new" || return 1
    errno_is EROFS mkdir "$where/new"
    errno_is EROFS symlink "$where/new" target
    errno_is EROFS mkfifo "$where/new"
  done
  for where in "$ro/run1/step-1/big.bin" "$ro/run1/config.json"; do
    errno_is EROFS open-write "$where" || return 1
    errno_is EROFS open-rw "$where"
    errno_is EROFS open-truncate "$where"
    errno_is EROFS truncate "$where"
    errno_is EROFS unlink "$where"
    errno_is EROFS chmod "$where"
    errno_is EROFS chown "$where"
    errno_is EROFS utimens "$where"
    errno_is EROFS setxattr "$where" user.x
    errno_is EROFS removexattr "$where" user.x
    errno_is EROFS rename "$where" "$where.new"
    errno_is EROFS link "$where" "$where.new"
    errno_is EROFS access-write "$where"
    errno_is OK open "$where"
  done
  errno_is EROFS rmdir "$ro/run1/step-1/sub"
  errno_is EROFS rename "$ro/run1/step-1" "$ro/run1/other"
  umount_store "$ro"
}

@test "extended attributes of a checkpoint tell state, step and id" {
  ok getfattr --absolute-names -d "$step"
  says 'user.ckptfs.state="committed"' 'user.ckptfs.step="1"' 'user.ckptfs.id="'
  assert_eq "$(getfattr --only-values -n user.ckptfs.id "$step")" "$(head -1 "$plain/.ckptfs/manifest.jsonl" | jq -r .id)"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-3.tmp")" open
}

@test "extended attributes of a shard tell its digest, and its tensor where it is one" {
  assert_eq "$(getfattr --only-values -n user.ckptfs.xxh128 "$step/big.bin")" "$(xxhsum -H2 <"$plain/big.bin" | cut -d' ' -f1)"
  errno_is ENODATA getxattr "$step/big.bin" user.ckptfs.fqn
  errno_is ENODATA getxattr "$step/big.bin" user.ckptfs.rank
  errno_is ENODATA getxattr "$step/big.bin" user.none
  errno_is ERANGE getxattr-small "$step/big.bin" user.ckptfs.xxh128
}

@test "statfs is that of the store's file system" {
  assert_eq "$(stat -f -c '%b %S' "$step")" "$(stat -f -c '%b %S' "$store")"
  ok df "$mnt"
}

@test "the control folder answers by name everywhere, is listed nowhere, and lists itself" {
  local where
  for where in "$mnt" "$mnt/run1" "$step"; do
    [ -d "$where/.ckptfs" ] || fail "no .ckptfs in $where"
    ok ls -a "$where"
    says_not .ckptfs
    ok ls "$where/.ckptfs"
  done
  errno_is EPERM create "$mnt/.ckptfs/new"
  errno_is EPERM create "$mnt/run1/.ckptfs/new"
  errno_is EROFS create "$step/.ckptfs/new"
  ok ls "$step/.ckptfs"
  assert_eq "$stdout" $'XXH128SUMS\nmanifest.jsonl'
  ok ls "$mnt/.ckptfs"
  says README stats status store.json latest
  errno_is ENOENT stat "$step/.ckptfs/none"
  errno_is ENOENT stat "$mnt/.ckptfs/index.db"
  errno_is ENOENT stat "$step/sub/.ckptfs"
}

@test "the manifest in the control folder is the stored one, with its size" {
  same "$step/.ckptfs/manifest.jsonl" "$plain/.ckptfs/manifest.jsonl"
  assert_eq "$(stat -c %s "$step/.ckptfs/manifest.jsonl")" "$(stat -c %s "$plain/.ckptfs/manifest.jsonl")"
  same "$mnt/.ckptfs/store.json" "$store/.ckptfs/store.json"
}

@test "xxhsum -c checks a checkpoint against its virtual sum file" {
  cd "$step"
  ok xxhsum -c .ckptfs/XXH128SUMS
  assert_eq "$(grep -c ': OK$' <<<"$stdout")" 4
  assert_eq "$(stat -c %s .ckptfs/XXH128SUMS)" "$(wc -c <.ckptfs/XXH128SUMS)" "st_size of the sum file"
  cut -c35- .ckptfs/XXH128SUMS | LC_ALL=C sort -c
}

@test "latest is a symbolic link to the checkpoint of the group that was committed last" {
  assert_eq "$(readlink "$mnt/run1/.ckptfs/latest")" ../step-2
  same "$mnt/run1/.ckptfs/latest/big.bin" "$store/run1/step-2/big.bin"
  assert_eq "$(readlink "$mnt/.ckptfs/latest")" ../model/step-7
  errno_is ENOENT stat "$mnt/run1/logs/.ckptfs/latest"
}

@test "README is text that says what one sees; stats is Prometheus text" {
  local name
  [ "$(wc -l <"$mnt/.ckptfs/README")" -ge 20 ]
  cat "$mnt/.ckptfs/stats" >"$tmp/stats"
  for name in 'ckptfs_passthrough{state="' 'ckptfs_opens_total{kind="file"}' 'ckptfs_opens_total{kind="virtual"}' ckptfs_read_requests_total \
    ckptfs_verified_bytes_total ckptfs_corrupt_blocks_total; do
    grep -qF "$name" "$tmp/stats" || fail "no $name in stats"
  done
  # A line is a comment or NAME{LABELS} VALUE.
  ! grep -vE '^(#.*|[a-z_]+(\{[^}]*\})? [0-9.e+]+)$' "$tmp/stats" || fail "not Prometheus text"
  jq -e 'type == "array"' "$mnt/.ckptfs/status"
}

@test "reading the control files does not count as reading shards" {
  local before after
  before=$(awk '$1 == "ckptfs_read_requests_total" { print $2 }' "$mnt/.ckptfs/stats")
  cat "$step/.ckptfs/manifest.jsonl" "$step/.ckptfs/XXH128SUMS" "$mnt/.ckptfs/README" >/dev/null
  after=$(awk '$1 == "ckptfs_read_requests_total" { print $2 }' "$mnt/.ckptfs/stats")
  assert_eq "$after" "$before"
}

@test "the commands take paths in the mount" {
  ok ckptfs ls "$mnt"
  says_like '^run1/step-1 +committed'
  ok ckptfs show "$step"
  says 'name: run1/step-1'
  ok ckptfs verify "$step"
  says 'run1/step-1: ok'
  ok ckptfs cat "$step/big.bin"
  same "$tmp/.stdout" "$plain/big.bin"
  ok ckptfs latest "$mnt/run1"
  assert_eq "$stdout" "$mnt/run1/step-2"
  ok ckptfs cp "$step" "$tmp/copy"
  same_tree "$tmp/copy" "$plain"
}

@test "a copy that was taken through the mount, with its manifest, verifies anywhere" {
  cp -r "$step" "$tmp/copy"
  mkdir "$tmp/copy/.ckptfs"
  cp "$step/.ckptfs/manifest.jsonl" "$tmp/copy/.ckptfs/"
  ok ckptfs verify "$tmp/copy"
  says 'copy: ok'
}

@test "other users see a mount of root" {
  requires root
  chmod 755 "$tmp"
  ok "${as_nobody[@]}" cmp "$step/big.bin" "$plain/big.bin"
  ok "${as_nobody[@]}" ckpt-test errno open "$step/sub/block.bin"
  assert_eq "$stdout" EACCES "a file of mode 0640"
}
