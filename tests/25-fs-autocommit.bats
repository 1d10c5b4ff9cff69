#!/usr/bin/env bats
# bats file_tags=fuse,once
# Commits by completion rules through a mount: when they come, when they do not, and how one is taken back.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
  mkdir "$store/run1"
  run=$mnt/run1
}

# shards DIR [COUNT]: what DCP writes before its metadata.
shards() {
  local i
  mkdir -p "$1"
  for i in $(seq 0 $((${2:-2} - 1))); do
    random_bytes "$i" 300000 >"$1/__${i}_0.distcp"
  done
}

# metadata DIR: as DCP completes its checkpoint.
metadata() {
  echo pickle >"$1/.metadata.tmp"
  mv "$1/.metadata.tmp" "$1/.metadata"
}

is_committed() {
  [ -e "$store/$1/.ckptfs/manifest.jsonl" ]
}

# stays_open NAME SECONDS: it is not committed meanwhile.
stays_open() {
  local deadline=$((SECONDS + $2))
  while [ "$SECONDS" -lt "$deadline" ]; do
    not is_committed "$1" || fail "$1 was committed" || return 1
    sleep 0.1
  done
}

commits_in_log() {
  grep -c "complete by rule" "$1.log" || true
}

@test "a checkpoint is committed when its last file is there and nothing has changed for the quiet time" {
  local start
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  stays_open run1/step-1 3
  metadata "$run/step-1"
  start=${EPOCHREALTIME/./}
  eventually 20 is_committed run1/step-1
  [ $((${EPOCHREALTIME/./} - start)) -ge 1800000 ] || fail "before the quiet time"
  eventually 2 grep -q "committed 'run1/step-1' as 'run1/step-1', complete by rule dcp: 3 shards" "$mnt.log"
  assert_eq "$(commits_in_log "$mnt")" 1 "commits in the log"
  eventually 2 bash -c "[ \"\$(getfattr --only-values -n user.ckptfs.state '$run/step-1')\" = committed ]"
  ok ckptfs verify "$store"
  says 'run1/step-1: ok (3 shards'
  umount_store "$mnt"
  mount_store "$store" "$mnt" autocommit=2
  same_tree "$run/step-1" "$store/run1/step-1"
  errno_is EROFS create "$run/step-1/more"
  umount_store "$mnt"
}

@test "nothing is committed while a file in it is open for writing, through the mount or behind it" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  hold write "$run/step-1/__0_0.distcp"
  metadata "$run/step-1"
  stays_open run1/step-1 5
  let_go
  hold write "$store/run1/step-1/__1_0.distcp"
  stays_open run1/step-1 5
  let_go
  eventually 30 is_committed run1/step-1
  umount_store "$mnt"
}

@test "a slow writer, its metadata first, is waited for" {
  local i
  mount_store "$store" "$mnt" autocommit=2
  mkdir "$run/step-1"
  metadata "$run/step-1"
  for i in 1 2 3 4 5 6; do
    random_bytes "$i" 100000 >>"$run/step-1/__0_0.distcp"
    sleep 0.8
    not is_committed run1/step-1
  done
  eventually 20 is_committed run1/step-1
  assert_eq "$(stat -c %s "$store/run1/step-1/__0_0.distcp")" 600000
  ok ckptfs verify "$store/run1/step-1"
  umount_store "$mnt"
}

@test "changes behind the mount count as changes" {
  local i
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  metadata "$run/step-1"
  for i in 1 2 3 4 5; do
    sleep 0.8
    # Neither size nor mtime tell.
    touch -d '2026-01-01' "$store/run1/step-1/__1_0.distcp"
    not is_committed run1/step-1
  done
  eventually 20 is_committed run1/step-1
  umount_store "$mnt"
}

@test "only the mount that saw the completing file acts, and what none saw stays open" {
  mount_store "$store" "$mnt" autocommit=2
  mount_store "$store" "$tmp/other" autocommit=2
  shards "$run/step-1"
  shards "$store/run1/step-2"
  metadata "$store/run1/step-2"
  metadata "$run/step-1"
  eventually 20 is_committed run1/step-1
  stays_open run1/step-2 5
  assert_eq "$(commits_in_log "$mnt")" 1 "commits of the one"
  assert_eq "$(commits_in_log "$tmp/other")" 0 "commits of the other"
  ok ckptfs commit --all --quiet 0 "$run"
  says 'run1/step-2: committed as run1/step-2'
  umount_store "$tmp/other"
  umount_store "$mnt"
}

