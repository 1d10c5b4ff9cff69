#!/usr/bin/env bats
# bats file_tags=fast
# Open and aborted checkpoints, and the index that may be deleted at any time.
load helpers/common

setup() {
  new_store
  committed run1/step-1
}

@test "abort drops an open checkpoint whole" {
  make_files "$store/run1/step-2.partial"
  ok ckptfs abort "$store/run1/step-2.partial"
  says run1/step-2.partial
  [ ! -e "$store/run1/step-2.partial" ]
  assert_eq "$(find "$store/.ckptfs" -name 'big.bin')" ''
}

@test "abort refuses a committed checkpoint, a group and the store, and changes nothing" {
  snapshot "$store" >"$tmp/before"
  fails 1 ckptfs abort "$store/run1/step-1"
  says committed
  fails 1 ckptfs abort "$store/run1"
  says group
  fails 1 ckptfs abort "$store"
  fails 1 ckptfs abort "$store/run1/none"
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "what a crashed commit left is finished or dropped, as the user likes" {
  # After step 5 of the commit and before step 6: complete, under the temporary name.
  make_files "$store/run1/step-2"
  ok ckptfs commit "$store/run1/step-2"
  mv "$store/run1/step-2" "$store/run1/step-2.tmp"
  assert_eq "$(state_of run1/step-2.tmp)" open
  ok ckptfs commit "$store/run1/step-2.tmp"
  assert_eq "$(state_of run1/step-2)" committed
  mv "$store/run1/step-2" "$store/run1/step-3.tmp"
  ok ckptfs abort "$store/run1/step-3.tmp"
  ok ckptfs verify "$store"
}

@test "a half-written manifest is no commit" {
  make_files "$store/run1/step-2"
  mkdir "$store/run1/step-2/.ckptfs"
  head -c 200 "$store/run1/step-1/.ckptfs/manifest.jsonl" >"$store/run1/step-2/.ckptfs/manifest.tmp"
  ok ckptfs ls "$store"
  says_not 'run1/step-2 *committed'
  ok ckptfs commit "$store/run1/step-2"
  ok ckptfs verify "$store/run1/step-2"
  [ ! -e "$store/run1/step-2/.ckptfs/manifest.tmp" ]
}

@test "an unfinished folder is listed as open only where it is recognised as a checkpoint" {
  mkdir -p "$store/run1/notes" "$store/run1/step-5"
  echo text >"$store/run1/notes/readme.txt"
  make_model "$store/run1/step-5/model.safetensors" small
  assert_eq "$(state_of run1/notes)" ''
  assert_eq "$(state_of run1/step-5)" open
}

@test "a removed index is rebuilt by the next command, and nothing is lost" {
  local way
  committed run2/step-9
  ckptfs ls "$store" >"$tmp/before"
  for way in "rm -f $store/.ckptfs/index.db*" "rm -f $store/.ckptfs/index.db" "truncate -s 0 $store/.ckptfs/index.db" \
    "truncate -s 5000 $store/.ckptfs/index.db"; do
    $way
    ok ckptfs ls "$store"
    same "$tmp/before" "$tmp/.stdout"
  done
}

@test "an index of garbage is set aside and rebuilt" {
  ckptfs ls "$store" >"$tmp/before"
  # A -wal would hide what the file itself holds.
  rm -f "$store"/.ckptfs/index.db*
  random_bytes 1 20000 >"$store/.ckptfs/index.db"
  ok ckptfs ls "$store"
  same "$tmp/before" "$tmp/.stdout"
  [ -e "$store/.ckptfs/index.db.broken-1" ]
}

@test "an index of another store is emptied, and shows nothing of the other" {
  local other=$tmp/other
  ckptfs init "$other" >/dev/null
  mkdir -p "$other/foreign/step-1"
  echo x >"$other/foreign/step-1/f"
  ckptfs commit "$other/foreign/step-1" >/dev/null
  ckptfs ls "$other" >/dev/null
  ckptfs ls "$store" >"$tmp/before"
  rm -f "$store"/.ckptfs/index.db*
  cp "$other"/.ckptfs/index.db* "$store/.ckptfs/"
  ok ckptfs ls "$store"
  same "$tmp/before" "$tmp/.stdout"
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-1"
}

@test "an index that is somebody's other database is not destroyed" {
  requires python3
  ckptfs ls "$store" >"$tmp/before"
  rm -f "$store"/.ckptfs/index.db*
  python3 -c "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('create table precious(x)'); c.execute('insert into precious values(42)'); c.execute('pragma application_id=7'); c.commit()" "$store/.ckptfs/index.db"
  ok ckptfs ls "$store"
  same "$tmp/before" "$tmp/.stdout"
  grep -qa precious "$store"/.ckptfs/index.db*
}

@test "an index that is a symbolic link is not followed" {
  ckptfs ls "$store" >"$tmp/before"
  rm -f "$store"/.ckptfs/index.db*
  echo victim >"$tmp/victim"
  ln -s "$tmp/victim" "$store/.ckptfs/index.db"
  try ckptfs ls "$store"
  assert_eq "$(cat "$tmp/victim")" victim
}

@test "what plain tools moved, copied and deleted shows at the next look" {
  committed run1/step-2
  ckptfs ls "$store" >/dev/null
  mv "$store/run1/step-2" "$store/run1/moved"
  cp -r "$store/run1/step-1" "$store/run1/copied"
  rm -r "$store/run1/step-1"
  ok ckptfs ls "$store"
  assert_eq "$(awk 'NR > 1 { print $1, $2 }' <<<"$stdout" | paste -sd' ')" 'run1/copied committed run1/moved committed'
  ok ckptfs verify "$store"
}

@test "reindex rebuilds everything and tells how many" {
  committed run2/step-2
  ok ckptfs reindex "$store"
  says 2
  ok ckptfs reindex "$store/run2"
  ok ckptfs ls "$store"
  says run1/step-1 run2/step-2
}

@test "reindex reports a manifest that cannot be read and goes on" {
  committed run2/step-2
  echo junk >>"$store/run1/step-1/.ckptfs/manifest.jsonl"
  fails 1 ckptfs reindex "$store"
  says run1/step-1
  ok ckptfs ls "$store/run2"
}

@test "many processes use one index at once without an error" {
  local pids=() pid i
  for i in 1 2 3; do make_files "$store/many/step-$i" "$i"; done
  for i in 1 2 3; do
    ckptfs commit "$store/many/step-$i" >"$tmp/out.$i" 2>&1 3>&- &
    pids+=($!)
    ckptfs reindex "$store" >"$tmp/out.r$i" 2>&1 3>&- &
    pids+=($!)
    ckptfs ls "$store" >"$tmp/out.l$i" 2>&1 3>&- &
    pids+=($!)
  done
  for pid in "${pids[@]}"; do wait "$pid" || fail "$(cat "$tmp"/out.*)"; done
  ok ckptfs ls "$store"
  assert_eq "$(grep -c committed <<<"$stdout")" 4
  ok ckptfs verify "$store"
}

@test "the index of a store on a read-only file system lies elsewhere" {
  requires loop
  small_disk 16 "$tmp/disk"
  ckptfs init "$tmp/disk/store" >/dev/null
  make_files "$tmp/disk/store/step-1"
  ckptfs commit "$tmp/disk/store/step-1" >/dev/null
  rm -f "$tmp"/disk/store/.ckptfs/index.db*
  mount -o remount,ro "$tmp/disk"
  ok ckptfs ls "$tmp/disk/store"
  says_like '^step-1 +committed'
  ok ckptfs verify "$tmp/disk/store"
  fails 1 ckptfs commit "$tmp/disk/store/step-1"
}
