#!/usr/bin/env bats
# bats file_tags=fault
# Stored files that are not what the manifest says: refused by every reader, in words, and nothing else suffers.
load helpers/common

setup() {
  new_store
  mnt=$tmp/mnt
}

# break_file WAY FILE: the bytes that were there are in $tmp/was.
break_file() {
  mv "$2" "$tmp/was"
  case "$1" in
  missing) ;;
  short) head -c -1 "$tmp/was" >"$2" ;;
  cut-at-a-block) head -c 1048576 "$tmp/was" >"$2" ;;
  empty) : >"$2" ;;
  long) (cat "$tmp/was" && echo) >"$2" ;;
  symlink) ln -s "$tmp/was" "$2" ;;
  dangling) ln -s nowhere "$2" ;;
  folder) mkdir "$2" ;;
  fifo) mkfifo "$2" ;;
  esac
}

# mend FILE
mend() {
  rm -rf "$1"
  mv "$tmp/was" "$1"
}

# refused PATH WORDS: verify finds it; cat gives no byte of it, cp no file.
refused() {
  fails 1 ckptfs verify "$store" || return 1
  says_like "^step-1/$1: .*$2" || return 1
  says 'step-2: ok' || return 1
  fails 1 ckptfs cat "$store/step-1/$1" || return 1
  says "step-1/$1" 'ckptfs verify' || return 1
  assert_eq "$(stat -c %s "$tmp/.stdout")" 0 "bytes that cat gave" || return 1
  fails 1 ckptfs cp "$store/step-1" "$tmp/copy" || return 1
  says "$1" || return 1
  fails 1 ckptfs cp "$store/step-1/$1" "$tmp/copy" || return 1
  [ ! -e "$tmp/copy" ] || fail "cp left a copy"
}

ways=(missing short cut-at-a-block empty long symlink dangling folder fifo)
declare -A words=([missing]=missing [short]='2499999 .*2500000' [cut-at-a-block]='1048576 .*2500000' [empty]='0 bytes' [long]='2500001 .*2500000'
  [symlink]='symbolic link' [dangling]='symbolic link' [folder]=folder [fifo]='special file')

# bats test_tags=slow
@test "a shard that is missing, short, long, a link or no file is refused by verify, cat and cp, which say how it is" {
  local way
  committed step-1
  committed step-2 2
  for way in "${ways[@]}"; do
    break_file "$way" "$store/step-1/big.bin"
    refused big.bin "${words[$way]}" || fail "$way" || return 1
    ok ckptfs cat "$store/step-1/sub/block.bin" || return 1
    mend "$store/step-1/big.bin"
  done
  ok ckptfs verify "$store"
}

# bats test_tags=slow,fuse
@test "through a mount it is EIO and a line of the log, whether it was so before or came to be while mounted" {
  requires fuse
  local way
  committed step-1
  committed step-2 2
  for way in "${ways[@]}"; do
    break_file "$way" "$store/step-1/big.bin"
    mount_store "$store" "$mnt"
    errno_is EIO read "$mnt/step-1/big.bin" || fail "$way" || return 1
    grep -q "step-1/big.bin.*ckptfs verify" "$mnt.log" || fail "$way: nothing in the log" || return 1
    mend "$store/step-1/big.bin"
    eventually 2 cmp "$mnt/step-1/big.bin" "$store/step-1/big.bin" || return 1
    break_file "$way" "$store/step-1/big.bin"
    errno_is EIO read "$mnt/step-1/big.bin" || fail "$way, while mounted" || return 1
    same "$mnt/step-1/sub/block.bin" "$store/step-1/sub/block.bin" || return 1
    same_tree "$mnt/step-2" "$store/step-2" || return 1
    umount_store "$mnt" || return 1
    mend "$store/step-1/big.bin"
  done
}

# bats test_tags=slow,mpi
@test "a pack that is missing, cut, a link or no file spoils its shards only, and every reader says so" {
  requires mpi
  local way pack=$store/step-1/.ckptfs/pack-00000
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  committed step-2 2
  for way in missing short empty symlink dangling folder fifo; do
    break_file "$way" "$pack"
    fails 1 ckptfs verify "$store" || return 1
    says 'step-1/' pack-00000 'step-2: ok' || return 1
    fails 1 ckptfs cp "$store/step-1" "$tmp/copy" || return 1
    [ ! -e "$tmp/copy" ] || fail "$way: cp left a copy" || return 1
    fails 1 mpi 2 load "$store/step-1" --to "$tmp/out" || return 1
    says step-1 || return 1
    [ ! -e "$tmp/out" ] || fail "$way: load left an output" || return 1
    mend "$pack"
  done
  ok ckptfs verify "$store"
}

# bats test_tags=slow,mpi
@test "bytes in a pack that belong to no shard are found unless they are zero" {
  requires mpi
  local pack=$store/step-1/.ckptfs/pack-00000
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  cp "$pack" "$tmp/was"
  head -c 5000 /dev/zero >>"$pack"
  ok ckptfs verify "$store"
  echo x >>"$pack"
  fails 1 ckptfs verify "$store"
  says pack-00000
}

# bats test_tags=slow,mpi
@test "ranks that load or verify say which shard is missing, short or a link, and leave no output" {
  requires mpi
  local way
  mkdir "$store/step-1"
  make_model "$store/step-1/model.safetensors" model 3
  ok ckptfs commit "$store/step-1"
  for way in missing short long symlink; do
    break_file "$way" "$store/step-1/model.safetensors"
    fails 1 mpi 2 load "$store/step-1" --to "$tmp/out" || return 1
    says model.safetensors || return 1
    [ ! -e "$tmp/out" ] || fail "$way: load left an output" || return 1
    fails 1 mpi 2 verify "$store/step-1" || return 1
    says step-1/model.safetensors || return 1
    mend "$store/step-1/model.safetensors"
  done
}

# bats test_tags=fast
@test "a control folder that is a symbolic link, or no folder, makes nothing committed" {
  committed step-1
  committed step-2 2
  mv "$store/step-1/.ckptfs" "$tmp/control"
  ln -s "$tmp/control" "$store/step-1/.ckptfs"
  try ckptfs ls "$store"
  not grep -qE '^step-1 +committed' "$tmp/.stdout"
  says_like '^step-2 +committed'
  rm "$store/step-1/.ckptfs"
  echo x >"$store/step-1/.ckptfs"
  try ckptfs ls "$store"
  not grep -qE '^step-1 +committed' "$tmp/.stdout"
  fails 1 ckptfs commit "$store/step-1"
  says .ckptfs
  rm "$store/step-1/.ckptfs"
  mv "$tmp/control" "$store/step-1/.ckptfs"
  ok ckptfs verify "$store"
  says 'step-1: ok'
}

# bats test_tags=fast
@test "a manifest that is a symbolic link, a folder or a FIFO is never followed, and nobody waits for it" {
  local way command file=$store/step-1/.ckptfs/manifest.jsonl
  committed step-1
  committed step-2 2
  for way in symlink folder fifo; do
    break_file "$way" "$file"
    for command in ls verify; do
      DEADLINE=5 try ckptfs $command "$store" || return 1
      says step-2 'step-1/.ckptfs/manifest.jsonl' || return 1
      not grep -qE '^step-1(: ok| +committed +-? *[0-9])' "$tmp/.stdout" || fail "$way: taken for a manifest" || return 1
    done
    fails 1 ckptfs show "$store/step-1" || return 1
    mend "$file"
  done
  ok ckptfs verify "$store"
  says 'step-1: ok' 'step-2: ok'
}