@test "a file that comes later than the quiet time reopens the checkpoint, which is committed again with it" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  metadata "$run/step-1"
  eventually 20 is_committed run1/step-1
  exec 8<"$run/step-1/__0_0.distcp"
  head -c 1000 <&8 >"$tmp/read"
  echo state >"$run/step-1/meta.pt"
  not is_committed run1/step-1
  [ -e "$store/run1/step-1/.ckptfs/manifest.reopened" ]
  grep -q "'run1/step-1' was committed by rule and is written to: it is open again" "$mnt.log"
  cat <&8 >>"$tmp/read"
  exec 8<&-
  same "$tmp/read" "$store/run1/step-1/__0_0.distcp"
  eventually 20 is_committed run1/step-1
  [ ! -e "$store/run1/step-1/.ckptfs/manifest.reopened" ]
  ok ckptfs verify "$store"
  says 'run1/step-1: ok (4 shards'
  eventually 2 cat "$run/step-1/meta.pt"
  same "$run/step-1/meta.pt" "$store/run1/step-1/meta.pt"
  umount_store "$mnt"
}

@test "what a rule committed too early can be written in every way: overwritten, renamed, removed, in a folder made in it" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  metadata "$run/step-1"
  eventually 20 is_committed run1/step-1
  random_bytes 9 1000 >"$run/step-1/__0_0.distcp"
  not is_committed run1/step-1
  eventually 20 is_committed run1/step-1
  mkdir "$run/step-1/sub"
  not is_committed run1/step-1
  eventually 20 is_committed run1/step-1
  echo new >"$run/step-1/.metadata.tmp"
  mv "$run/step-1/.metadata.tmp" "$run/step-1/.metadata"
  not is_committed run1/step-1
  eventually 20 is_committed run1/step-1
  assert_eq "$(cat "$run/step-1/.metadata")" new
  random_bytes 9 1000 >"$tmp/expected"
  same "$tmp/expected" "$run/step-1/__0_0.distcp"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "what somebody else committed, or another mount writes to, stays committed" {
  mount_store "$store" "$mnt" autocommit=2
  mount_store "$store" "$tmp/other" autocommit=2
  shards "$run/step-1"
  ok ckptfs commit "$run/step-1"
  errno_is EROFS create "$run/step-1/.metadata"
  shards "$run/step-2"
  metadata "$run/step-2"
  eventually 20 is_committed run1/step-2
  eventually 2 errno_is EROFS create "$tmp/other/run1/step-2/meta.pt"
  is_committed run1/step-1
  is_committed run1/step-2
  umount_store "$tmp/other"
  umount_store "$mnt"
  # A new mount has made no guess.
  mount_store "$store" "$mnt" autocommit=2
  errno_is EROFS create "$run/step-2/meta.pt"
  umount_store "$mnt"
}

