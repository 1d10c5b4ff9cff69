#!/usr/bin/env bats
# bats file_tags=mpi
# Collective save and load: any number of ranks, the bytes of the input.
load helpers/common

setup() {
  requires mpi
  new_store
}

# bats test_tags=slow,sanitized
@test "2 ranks save, 1 and 3 load: the same model, and packed shards are the slices of the input" {
  make_model "$tmp/model" small
  mv "$tmp/model" "$tmp/model.safetensors"
  ok mpi 2 save "$store/run1/step-5" --from "$tmp/model.safetensors" --meta loss=0.25 --step 55
  ok ckptfs verify "$store"
  says 'run1/step-5: ok'
  ok ckptfs show "$store/run1/step-5"
  says 'step: 55' 'world_size: 2' 'writer: ckptfs-mpi ' '"loss":0.25'
  for ranks in 1 3; do
    ok mpi $ranks load "$store/run1/step-5" --to "$tmp/again.$ranks"
    slice "$tmp/model.safetensors" compare "$tmp/again.$ranks"
  done
  same "$tmp/again.1" "$tmp/again.3"
  ok ckptfs cp "$store/run1/step-5" "$tmp/plain"
  slice "$tmp/model.safetensors" shards "$tmp/plain" 2
}

# bats test_tags=slow
@test "1, 2, 4 and 7 ranks save the small model; 1, 2, 3 and 4 ranks load it; every output is the same" {
  local save load
  make_model "$tmp/model.safetensors" small
  for save in 1 2 4 7; do
    ok mpi $save save "$store/w$save" --from "$tmp/model.safetensors"
    ok ckptfs verify "$store/w$save"
    ok ckptfs cp "$store/w$save" "$tmp/plain$save"
    slice "$tmp/model.safetensors" shards "$tmp/plain$save" $save
    for load in 1 2 3 4; do
      ok mpi $load load "$store/w$save" --to "$tmp/out"
      slice "$tmp/model.safetensors" compare "$tmp/out"
      [ -e "$tmp/first" ] || cp "$tmp/out" "$tmp/first"
      same "$tmp/out" "$tmp/first"
      rm "$tmp/out"
    done
  done
}

# bats test_tags=slow
@test "a larger model, with shards that are files of their own, comes back the same" {
  local large
  make_model "$tmp/model.safetensors" model 40
  ok mpi 4 save "$store/big" --from "$tmp/model.safetensors"
  large=$(find "$store/big" -type f -path '*/rank-*' -size +1023k | wc -l)
  [ "$large" -ge 20 ] || fail "only $large shards are files"
  ok mpi 4 verify "$store/big"
  ok ckptfs cp "$store/big" "$tmp/plain"
  slice "$tmp/model.safetensors" shards "$tmp/plain" 4
  ok mpi 3 load "$store/big" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
  ok mpi 2 load "$store/big"
}

