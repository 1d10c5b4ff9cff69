#!/usr/bin/env bats
# bats file_tags=fast
# Removed checkpoints: moved into the trash as a whole, brought back as a whole, purged when it is
# time; and pinned ones, which nobody removes.
load helpers/common

# trash: the rooms, one a line.
trash() {
  find "$store/.ckptfs/trash" -mindepth 1 -maxdepth 1 -printf '%f\n' | LC_ALL=C sort
}

# removed_ago NAME AGE: as if it had been removed so long ago ("2 days").
removed_ago() {
  local file
  file=$(grep -lF "\"name\":\"$1\"" "$store"/.ckptfs/trash/*/removed.json)
  jq -c --arg at "$(date -u -d "-$2" +%Y-%m-%dT%H:%M:%S.000000000Z)" '.removed = $at' "$file" >"$tmp/note"
  cp "$tmp/note" "$file"
}

# id_of NAME: of what lies there now.
id_of() {
  ckptfs ls --json "$store" 3>&- | jq -r --arg name "$1" '.[] | select(.name == $name and .state != "removed") | .id'
}

# refuses EXIT TEXT CMD…: it says so, and nothing in the store has changed.
refuses() {
  snapshot "$store" >"$tmp/before"
  fails "$1" "${@:3}" || return 1
  says "$2" || return 1
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

setup() {
  new_store
}

@test "rm moves a checkpoint into the trash as a whole, and undelete brings back every byte, mode and time" {
  committed run1/step-1
  committed run1/step-2 2
  snapshot "$store/run1/step-1" >"$tmp/before"
  ok ckptfs rm "$store/run1/step-1"
  assert_eq "$stdout" "run1/step-1: removed; bring it back with 'ckptfs undelete $store/run1/step-1'"
  [ ! -e "$store/run1/step-1" ]
  snapshot "$store"/.ckptfs/trash/*/step-1 >"$tmp/removed"
  same "$tmp/before" "$tmp/removed"
  ok ckptfs undelete "$store/run1/step-1"
  assert_eq "$stdout" 'run1/step-1: brought back'
  snapshot "$store/run1/step-1" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  assert_eq "$(trash)" '' 'what is left in the trash'
  ok ckptfs verify "$store"
  says 'run1/step-1: ok (4 shards' 'run1/step-2: ok (4 shards'
}

@test "a removed checkpoint is known by its trash alone: ls shows it, with and without an index, and nothing else finds it" {
  committed run1/step-1
  committed run1/step-2 2
  ckptfs rm "$store/run1/step-2"
  assert_eq "$(state_of run1/step-2)" removed
  rm -f "$store"/.ckptfs/index.db*
  assert_eq "$(state_of run1/step-2)" removed
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-1"
  fails 1 ckptfs show "$store/run1/step-2"
  ok ckptfs verify "$store"
  says_not step-2
  ckptfs undelete "$store/run1/step-2"
  ok ckptfs latest "$store"
  assert_eq "$stdout" "$store/run1/step-2"
}

@test "removed.json tells what was removed" {
  make_files "$store/run1/step-7"
  ckptfs commit --step 70 "$store/run1/step-7"
  id=$(id_of run1/step-7)
  ckptfs rm "$store/run1/step-7"
  assert_eq "$(trash)" "$id"
  jq -e --arg id "$id" '.name == "run1/step-7" and .id == $id and .seq == 1 and .step == 70 and .shards == 4
    and .size_bytes == 3548583 and .disk_bytes >= .size_bytes
    and (.removed | test("^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}\\.[0-9]{9}Z$"))' \
    "$store/.ckptfs/trash/$id/removed.json"
}

@test "undelete takes a name whose group is gone, an id, and of several of one name the last removed" {
  committed run1/step-1
  first=$(id_of run1/step-1)
  ckptfs rm "$store/run1/step-1"
  committed run1/step-1 2
  second=$(id_of run1/step-1)
  ckptfs rm "$store/run1/step-1"
  rmdir "$store/run1"
  cd "$store"
  ok ckptfs undelete run1/step-1
  assert_eq "$(id_of run1/step-1)" "$second"
  ckptfs rm run1/step-1
  cd "$tmp"
  ok ckptfs -C "$store" undelete "$first"
  assert_eq "$(id_of run1/step-1)" "$first"
  fails 1 ckptfs undelete "$store/$second"
  says "cannot bring 'run1/step-1' back: that name is taken" "ckptfs undelete $second"
  mv "$store/run1/step-1" "$store/run1/step-one"
  ok ckptfs undelete "$store/$second"
  ok ckptfs verify "$store"
  says 'run1/step-1: ok' 'run1/step-one: ok'
}

@test "undelete replaces nothing but an empty folder, and says where there is nothing to bring back" {
  committed run1/step-1
  ckptfs rm "$store/run1/step-1"
  mkdir "$store/run1/step-1"
  echo mine >"$store/run1/step-1/file"
  refuses 1 'that name is taken' ckptfs undelete "$store/run1/step-1"
  rm "$store/run1/step-1/file"
  ok ckptfs undelete "$store/run1/step-1"
  refuses 1 "no removed checkpoint is called 'run1/step-1'" ckptfs undelete "$store/run1/step-1"
  refuses 1 "'$store' is a store" ckptfs undelete "$store"
  fails 1 ckptfs undelete "$tmp/elsewhere"
}

@test "rm refuses what is no committed checkpoint of a store, in words that help" {
  committed run1/step-1
  make_files "$store/run1/step-2.tmp"
  echo loose >"$store/run1/config.json"
  refuses 1 "'run1/step-2.tmp' is open, not committed; drop it with 'ckptfs abort run1/step-2.tmp'" ckptfs rm "$store/run1/step-2.tmp"
  refuses 1 "is a group; name the checkpoints in it, as in 'ckptfs rm $store/run1/*'" ckptfs rm "$store/run1"
  refuses 1 "is a part of a checkpoint; name it as a whole: 'ckptfs rm $store/run1/step-1'" ckptfs rm "$store/run1/step-1/big.bin"
  refuses 1 'is a loose file' ckptfs rm "$store/run1/config.json"
  refuses 1 'is a store' ckptfs rm "$store"
  refuses 1 'does not exist' ckptfs rm "$store/run1/step-3"
  refuses 2 'needs more arguments' ckptfs rm
  cp -a "$store/run1/step-1" "$tmp/bare"
  fails 1 ckptfs rm "$tmp/bare"
  says 'is in no store'
  [ -e "$tmp/bare/big.bin" ]
}

@test "of several paths each is removed for itself" {
  committed run1/step-1
  committed run1/step-2 2
  fails 1 ckptfs rm "$store/run1/step-1" "$store/run1/none" "$store/run1/step-2"
  says 'run1/step-1: removed' 'none' 'run1/step-2: removed'
}

@test "of two that remove one checkpoint at a time one does it, and the other is told" {
  for i in 1 2 3 4 5; do
    committed run1/step-$i "$i"
    ckptfs rm "$store/run1/step-$i" >"$tmp/a" 2>&1 3>&- 4>&- &
    one=$!
    ckptfs rm "$store/run1/step-$i" >"$tmp/b" 2>&1 3>&- 4>&- &
    other=$!
    codes=0
    wait "$one" || codes=$((codes + $?))
    wait "$other" || codes=$((codes + $?))
    cat "$tmp/a" "$tmp/b"
    assert_eq "$codes" 1 'the sum of both exit codes'
    assert_eq "$(cat "$tmp/a" "$tmp/b" | grep -c ': removed; ')" 1 'removed so often'
  done
  assert_eq "$(trash | wc -l)" 5
}

@test "copies of one checkpoint lie side by side in the trash" {
  committed run1/step-1
  cp -a "$store/run1/step-1" "$store/run1/copy"
  id=$(id_of run1/copy)
  ckptfs rm "$store/run1/step-1" "$store/run1/copy"
  assert_eq "$(trash)" "$id"$'\n'"$id-2"
  ok ckptfs undelete "$store/run1/step-1" "$store/run1/copy"
  ok ckptfs verify "$store"
  says 'run1/step-1: ok' 'run1/copy: ok'
}

@test "a checkpoint may be called like what lies beside it in the trash" {
  committed run1/removed.json
  ckptfs rm "$store/run1/removed.json"
  assert_eq "$(state_of run1/removed.json)" removed
  ok ckptfs undelete "$store/run1/removed.json"
  ok ckptfs verify "$store"
  says 'run1/removed.json: ok'
}

@test "a damaged removed.json does not cost the checkpoint, nor does a damaged manifest" {
  committed run1/step-1
  committed run1/step-2 2
  mv "$store/run1/step-1" "$store/run1/renamed"
  ckptfs rm "$store/run1/renamed"
  : >"$store/.ckptfs/trash/$(trash)/removed.json"
  assert_eq "$(state_of run1/renamed)" removed
  ok ckptfs gc "$store"
  ok ckptfs undelete "$store/run1/renamed"
  echo '{}' >"$store/run1/step-2/.ckptfs/manifest.jsonl"
  ok ckptfs rm "$store/run1/step-2"
  ok ckptfs undelete "$store/run1/step-2"
  assert_eq "$(cat "$store/run1/step-2/.ckptfs/manifest.jsonl")" '{}'
}

@test "gc purges what was removed more than a day ago, and keeps the rest" {
  for i in 1 2 3; do committed run1/step-$i "$i"; done
  ckptfs rm "$store/run1/step-1" "$store/run1/step-2"
  removed_ago run1/step-1 '25 hours'
  snapshot "$store" >"$tmp/before"
  ok ckptfs gc --dry-run "$store"
  says 'run1/step-1: would be purged' '1 checkpoint would be purged'
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  ok ckptfs gc "$store"
  says 'run1/step-1: purged (' '1 checkpoint purged, '
  says_not step-2
  assert_eq "$(state_of run1/step-1)$(state_of run1/step-2)" removed
  fails 1 ckptfs undelete "$store/run1/step-1"
  ok ckptfs gc --age 12h "$store"
  says '0 checkpoints purged'
  ok ckptfs gc --all "$store"
  says 'run1/step-2: purged ('
  assert_eq "$(trash)" ''
  ok ckptfs verify "$store"
}

@test "a removed checkpoint whose group has no committed one left is purged only if it is asked for" {
  committed run1/step-1
  committed run2/step-1 2
  committed run2/step-2 3
  ckptfs rm "$store/run1/step-1" "$store/run2/step-1"
  make_files "$store/run1/step-9.tmp" 4
  ok ckptfs gc --all "$store"
  says 'run2/step-1: purged' '1 kept, because nothing else is committed in their group; --last'
  says_not 'run1/step-1: purged'
  ok ckptfs gc --free 1GiB "$store"
  says '0 checkpoints purged'
  ok ckptfs undelete "$store/run1/step-1"
  ckptfs rm "$store/run1/step-1"
  ok ckptfs gc --all --last "$store/run1"
  says 'run1/step-1: purged'
  [ -e "$store/run1/step-9.tmp/big.bin" ]
}

@test "gc --free purges the oldest until so much is freed; of a group it purges what lay below it" {
  for i in 1 2 3 4; do committed run1/step-$i "$i"; done
  for i in 1 2; do committed run2/step-$i "1$i"; done
  ckptfs rm "$store"/run1/step-[123] "$store/run2/step-1"
  removed_ago run1/step-2 '5 hours'
  removed_ago run1/step-1 '4 hours'
  removed_ago run2/step-1 '6 hours'
  ok ckptfs gc --free 5MiB "$store/run1"
  says 'run1/step-2: purged' 'run1/step-1: purged' '2 checkpoints purged'
  assert_eq "$(state_of run1/step-3) $(state_of run2/step-1)" 'removed removed'
  fails 2 ckptfs gc --all --age 1d "$store"
  fails 2 ckptfs gc --age soon "$store"
  says "'soon' is no age"
  fails 2 ckptfs gc --free much "$store"
  says "'much' is no size"
}

@test "gc clears away what a purge, an abort and a removal that died have left, but nothing fresh" {
  committed run1/step-1
  committed run1/step-2 2
  ckptfs rm "$store/run1/step-1"
  id=$(trash)
  half=00000000-0000-4000-8000-000000000001 dropped=00000000-0000-4000-8000-000000000002
  mkdir "$store/.ckptfs/trash/$half" "$store/.ckptfs/trash/$dropped" "$store/.ckptfs/trash/purging-$half"
  sed 's/step-1/step-9/' "$store/.ckptfs/trash/$id/removed.json" >"$store/.ckptfs/trash/$half/removed.json"
  make_files "$store/.ckptfs/trash/$dropped/step-8.partial" 8
  make_files "$store/.ckptfs/trash/purging-$half/step-9" 9
  ok ckptfs gc "$store"
  says '1 leftover of dead processes removed'
  assert_eq "$(trash)" "$(printf '%s\n' "$half" "$dropped" "$id" | LC_ALL=C sort)"
  touch -d '-5 minutes' "$store/.ckptfs/trash/$half" "$store/.ckptfs/trash/$dropped"
  ok ckptfs gc -n "$store"
  says '2 leftovers of dead processes would be removed'
  ok ckptfs gc "$store"
  says '2 leftovers of dead processes removed'
  assert_eq "$(trash)" "$id"
  ok ckptfs undelete "$store/run1/step-1"
}

@test "gc removes locks and sessions of the dead from committed checkpoints and old sessions of the store, and touches no open one" {
  committed run1/step-1
  make_files "$store/run1/step-2.tmp" 2
  mkdir "$store/run1/step-2.tmp/.ckptfs" "$store/.ckptfs/sessions"
  dead="{\"host\":\"$(hostname)\",\"pid\":1,\"boot_id\":\"00000000-0000-4000-8000-000000000000\",\"start_ticks\":1,\"pid_ns\":1}"
  for file in run1/step-1/.ckptfs/commit.lock run1/step-1/.ckptfs/session-x-1 \
    run1/step-2.tmp/.ckptfs/session-x-1 .ckptfs/sessions/x-1 .ckptfs/sessions/x-2; do
    printf '%s\n{"doing":"idle"}\n' "$dead" >"$store/$file"
  done
  touch -d '-2 days' "$store/.ckptfs/sessions/x-2"
  ok ckptfs gc "$store"
  says '.ckptfs/sessions/x-2: removed, a dead process has left it'
  [ ! -e "$store/run1/step-1/.ckptfs/commit.lock" ]
  [ ! -e "$store/run1/step-1/.ckptfs/session-x-1" ]
  [ ! -e "$store/.ckptfs/sessions/x-2" ]
  [ -e "$store/.ckptfs/sessions/x-1" ]
  [ -e "$store/run1/step-2.tmp/.ckptfs/session-x-1" ]
  ok ckptfs verify "$store"
}

@test "a pinned checkpoint is not removed, whatever it is called and whatever becomes of the index" {
  committed run1/step-1
  committed run1/step-2 2
  ok ckptfs pin "$store/run1/step-1"
  assert_eq "$stdout" 'run1/step-1: pinned'
  ok ckptfs pin "$store/run1/step-1" "$store/run1/step-2"
  says 'run1/step-1: is pinned already' 'run1/step-2: pinned'
  refuses 1 "'run1/step-1' is pinned; run 'ckptfs unpin run1/step-1' first" ckptfs rm "$store/run1/step-1"
  mv "$store/run1/step-1" "$store/run1/best"
  rm -f "$store"/.ckptfs/index.db*
  assert_eq "$(state_of run1/best)" pinned
  refuses 1 "'run1/best' is pinned" ckptfs rm "$store/run1/best"
  ok ckptfs unpin "$store/run1/best"
  ok ckptfs unpin "$store/run1/best"
  says 'is not pinned'
  ok ckptfs rm "$store/run1/best"
  : >"$store/run1/step-2/.ckptfs/manifest.jsonl"
  fails 1 ckptfs rm "$store/run1/step-2"
  says "'run1/step-2' is pinned"
  make_files "$store/run1/step-3.tmp" 3
  refuses 1 'only what is committed can be pinned' ckptfs pin "$store/run1/step-3.tmp"
}

@test "who may not write there is told what must be writable, and nothing changes" {
  requires root
  committed run1/step-1
  chmod 755 "$tmp" "$store"
  mkdir -p "$tmp/home"
  chown 65534 "$tmp/home"
  refuses 1 'must be writable for you' "${as_nobody[@]}" ckptfs rm "$store/run1/step-1"
  refuses 1 'Permission denied' "${as_nobody[@]}" ckptfs pin "$store/run1/step-1"
}

@test "what root removes and pins in a user's store is that user's" {
  requires root
  chmod 755 "$tmp"
  mkdir -p "$tmp/home"
  committed run1/step-1
  committed run1/step-2 2
  rmdir "$store/.ckptfs/trash"
  chown -R 65534:65534 "$store" "$tmp/home"
  ckptfs rm "$store/run1/step-1"
  ckptfs pin "$store/run1/step-2"
  chown -R 65534:65534 "$store"/.ckptfs/index.db*
  ok "${as_nobody[@]}" ckptfs undelete "$store/run1/step-1"
  ok "${as_nobody[@]}" ckptfs unpin "$store/run1/step-2"
  ok "${as_nobody[@]}" ckptfs rm "$store/run1/step-2"
}

# bats test_tags=slow
@test "on a disk that is full to the last block rm works and loses nothing, and gc makes room" {
  requires loop
  small_disk 32 "$tmp/disk"
  new_store "$tmp/disk/store"
  for i in 1 2 3; do committed run1/step-$i "$i"; done
  committed run2/a%b+c=d 4
  dd if=/dev/zero of="$tmp/disk/filler" bs=64k 2>/dev/null || true
  dd if=/dev/zero of="$tmp/disk/filler2" bs=1k 2>/dev/null || true
  assert_eq "$(df --output=avail -k "$tmp/disk" | tail -1 | tr -d ' ')" 0 'KiB free'
  ok ckptfs rm "$store/run1/step-1" "$store/run1/step-2" "$store/run2/a%b+c=d"
  assert_eq "$(trash | grep -c '~')" 3 'rooms that took none'
  assert_eq "$(state_of run1/step-1) $(state_of run2/a%b+c=d)" 'removed removed'
  ok ckptfs undelete "$store/run1/step-2" "$store/run2/a%b+c=d"
  ok ckptfs verify "$store"
  says 'run1/step-2: ok (4 shards' 'run2/a%b+c=d: ok (4 shards'
  ok ckptfs gc --free 1MiB "$store"
  says 'run1/step-1: purged (3.' '1 checkpoint purged, 3.'
  [ "$(df --output=avail -k "$tmp/disk" | tail -1)" -gt 3000 ]
  ok ckptfs rm "$store/run1/step-2"
  assert_eq "$(trash | grep -c '~')" 0 'rooms that took none'
}

# --- through a mount --------------------------------------------------------------------------

# bats test_tags=fuse,slow
@test "paths in a mount mean the store's own, and the mount shows at once what was removed and brought back" {
  requires fuse
  committed run1/step-1
  committed run1/step-2 2
  mount_store "$store" "$tmp/mnt"
  ok ckptfs rm "$tmp/mnt/run1/step-1"
  [ ! -e "$tmp/mnt/run1/step-1" ]
  ok ckptfs undelete "$tmp/mnt/run1/step-1"
  same_tree "$tmp/mnt/run1/step-1" "$store/run1/step-1"
  ok ckptfs pin "$tmp/mnt/run1/step-1"
  fails 1 ckptfs rm "$tmp/mnt/run1/step-1"
  assert_eq "$(state_of run1/step-1)" pinned
}

# bats test_tags=fuse,slow
@test "where the mount covers the store, its daemon removes, brings back, pins and purges" {
  requires fuse
  committed run1/step-1
  committed run1/step-2 2
  mount_store "$store" "$store"
  ok ckptfs rm "$store/run1/step-1"
  says "run1/step-1: removed; bring it back with 'ckptfs undelete $store/run1/step-1'"
  [ ! -e "$store/run1/step-1" ]
  ok ckptfs undelete "$store/run1/step-1"
  assert_eq "$stdout" 'run1/step-1: brought back'
  [ -e "$store/run1/step-1/big.bin" ]
  ok ckptfs pin "$store/run1/step-1"
  ok ckptfs pin "$store/run1/step-1"
  says 'is pinned already'
  fails 1 ckptfs rm "$store/run1/step-1"
  says "'run1/step-1' is pinned"
  ok ckptfs unpin "$store/run1/step-1"
  ok ckptfs rm "$store/run1/step-1"
  ok ckptfs gc --all --dry-run "$store"
  says '1 checkpoint would be purged'
  ok ckptfs gc --all "$store"
  says '1 checkpoint purged'
  fails 1 ckptfs undelete "$store/run1/step-1"
  umount_store "$store"
  assert_eq "$(trash)" ''
}

# --- wherever it is killed ----------------------------------------------------------------------

# few_files DIR SEED: some KiB, with a folder.
few_files() {
  mkdir -p "$1/sub"
  random_bytes "$2" 30000 >"$1/a.bin"
  echo "step $2" >"$1/sub/note.txt"
}

make_template() {
  store=$tmp/template
  new_store "$store"
  few_files "$store/run1/step-1" 1
  few_files "$store/run1/step-2" 2
  ckptfs commit "$store/run1/step-1" "$store/run1/step-2" >/dev/null 3>&-
}

# faulted CALL K ACTION CMD…: the program of the fault build in a fresh copy of the template, $store.
# Sets $fired and $outcome.
faulted() {
  local fault=$1:$2:$3
  store=$tmp/copy
  rm -rf "$store"
  cp -a "$tmp/template" "$store"
  outcome=0
  # The outer shell says "Killed", and only that is thrown away.
  { CKPTFS_IO_FAULT=$fault PATH=$CKPT_FAULTS:$PATH timeout 60 "${@:4}" >"$tmp/out" 2>&1 3>&- 4>&- </dev/null; } 2>/dev/null || outcome=$?
  fired=no
  ! grep -q '^ckptfs: io fault: ' "$tmp/out" || fired=yes
  printf '%s %s: exit %s, fired: %s\n' "$fault" "${*:4}" "$outcome" "$fired"
  sed 's/^/  /' "$tmp/out"
}

# is_whole: step-1, which was $begun_as, is in its place or in the trash, not in both, and has every byte;
# step-2 is untouched.
is_whole() {
  ok ckptfs verify "$store" || return 1
  says 'run1/step-2: ok (2 shards' || return 1
  ok ckptfs ls "$store" || return 1
  state=$(awk '$1 == "run1/step-1" { print $2 }' <<<"$stdout")
  # What it says is so: done, or nothing has changed.
  case "$begun_as $outcome $state" in
  "committed 0 removed" | "committed 1 committed" | "removed 0 committed" | "removed 1 removed" | *" 137 "*) ;;
  *) fail "exit $outcome, and it is $state" || return 1 ;;
  esac
  case "$state" in
  committed) ;;
  removed)
    ok ckptfs undelete "$store/run1/step-1" || return 1
    ;;
  *) fail "step-1 is neither in its place nor in the trash, or in both: '$state'" || return 1 ;;
  esac
  ok ckptfs verify "$store" || return 1
  says 'run1/step-1: ok (2 shards' || return 1
  same_tree "$store/run1/step-1" "$tmp/whole" || return 1
  # What was left goes when it is old enough, and nothing else does.
  find "$store/.ckptfs/trash" -mindepth 1 -maxdepth 1 -exec touch -d '-5 minutes' {} +
  ok ckptfs gc "$store" || return 1
  assert_eq "$(trash)" '' 'what is left in the trash' || return 1
  same_tree "$store/run1/step-1" "$tmp/whole"
}

