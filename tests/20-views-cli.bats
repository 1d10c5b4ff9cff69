#!/usr/bin/env bats
# bats file_tags=fast
# Views by the commands, without a mount: ls, cat and cp of .ckptfs in checkpoints of a store, and in
# folders of no store. One store and one bare folder, never changed.
load helpers/common

setup_file() {
  new_store
  mkdir -p "$store/run/step-1" "$tmp/bare/run/step-7/part" "$tmp/bare/run/step-8" "$tmp/bare/empty"
  make_model "$store/run/step-1/model.safetensors" model 6
  printf '{"model_type":"none"}\n' >"$store/run/step-1/config.json"
  cp -r "$store/run/step-1/." "$tmp/bare/run/step-7"
  make_model "$tmp/bare/run/step-7/part/small.safetensors" small
  cp "$store/run/step-1/model.safetensors" "$tmp/bare/run/step-8"
  chmod -R a+rX "$tmp/bare" "$store"
  ckptfs commit "$store/run/step-1" 3>&-
  committed run/step-2 2
  snapshot "$store" >"$tmp/before"
  snapshot "$tmp/bare" >>"$tmp/before"
}

# Whatever was looked at, nothing has changed, and nothing was left behind.
teardown_file() {
  snapshot "$store" >"$tmp/after"
  snapshot "$tmp/bare" >>"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

setup() {
  store=$BATS_FILE_TMPDIR/store
  step=$store/run/step-1
  bare=$BATS_FILE_TMPDIR/bare/run/step-7
}

# tensor FILE FQN: the tensor's own bytes in a safetensors file
tensor() {
  python3 - "$@" <<'PY'
import json, sys

with open(sys.argv[1], "rb") as file:
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    begin, end = header[sys.argv[2]]["data_offsets"]
    file.seek(8 + length + begin)
    sys.stdout.buffer.write(file.read(end - begin))
PY
}

# paths: of the last listing
paths() {
  awk 'NR > 1 { print $NF }' <<<"$stdout" | paste -sd' '
}

@test "ls of .ckptfs lists the views of a committed checkpoint, by bytes, with its manifest and sums" {
  ok ckptfs ls "$step/.ckptfs"
  assert_eq "$(head -1 <<<"$stdout" | sed -E 's/ {2,}/|/g')" 'MODE|SIZE|PATH'
  assert_eq "$(paths)" ".ckptfs/ .ckptfs/XXH128SUMS .ckptfs/manifest.jsonl .ckptfs/hf/ .ckptfs/hf/config.json\
 .ckptfs/hf/model.safetensors .ckptfs/safetensors/ .ckptfs/safetensors/all.safetensors .ckptfs/tensors/\
 .ckptfs/tensors/embed.weight.npy .ckptfs/tensors/layers.0.attn.weight.npy .ckptfs/tensors/layers.0.bias.bf16-as-u16.npy\
 .ckptfs/tensors/layers.0.norm.weight.npy .ckptfs/tensors/step.npy"
}

@test "ls of a folder of views tells sizes in bytes with --json, and of one view that one" {
  ok ckptfs ls --json "$step/.ckptfs/hf"
  assert_eq "$(python3 -c 'import json, sys
print([(row["mode"], row["size"], row["path"]) for row in json.load(sys.stdin)][:2])' <<<"$stdout")" \
    "[('dr-xr-xr-x', None, '.ckptfs/hf'), ('-r--r--r--', 22, '.ckptfs/hf/config.json')]"
  ok ckptfs ls "$step/.ckptfs/tensors/step.npy"
  assert_eq "$(paths)" .ckptfs/tensors/step.npy
}

@test "cat of a view gives each tensor's bytes behind its header, in a store and in a folder of no store" {
  local dir fqn view
  for dir in "$step" "$bare"; do
    for fqn in embed.weight layers.0.attn.weight step; do
      view=$dir/.ckptfs/tensors/$fqn.npy
      tensor "$step/model.safetensors" "$fqn" >"$tmp/expected"
      ckptfs cat "$view" >"$tmp/npy"
      assert_eq "$(head -c 6 "$tmp/npy" | tail -c 5)" NUMPY
      same "$tmp/expected" <(tail -c "+$((129))" "$tmp/npy")
      ckptfs cat "$dir/.ckptfs/safetensors/all.safetensors" >"$tmp/all"
      same "$tmp/expected" <(tensor "$tmp/all" "$fqn")
    done
  done
}

@test "the data of a safetensors view begins at a multiple of 4096, and its header says pt" {
  ckptfs cat "$bare/.ckptfs/hf/model.safetensors" >"$tmp/model"
  cat >"$tmp/look.py" <<'PY'
import json, sys

data = open(sys.argv[1], "rb").read()
length = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + length])
print((8 + length) % 4096, header.pop("__metadata__"), 8 + length + max(t["data_offsets"][1] for t in header.values()) == len(data))
PY
  ok python3 "$tmp/look.py" "$tmp/model"
  assert_eq "$stdout" "0 {'format': 'pt'} True"
}

