#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Orbax: nested temporary folders, renamed from the inner to the outer one; retention by itself.
load helpers/common
load helpers/clients

setup() {
  requires_client orbax.checkpoint jax
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run"
  mount_store "$store" "$mnt"
}

@test "Orbax commits each step by its outer rename, keeps two, and loads after a remount" {
  client orbax save "$mnt/run" 0 4
  says 'kept [2, 3]'
  ok ckptfs ls "$mnt"
  says_like '^run/0 +removed' '^run/1 +removed' '^run/2 +committed' '^run/3 +committed'
  says_not ' open '
  digests "$store/run/3" >"$tmp/stored"
  umount_store "$mnt"
  mount_store "$store" "$mnt" ro
  digests "$mnt/run/3" | diff "$tmp/stored" -
  client orbax load "$mnt/run" 3
  umount_store "$mnt"
  mount_store "$store" "$mnt"
  client orbax save "$mnt/run" 4 6
  says 'kept [4, 5]'
  client orbax load "$mnt/run" 5
  ok ckptfs verify "$store"
}

@test "Orbax with todelete_subdir renames committed steps as a whole" {
  client orbax save "$mnt/run" 0 4 todelete
  says 'kept [2, 3]'
  ok ckptfs ls "$mnt"
  says_like '^run/todelete/0 +committed' '^run/todelete/1 +committed' '^run/2 +committed' '^run/3 +committed'
  client orbax load "$mnt/run" 3
  ok ckptfs verify "$store"
}

@test "Orbax killed between the inner and the outer rename has committed nothing, and goes on" {
  client orbax save "$mnt/run" 0 2
  status=0
  env JAX_PLATFORMS=cpu "$clients_python" -W ignore "$HELPERS/client_orbax.py" die "$mnt/run" 2 3>&- || status=$?
  assert_eq "$status" 137 "exit status of the killed one"
  ok ckptfs ls "$mnt"
  says_like '^run/0 +committed' '^run/1 +committed' '^run/2\.orbax-checkpoint-tmp.* +open'
  [ -d "$(echo "$mnt"/run/2.orbax-checkpoint-tmp*)/default" ] || fail "the inner rename has not happened: $(ls "$mnt"/run/2*)"
  client orbax load "$mnt/run" 1
  client orbax save "$mnt/run" 2 3
  client orbax load "$mnt/run" 2
  ok ckptfs verify "$store"
}
