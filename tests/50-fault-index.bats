#!/usr/bin/env bats
# bats file_tags=fault
# An index that is not what it should be: the commands and the mount answer as if nothing were, and what
# is somebody else's is not lost.
load helpers/common

setup() {
  requires python3
  new_store
  committed run1/step-1
  committed run1/step-2 2
  index=$store/.ckptfs/index.db
  ckptfs ls "$store" >"$tmp/ls"
}

teardown() {
  # Where no index can lie in the store, root's lies there.
  rm -f "/var/cache/ckptfs/$(jq -r .id "$store/.ckptfs/store.json").db"*
  clean_up
}

# somebodys_database FILE [NUMBER]: tables of another program, with NUMBER as its application_id.
somebodys_database() {
  python3 -c '
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("pragma application_id=" + sys.argv[2])
db.execute("create table precious(x)")
db.executemany("insert into precious values(?)", [("dear %d" % i,) for i in range(1000)])
db.commit()' "$1" "${2:-0}"
}

# still_precious: some file in the control folder is that database, with all its rows.
still_precious() {
  python3 -c '
import glob, sqlite3, sys
for path in glob.glob(glob.escape(sys.argv[1]) + "/.ckptfs/index.db*"):
    try:
        rows = sqlite3.connect("file:" + path + "?mode=ro", uri=True).execute("select x from precious").fetchall()
    except sqlite3.Error:
        continue
    sys.exit(rows != [("dear %d" % i,) for i in range(1000)])
sys.exit("the rows are lost")' "$store"
}

# index_of_another: where a store with one checkpoint called foreign/step-1 has its index.
index_of_another() {
  ckptfs init "$tmp/other" >/dev/null
  mkdir -p "$tmp/other/foreign/step-1"
  echo x >"$tmp/other/foreign/step-1/f"
  ckptfs commit "$tmp/other/foreign/step-1" >/dev/null
  echo "$tmp/other/.ckptfs/index.db"
}

# spoil WAY: make $index, which is not there, one of these.
spoil() {
  case "$1" in
  absent) ;;
  empty) : >"$index" ;;
  text) echo 'this is no database' >"$index" ;;
  garbage) random_bytes 3 50000 >"$index" ;;
  header-only) (printf 'SQLite format 3\0' && head -c 30000 /dev/zero) >"$index" ;;
  log-of-garbage) random_bytes 3 50000 >"$index-wal" ;;
  foreign) somebodys_database "$index" 7 ;;
  unnamed) somebodys_database "$index" ;;
  newer) python3 -c 'import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute("pragma application_id=%d" % int(sys.argv[2])); db.execute("pragma user_version=999"); db.execute("create table checkpoints(later)"); db.commit()' "$index" "$application_id" ;;
  other-store) cp "$(index_of_another)" "$index" ;;
  folder) mkdir "$index" ;;
  esac
}

# application_id_of_ours: what the programs write there.
application_id_of_ours() {
  python3 -c 'import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute("pragma application_id").fetchone()[0])' "$index"
}

# as_before: every answer of the commands.
as_before() {
  ok ckptfs ls "$store" || return 1
  same "$tmp/.stdout" "$tmp/ls" || return 1
  ok ckptfs latest "$store" || return 1
  assert_eq "$stdout" "$store/run1/step-2" || return 1
  ok ckptfs ls "$store/run1/step-1" || return 1
  says sub/block.bin || return 1
  ok ckptfs verify "$store" || return 1
  says 'run1/step-1: ok (4 shards' 'run1/step-2: ok (4 shards'
}

ways=(absent empty text garbage header-only log-of-garbage foreign unnamed newer other-store folder)

# bats test_tags=slow
@test "whatever the index is, the commands answer as before, and the next commit is in it" {
  local way application_id
  application_id=$(application_id_of_ours)
  [ "$application_id" -ne 0 ]
  for way in "${ways[@]}"; do
    echo "--- $way"
    rm -rf "$index"* "$tmp/other"
    spoil "$way"
    as_before || fail "$way" || return 1
    case "$way" in foreign | unnamed) still_precious || return 1 ;; esac
    committed "later/$way" || return 1
    ok ckptfs ls "$store" || return 1
    says_like "^later/$way +committed" || return 1
    case "$way" in foreign | unnamed) still_precious || return 1 ;; esac
    rm -r "$store/later"
  done
}

