#!/usr/bin/env bats
# bats file_tags=fast
# Completion rules: what proves an open checkpoint complete, tool by tool, and what is said while a proof is missing.
load helpers/common

setup() {
  new_store
  run=$store/run1
  mkdir "$run"
}

# files DIR NAME…: the files, and the folders they lie in.
files() {
  local dir=$1 name
  shift
  for name in "$@"; do
    mkdir -p "$(dirname "$dir/$name")"
    echo "$name" >"$dir/$name"
  done
}

# waits NAME TEXT: so says ls in the last column.
waits() {
  ok ckptfs ls "$store" || return 1
  grep -F "$1 " "$tmp/.stdout" | grep -qF "waits for $2" || fail "$1 does not wait for $2"
}

# complete NAME RULE: the files prove it, and the quiet time is all that is missing.
complete() {
  waits "$1" '60 s without a change' || return 1
  ok ckptfs show --why "$store/$1" || return 1
  says "rule: $2" 'complete: true'
}

# commits NAME…: `commit --all` takes these and no other.
commits() {
  local name
  ok ckptfs commit --all --quiet 0 "$store" || return 1
  for name in "$@"; do
    says "$name: committed as $name" || return 1
  done
  assert_eq "$(grep -c ': committed as' <<<"$stdout")" $# "number of commits"
}

@test "dcp: complete when '.metadata' is at the top" {
  files "$run/step-1" __0_0.distcp __1_0.distcp
  waits run1/step-1 "'.metadata'"
  commits
  files "$run/step-1" .metadata.tmp
  waits run1/step-1 "'.metadata'"
  mv "$run/step-1/.metadata.tmp" "$run/step-1/.metadata"
  complete run1/step-1 dcp
  commits run1/step-1
}

@test "dcp: a folder inside needs its own '.metadata', which never completes the whole" {
  files "$run/step-1" a/__0_0.distcp a/.metadata
  waits run1/step-1 'a commit: no completion rule knows its files'
  files "$run/step-1" .metadata b/__0_0.distcp
  waits run1/step-1 "'b/.metadata'"
  files "$run/step-1" b/.metadata
  complete run1/step-1 dcp
  commits run1/step-1
}

@test "dcp: metadata of single ranks proves nothing about the others" {
  files "$run/step-1" __0_0.distcp __0.metadata __1_0.distcp __1.metadata
  waits run1/step-1 'a commit: each rank wrote metadata of its own'
  commits
  files "$run/step-1" .metadata
  complete run1/step-1 dcp
}

@test "dcp: Lightning's '*.ckpt' folders need 'meta.pt' besides" {
  files "$run/epoch=0-step=9.ckpt" __0_0.distcp .metadata
  waits 'run1/epoch=0-step=9.ckpt' "'meta.pt'"
  commits
  files "$run/epoch=0-step=9.ckpt" meta.pt
  complete 'run1/epoch=0-step=9.ckpt' dcp
}

@test "dcp: 'meta.pt' is needed where another checkpoint of the group has one" {
  files "$run/step-1" __0_0.distcp .metadata meta.pt
  files "$run/step-2" __0_0.distcp .metadata
  waits run1/step-2 "'meta.pt'"
  files "$store/run2/step-2" __0_0.distcp .metadata
  complete run2/step-2 dcp
  commits run1/step-1 run2/step-2
}

@test "accelerate: every DCP folder has its '.metadata' and every rank its random state" {
  files "$run/my" pytorch_model_fsdp_0/__0_0.distcp pytorch_model_fsdp_0/__1_0.distcp pytorch_model_fsdp_0/.metadata
  waits run1/my "'random_states_0.pkl'"
  files "$run/my" optimizer_0/__0_0.distcp
  waits run1/my "'optimizer_0/.metadata'"
  files "$run/my" optimizer_0/.metadata random_states_0.pkl
  waits run1/my "'random_states_1.pkl'"
  commits
  files "$run/my" random_states_1.pkl
  complete run1/my accelerate
  commits run1/my
}

@test "transformers: 'checkpoint-N' needs 'trainer_state.json', and '.metadata' in each nested DCP folder" {
  files "$run/checkpoint-5" pytorch_model_fsdp_0/__0_0.distcp pytorch_model_fsdp_0/.metadata rng_state.pth
  waits run1/checkpoint-5 "'trainer_state.json'"
  commits
  files "$run/checkpoint-5" optimizer_0/__0_0.distcp trainer_state.json
  waits run1/checkpoint-5 "'optimizer_0/.metadata'"
  files "$run/checkpoint-5" optimizer_0/.metadata
  complete run1/checkpoint-5 transformers
  commits run1/checkpoint-5
}

