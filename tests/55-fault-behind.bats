#!/usr/bin/env bats
# bats file_tags=slow,fuse,fault
# What happens to stored files behind the mount while they are read: EIO, or SIGBUS of the client's own
# mapping; never other bytes, never the end of the daemon.
load helpers/common
load helpers/counters

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  step=$mnt/run/step-1
  plain=$store/run/step-1
  make_files "$plain"
  random_bytes 4 20MiB >"$plain/large.bin"
  ok ckptfs commit "$plain"
  cp -r "$plain" "$tmp/good"
}

# The ways a shard is read: what is true for one must be true for all.
ways=(verify=auto "verify=auto,verify_open_max=1MiB" verify=read verify=off passthrough=off)

# begin WAY: a new mount on a whole store
begin() {
  echo "== $1"
  mount_store "$store" "$mnt" "$1"
}

# others_are_served: the daemon lives, and what was not touched is well
others_are_served() {
  kill -0 "$(daemon_of "$mnt")" || fail "the daemon has ended" || return 1
  ok cmp "$step/big.bin" "$tmp/good/big.bin" || return 1
  ok cmp "$step/sub/block.bin" "$tmp/good/sub/block.bin" || return 1
  ok ls -lR "$mnt"
}

# put_back FILE: as a restore from a backup does it; the shard must be served again
put_back() {
  rm -rf "${plain:?}/$1"
  cp -p "$tmp/good/$1" "$plain/$1"
  ok cmp "$step/$1" "$tmp/good/$1"
}

# reader_meets FILE ACTION REGEX: what a client that has it open and mapped meets after ACTION, all of it
reader_meets() {
  ok python3 "$HELPERS/behind.py" "$1" "$tmp/good/${1#"$step"/}" "$2" || return 1
  not grep -vxE "$3" <<<"$stdout" || fail "outcomes that should not be"
}

# is_eio FILE: whoever opens and reads it now is told, at the open or at the read
is_eio() {
  try cat "$1" || return 1
  assert_status 1 || return 1
  says 'Input/output error'
}

@test "a shard that is truncated while it is read and mapped is EIO or SIGBUS of that client, and the daemon lives" {
  local way allowed
  for way in "${ways[@]}"; do
    # What the kernel reads by itself ends where the file ends. What the daemon reads does not.
    case "$way,${CKPTFS_MOUNT_OPTIONS:-}" in
    *verify_open_max*) allowed='(read|map) right|read EIO|map (cut|SIGBUS)' ;;
    verify=read* | *passthrough=off*) allowed='(read|map) right|read EIO|map SIGBUS' ;;
    *) allowed='(read|map) right|read (EIO|short)|map (cut|SIGBUS)' ;;
    esac
    begin "$way"
    reader_meets "$step/large.bin" "truncate -s 1000 '$plain/large.bin'" "$allowed"
    is_eio "$step/large.bin"
    others_are_served
    put_back large.bin
    umount_store "$mnt"
  done
}

@test "a shard that is removed while it is read and mapped stays right for that client, and is EIO for the next" {
  local way
  for way in "${ways[@]}"; do
    begin "$way"
    reader_meets "$step/large.bin" "rm '$plain/large.bin'" '(read|map) right|read EIO'
    errno_is EIO open "$step/large.bin"
    errno_is OK stat "$step/large.bin"
    others_are_served
    put_back large.bin
    umount_store "$mnt"
  done
}

@test "a shard that grew is EIO" {
  local way
  for way in "${ways[@]}"; do
    [ "$way" != verify=off ] || continue
    begin "$way"
    echo more >>"$plain/large.bin"
    errno_is EIO open "$step/large.bin"
    others_are_served
    put_back large.bin
    umount_store "$mnt"
  done
}

@test "a shard that is replaced by a symbolic link, a folder or a FIFO is EIO, and where the link leads stays unread" {
  local way what
  echo 'not yours' >"$tmp/secret"
  for way in "${ways[@]}"; do
    begin "$way"
    for what in "ln -s $tmp/secret" "ln -s $tmp/good/large.bin" "ln -s big.bin" mkdir mkfifo; do
      rm -rf "$plain/large.bin"
      # shellcheck disable=SC2086
      $what "$plain/large.bin"
      DEADLINE=10 errno_is EIO open "$step/large.bin"
      not grep -q 'not yours' "$step/large.bin" 2>/dev/null
      others_are_served
    done
    put_back large.bin
    umount_store "$mnt"
  done
}

@test "a folder of a checkpoint that is replaced by a symbolic link leads nowhere" {
  local way
  mkdir -p "$tmp/outside/deep"
  cp "$plain/sub/block.bin" "$tmp/outside/"
  for way in "${ways[@]}"; do
    begin "$way"
    mv "$plain/sub" "$tmp/aside"
    ln -s "$tmp/outside" "$plain/sub"
    errno_is EIO open "$step/sub/block.bin"
    ok cmp "$step/big.bin" "$tmp/good/big.bin"
    rm "$plain/sub"
    mv "$tmp/aside" "$plain/sub"
    others_are_served
    umount_store "$mnt"
  done
}

@test "a shard that is replaced by the same bytes, as a restore does it, is served" {
  local way
  for way in "${ways[@]}"; do
    begin "$way"
    reader_meets "$step/large.bin" "cp '$plain/large.bin' '$tmp/x'; mv '$tmp/x' '$plain/large.bin'" '(read|map) right'
    ok cmp "$step/large.bin" "$tmp/good/large.bin"
    others_are_served
    umount_store "$mnt"
  done
}

@test "a checkpoint that is taken away while it is read is gone for the next look, and readers do not hang" {
  local way
  for way in "${ways[@]}"; do
    begin "$way"
    reader_meets "$step/large.bin" "mv '$plain' '$tmp/taken'" '(read|map) right|read (EIO|ESTALE)'
    eventually 3 not test -e "$step/big.bin"
    kill -0 "$(daemon_of "$mnt")"
    mv "$tmp/taken" "$plain"
    eventually 3 cmp "$step/big.bin" "$tmp/good/big.bin"
    umount_store "$mnt"
  done
}

# bats test_tags=mpi
@test "a pack that is truncated, removed or replaced is EIO for its shards, and files beside it are served" {
  requires mpi
  local way what shard=rank-00000/three.rows@0_0
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/run/packed" --from "$tmp/model.safetensors"
  cp -r "$store/run/packed/.ckptfs" "$tmp/control"
  ok ckptfs cp "$store/run/packed" "$tmp/unpacked"
  for way in "${ways[@]}"; do
    begin "$way"
    for what in 'truncate -s 100' rm "ln -sf $tmp/control/pack-00000"; do
      exec 8<"$mnt/run/packed/$shard"
      for pack in "$store"/run/packed/.ckptfs/pack-*; do
        # shellcheck disable=SC2086
        $what "$pack"
      done
      # Open already: what it was, or an error; never other bytes.
      if cat <&8 >"$tmp/read" 2>/dev/null; then
        head -c "$(stat -c %s "$tmp/read")" "$tmp/unpacked/$shard" | cmp - "$tmp/read"
      fi
      exec 8<&-
      is_eio "$mnt/run/packed/$shard"
      others_are_served
      rm -f "$store"/run/packed/.ckptfs/pack-*
      cp -p "$tmp"/control/pack-* "$store/run/packed/.ckptfs/"
      ok cmp "$mnt/run/packed/$shard" "$tmp/unpacked/$shard"
    done
    umount_store "$mnt"
  done
}