# fault_loop AT_LEAST ACTION CHECK CMD… with $calls: every call of those names in turn, until none is left to fail.
fault_loop() {
  local at_least=$1 action=$2 check=$3 call k total=0
  for call in $calls; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 300 ] || fail "no end of $call" || return 1
      faulted "$call" "$k" "$action" "${@:4}" || return 1
      [ "$fired" = yes ] || break
      total=$((total + 1))
      $check || return 1
    done
  done
  echo "$total faults fired"
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}

# bats test_tags=slow,sanitized,slow,fault
@test "wherever rm is killed, the checkpoint is whole, in its place or in the trash" {
  requires faults
  make_template
  cp -a "$store/run1/step-1" "$tmp/whole"
  begun_as=committed
  calls='openat mkdirat pwrite fsync renameat unlinkat fstatat' fault_loop 25 kill is_whole ckptfs rm "$tmp/copy/run1/step-1"
}

# bats test_tags=slow,sanitized,slow,fault
@test "whichever call of rm fails, it says so or has done it, and the checkpoint is whole" {
  requires faults
  make_template
  cp -a "$store/run1/step-1" "$tmp/whole"
  begun_as=committed
  calls='openat mkdirat pwrite fsync renameat' fault_loop 15 EIO is_whole ckptfs rm "$tmp/copy/run1/step-1"
  calls='mkdirat pwrite fsync renameat' fault_loop 8 ENOSPC is_whole ckptfs rm "$tmp/copy/run1/step-1"
}