@test "transformers: an index of shards needs them all" {
  files "$run/checkpoint-5" config.json trainer_state.json model-00001-of-00002.safetensors
  echo '{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}' \
    >"$run/checkpoint-5/model.safetensors.index.json"
  waits run1/checkpoint-5 "'model-00002-of-00002.safetensors'"
  files "$run/checkpoint-5" model-00002-of-00002.safetensors
  complete run1/checkpoint-5 transformers
}

@test "transformers: what DeepSpeed writes inside is a part of it, tracker and all" {
  files "$run/checkpoint-7" global_step7/mp_rank_00_model_states.pt
  echo global_step7 >"$run/checkpoint-7/latest"
  waits run1/checkpoint-7 "'trainer_state.json'"
  commits
  files "$run/checkpoint-7" trainer_state.json
  complete run1/checkpoint-7 transformers
  commits run1/checkpoint-7
}

@test "safetensors: the index and every shard that it names" {
  files "$run/step-1" model-00001-of-00002.safetensors
  waits run1/step-1 'a commit: no completion rule knows its files'
  echo '{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of' \
    >"$run/step-1/model.safetensors.index.json"
  waits run1/step-1 "'model.safetensors.index.json' naming its shards"
  echo '{"metadata":{"total_size":1},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}' \
    >"$run/step-1/model.safetensors.index.json"
  waits run1/step-1 "'model-00002-of-00002.safetensors'"
  files "$run/step-1" model-00002-of-00002.safetensors
  complete run1/step-1 safetensors
  commits run1/step-1
}

@test "safetensors: shards of ranks are complete without a gap, and where they are consolidated, with the index" {
  files "$run/hf" shard-00001-model-00001-of-00001.safetensors shard-00003-model-00001-of-00001.safetensors
  waits run1/hf "'shard-00002-model-...'"
  files "$run/hf" shard-00002-model-00001-of-00001.safetensors
  complete run1/hf safetensors
  files "$run/con" sharded/shard-00001-model-00001-of-00001.safetensors
  waits run1/con "'model.safetensors.index.json'"
  files "$run/con" model-00001-of-00001.safetensors
  waits run1/con "'model.safetensors.index.json'"
  echo '{"weight_map":{"a":"model-00001-of-00001.safetensors"}}' >"$run/con/model.safetensors.index.json"
  complete run1/con safetensors
  commits run1/con run1/hf
}

@test "safetensors: an index that points out of the folder proves nothing" {
  mkdir "$run/step-1"
  echo x >"$store/outside.safetensors"
  echo '{"weight_map":{"a":"../../outside.safetensors"}}' >"$run/step-1/model.safetensors.index.json"
  waits run1/step-1 "'../../outside.safetensors'"
  printf '{"weight_map":{"a":"\\u001b[2Jx"}}' >"$run/step-1/model.safetensors.index.json"
  waits run1/step-1 "'\\x1b[2Jx'"
}

@test "a model folder, or files of torch.save, wait for a commit" {
  files "$run/step-1" model.pt optimizer.pt
  waits run1/step-1 'a commit: no completion rule knows its files'
  files "$run/final" config.json model-00001-of-00001.safetensors
  echo '{"weight_map":{"a":"model-00001-of-00001.safetensors"}}' >"$run/final/model.safetensors.index.json"
  waits run1/final 'a commit: no completion rule knows its files'
  ok ckptfs show --why "$run/final"
  says 'rule: none'
  commits
}

@test "megatron: 'metadata.json' and the tracker, in whatever order" {
  echo 100 >"$run/latest_checkpointed_iteration.txt"
  files "$run/iter_0000100" __0_0.distcp common.pt
  waits run1/iter_0000100 "'.metadata'"
  files "$run/iter_0000100" .metadata
  waits run1/iter_0000100 "'metadata.json'"
  files "$run/iter_0000100" metadata.json
  complete run1/iter_0000100 megatron
  files "$run/iter_0000200" __0_0.distcp common.pt .metadata metadata.json
  waits run1/iter_0000200 "the tracker 'latest_checkpointed_iteration.txt' naming it"
  commits run1/iter_0000100
  echo 200 >"$run/latest_checkpointed_iteration.txt"
  commits run1/iter_0000200
}

@test "megatron: the old format needs the file of each model-parallel rank" {
  files "$run/iter_0000100" mp_rank_00/model_optim_rng.pt
  mkdir "$run/iter_0000100/mp_rank_01"
  echo 100 >"$run/latest_checkpointed_iteration.txt"
  waits run1/iter_0000100 "'mp_rank_01/model_optim_rng.pt'"
  files "$run/iter_0000100" mp_rank_01/model_optim_rng.pt
  complete run1/iter_0000100 megatron
}

