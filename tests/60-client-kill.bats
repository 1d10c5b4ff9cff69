#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Training that is killed again and again, and that runs on two nodes.
load helpers/common
load helpers/clients
load helpers/killed_runs

setup() {
  requires fuse root
  new_store
  mnt=$tmp/mnt
}

@test "40 steps under kill -9 of trainer and daemon: resuming finds the newest committed checkpoint each time" {
  killed_run 40 "$RANDOM"
  [ "$kills" -ge 2 ] || fail "only $kills kills"
  ok ckptfs ls "$store"
  says_like '^run/step-40 +committed +40 ' '^run/step-39 +committed'
  ok ckptfs verify "$store"
}

# bats test_tags=long
@test "200 steps under kill -9 of trainer and daemon: resuming finds the newest committed checkpoint each time" {
  DEADLINE=500 killed_run 200 "$RANDOM"
  [ "$kills" -ge 10 ] || fail "only $kills kills"
  ok ckptfs ls "$store"
  says_like '^run/step-200 +committed +200 ' '^run/step-199 +committed'
  ok ckptfs verify "$store"
}

@test "two ranks on two nodes, each with a mount of its own, write one checkpoint; one of them commits it" {
  requires_client torch
  local port=$((20000 + RANDOM % 20000)) rank pids=()
  mkdir -p "$store/run" "$mnt"
  for rank in 0 1; do
    # A node: a mount namespace with a mount of the store in it.
    unshare -m bash -c "
      mount.ckptfs '$store' '$mnt' -o autocommit=2,log='$tmp/node$rank.log' || exit 1
      PYTHONPATH='$CKPT_TOP/scripts' OMP_NUM_THREADS=1 RANK=$rank WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT=$port \
        timeout 100 '$clients_python' -W ignore '$HELPERS/client_dcp.py' save '$mnt/run' sync
      rc=\$?
      sleep 6
      ckptfs umount '$mnt' || exit 1
      exit \$rc" >"$tmp/node$rank.out" 2>&1 3>&- &
    pids+=($!)
  done
  for rank in 0 1; do
    wait "${pids[rank]}" || fail "node $rank: $(cat "$tmp/node$rank.out" "$tmp/node$rank.log")" || return 1
  done
  is_committed run/step-0 || fail "it is not committed: $(cat "$tmp"/node?.log)"
  assert_eq "$(grep -c '^{"shard":' "$store/run/step-0/.ckptfs/manifest.jsonl")" 3 "shards"
  assert_eq "$(cat "$tmp"/node?.log | grep -c ' committed ')" 1 "commits by both mounts"
  mount_store "$store" "$mnt" ro
  ranks 1 dcp load "$mnt/run" sync
  ok ckptfs verify "$store"
}