# bats test_tags=slow,fuse
@test "whatever the index is, a mount begins and shows what is there" {
  requires fuse
  local way application_id mnt=$tmp/mnt
  application_id=$(application_id_of_ours)
  for way in "${ways[@]}"; do
    echo "--- $way"
    rm -rf "$index"* "$tmp/other"
    spoil "$way"
    mount_store "$store" "$mnt" || return 1
    same_tree "$mnt" "$store" || return 1
    [ ! -e "$mnt/foreign" ] || fail "a checkpoint of another store" || return 1
    assert_eq "$(readlink "$mnt/run1/.ckptfs/latest")" ../step-2 || return 1
    umount_store "$mnt" || return 1
    case "$way" in foreign | unnamed) still_precious || return 1 ;; esac
  done
}

# bats test_tags=slow,fuse
@test "whatever becomes of the index while mounted, files are read, new checkpoints show, inode numbers stay" {
  requires fuse
  local way application_id mnt=$tmp/mnt
  application_id=$(application_id_of_ours)
  mount_store "$store" "$mnt"
  find "$mnt/run1" -printf '%i %P\n' | sort >"$tmp/inodes"
  exec 8<"$mnt/run1/step-1/big.bin"
  for way in "${ways[@]}"; do
    echo "--- $way"
    rm -rf "$index"* "$tmp/other"
    spoil "$way"
    same_tree "$mnt/run1" "$store/run1" || fail "$way" || return 1
    committed "later-$way" || return 1
    eventually 2 test -e "$mnt/later-$way/big.bin" || return 1
    same_tree "$mnt/later-$way" "$store/later-$way" || return 1
    [ ! -e "$mnt/foreign" ] || fail "a checkpoint of another store" || return 1
    find "$mnt/run1" -printf '%i %P\n' | sort | diff "$tmp/inodes" - || fail "$way: other inode numbers" || return 1
    case "$way" in foreign | unnamed) still_precious || return 1 ;; esac
    rm -r "$store/later-$way"
    eventually 2 test ! -e "$mnt/later-$way" || return 1
  done
  cmp - "$store/run1/step-1/big.bin" <&8
  exec 8<&-
  umount_store "$mnt"
  as_before
}

# bats test_tags=slow,fuse
@test "an index that is written over in place while mounted is replaced, and readers do not notice" {
  requires fuse
  local mnt=$tmp/mnt i
  mount_store "$store" "$mnt"
  for i in 1 2 3 4; do
    same_tree "$mnt/run1" "$store/run1" || return 1
    random_bytes $i 60000 | dd of="$index" conv=notrunc status=none
    [ ! -e "$index-wal" ] || random_bytes $i 60000 | dd of="$index-wal" conv=notrunc status=none
    same_tree "$mnt/run1" "$store/run1" || return 1
    committed "later-$i" || return 1
    eventually 2 test -e "$mnt/later-$i/big.bin" || return 1
    same_tree "$mnt/later-$i" "$store/later-$i" || return 1
  done
  kill -0 "$(daemon_of "$mnt")"
  umount_store "$mnt"
  ok ckptfs ls "$store"
  assert_eq "$(grep -c ' committed ' <<<"$stdout")" 6
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "somebody's database is kept however often it is found in the index's place" {
  local i
  for i in 1 2 3 4 5; do
    rm -f "$index" "$index-wal" "$index-shm"
    somebodys_database "$index" 7
    ok ckptfs ls "$store" || return 1
    same "$tmp/.stdout" "$tmp/ls" || return 1
  done
  still_precious
  assert_eq "$(grep -la precious "$store"/.ckptfs/index.db.broken-* | wc -l)" 5 "databases set aside"
}
