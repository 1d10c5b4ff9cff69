#!/usr/bin/env bats
# bats file_tags=fault
# Between two steps: somebody else acts, or the process dies. strace holds one back, or kills it, at a system call.
load helpers/common

setup() {
  requires strace
  new_store
}

# late CALLS WHEN CMD…: in the background, held back for two seconds before that call. Sets $late.
late() {
  strace -f -qq -o "$tmp/trace" -e "trace=$1" -e "inject=$1:delay_enter=2000000:when=$2" "${@:3}" >"$tmp/late" 2>&1 3>&- 4>&- &
  late=$!
  sleep 0.7
}

# Its exit status and what it said.
late_ends() {
  status=0
  wait "$late" || status=$?
  output=$(cat "$tmp/late")
  printf '%s\n[exit %s]\n' "$output" "$status"
}

# dies_half_way NAME: a commit of NAME.tmp that is killed between the renames of manifest and folder.
dies_half_way() {
  local calls=renameat,renameat2,rename
  make_files "$store/$1.tmp"
  sleep 0.1 # The manifest is younger than what it tells of.
  strace -f -qq -o "$tmp/trace" -e "trace=$calls" -e "inject=$calls:signal=KILL:when=2" ckptfs commit "$store/$1.tmp" 3>&- || true
  if [ ! -e "$store/$1.tmp/.ckptfs/manifest.jsonl" ] || [ -e "$store/$1" ]; then
    fail "the commit of '$1.tmp' did not die half way"
  fi
}

# id_in DIR: as its manifest has it.
id_in() {
  head -n 1 "$1/.ckptfs/manifest.jsonl" | jq -r .id
}

@test "a commit that died before the rename is finished as it is, where nothing has changed since" {
  local id
  dies_half_way run1/step-1
  id=$(id_in "$store/run1/step-1.tmp")
  ok ckptfs commit "$store/run1/step-1.tmp"
  assert_eq "$(id_in "$store/run1/step-1")" "$id" 'the id'
  ok ckptfs verify "$store"
}

@test "what is written into it after a commit died is summed again, and a link that went is not told of" {
  dies_half_way run1/step-1
  printf XXXX | dd of="$store/run1/step-1.tmp/big.bin" bs=1 seek=1000 conv=notrunc status=none
  ok ckptfs commit "$store/run1/step-1.tmp"
  ok ckptfs verify "$store/run1/step-1"
  dies_half_way run1/step-2
  rm "$store/run1/step-2.tmp/link"
  ok ckptfs commit "$store/run1/step-2.tmp"
  not grep -q '"symlink"' "$store/run1/step-2/.ckptfs/manifest.jsonl"
}

@test "a commit that died half way is not finished while a file in it is open for writing" {
  dies_half_way run1/step-1
  hold write "$store/run1/step-1.tmp/sub/block.bin"
  fails 1 ckptfs commit "$store/run1/step-1.tmp"
  says 'sub/block.bin' 'open for writing'
  let_go
  ok ckptfs commit "$store/run1/step-1.tmp"
  ok ckptfs verify "$store"
}

@test "an abort that began before a commit ended does not drop what is committed" {
  mkdir -p "$store/run1/checkpoint-4"
  random_bytes 1 100000 >"$store/run1/checkpoint-4/model.bin"
  echo '{"global_step":4}' >"$store/run1/checkpoint-4/trainer_state.json"
  late flock 1 ckptfs abort "$store/run1/checkpoint-4"
  ok ckptfs commit "$store/run1/checkpoint-4"
  late_ends
  assert_status 1
  says "'run1/checkpoint-4' is committed"
  ok ckptfs verify "$store/run1/checkpoint-4"
}

@test "rm of a checkpoint that is replaced this moment leaves the new one alone" {
  committed run1/step-1
  make_files "$store/run1/step-1.tmp" 2
  late renameat,renameat2,rename 2 ckptfs rm "$store/run1/step-1"
  ok ckpt-test commit "$store" run1/step-1.tmp run1/step-1 replace
  late_ends
  assert_status 1
  says "'run1/step-1' was removed"
  same "$store/run1/step-1/big.bin" <(random_bytes 2 2500000)
  ok ckptfs verify "$store"
  # The old one is in the trash, once.
  same "$store"/.ckptfs/trash/*/step-1/big.bin <(random_bytes 1 2500000)
}

@test "a purge leaves alone what was brought back and removed again while it was at work" {
  local i file
  for i in 1 2 3; do committed "run1/step-$i" "$i"; done
  ckptfs rm "$store/run1/step-1" "$store/run1/step-2"
  for file in "$store"/.ckptfs/trash/*/removed.json; do
    jq -c '.removed = "2026-01-02T03:04:05.000000000Z"' "$file" >"$tmp/note"
    cp "$tmp/note" "$file"
  done
  late fsync 1 ckptfs gc "$store"
  [ "$(find "$store/.ckptfs/trash" -maxdepth 1 -name 'purging-*' | wc -l)" -eq 1 ] || fail 'it has not begun'
  # The other one.
  ckptfs undelete "$store/run1/step-1" || ckptfs undelete "$store/run1/step-2"
  ckptfs rm "$store"/run1/step-[12]
  late_ends
  assert_status 0
  assert_eq "$(find "$store/.ckptfs/trash" -name manifest.jsonl | wc -l)" 1 'what is left in the trash'
}

@test "a symbolic link in place of the control folder leads no commit into another checkpoint" {
  committed run1/step-1
  make_files "$store/run1/step-2.tmp"
  late fsync,fdatasync 1 ckptfs commit "$store/run1/step-2.tmp"
  mv "$store/run1/step-2.tmp/.ckptfs" "$tmp/aside"
  ln -s ../step-1/.ckptfs "$store/run1/step-2.tmp/.ckptfs"
  late_ends
  assert_status 1
  ok ckptfs verify "$store/run1/step-1"
  [ ! -e "$store/run1/step-2" ] || fail 'it was committed'
}

@test "rmdir through a mount leaves a folder alone in which something came to be this moment" {
  requires fuse root
  local mnt=$tmp/mnt tracer
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/run1/a.tmp"
  random_bytes 1 100000 >"$mnt/run1/a.tmp/f"
  eventually 10 test -e "$store/run1/a.tmp/.ckptfs"
  rm "$mnt/run1/a.tmp/f"
  strace -f -qq -o "$tmp/trace" -e trace=flock -e inject=flock:delay_enter=2000000:when=1 -p "$(daemon_of "$mnt")" 3>&- 4>&- &
  tracer=$!
  sleep 0.5
  rmdir "$mnt/run1/a.tmp" 2>"$tmp/said" 3>&- &
  late=$!
  sleep 0.7
  echo new >"$store/run1/a.tmp/g"
  not wait "$late"
  kill "$tracer" && wait "$tracer" || true
  grep -q 'not empty' "$tmp/said" || fail "it said: $(cat "$tmp/said")"
  assert_eq "$(cat "$store/run1/a.tmp/g")" new
  ok rm -r "$mnt/run1/a.tmp"
  umount_store "$mnt"
}

@test "a removed checkpoint whose note is lost is not swept away, and can be brought back" {
  local room
  committed run1/step-1
  ckptfs rm "$store/run1/step-1"
  room=$(echo "$store"/.ckptfs/trash/*)
  rm "$room/removed.json"
  touch -d '1 day ago' "$room"
  ok ckptfs gc "$store"
  [ -e "$room/step-1/.ckptfs/manifest.jsonl" ] || fail 'it was swept away'
  ok ckptfs undelete "$store/run1/step-1"
  ok ckptfs verify "$store/run1/step-1"
}
