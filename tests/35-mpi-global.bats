#!/usr/bin/env bats
# bats file_tags=mpi
# Layout global: all ranks write one model.safetensors together.
load helpers/common
load helpers/counters
load helpers/ranks

setup() {
  requires mpi
  new_store
}

teardown() {
  clean_up
}

# two_dims FILE: a safetensors model whose tensors can be cut along dimension 1 into columns of a few bytes; no complex ones
two_dims() {
  python3 - "$1" <<'END'
import json, random, sys
shapes = {"wide": ("F32", [300, 1024], 4), "thin": ("U8", [400003, 4], 1), "half": ("BF16", [7, 3, 11], 2), "scalar": ("F64", [], 8),
          "none": ("I32", [0, 3], 4), "flag": ("BOOL", [3], 1)}
header, at = {}, 0
for fqn, (dtype, shape, width) in shapes.items():
    size = width
    for extent in shape:
        size *= extent
    header[fqn] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
    at += size
text = json.dumps(header).encode()
with open(sys.argv[1], "wb") as out:
    out.write(len(text).to_bytes(8, "little") + text + random.Random(1).randbytes(at))
END
}

# bats test_tags=slow,sanitized
@test "two ranks write one standard safetensors file; other numbers of ranks load the same model from it" {
  two_dims "$tmp/in.safetensors"
  ok mpi 2 save "$store/run1/step-5" --from "$tmp/in.safetensors" --layout global --step 5
  assert_eq "$(cd "$store/run1/step-5" && find . -type f -not -path './.ckptfs/*')" ./model.safetensors files
  slice "$tmp/in.safetensors" compare "$store/run1/step-5/model.safetensors"
  ok ckptfs verify "$store"
  says 'run1/step-5: ok (1 shards'
  ok ckptfs show "$store/run1/step-5"
  says 'world_size: 2' 'step: 5'
  jq -es 'map(select(.tensor)) | length == 6 and all(.chunks | length == 1 and .[0].shard == "model.safetensors")' "$store/run1/step-5/.ckptfs/manifest.jsonl"
  for ranks in 1 3; do
    ok mpi $ranks load "$store/run1/step-5" --to "$tmp/again.$ranks"
    # A load writes the bytes of the one file that any save in this layout has.
    same "$tmp/again.$ranks" "$store/run1/step-5/model.safetensors"
  done
  # One rank wrote it all, front to back, so the digest of the whole is known.
  assert_eq "$(jq -rs 'map(select(.shard)) | .[0].xxh128' "$store/run1/step-5/.ckptfs/manifest.jsonl")" "$(xxhsum -H2 - <"$store/run1/step-5/model.safetensors" | grep -oE '[0-9a-f]{32}')" digest
}

