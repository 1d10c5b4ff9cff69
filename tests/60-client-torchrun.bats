#!/usr/bin/env bats
# bats file_tags=slow
# torchrun jobs that save with scripts/ckptfs_dcp.py: straight into the store, no mount, no MPI.
load helpers/common
load helpers/clients

setup() {
  requires_client torch xxhash
  new_store
  mkdir "$store/run"
  step=$store/run/step-7
}

@test "a job without a mount saves on 2 ranks, the coordinator commits, and 1 and 4 ranks load it" {
  ranks 2 torchrun save "$step"
  says 'save: done on 2 ranks'
  ok ckptfs ls "$store"
  says_like '^run/step-7 +committed +7 '
  ok ckptfs show "$step"
  says 'meta: {"loss":1.5}' 'shards: 3'
  ok ckptfs verify "$store"
  ranks 1 torchrun load "$step"
  ranks 4 torchrun load "$store/run/latest"
  says 'load: done on 4 ranks'
  not ls -d "$store"/run/*.partial
}

@test "an asynchronous save of a job without a mount is committed, too" {
  ranks 1 torchrun save "$step" async
  ranks 1 torchrun load "$step"
}

@test "/dev/fuse is not needed: a job that may not read it saves and loads" {
  requires root
  ranks 1 torchrun save "$step"
  # Nobody may open it here, and says so; the job does not notice.
  unshare -m bash -c "mount --bind /dev/null /dev/fuse && CKPT_TOP='$CKPT_TOP' PYTHONPATH='$CKPT_TOP/scripts' OMP_NUM_THREADS=1 \
    '$clients_python' -W ignore -m torch.distributed.run --standalone --nproc-per-node 1 '$HELPERS/client_torchrun.py' save '$store/run/step-8'" 3>&-
  ranks 1 torchrun load "$store/run/step-8"
}

@test "the commit of a job that leaves sums reads nothing of its shards but what tells of tensors" {
  requires strace
  cat >"$tmp/ckptfs" <<SH
#!/bin/sh
[ "\$1" != commit ] || exec strace -f -y -e trace=pread64,read -o "$tmp/trace" "$CKPT_BIN/ckptfs" "\$@"
exec "$CKPT_BIN/ckptfs" "\$@"
SH
  chmod +x "$tmp/ckptfs"
  CKPTFS=$tmp/ckptfs ranks 2 torchrun save "$step"
  is_committed run/step-7 || fail "it is not committed"
  [ -s "$tmp/trace" ] || fail "no trace of the commit"
  # Directories of archives, and the pickles that describe a tensor: never a megabyte of its bytes.
  not grep -E '\.distcp>.* = [0-9]{5,}' "$tmp/trace" || fail "the commit read shards"
  not grep -E '\.distcp>.* = (409[7-9]|4[1-9][0-9]{2}|[5-9][0-9]{3})$' "$tmp/trace" || fail "the commit read shards"
  ok ckptfs verify "$store"
}

@test "a rank that is killed while it saves leaves nothing committed, and the name can be saved again" {
  try env PYTHONPATH="$CKPT_TOP/scripts" OMP_NUM_THREADS=1 "$clients_python" -W ignore -m torch.distributed.run --standalone \
    --nproc-per-node 2 "$HELPERS/client_torchrun.py" die "$step"
  [ "$status" -ne 0 ] || fail "the job should have failed"
  not is_committed run/step-7
  ok ckptfs ls "$store"
  says_like '^run/step-7.partial +open'
  ok ckptfs verify "$store"
  ranks 2 torchrun save "$step"
  ranks 2 torchrun load "$step"
}

@test "a committed name is refused with its reason, on every rank, before anything is written" {
  ranks 1 torchrun save "$step"
  digests "$step" >"$tmp/before"
  try env PYTHONPATH="$CKPT_TOP/scripts" OMP_NUM_THREADS=1 "$clients_python" -W ignore -m torch.distributed.run --standalone \
    --nproc-per-node 2 "$HELPERS/client_torchrun.py" save "$step"
  [ "$status" -ne 0 ] || fail "it should have been refused"
  says 'is committed, and that never changes; take another name'
  digests "$step" | diff "$tmp/before" -
}
