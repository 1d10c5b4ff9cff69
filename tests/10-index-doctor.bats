#!/usr/bin/env bats
# bats file_tags=fast
# What doctor finds, what it says to do, and what it does with --fix.
load helpers/common

setup() {
  new_store
  mkdir -p "$store/run1/step-1"
  echo 1 >"$store/run1/step-1/x"
  ckptfs commit "$store/run1/step-1" >/dev/null 3>&-
}

# doctor_says STATE CHECK: some finding of that check is in that state
doctor_says() {
  says_like "^$1 +$2 "
}

@test "doctor finds nothing in a store that is well, and says what it looked at" {
  ok ckptfs doctor "$store"
  doctor_says ok store
  doctor_says ok index
  doctor_says ok open
  doctor_says ok trash
  doctor_says ok mount
  doctor_says ok leftovers
  says_like '^(ok|note) +(passthrough|fuse) '
  says "index.db' on "
  not grep -q '^found' "$tmp/.stdout"
}

@test "doctor --json gives the same findings as objects" {
  mkdir "$store/run1/step-2.tmp"
  fails 1 ckptfs doctor --json --age 0 "$store"
  jq -e 'map(select(.state == "found")) | length == 1 and .[0].check == "open" and (.[0].do | test("ckptfs commit .*step-2.tmp"))' "$tmp/.stdout"
}

@test "doctor names open checkpoints that nobody writes any more, and leaves them alone" {
  mkdir "$store/run1/step-2.tmp"
  echo 2 >"$store/run1/step-2.tmp/x"
  touch -d '3 days ago' "$store/run1/step-2.tmp/x" "$store/run1/step-2.tmp"
  mkdir "$store/run1/step-3.tmp"
  fails 1 ckptfs doctor --fix "$store"
  says "'run1/step-2.tmp': nobody writes it, and nothing in it changed for 3 days" "ckptfs abort $store/run1/step-2.tmp"
  says_not step-3
  [ -e "$store/run1/step-2.tmp/x" ]
  mkdir "$store/run2"
  ok ckptfs doctor "$store/run2"
}

@test "doctor names aborted checkpoints" {
  mkdir -p "$store/run1/step-4.partial/.ckptfs"
  echo '{"why":"test"}' >"$store/run1/step-4.partial/.ckptfs/aborted.json"
  fails 1 ckptfs doctor "$store"
  doctor_says found aborted
  says "ckptfs show $store/run1/step-4.partial"
}

@test "doctor names a manifest that cannot be used" {
  sed -i 's/"seq":1/"seq":2/' "$store/run1/step-1/.ckptfs/manifest.jsonl"
  echo x >>"$store/run1/step-1/.ckptfs/manifest.jsonl"
  fails 1 ckptfs doctor "$store"
  doctor_says found checkpoint
  says run1/step-1
}

@test "doctor --fix builds a damaged index anew" {
  mkdir "$store/run1/step-2"
  touch "$store/run1/step-2/shard-"{1..300}
  ok ckptfs commit "$store/run1/step-2"
  ok ckptfs ls "$store"
  sqlite3 "$store/.ckptfs/index.db" 'pragma wal_checkpoint(truncate)' 3>&-
  rm -f "$store"/.ckptfs/index.db-*
  # A page in the middle: the file can be opened all the same.
  dd if=/dev/urandom of="$store/.ckptfs/index.db" bs=4096 seek=4 count=6 conv=notrunc status=none
  fails 1 ckptfs doctor "$store"
  doctor_says found index
  ok ckptfs doctor --fix "$store"
  doctor_says fixed index
  ok ckptfs doctor "$store"
  says_like '^ok +open +2 committed'
  [ -z "$(find "$store/.ckptfs" -name '*.broken-*')" ]
}

@test "doctor tells that rows of the index did not fit, and that they do now" {
  ok ckptfs ls "$store"
  mv "$store/run1/step-1" "$store/run1/step-9"
  ok ckptfs doctor "$store"
  says '1 of its rows did not fit'
  ok ckptfs doctor "$store"
  says_not 'did not fit'
}