# bats test_tags=slow
@test "every cut, from every kind of memory, by either io, 1, 2 or all aggregators, now or in the background: the bytes that one rank writes" {
  ok mpi-test 4 global matrix "$store"
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok (1 shards' <<<"$stdout")" 78 "checkpoints that verify"
  slice "$store/alone/model.safetensors" compare "$store/mesh/from-2/mpiio-1/model.safetensors"
}

# bats test_tags=slow
@test "the safetensors library loads it, and every tensor has the digest that it has in the input" {
  requires clients
  make_model "$tmp/in.safetensors" model 20
  ok mpi 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global --aggregators 2
  cat >"$tmp/load.py" <<'END'
import hashlib, sys
import safetensors
sums = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        tensors = dict(safetensors.deserialize(file.read()))
    sums.append({fqn: (t["dtype"], t["shape"], hashlib.sha256(t["data"]).hexdigest()) for fqn, t in tensors.items()})
assert len(sums[0]) > 5 and sums[0] == sums[1], "other tensors"
with safetensors.safe_open(sys.argv[2], framework="np") as file:
    assert file.metadata() == {"format": "pt"}
    assert file.get_tensor("layers.1.attn.weight").shape == (1024, 1024)
END
  ok "$CKPT_TOP/build/venv/bin/python3" "$tmp/load.py" "$tmp/in.safetensors" "$store/step-1/model.safetensors"
}

# bats test_tags=slow
@test "with --io mpiio every rank makes the same number of collective writes, also with data sieving on and columns of single bytes" {
  local rank
  two_dims "$tmp/in.safetensors"
  ok launch 4 env OMPI_MCA_fbtl_posix_write_datasieving=1 "LD_PRELOAD=$CKPT_BUILD/libpmpi-count.so" "PMPI_COUNT_FILE=$tmp/count" \
    ckptfs-mpi save "$store/mpiio" --from "$tmp/in.safetensors" --layout global --shard 1 --io mpiio --aggregators 3
  ok mpi 4 save "$store/posix" --from "$tmp/in.safetensors" --layout global --shard 1 --io posix
  same "$store/mpiio/model.safetensors" "$store/posix/model.safetensors"
  slice "$tmp/in.safetensors" compare "$store/mpiio/model.safetensors"
  ok ckptfs verify "$store"
  for rank in 0 1 2 3; do
    # 3 MiB in windows of a block each: one round.
    assert_eq "$(awk '$1 == "write_at_all" { print $2 }' "$tmp/count.$rank")" 1 "collective writes of rank $rank"
  done
}

# bats test_tags=slow
@test "a piece of more than 2 GiB is written and read" {
  DEADLINE=200 ok mpi-test 2 global large "$store"
  ok ckptfs verify "$store/large"
}

# bats test_tags=fast
@test "a complex tensor is refused in the plan, with its name and the way out" {
  make_model "$tmp/in.safetensors" small
  on_ranks 2 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  all_told '0 prepare_global_plan EINVAL'
  says "'dtype.c64' is complex (C64)" "layout 'shards'"
  nothing_committed
}

# bats test_tags=slow
@test "a rank that fails between the rounds is the only one named, whoever writes, and the name can be saved again" {
  ok mpi-test 4 global faults "$store"
  ok ckptfs verify "$store"
}

# bats test_tags=slow
@test "a rank that stops in the exchange is named by all others when the time is up" {
  try mpi-test 3 global stop "$store"
  assert_eq "$status" 3 "exit status"
  says 'rank 0 knows who stopped' 'rank 2 knows who stopped'
  assert_eq "$(state_of stopped.partial)" aborted
}

# bats test_tags=slow
@test "faults on demand in write_data and write_data_async give their row, and nothing is committed" {
  two_dims "$tmp/in.safetensors"
  CKPTFS_FAULT='write_data@1,2:enospc' on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  all_told '1 write_data ENOSPC' '2 write_data ENOSPC'
  CKPTFS_FAULT='write_data_async@2' on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global --async
  all_told '2 write_data_async EIO'
  nothing_committed
  on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global --async
  all_did_it
  slice "$tmp/in.safetensors" compare "$store/step-1/model.safetensors"
}

# bats test_tags=slow
@test "a full disk is found before a byte is written" {
  requires loop
  small_disk 16 "$tmp/disk"
  new_store "$tmp/disk/store"
  make_model "$tmp/in.safetensors" model 24
  on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  says_like 'write_data: ENOSPC: .*free some, then save again'
  nothing_committed
}

# bats test_tags=slow
@test "each write that can fail on an aggregator fails the save with its own row, and the next save is whole" {
  requires faults
  local call
  PATH=$CKPT_FAULTS:$PATH
  two_dims "$tmp/in.safetensors"
  # The second of two aggregators is rank 1 of 3; 3 MiB are two windows.
  for call in pwrite:1 fdatasync:1; do
    CKPTFS_IO_FAULT="$call:EIO@1" on_ranks 3 save "$store/$call" --from "$tmp/in.safetensors" --layout global --aggregators 2
    all_told '1 write_data EIO'
    says "/model.safetensors'"
    nothing_committed
  done
  CKPTFS_IO_FAULT="fallocate:1:ENOSPC@0" on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  all_told '0 write_data ENOSPC'
  nothing_committed
  on_ranks 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  all_did_it
  slice "$tmp/in.safetensors" compare "$store/step-1/model.safetensors"
}

# bats test_tags=slow
@test "a rank that is killed while it makes, writes or syncs the file leaves nothing that could be taken for a checkpoint" {
  requires faults
  local call
  PATH=$CKPT_FAULTS:$PATH
  two_dims "$tmp/in.safetensors"
  for call in fallocate:1:kill@0 pwrite:1:kill@1 fdatasync:1:kill@1; do
    not env CKPTFS_IO_FAULT=$call launch 3 ckptfs-mpi save "$store/step-1" --from "$tmp/in.safetensors" --layout global --aggregators 2 >"$tmp/log" 2>&1 3>&- 4>&- </dev/null
    cat "$tmp/log"
    nothing_committed
    # Where it died it is open, or aborted by who outlived it; its name is free again once its writer is known to be dead.
    assert_eq "$(state_of step-1)" '' "state of step-1"
    rm -rf "$store/step-1.partial"
  done
  ok mpi 3 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  slice "$tmp/in.safetensors" compare "$store/step-1/model.safetensors"
}

# bats test_tags=fast
@test "through a mount the file is read and copied, from the kernel where it can hand files over" {
  requires fuse
  local mnt=$tmp/mnt before
  two_dims "$tmp/in.safetensors"
  ok mpi 2 save "$store/step-1" --from "$tmp/in.safetensors" --layout global
  mount_store "$store" "$mnt"
  cp "$mnt/step-1/model.safetensors" "$tmp/copy"
  same "$tmp/copy" "$store/step-1/model.safetensors"
  ok ckptfs cp "$mnt/step-1" "$tmp/plain"
  same "$tmp/plain/model.safetensors" "$tmp/copy"
  if [[ $(passthrough_of "$mnt") == *active* ]]; then
    before=$(reads_of "$mnt")
    cmp "$mnt/step-1/model.safetensors" "$tmp/copy"
    assert_eq "$(reads_of "$mnt")" "$before" "reads that came to the daemon"
  fi
  umount_store "$mnt"
}