@test "deepspeed: a tracker that was written first completes nothing by itself" {
  echo global_step5 >"$run/latest"
  files "$run/global_step5" note.pt
  waits run1/global_step5 "'mp_rank_00_model_states.pt'"
  files "$run/global_step5" zero_pp_rank_0_mp_rank_00_optim_states.pt zero_pp_rank_2_mp_rank_00_optim_states.pt mp_rank_00_model_states.pt
  waits run1/global_step5 "the files of 'zero_pp_rank_1'"
  commits
  files "$run/global_step5" zero_pp_rank_1_mp_rank_00_optim_states.pt
  complete run1/global_step5 deepspeed
  rm "$run/latest"
  waits run1/global_step5 "the tracker 'latest' naming it"
  echo ../../etc >"$run/latest"
  waits run1/global_step5 "the tracker 'latest' naming it"
}

@test "a tracker that has gone on to a later checkpoint will do, unless this one was written behind it" {
  files "$run/global_step5" mp_rank_00_model_states.pt
  touch -d '2 hours ago' "$run"/global_step5/* "$run/global_step5"
  echo global_step10 >"$run/latest"
  waits run1/global_step5 "a commit: complete by rule 'deepspeed'"
  # A roll-back writes an earlier one again.
  touch -d '1 hour ago' "$run/latest"
  files "$run/global_step5" mp_rank_00_model_states.pt
  waits run1/global_step5 "the tracker 'latest' naming it"
}

@test "orbax: 'commit_success.txt', and nothing temporary inside" {
  files "$run/3" _CHECKPOINT_METADATA default/_METADATA
  waits run1/3 "'commit_success.txt'"
  files "$run/3" commit_success.txt state.orbax-checkpoint-tmp-9/_METADATA
  waits run1/3 "the rename of 'state.orbax-checkpoint-tmp-9'"
  commits
  rm -r "$run/3/state.orbax-checkpoint-tmp-9"
  complete run1/3 orbax
  commits run1/3
}

@test "a folder with a temporary name is never complete: it waits for its rename" {
  files "$run/step-1.tmp" .metadata __0_0.distcp
  waits run1/step-1.tmp "the rename to 'run1/step-1', or a commit"
  commits
  ok ckptfs commit "$run/step-1.tmp"
  assert_eq "$(state_of run1/step-1)" committed
}

@test "commit --all leaves open what changed lately, and says what each waits for" {
  files "$run/step-1" .metadata __0_0.distcp
  files "$run/step-2" .metadata __0_0.distcp
  files "$run/step-3" __0_0.distcp
  touch -d '90 seconds ago' "$run"/step-1/* "$run"/step-1/.metadata "$run/step-1"
  waits run1/step-1 "a commit: complete by rule 'dcp'"
  ok ckptfs commit --all "$run"
  says 'run1/step-1: committed as run1/step-1' 'run1/step-2: left open: waits for 60 s without a change' \
    "run1/step-3: left open: waits for '.metadata'"
  ok ckptfs commit --all --quiet 3600 "$run"
  says 'run1/step-2: left open: waits for 3600 s without a change'
  ok ckptfs verify "$store"
}

@test "commit --all goes on behind one that fails, and exits 1" {
  files "$run/step-1" .metadata __0_0.distcp
  files "$run/step-2" .metadata __0_0.distcp
  mkfifo "$run/step-1/pipe"
  fails 1 ckptfs commit --all --quiet 0 "$store"
  says pipe 'run1/step-2: committed as run1/step-2'
  fails 1 ckptfs commit --all "$store/none"
  fails 1 ckptfs commit --all "$run/step-2/.metadata"
  fails 2 ckptfs commit --all --step 3 "$store"
  fails 2 ckptfs commit --quiet 3 "$run/step-1"
  fails 2 ckptfs show --why --tensors "$run/step-1"
}

@test "show --why of a committed one says so, as JSON too" {
  committed run1/step-1
  ok ckptfs show --why "$run/step-1"
  says 'state: committed'
  files "$run/step-2" .metadata __0_0.distcp
  ok ckptfs show --why --json "$run/step-2"
  python3 -c "import json, sys; o = json.load(open(sys.argv[1]))[0]; assert o['rule'] == 'dcp' and o['complete'] is True, o" "$tmp/.stdout"
}

@test "something else in the place of a manifest is damage to ls, verify, show and commit alike" {
  local command
  committed run1/step-1
  rm "$run/step-1/.ckptfs/manifest.jsonl"
  mkdir "$run/step-1/.ckptfs/manifest.jsonl"
  for command in ls verify; do
    fails 1 ckptfs $command "$store" || return 1
    says "run1/step-1" 'no regular file' || return 1
  done
  fails 1 ckptfs show "$run/step-1"
  says 'no regular file'
  fails 1 ckptfs commit "$run/step-1"
  says committed
}

@test "a folder that may not be entered is not called a group" {
  requires root
  chmod 755 "$tmp" "$store" "$run"
  mkdir -m 700 "$run/private"
  fails 1 "${as_nobody[@]}" ckptfs show "$run/private"
  says 'ermission denied'
  says_not 'is a group'
}
