#!/usr/bin/env bats
# bats file_tags=slow,fuse
# The programs that people read checkpoints with, above all those that map files: on shards that are
# files of their own, on shards in packs, and on virtual files.
load helpers/common
load helpers/clients
load helpers/counters

setup_file() {
  requires fuse clients
  new_store
  mkdir -p "$store/run/step-1"
  client make "$store/run/step-1"
  make_files "$store/run/step-1/more" 3
  ckptfs commit "$store/run/step-1" >/dev/null 3>&-
}

setup() {
  requires fuse clients
  store=$BATS_FILE_TMPDIR/store
  mnt=$tmp/mnt
  step=$mnt/run/step-1
  plain=$store/run/step-1
}

client() {
  "$CKPT_TOP/build/venv/bin/python3" "$HELPERS/clients.py" "$@"
}

# reads_as WORD FILE PLAIN: that client finds the bytes of PLAIN in FILE
reads_as() {
  ok "$CKPT_TOP/build/venv/bin/python3" "$HELPERS/clients.py" "$@"
}


# The ways a shard can be served; with each, the clients see the same.
ways=(verify=auto verify=read verify=open passthrough=off)

@test "numpy.memmap and numpy.load map shards, however they are verified" {
  local way
  for way in "${ways[@]}"; do
    mount_store "$store" "$mnt" "$way"
    reads_as memmap "$step/more/big.bin" "$plain/more/big.bin"
    reads_as npy "$step/array.npy" "$plain/array.npy"
    umount_store "$mnt"
  done
}

@test "safetensors opens, slices and loads a model, however it is verified" {
  local way
  for way in "${ways[@]}"; do
    mount_store "$store" "$mnt" "$way"
    reads_as safetensors "$step/model.safetensors" "$plain/model.safetensors"
    umount_store "$mnt"
  done
}

@test "torch loads a file with and without mapping it, however it is verified" {
  requires_client torch
  local way
  for way in "${ways[@]}"; do
    mount_store "$store" "$mnt" "$way"
    DEADLINE=200 reads_as torch "$step/state.pt" "$plain/state.pt"
    reads_as torch_safetensors "$step/model.safetensors" "$plain/model.safetensors"
    umount_store "$mnt"
  done
}

# bats test_tags=passthrough
@test "clients that map need no READ request where the kernel reads by itself" {
  requires passthrough
  local before
  mount_store "$store" "$mnt"
  before=$(reads_of "$mnt")
  reads_as safetensors "$step/model.safetensors" "$plain/model.safetensors"
  reads_as memmap "$step/more/big.bin" "$plain/more/big.bin"
  assert_eq "$(reads_of "$mnt")" "$before" "READ requests"
  umount_store "$mnt"
}

@test "clients map the sum file and the manifest" {
  mount_store "$store" "$mnt"
  cat "$step/.ckptfs/XXH128SUMS" >"$tmp/sums"
  reads_as memmap "$step/.ckptfs/XXH128SUMS" "$tmp/sums"
  reads_as memmap "$step/.ckptfs/manifest.jsonl" "$plain/.ckptfs/manifest.jsonl"
  umount_store "$mnt"
}

# packed_store: a checkpoint of 2 ranks, most of whose shards lie in packs, and $tmp/plain with each as a file
packed_store() {
  requires mpi
  new_store "$tmp/store"
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/run/step-1" --from "$tmp/model.safetensors"
  ok ckptfs cp "$store/run/step-1" "$tmp/plain"
  plain=$tmp/plain
  mapfile -t packed < <(jq -r 'select(.at and .size > 0) | .shard' "$store/run/step-1/.ckptfs/manifest.jsonl")
  [ "${#packed[@]}" -ge 20 ] || fail "only ${#packed[@]} shards lie in packs"
}

# bats test_tags=mpi
@test "numpy.memmap maps shards that lie in packs" {
  local shard packed
  packed_store
  mount_store "$store" "$mnt"
  for shard in "${packed[@]:0:12}"; do
    reads_as memmap "$step/$shard" "$plain/$shard"
  done
  umount_store "$mnt"
}

# bats test_tags=mpi
@test "torch maps shards that lie in packs" {
  requires_client torch
  local shard packed
  packed_store
  mount_store "$store" "$mnt"
  for shard in "${packed[@]:0:3}"; do
    reads_as storage "$step/$shard" "$plain/$shard"
  done
  umount_store "$mnt"
}

@test "a client that maps a damaged shard gets an error at open, not other bytes" {
  cp -r "$store" "$tmp/store"
  store=$tmp/store
  ckpt-test flip "$store/run/step-1/model.safetensors" 1000000
  ckpt-test flip "$store/run/step-1/array.npy" 100000
  mount_store "$store" "$mnt"
  try "$CKPT_TOP/build/venv/bin/python3" "$HELPERS/clients.py" safetensors "$step/model.safetensors" "$plain/model.safetensors"
  assert_status 1
  # It says so of whatever cannot be opened.
  says_like 'FileNotFoundError|os error 5'
  try "$CKPT_TOP/build/venv/bin/python3" "$HELPERS/clients.py" npy "$step/array.npy" "$plain/array.npy"
  assert_status 1
  says 'Errno 5'
  reads_as memmap "$step/more/big.bin" "$plain/more/big.bin"
  umount_store "$mnt"
}