@test "with resave=replace a rule commits what is saved again, in the place of the old one" {
  mount_store "$store" "$mnt" autocommit=2,resave=replace
  shards "$run/step-1"
  metadata "$run/step-1"
  ok ckptfs commit "$run/step-1"
  sleep 1
  random_bytes 9 1000 >"$run/step-1/__0_0.distcp"
  metadata "$run/step-1"
  eventually 20 grep -q "as 'run1/step-1', complete by rule dcp: 2 shards" "$mnt.log"
  random_bytes 9 1000 >"$tmp/expected"
  eventually 2 cmp "$tmp/expected" "$run/step-1/__0_0.distcp"
  assert_eq "$(find "$store/run1" -maxdepth 1 -name 'step*' | wc -l)" 1 "folders"
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "with autocommit=off rules commit nothing, and ls says what is complete" {
  mount_store "$store" "$mnt" autocommit=off
  shards "$run/step-1"
  metadata "$run/step-1"
  stays_open run1/step-1 5
  ok ckptfs ls "$mnt"
  says '60 s without a change'
  umount_store "$mnt"
}

@test "two DCP folders in one checkpoint, a long pause between: no commit before all is there" {
  local name
  mount_store "$store" "$mnt" autocommit=2
  for name in checkpoint-5 state; do
    shards "$run/$name/pytorch_model_fsdp_0"
    metadata "$run/$name/pytorch_model_fsdp_0"
  done
  stays_open run1/state 5
  not is_committed run1/checkpoint-5
  not is_committed run1/state/pytorch_model_fsdp_0
  for name in checkpoint-5 state; do
    shards "$run/$name/optimizer_0"
    metadata "$run/$name/optimizer_0"
    echo x >"$run/$name/random_states_0.pkl"
    echo x >"$run/$name/random_states_1.pkl"
  done
  echo '{"global_step":5}' >"$run/checkpoint-5/trainer_state.json"
  eventually 20 is_committed run1/state
  eventually 20 is_committed run1/checkpoint-5
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok' <<<"$stdout")" 2 "checkpoints"
  umount_store "$mnt"
}

@test "a tracker that is written first commits nothing early" {
  mount_store "$store" "$mnt" autocommit=2
  echo global_step5 >"$run/latest"
  mkdir "$run/global_step5"
  echo x >"$run/global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt"
  stays_open run1/global_step5 4
  echo x >"$run/global_step5/mp_rank_00_model_states.pt"
  eventually 20 is_committed run1/global_step5
  # The next save goes on in the same group.
  mkdir "$run/global_step6"
  echo x >"$run/global_step6/mp_rank_00_model_states.pt"
  stays_open run1/global_step6 4
  echo global_step6 >"$run/latest"
  eventually 20 is_committed run1/global_step6
  umount_store "$mnt"
}

@test "a folder that gets its name by a rename is committed like one that was written there" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/writing"
  metadata "$run/writing"
  mv "$run/writing" "$run/step-1"
  eventually 20 is_committed run1/step-1
  assert_eq "$(commits_in_log "$mnt")" 1 "commits in the log"
  umount_store "$mnt"
}

@test "a daemon that is killed in the quiet time leaves it open, and commit --all takes it" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  metadata "$run/step-1"
  kill -KILL "$(daemon_of "$mnt")"
  gone_within 5 "$(daemon_of "$mnt")"
  ok ckptfs umount "$mnt"
  mount_store "$store" "$mnt" autocommit=2
  stays_open run1/step-1 4
  umount_store "$mnt"
  ok ckptfs commit --all --quiet 0 "$store"
  says 'run1/step-1: committed as run1/step-1'
  ok ckptfs verify "$store"
}

@test "checkpoints that are complete at almost the same time are committed in the order they were written in" {
  local i
  mount_store "$store" "$mnt" autocommit=2
  for i in $(seq 1 8); do
    shards "$run/step-$i" 1
    metadata "$run/step-$i"
  done
  for i in $(seq 1 8); do eventually 20 is_committed "run1/step-$i" || return 1; done
  ok ckptfs ls --json "$store"
  jq -e 'sort_by(.step) == sort_by(.seq)' <<<"$stdout" >/dev/null || fail "they were not"
  assert_eq "$(readlink "$mnt/run1/.ckptfs/latest")" ../step-8
  umount_store "$mnt"
}

@test "many checkpoints at once are all committed, each once, and unmounting does not wait for quiet ones" {
  local i
  mount_store "$store" "$mnt" autocommit=6
  for i in $(seq 1 12); do
    shards "$run/step-$i" 1
    metadata "$run/step-$i"
  done
  for i in $(seq 1 12); do eventually 40 is_committed "run1/step-$i" || return 1; done
  eventually 2 bash -c "[ \"\$(grep -c 'complete by rule' '$mnt.log')\" -eq 12 ]"
  shards "$run/step-99"
  metadata "$run/step-99"
  SECONDS=0
  umount_store "$mnt"
  [ "$SECONDS" -lt 6 ]
  not is_committed run1/step-99
}

@test "cp takes a file of a committed checkpoint into a new one of the same mount" {
  mount_store "$store" "$mnt" autocommit=2
  shards "$run/step-1"
  ok ckptfs commit "$run/step-1"
  mkdir "$run/step-2"
  eventually 2 test -e "$store/run1/step-1/.ckptfs/manifest.jsonl"
  ok cp "$run/step-1/__0_0.distcp" "$run/step-2/"
  same "$store/run1/step-1/__0_0.distcp" "$store/run1/step-2/__0_0.distcp"
  umount_store "$mnt"
}