@test "views of a folder inside a checkpoint are those of the tensor set that lies in it" {
  ok ckptfs ls "$bare/part/.ckptfs/tensors"
  says part/.ckptfs/tensors/d3.npy part/.ckptfs/tensors/dtype.f8_e5m2.f8-as-u8.npy
  says_not embed.weight
  tensor "$bare/part/small.safetensors" d3 >"$tmp/expected"
  ckptfs cat "$bare/part/.ckptfs/tensors/d3.npy" >"$tmp/npy"
  same "$tmp/expected" <(tail -c +129 "$tmp/npy")
  # FQNs that are no file names are escaped, as shards are.
  ok ckptfs cat "$bare/part/.ckptfs/tensors/%2Eleading%2Fslash%25and%20space%20α.npy"
}

@test "tensors that PyTorch saved on two ranks are whole, in a folder of no store and committed in one" {
  local fixture=$BATS_TEST_DIRNAME/fixtures/dcp-2ranks dir good expected listed
  cat >"$tmp/digests.py" <<'PY'
import hashlib, json, subprocess, sys

expected = json.load(open(sys.argv[2]))
names = {json.loads(line)["path"] for line in sys.stdin.read().strip("[]\n").split(",\n") if '"-r' in line}
good = 0
for fqn, tensor in expected.items():
    suffix = {"bfloat16": ".bf16-as-u16.npy", "float8_e4m3fn": ".f8-as-u8.npy"}.get(tensor["dtype"], ".npy")
    path = f".ckptfs/tensors/{fqn}{suffix}"
    assert path in names, path
    npy = subprocess.run(["ckptfs", "cat", f"{sys.argv[1]}/{path}"], check=True, stdout=subprocess.PIPE).stdout
    good += hashlib.sha256(npy[10 + int.from_bytes(npy[8:10], "little") :]).hexdigest() == tensor["sha256"]
print(good, len(expected), len(names))
PY
  mkdir -p "$tmp/own/run"
  cp -r "$fixture" "$tmp/own/run/step-3"
  ckptfs init "$tmp/own" >"$tmp/said"
  ckptfs commit "$tmp/own/run/step-3"
  for dir in "$fixture" "$tmp/own/run/step-3"; do
    ckptfs ls --json "$dir/.ckptfs/tensors" >"$tmp/list"
    python3 "$tmp/digests.py" "$dir" "$fixture.expect.json" <"$tmp/list" >"$tmp/good"
    read -r good expected listed <"$tmp/good"
    assert_eq "$good of $expected, $listed listed" "$expected of $expected, $expected listed"
  done
}

@test "a folder with nothing but arrays in it is a checkpoint when it is named" {
  mkdir "$tmp/arrays"
  ckptfs cat "$bare/.ckptfs/tensors/step.npy" >"$tmp/arrays/count.npy"
  ok ckptfs ls "$tmp/arrays/.ckptfs/tensors"
  says .ckptfs/tensors/count.npy
  ckptfs cat "$tmp/arrays/.ckptfs/tensors/count.npy" >"$tmp/npy"
  same "$tmp/arrays/count.npy" "$tmp/npy"
}

