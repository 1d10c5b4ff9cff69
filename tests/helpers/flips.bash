# shellcheck shell=bash
# Single flipped bits, for the short and for the long test of them.

# flips_store: $store with files, packs, links and more than one checkpoint; $tmp/plain the same with each shard a file
flips_store() {
  local name
  new_store
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/run/step-1" --from "$tmp/model.safetensors"
  make_model "$tmp/model.safetensors" model 3
  ok mpi 2 save "$store/run/step-2" --from "$tmp/model.safetensors"
  make_files "$store/run/step-3" 3
  ok ckptfs commit "$store/run/step-3"
  for name in 1 2 3; do ok ckptfs cp "$store/run/step-$name" "$tmp/plain/run/step-$name"; done
}

# flips COUNT [OPTIONS]: that many, with the seed $CKPTFS_SEED or one of the clock's; it is printed.
flips() {
  local seed=${CKPTFS_SEED:-$(date +%s%N)} options=${2:-}
  mount_store "$store" "$tmp/mnt" "$options"
  options=$options${options:+${CKPTFS_MOUNT_OPTIONS:+,}}${CKPTFS_MOUNT_OPTIONS:-}
  DEADLINE=400 ok python3 "$HELPERS/flips.py" "$store" "$tmp/mnt" "$tmp/mnt.log" "$tmp/plain" "$1" "$seed" "$options" || {
    tail -n 3 "$tmp/.stdout" "$tmp/.stderr"
    return 1
  }
  says "$1 flips, all well"
  echo "# seed $seed: $(tail -2 <<<"$stdout" | paste -sd' ')" >&3
  umount_store "$tmp/mnt"
  ok ckptfs verify "$store"
}
