#!/usr/bin/env bats
# bats file_tags=fast
# Views without a mount: which there are, what they are called, and every byte of them.
load helpers/common

# made SPEC…: a committed checkpoint of these tensors, $ckpt
made() {
  ckpt=$tmp/run/step-1
  python3 "$HELPERS/view_checkpoint.py" "$ckpt" "$@"
}

# tree: the views of $ckpt, "SIZE PATH" a line, and notes, in $output
tree() {
  ok ckpt-test view-tree "$ckpt"
}

# views: their paths, without folders
views() {
  grep -v '^note:' <<<"$stdout" | awk '$2 > 0 { print $NF }' | paste -sd' '
}

# keys PATH: the names in a safetensors view, sorted
keys() {
  ckpt-test view "$ckpt" "$1" >"$tmp/st"
  python3 -c 'import json, struct, sys
data = open(sys.argv[1], "rb").read()
(n,) = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + n])
assert header.pop("__metadata__") == {"format": "pt"} and (8 + n) % 4096 == 0
assert len(data) == 8 + n + max(t["data_offsets"][1] for t in header.values())
print(*sorted(header))' "$tmp/st"
}

# --- bytes -------------------------------------------------------------------------------------

# Elements are written one by one where strides say; no view is asked for them.
@test "tensors of all shapes, cut, strided and packed in all ways, are whole under 40,000 random reads of 8 threads" {
  ok ckpt-test view-made "$tmp/made" 1 40000 8
}

@test "the same with other shapes" {
  ok ckpt-test view-made "$tmp/made" 4 40000 8
}

@test "the same with more shards than are held open at a time" {
  ok ckpt-test view-made "$tmp/made" 6 20000 8
}

# bats test_tags=slow
@test "twelve more such checkpoints are right" {
  local seed
  for seed in $(seq 101 112); do
    ok ckpt-test view-made "$tmp/made" "$seed" 0 1 || return 1
    rm -r "$tmp/made"
  done
}

# bats test_tags=slow
@test "random reads of 8 threads are right where there are more blocks than are kept" {
  mkdir -p "$tmp/run/step-1"
  random_bytes 1 $((72 << 20)) >"$tmp/run/step-1/big"
  made fqn=big,dtype=U8,shape=$((72 << 20)),file=big
  ok ckpt-test view-random "$ckpt" .ckptfs/tensors/big.npy 5000 8
  ckpt-test view "$ckpt" .ckptfs/tensors/big.npy | tail -c $((72 << 20)) | cmp - "$ckpt/big"
}

@test "ranges of a view are bytes of the whole, up to its end and not behind it" {
  made fqn=w,dtype=U8,shape=100x7 fqn=v,dtype=F32,shape=5x5
  ckpt-test view "$ckpt" .ckptfs/safetensors/all.safetensors >"$tmp/whole"
  assert_eq "$(stat -c %s "$tmp/whole")" $((4096 + 100 + 700))
  ckpt-test view "$ckpt" .ckptfs/safetensors/all.safetensors 0 4000 4000 300 4300 10000 9999 5 >"$tmp/parts"
  same "$tmp/whole" "$tmp/parts"
  ckpt-test view "$ckpt" .ckptfs/tensors/w.npy | tail -c 700 >"$tmp/w"
  same "$tmp/w" "$ckpt/data-1"
}

@test "a damaged block fails the read that needs it, with its name and both sums; others go on" {
  made fqn=a,dtype=U8,shape=3000000 fqn=b,dtype=U8,shape=10
  ckpt-test flip "$ckpt/data-0" 1500000
  ok ckpt-test view "$ckpt" .ckptfs/tensors/a.npy 0 1000000
  fails 1 ckpt-test view "$ckpt" .ckptfs/tensors/a.npy 2000000 10
  says "step-1/data-0: block 1 (bytes 1048576-2097151): xxh3-64 is" "should be" "restore it"
  fails 1 ckpt-test view "$ckpt" .ckptfs/safetensors/all.safetensors
  ok ckpt-test view "$ckpt" .ckptfs/tensors/b.npy
  : >"$ckpt/data-1"
  fails 1 ckpt-test view "$ckpt" .ckptfs/tensors/b.npy
  says data-1 "has 0 bytes, should have 10"
}

