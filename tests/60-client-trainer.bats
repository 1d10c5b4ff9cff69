#!/usr/bin/env bats
# bats file_tags=slow,fuse
# transformers.Trainer, unmodified: its output_dir is a folder of the mount.
load helpers/common
load helpers/clients

setup() {
  requires_client transformers accelerate
  new_store
  mnt=$tmp/mnt
  mkdir "$store/bert"
  mount_store "$store" "$mnt" autocommit=2
}

@test "the Trainer saves, is committed by rule, resumes after a remount, and removes all but the two newest" {
  client trainer "$mnt/bert" 12
  echo 'a note of mine' >"$mnt/bert/notes.txt"
  eventually 20 is_committed bert/checkpoint-12
  eventually 20 is_committed bert/checkpoint-8
  assert_eq "$(ls "$mnt/bert")" $'checkpoint-12\ncheckpoint-8\nnotes.txt' "what is there"
  eventually 2 grep -q "committed 'bert/checkpoint-12' as 'bert/checkpoint-12', complete by rule transformers" "$mnt.log"
  digests "$store/bert/checkpoint-12" >"$tmp/stored"
  umount_store "$mnt"
  mount_store "$store" "$mnt" autocommit=2
  digests "$mnt/bert/checkpoint-12" | diff "$tmp/stored" -
  client trainer "$mnt/bert" 20 resume
  says 'trained to step 20'
  eventually 20 is_committed bert/checkpoint-20
  eventually 20 is_committed bert/checkpoint-16
  assert_eq "$(ls "$mnt/bert")" $'checkpoint-16\ncheckpoint-20\nnotes.txt' "what is there"
  assert_eq "$(readlink "$mnt/bert/.ckptfs/latest")" ../checkpoint-20 "latest"
  # What it rotated away after the commit lies in the trash; groups stay writable.
  ok ckptfs ls "$mnt"
  says_like '^bert/checkpoint-12 +removed +12 ' '^bert/checkpoint-20 +committed +20 '
  echo more >>"$mnt/bert/notes.txt"
  ok ckptfs verify "$store"
}