# bats test_tags=slow,sanitized,slow,fault
@test "wherever undelete is killed or fails, the checkpoint is whole, in its place or in the trash" {
  requires faults
  make_template
  cp -a "$store/run1/step-1" "$tmp/whole"
  ckptfs rm "$store/run1/step-1"
  begun_as=removed
  calls='openat mkdirat fsync renameat unlinkat fstatat' fault_loop 15 kill is_whole ckptfs undelete "$tmp/copy/run1/step-1"
  calls='openat fsync renameat unlinkat' fault_loop 8 EIO is_whole ckptfs undelete "$tmp/copy/run1/step-1"
}

# is_purged_or_whole: the next gc ends what this one began; what can be brought back is whole.
is_purged_or_whole() {
  local state
  ok ckptfs verify "$store" || return 1
  says 'run1/step-2: ok (2 shards' || return 1
  state=$(state_of run1/step-1)
  case "$state" in
  removed)
    ok ckptfs undelete "$store/run1/step-1" || return 1
    same_tree "$store/run1/step-1" "$tmp/whole" || return 1
    ok ckptfs verify "$store/run1/step-1" || return 1
    ;;
  '') fails 1 ckptfs undelete "$store/run1/step-1" || return 1 ;;
  *) fail "gc must not make it '$state'" || return 1 ;;
  esac
  ok ckptfs gc --all "$store" || return 1
  assert_eq "$(trash)" '' 'what is left in the trash'
}

# bats test_tags=slow,sanitized,slow,fault
@test "wherever gc is killed or fails, nothing half is brought back, and the next gc ends it" {
  requires faults
  make_template
  cp -a "$store/run1/step-1" "$tmp/whole"
  ckptfs rm "$store/run1/step-1"
  calls='renameat fsync unlinkat' fault_loop 6 kill is_purged_or_whole ckptfs gc --all "$tmp/copy"
  calls='renameat fsync unlinkat' fault_loop 6 EIO is_purged_or_whole ckptfs gc --all "$tmp/copy"
}