# --- which there are ---------------------------------------------------------------------------

@test "a set has its tensors, all of them, its groups, and the model; the numbers are always the same" {
  made fqn=model.w,group=model fqn=model.b,group=model,shape=3 fqn=optim.w,group=optim fqn=step,shape=
  tree
  assert_eq "$(views)" ".ckptfs/hf/model.safetensors .ckptfs/safetensors/all.safetensors .ckptfs/safetensors/model.safetensors \
.ckptfs/safetensors/optim.safetensors .ckptfs/tensors/model.b.npy .ckptfs/tensors/model.w.npy .ckptfs/tensors/optim.w.npy .ckptfs/tensors/step.npy"
  says_not note:
  cp "$tmp/.stdout" "$tmp/first"
  cp -r "$ckpt" "$tmp/copy"
  ckpt=$tmp/copy tree
  same "$tmp/first" "$tmp/.stdout"
}

@test "all has every FQN in full, a group's view leaves its name out, and the model's own 'model.' stays" {
  made fqn=model.model.w,group=model fqn=model.lm_head,group=model fqn=optim.w,group=optim fqn=lr,shape=
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors)" "lr model.lm_head model.model.w optim.w"
  assert_eq "$(keys .ckptfs/safetensors/model.safetensors)" "lm_head model.w"
  assert_eq "$(keys .ckptfs/safetensors/optim.safetensors)" "w"
  assert_eq "$(keys .ckptfs/hf/model.safetensors)" "lm_head model.w"
}

@test "of a flat state dict the model is what is no entry of an optimizer, under its own names" {
  made fqn=model.w fqn=lm_head.w fqn=state.lm_head.w.exp_avg fqn=state.model.w.step,shape= fqn=param_groups.model.w.lr,shape= \
    fqn=optim.state.0.exp_avg fqn=optimizer.x fqn=state.space.weight
  assert_eq "$(keys .ckptfs/hf/model.safetensors)" "lm_head.w model.w state.space.weight"
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors | wc -w)" 8
}

@test "a model is also what Lightning, DeepSpeed and torch.save() scripts call otherwise" {
  local group
  for group in model_state_dict state_dict module; do
    rm -rf "$tmp/run"
    made "fqn=$group.w,group=$group" fqn=optimizer.w,group=optimizer fqn=epoch,shape=
    assert_eq "$(keys .ckptfs/hf/model.safetensors)" w
  done
  rm -rf "$tmp/run"
  made fqn=app.model.w,group=app fqn=app.optim.state.w.exp_avg,group=app
  assert_eq "$(keys .ckptfs/hf/model.safetensors)" w
}

@test "a set of other groups alone has no hf" {
  made fqn=optim.w,group=optim fqn=rng.w,group=rng
  tree
  says_not .ckptfs/hf
  fails 1 ckpt-test view "$ckpt" .ckptfs/hf/model.safetensors
}

@test "each folder with a set has views of its own, named alike" {
  made fqn=w,set=a fqn=w,set=a/b,dtype=F64 fqn=v,set=a.b
  tree
  assert_eq "$(views)" "a/.ckptfs/hf/model.safetensors a/.ckptfs/safetensors/all.safetensors a/.ckptfs/tensors/w.npy \
a.b/.ckptfs/hf/model.safetensors a.b/.ckptfs/safetensors/all.safetensors a.b/.ckptfs/tensors/v.npy \
a/b/.ckptfs/hf/model.safetensors a/b/.ckptfs/safetensors/all.safetensors a/b/.ckptfs/tensors/w.npy"
}

@test "FQNs of any kind are file names that stay where they are, and names in safetensors as they are" {
  local long
  long=$(printf 'x%.0s' {1..300})
  made fqn=../../etc/passwd fqn=.w fqn=50% 'fqn=a b' fqn=ü.w "fqn=$long"
  tree
  assert_eq "$(grep -o ' .ckptfs/tensors/.*' <<<"$stdout" | cut -d/ -f2- | sort | paste -sd' ')" "$(printf '%s\n' 'tensors/%2E.%2F..%2Fetc%2Fpasswd.npy' \
    tensors/%2Ew.npy tensors/50%25.npy tensors/a%20b.npy "tensors/${long:0:160}~$(printf %s "$long" | xxh64_of).npy" tensors/ü.w.npy | sort | paste -sd' ')"
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors)" "../../etc/passwd .w 50% a b $long ü.w"
}