# bats test_tags=fast
@test "a mounted checkpoint of ranks shows packed shards as files, with tensor, rank, sums" {
  requires fuse
  local shard mnt=$tmp/mnt
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/run1/step-5" --from "$tmp/model.safetensors"
  mount_store "$store" "$mnt"
  cd "$mnt/run1/step-5"
  ok xxhsum --quiet -c .ckptfs/XXH128SUMS
  shard="rank-00001/d3@5_0_0"
  slice "$tmp/model.safetensors" cut d3 1 2 | cmp - "$shard"
  slice "$tmp/model.safetensors" cut d3 1 2 >"$tmp/cut"
  ok ckpt-test map-compare "$shard" "$tmp/cut"
  ok ckpt-test compare "$shard" "$tmp/cut" 100 2
  assert_eq "$(getfattr --only-values -n user.ckptfs.fqn $shard)" d3
  assert_eq "$(getfattr --only-values -n user.ckptfs.dtype $shard)" F16
  assert_eq "$(getfattr --only-values -n user.ckptfs.rank $shard)" 1
  getfattr --only-values -n user.ckptfs.shape $shard | jq -e '. == [9,4,5]'
  getfattr --only-values -n user.ckptfs.chunk $shard | jq -e '.start == [5,0,0] and .size == [4,4,5]'
  assert_eq "$(getfattr --only-values -n user.ckptfs.world_size .)" 2
  cd "$tmp"
  # The packs themselves are not shown.
  ok ls "$mnt/run1/step-5/.ckptfs"
  says_not pack-
  cp -r "$mnt/run1/step-5" "$tmp/copy"
  ok ckptfs cp "$store/run1/step-5" "$tmp/plain"
  same_tree "$tmp/copy" "$tmp/plain"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "damage in a pack is named with the shard, its block and the pack; the mount answers EIO for that shard only" {
  requires fuse
  local offset size mnt=$tmp/mnt
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/step-5" --from "$tmp/model.safetensors"
  read -r offset size < <(jq -r 'select(.shard == "rank-00000/three.rows@0_0") | "\(.at.offset) \(.size)"' "$store/step-5/.ckptfs/manifest.jsonl")
  assert_eq "$size" 4000
  ckpt-test flip "$store/step-5/.ckptfs/pack-00000" $((offset + 2500)) 6
  fails 1 ckptfs verify "$store/step-5"
  says_like '^step-5/rank-00000/three.rows@0_0: block 0 \(bytes 0-3999\): xxh3-64 is .*, should be .* in .ckptfs/pack-00000'
  assert_eq "$(grep -c block <<<"$stdout")" 1
  mount_store "$store" "$mnt"
  errno_is EIO read "$mnt/step-5/rank-00000/three.rows@0_0"
  ok cat "$mnt/step-5/rank-00001/three.rows@2_0"
  umount_store "$mnt"
  fails 1 mpi 2 load "$store/step-5" --to "$tmp/out"
  says 'three.rows@0_0' 'block 0'
  [ ! -e "$tmp/out" ]
  fails 1 mpi 2 verify "$store/step-5"
  says 'three.rows@0_0: block 0'
}

# bats test_tags=slow
@test "--io mpiio and --io posix write the same bytes" {
  local io
  make_model "$tmp/model.safetensors" small
  for io in mpiio posix; do
    ok mpi 4 save "$store/$io" --from "$tmp/model.safetensors" --io $io
    ok ckptfs verify "$store/$io"
  done
  same "$store/mpiio/.ckptfs/pack-00000" "$store/posix/.ckptfs/pack-00000"
  diff <(jq -c 'select(.shard) | del(.mtime_ns)' "$store/mpiio/.ckptfs/manifest.jsonl") <(jq -c 'select(.shard) | del(.mtime_ns)' "$store/posix/.ckptfs/manifest.jsonl")
  jq -c 'select(.tensor)' "$store/mpiio/.ckptfs/manifest.jsonl" >"$tmp/a"
  jq -c 'select(.tensor)' "$store/posix/.ckptfs/manifest.jsonl" >"$tmp/b"
  same "$tmp/a" "$tmp/b"
}

# bats test_tags=slow
@test "--shard 1 cuts along the second dimension, and loads again" {
  make_model "$tmp/model.safetensors" small
  ok mpi 3 save "$store/cols" --from "$tmp/model.safetensors" --shard 1
  jq -es 'any(.tensor == "d3" and [.chunks[].start] == [[0,0,0],[0,2,0]])' "$store/cols/.ckptfs/manifest.jsonl"
  ok mpi 2 load "$store/cols" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
}

# bats test_tags=slow
@test "a model in several files, named by an index.json, is saved as one" {
  mkdir "$tmp/hf"
  make_model "$tmp/hf/model-00001-of-00002.safetensors" small
  make_model "$tmp/hf/model-00002-of-00002.safetensors" model 1
  python3 - "$tmp/hf" <<'EOF_PY'
import json, pathlib, sys
folder, weights = pathlib.Path(sys.argv[1]), {}
for path in sorted(folder.glob("*.safetensors")):
    with open(path, "rb") as data:
        header = json.loads(data.read(int.from_bytes(data.read(8), "little")))
    weights.update({fqn: path.name for fqn in header if fqn != "__metadata__"})
(folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weights}))
EOF_PY
  ok mpi 2 save "$store/hf" --from "$tmp/hf/model.safetensors.index.json"
  ok mpi 2 load "$store/hf" --to "$tmp/out"
  # The complex tensor is in none of them.
  says '1 complex tensor'
  for file in "$tmp"/hf/*.safetensors; do slice "$file" list; done | cut -f1 | grep -v c64 | LC_ALL=C sort >"$tmp/names"
  slice "$tmp/out" list | cut -f1 | LC_ALL=C sort | diff - "$tmp/names"
}

# bats test_tags=slow
@test "commit and import by ranks give what ckptfs commit gives" {
  make_files "$store/one"
  make_files "$store/two"
  make_files "$tmp/source"
  ok ckptfs commit "$store/one"
  ok mpi 3 commit "$store/two"
  ok mpi 3 import "$tmp/source" "$store/three"
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok (4 shards, 3548583 ' <<<"$stdout")" 3
  for name in two three; do
    same_tree "$store/$name" "$store/one"
    diff <(jq -c 'select(.shard) | [.shard,.size,.mode,.xxh128,.xxh3]' "$store/one/.ckptfs/manifest.jsonl") \
      <(jq -c 'select(.shard) | [.shard,.size,.mode,.xxh128,.xxh3]' "$store/$name/.ckptfs/manifest.jsonl")
  done
  assert_eq "$(stat -c '%a %.9Y' "$store/three/big.bin")" "$(stat -c '%a %.9Y' "$tmp/source/big.bin")"
}

# bats test_tags=slow
@test "a checkpoint that other tools wrote loads on ranks: safetensors files in a folder" {
  mkdir -p "$store/step-1"
  make_model "$store/step-1/model.safetensors" small
  ok ckptfs commit "$store/step-1"
  ok mpi 3 load "$store/step-1" --to "$tmp/out"
  slice "$store/step-1/model.safetensors" compare "$tmp/out"
}

# bats test_tags=slow
@test "saving by a path in a mount shows there at once" {
  requires fuse
  make_model "$tmp/model.safetensors" small
  mkdir "$store/run1"
  mount_store "$store" "$tmp/mnt"
  ok mpi 2 save "$tmp/mnt/run1/step-1" --from "$tmp/model.safetensors"
  eventually 1 test -e "$tmp/mnt/run1/step-1/.ckptfs/manifest.jsonl"
  ok mpi 2 load "$tmp/mnt/run1/step-1" --to "$tmp/out"
  slice "$tmp/model.safetensors" compare "$tmp/out"
  umount_store "$tmp/mnt"
}

# bats test_tags=slow
@test "while ranks save, ls shows an open checkpoint with a living writer, and nobody can commit or abort it" {
  make_model "$tmp/model.safetensors" small
  # One rank is stopped in write_data; the others wait for it.
  CKPTFS_FAULT='write_data@1:stop' mpi 2 save "$store/step-1" --from "$tmp/model.safetensors" --timeout 8 >"$tmp/log" 2>&1 3>&- 4>&- &
  saver=$!
  eventually 10 test -d "$store/step-1.partial/.ckptfs"
  ok ckptfs ls "$store"
  says_like 'step-1.partial +open'
  fails 1 ckptfs commit "$store/step-1.partial"
  fails 1 ckptfs abort "$store/step-1.partial"
  says writer
  fails 1 mpi 1 save "$store/step-1" --from "$tmp/model.safetensors"
  eventually 30 grep -q ETIMEDOUT "$tmp/log"
  not wait "$saver"
  cat "$tmp/log"
  grep -q 'rank 1 on .*: ETIMEDOUT' "$tmp/log"
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
}