@test "cat of a view that is cut off by its reader, and of an empty one, end well" {
  ckptfs cat "$bare/.ckptfs/safetensors/all.safetensors" | head -c 5000 >"$tmp/head"
  assert_eq "$(stat -c %s "$tmp/head")" 5000
  ckptfs cat "$bare/part/.ckptfs/tensors/empty.rows.npy" >"$tmp/npy"
  assert_eq "$(stat -c %s "$tmp/npy")" 128
}

@test "cp of hf makes a model folder, in DEST or as DEST, as cp -r does" {
  mkdir "$tmp/there"
  ok ckptfs cp "$step/.ckptfs/hf" "$tmp/model"
  ok ckptfs cp "$bare/.ckptfs/hf" "$tmp/there"
  assert_eq "$(find "$tmp/model" -type f -printf "%f\n" | sort | paste -sd" ")" "config.json model.safetensors"
  same_tree "$tmp/model" "$tmp/there/hf"
  same "$step/config.json" "$tmp/model/config.json"
  assert_eq "$(stat -c '%a %a' "$tmp/model/model.safetensors")" '644 644'
  tensor "$step/model.safetensors" embed.weight >"$tmp/expected"
  same "$tmp/expected" <(tensor "$tmp/model/model.safetensors" embed.weight)
}

@test "cp of a view of several pieces gives the bytes that cat gives" {
  mkdir "$tmp/large"
  make_model "$tmp/large/model.safetensors" model 20
  ok ckptfs cp "$tmp/large/.ckptfs/safetensors/all.safetensors" "$tmp/copy"
  ckptfs cat "$tmp/large/.ckptfs/safetensors/all.safetensors" >"$tmp/expected"
  [ "$(stat -c %s "$tmp/copy")" -gt $((10 << 20)) ] || fail "too small to tell"
  same "$tmp/expected" "$tmp/copy"
}

@test "cp of one tensor makes a file, and never overwrites one" {
  ok ckptfs cp "$bare/.ckptfs/tensors/step.npy" "$tmp"
  tensor "$step/model.safetensors" step >"$tmp/expected"
  same "$tmp/expected" <(tail -c 8 "$tmp/step.npy")
  cp "$tmp/step.npy" "$tmp/was"
  fails 1 ckptfs cp "$bare/.ckptfs/tensors/step.npy" "$tmp"
  says "'$tmp/step.npy' exists" 'not overwritten'
  fails 1 ckptfs cp "$bare/.ckptfs/hf" "$tmp/step.npy"
  same "$tmp/was" "$tmp/step.npy"
  fails 1 ckptfs cp "$bare/.ckptfs/hf" "$tmp/nowhere/model"
  says 'mkdir -p'
  fails 1 ckptfs cp "$bare/.ckptfs" "$tmp"
  says hf tensors safetensors
}

@test "cp of a view onto a disk without room says so, and leaves nothing" {
  local reason
  requires root
  small_disk 2 "$tmp/disk"
  fails 1 ckptfs cp "$bare/.ckptfs/hf" "$tmp/disk/model"
  reason=$stderr
  assert_eq "$(find "$tmp/disk" -name 'model*')" ''
  output=$reason
  says 'no space left' 'free some'
}

@test "a view that does not exist is told with those that do, and the one that was meant" {
  fails 1 ckptfs cat "$step/.ckptfs/tensors/embed.wieght.npy"
  says "'embed.wieght.npy'" "did you mean 'embed.weight.npy'" step.npy
  fails 1 ckptfs ls "$step/.ckptfs/tensor"
  says "did you mean 'tensors'" "'hf'"
  fails 1 ckptfs cat "$step/.ckptfs/tensors"
  says 'ckptfs ls'
  fails 1 ckptfs cat "$step/.ckptfs/tensors/step.npy/more"
  says 'is a file'
  fails 1 ckptfs ls "$bare/nope/.ckptfs"
  says "'step-7/nope'" "'.ckptfs'" "'part/.ckptfs'"
}