@test "BF16 and F8 are numpy's integers, and their names say so; who comes second to a name is left out" {
  made fqn=w,dtype=BF16 fqn=w.bf16-as-u16,dtype=U16 fqn=f,dtype=F8_E4M3
  tree
  says .ckptfs/tensors/w.bf16-as-u16.npy .ckptfs/tensors/f.f8-as-u8.npy \
    "note: .ckptfs/tensors/w.bf16-as-u16.npy: tensor 'w.bf16-as-u16' is left out: tensor 'w' has that name"
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors)" "f w w.bf16-as-u16"
  ckpt-test view "$ckpt" .ckptfs/tensors/w.bf16-as-u16.npy | tail -c 12 >"$tmp/w"
  same "$tmp/w" "$ckpt/data-1"
}

@test "complex tensors are in tensors alone, and one line says so" {
  made fqn=a,dtype=C64 fqn=b,dtype=C128 fqn=w
  tree
  says .ckptfs/tensors/a.npy .ckptfs/tensors/b.npy "2 complex tensors are left out, 'a' and others"
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors)" w
}

@test "a group called all, two tensors of one name in a group, and a reserved name are left out, with notes" {
  made fqn=all.w,group=all fqn=model.w,group=model fqn=w,group=model fqn=__metadata__
  tree
  says "all.safetensors: it holds every tensor; there is no view of group 'all' alone" \
    "note: .ckptfs/safetensors/model.safetensors: cannot put tensor 'w' into a safetensors file: there are two of that name" \
    "tensor '__metadata__' is left out: the format keeps that name"
  assert_eq "$(keys .ckptfs/safetensors/all.safetensors)" "all.w model.w w"
}

@test "a tensor whose boxes overlap or leave a gap has no view, and a note says where; the others have theirs" {
  made fqn=gap,shape=4x4,chunks=0.0+2.4/2.0+1.4 fqn=twice,shape=4x4,chunks=0.0+3.4/2.0+2.4 fqn=w
  tree
  says "note: data-0: tensor 'gap' of shape [4, 4]: element [3, 0] is in no chunk" \
    "note: data-1: tensor 'twice': chunk [0..3)x[0..4) and chunk [2..4)x[0..4) overlap"
  assert_eq "$(views)" ".ckptfs/hf/model.safetensors .ckptfs/safetensors/all.safetensors .ckptfs/tensors/w.npy"
}

# --- companions --------------------------------------------------------------------------------

@test "companions of the model come from its folder, else the checkpoint, else the group; nothing else does" {
  mkdir -p "$tmp/run/step-1/sub"
  echo group >"$tmp/run/config.json"
  echo group >"$tmp/run/tokenizer.json"
  echo group >"$tmp/run/vocab.txt"
  echo code >"$tmp/run/modeling_x.py"
  ln -s config.json "$tmp/run/merges.txt"
  mkdir "$tmp/run/chat_template.jinja"
  echo top >"$tmp/run/step-1/config.json"
  echo top >"$tmp/run/step-1/tokenizer.json"
  echo set >"$tmp/run/step-1/sub/config.json"
  made fqn=w,set=sub
  tree
  assert_eq "$(views)" "sub/.ckptfs/hf/config.json sub/.ckptfs/hf/model.safetensors sub/.ckptfs/hf/tokenizer.json sub/.ckptfs/hf/vocab.txt \
sub/.ckptfs/safetensors/all.safetensors sub/.ckptfs/tensors/w.npy"
  says_like '^[0-9]+ 6 outside sub/.ckptfs/hf/vocab.txt$'
  assert_eq "$(ckpt-test view "$ckpt" sub/.ckptfs/hf/config.json)" set
  assert_eq "$(ckpt-test view "$ckpt" sub/.ckptfs/hf/tokenizer.json)" top
  assert_eq "$(ckpt-test view "$ckpt" sub/.ckptfs/hf/vocab.txt)" group
}

@test "a checkpoint without tensors has no views" {
  mkdir -p "$tmp/run/step-1"
  echo x >"$tmp/run/step-1/notes.txt"
  made
  tree
  assert_eq "$output" ""
}
