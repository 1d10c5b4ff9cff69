#!/usr/bin/env bats
# bats file_tags=slow,fuse,mpi
# What a person does first: the README's commands, and the demo.
load helpers/common

setup() {
  requires fuse mpi xxhsum getfattr
  mkdir "$tmp/TMP"
}

# The README's sh blocks, in order; what is expected to fail must.
readme_script() {
  echo 'set -euo pipefail'
  echo 'not() { ! "$@"; }'
  awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$CKPT_TOP/README.md" | sed 's/^! /not /'
}

# Nothing mounted and nothing left in TMPDIR.
nothing_left() {
  not grep -q "$tmp" /proc/mounts || fail 'something is still mounted'
  assert_eq "$(find "$tmp/TMP" -mindepth 1 | head -3)" '' 'what is left in TMPDIR'
}

@test "the README's commands work as they are written" {
  readme_script >"$tmp/readme"
  [ "$(grep -c '^ckptfs' "$tmp/readme")" -ge 5 ] || fail 'the README shows no commands any more'
  cd "$CKPT_TOP"
  DEADLINE=200 ok env TMPDIR="$tmp/TMP" CKPTFS_BUILD= bash "$tmp/readme"
  says 'run1/step-100: committed as run1/step-100' 'model.bin: OK' '../step-100' 'user.ckptfs.xxh128=' \
    'run1/step-100/optim.bin: block 0 (bytes 0-3892): xxh3-64 is' __1_0.distcp
  not grep -q "$tmp" /proc/mounts
}

@test "the demo walks through a model that is given, and leaves nothing behind" {
  make_model "$tmp/model.safetensors" small
  ok env TMPDIR="$tmp/TMP" MODEL="$tmp/model.safetensors" CKPTFS_BUILD="$CKPT_BIN" "$CKPT_TOP/scripts/demo.sh"
  says 'each the very slice of the input file' 'shards OK' 'every byte the same' "$(sha256sum <"$tmp/model.safetensors" | cut -c1-64)"
  says_like '^[0-9]+ shards of 24 tensors' '^16 of 16 tensors are the same$'
  nothing_left
}

@test "the demo shows a real model" {
  DEADLINE=200 ok env TMPDIR="$tmp/TMP" CKPTFS_BUILD="$CKPT_BUILD" "$CKPT_TOP/scripts/demo.sh"
  if [ "${CI:-}" = true ]; then says_not GENERATED; fi
  says_like '^[0-9]+ shards of [0-9]+ tensors, each the very slice of the input file'
  nothing_left
}

@test "a demo that is interrupted takes its mount and its folder away" {
  make_model "$tmp/model.safetensors" model 64
  env TMPDIR="$tmp/TMP" MODEL="$tmp/model.safetensors" CKPTFS_BUILD="$CKPT_BIN" "$CKPT_TOP/scripts/demo.sh" >"$tmp/demo.log" 2>&1 3>&- &
  eventually 60 grep -q "$tmp/TMP/.*fuse.ckptfs" /proc/mounts
  kill -TERM $!
  wait $! || status=$?
  assert_status 143
  nothing_left
}

@test "a model that cannot be read ends the demo with its name" {
  fails 1 env TMPDIR="$tmp/TMP" MODEL="$tmp/none.safetensors" CKPTFS_BUILD="$CKPT_BIN" "$CKPT_TOP/scripts/demo.sh"
  says "MODEL='$tmp/none.safetensors' cannot be read"
  nothing_left
}
