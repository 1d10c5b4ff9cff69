#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Lightning: checkpoints that are files, a link to the last one, and Fabric's folders with a late meta.pt.
load helpers/common
load helpers/clients

setup() {
  requires_client lightning torch
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run"
}

@test "ModelCheckpoint keeps two and links the last; training resumes from the link after a remount" {
  mount_store "$store" "$mnt" autocommit=2
  client lightning fit "$mnt/run" 3
  assert_eq "$(ls "$mnt/run")" $'epoch=1-step=8.ckpt\nepoch=2-step=12.ckpt\nlast.ckpt' "what is there"
  assert_eq "$(readlink "$mnt/run/last.ckpt")" epoch=2-step=12.ckpt "the link"
  umount_store "$mnt"
  mount_store "$store" "$mnt" autocommit=2
  client lightning fit "$mnt/run" 4 resume
  says 'epoch 4, step 16'
  assert_eq "$(readlink "$mnt/run/last.ckpt")" epoch=3-step=16.ckpt "the link"
  ok ckptfs verify "$store"
}

@test "Fabric may write meta.pt long after the quiet time: the save succeeds, and all of it is committed" {
  mount_store "$store" "$mnt" autocommit=1
  client lightning fabric "$mnt/run/step-5" 4
  says saved
  eventually 20 bash -c "[ -e '$store/run/step-5/.ckptfs/manifest.jsonl' ] && grep -q meta.pt '$store/run/step-5/.ckptfs/manifest.jsonl'"
  umount_store "$mnt"
  mount_store "$store" "$mnt" ro
  client lightning fabric-load "$mnt/run/step-5"
  ok ckptfs verify "$store"
}

@test "Fabric's folder with its own suffix waits for meta.pt, however long" {
  mount_store "$store" "$mnt" autocommit=1
  client lightning fabric "$mnt/run/last.ckpt" 4
  eventually 20 is_committed run/last.ckpt
  not grep -q 'open again' "$mnt.log" || fail "it was committed before meta.pt came"
  client lightning fabric-load "$mnt/run/last.ckpt"
}