@test "a checkpoint without tensors has no views, and ls says why" {
  fails 1 ckptfs ls "$store/run/step-2/.ckptfs"
  says 'no tensors are understood' 'ckptfs show'
  fails 1 ckptfs cat "$store/run/step-2/.ckptfs/safetensors/all.safetensors"
  says 'no tensors are understood'
}

@test "a damaged block of a committed checkpoint is named by cat and cp of a view, and no copy stays" {
  cp -r "$store" "$tmp/damaged"
  local model=$tmp/damaged/run/step-1/model.safetensors
  printf 'x' | dd of="$model" bs=1 seek=1200000 conv=notrunc status=none
  fails 1 ckptfs cat "$tmp/damaged/run/step-1/.ckptfs/tensors/embed.weight.npy"
  says 'run/step-1/model.safetensors: block 1 (' 'xxh3-64 is' 'ckptfs verify'
  fails 1 ckptfs cp "$tmp/damaged/run/step-1/.ckptfs/hf" "$tmp/model"
  says 'block 1 ('
  assert_eq "$(find "$tmp" -maxdepth 1 -name 'model*')" ''
  ok ckptfs cat "$tmp/damaged/run/step-1/.ckptfs/tensors/step.npy"
}

@test "show, ls and cat work in a folder of no store that was never committed; verify says that it cannot" {
  ok ckptfs show "$bare"
  says 'name: step-7' 'state: open' 'tensor set .: ' 'tensor set part: '
  ok ckptfs ls "$bare"
  says config.json part/small.safetensors
  ok ckptfs ls "$bare/part"
  says part/small.safetensors
  ok ckptfs cat "$bare/config.json"
  assert_eq "$stdout" '{"model_type":"none"}'
  fails 1 ckptfs cat "$bare/.ckptfs/XXH128SUMS"
  says 'a commit makes it'
  ok ckptfs cp "$bare" "$tmp/copy"
  same "$bare/model.safetensors" "$tmp/copy/model.safetensors"
  fails 1 ckptfs verify "$bare"
  says 'nothing can be verified' 'never committed' 'ckptfs commit'
  cd "$bare"
  ok ckptfs ls .ckptfs/hf
  says .ckptfs/hf/model.safetensors
}

@test "a folder in no store without tensors, one that holds checkpoints, and none at all, are told apart" {
  local dir=${bare%/run/step-7} command
  for command in show ls cat; do
    fails 1 ckptfs "$command" "$dir/empty"
    says "'$dir/empty' is in no store" 'no tensor format is recognised' safetensors 'ckptfs init'
    fails 1 ckptfs "$command" "$dir/run"
    says 'checkpoints lie in it' "ckptfs init $dir/run"
    fails 1 ckptfs "$command" "$dir/run/step-9"
    says 'does not exist'
  done
  fails 1 ckptfs cat "$dir/run/step-9/.ckptfs/hf/model.safetensors"
  says 'in no store'
}

@test "commands that change checkpoints refuse a folder that is in no store" {
  local command
  for command in commit rm abort pin undelete; do
    fails 1 ckptfs "$command" "$bare"
    says 'in no store' 'ckptfs init'
  done
}

@test "a model in somebody's home does not make a checkpoint of what lies beside it" {
  mkdir -p "$tmp/home/notes/old"
  cp "$bare/model.safetensors" "$tmp/home"
  echo text >"$tmp/home/notes/old/todo"
  fails 1 ckptfs ls "$tmp/home/notes"
  says 'in no store'
  fails 1 ckptfs cat "$tmp/home/notes/old/todo"
  says 'in no store'
  ok ckptfs ls "$tmp/home"
  # With the name of a checkpoint it is one, and its folders are parts of it.
  mv "$tmp/home" "$tmp/step-5"
  ok ckptfs cat "$tmp/step-5/notes/old/todo"
  assert_eq "$stdout" text
}