@test "doctor finds what dead processes have left, and --fix removes it" {
  echo garbage >"$store/run1/step-1/.ckptfs/session-host-1"
  touch -d '2 days ago' "$store/run1/step-1/.ckptfs/session-host-1"
  fails 1 ckptfs doctor "$store"
  doctor_says found leftovers
  [ -e "$store/run1/step-1/.ckptfs/session-host-1" ]
  ok ckptfs doctor --fix "$store"
  doctor_says fixed leftovers
  [ ! -e "$store/run1/step-1/.ckptfs/session-host-1" ]
}

@test "doctor tells how much lies in the trash, and since when" {
  mkdir "$store/run1/step-2"
  echo 2 >"$store/run1/step-2/x"
  ok ckptfs commit "$store/run1/step-2"
  ok ckptfs rm "$store/run1/step-2"
  ok ckptfs doctor "$store"
  says_like '^note +trash +1 removed checkpoint, '
}

# Runs the command after it where none of the machine's mounts of ckptfs is to be seen: those of other
# tests and users, which may be dead at this moment, are theirs.
# shellcheck disable=SC2016
without_mounts=(unshare --mount bash -c '
  while read -r _ dir type _; do
    [ "$type" != fuse.ckptfs ] || umount -l "$(printf %b "$dir")"
  done </proc/mounts
  exec "$@"' bash)

@test "doctor in no store looks at all mounts, and says what to name" {
  requires root unshare
  cd "$tmp"
  ok "${without_mounts[@]}" ckptfs doctor
  says 'you stand in none'
}

@test "doctor of a checkpoint says what to name" {
  fails 1 ckptfs doctor "$store/run1/step-1"
  says 'name a store or a group'
  fails 1 ckptfs doctor "$tmp/nowhere"
}

# bats test_tags=fuse
@test "doctor in no store finds a dead mount of whatever store" {
  requires fuse root
  local mnt=$tmp/mnt daemon
  mount_store "$store" "$mnt"
  daemon=$(daemon_of "$mnt")
  kill -KILL "$daemon"
  gone_within 10 "$daemon"
  cd "$tmp"
  fails 1 ckptfs doctor
  says "'$mnt' is dead"
}

@test "doctor names what a user may not read" {
  requires root
  mkdir "$store/private"
  chmod 700 "$store/private"
  fails 1 "${as_nobody[@]}" ckptfs doctor "$store"
  doctor_says found permissions
  doctor_says note store
}

# stands_in PID DIR: its working folder is that
stands_in() {
  [ "$(readlink "/proc/$1/cwd")" = "$2" ]
}

# bats test_tags=fuse
@test "doctor finds a dead mount and who holds it, and --fix takes it off" {
  requires fuse root
  local mnt=$tmp/mnt daemon holder
  mount_store "$store" "$mnt"
  ok ckptfs doctor "$store"
  says "on '$mnt' answers"
  daemon=$(daemon_of "$mnt")
  (cd "$mnt" && exec sleep 60) 3>&- &
  holder=$!
  eventually 5 stands_in "$holder" "$mnt"
  kill -KILL "$daemon"
  gone_within 10 "$daemon"
  fails 1 ckptfs doctor "$store"
  says "'$mnt' is dead" "process $holder" "ckptfs umount $mnt"
  ok ckptfs doctor --fix "$store"
  doctor_says fixed mount
  kill "$holder"
  not grep -q " $mnt " /proc/mounts
  ok ckptfs doctor "$store"
}

# bats test_tags=fuse
@test "doctor finds a dead mount over the store itself, and --fix looks at what it hid" {
  requires fuse root
  local daemon
  mount_store "$store" "$store"
  ok ckptfs doctor "$store"
  says 'a mount covers the store'
  daemon=$(daemon_of "$store")
  kill -KILL "$daemon"
  gone_within 10 "$daemon"
  fails 1 ckptfs doctor "$store"
  doctor_says found mount
  ok ckptfs doctor --fix "$store"
  doctor_says fixed mount
  doctor_says ok index
}
