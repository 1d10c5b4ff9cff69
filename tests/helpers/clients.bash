# shellcheck shell=bash
# The large Python clients, which come with `make test CLIENTS=all`.

clients_python=$CKPT_TOP/build/venv/bin/python3

# requires_client MODULE…: skip where one cannot be imported; with CLIENTS=all that is a failure.
requires_client() {
  local module
  requires fuse clients
  for module in "$@"; do
    "$clients_python" -c "import importlib.util, sys; sys.exit(importlib.util.find_spec('$module') is None)" && continue
    [ "${CLIENTS:-}" != all ] || fail "CLIENTS=all, but $module cannot be imported" || return 1
    skip "needs $module: make test CLIENTS=all"
  done
}

# client SCRIPT ARGS…: one of helpers/client_*.py, quietly where it is chatty.
client() {
  DEADLINE=200 ok env PYTHONPATH="$CKPT_TOP/scripts" TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
    JAX_PLATFORMS=cpu "$clients_python" -W ignore "$HELPERS/client_$1.py" "${@:2}"
}

# ranks N SCRIPT ARGS…: the same on N gloo ranks.
ranks() {
  DEADLINE=200 ok env PYTHONPATH="$CKPT_TOP/scripts" OMP_NUM_THREADS=1 "$clients_python" -W ignore -m torch.distributed.run --standalone \
    --nproc-per-node "$1" "$HELPERS/client_$2.py" "${@:3}"
}

# digests DIR: every file's path and digest, by tools that know nothing of a store.
digests() {
  (cd "$1" && find . -type f -not -path '*/.ckptfs/*' -exec sha256sum {} + | sort -k2)
}

is_committed() {
  [ -e "$store/$1/.ckptfs/manifest.jsonl" ]
}

# all_committed SECONDS NAME…: each of them, before so many seconds have passed
all_committed() {
  local name
  for name in "${@:2}"; do
    eventually "$1" is_committed "$name" || fail "$(ckptfs show --why "$store/$name" 2>&1)" || return 1
  done
}

# stays_open SECONDS NAME: it is not committed meanwhile.
stays_open() {
  local deadline=$((SECONDS + $1))
  while [ "$SECONDS" -lt "$deadline" ]; do
    not is_committed "$2" || fail "$2 was committed" || return 1
    sleep 0.1
  done
}

# remount [OPTIONS]: another daemon in the place of the one there was; what is committed verifies, and looks as before
remount() {
  digests "$mnt" >"$tmp/.before"
  umount_store "$mnt" || return 1
  ok ckptfs verify "$store" || return 1
  mount_store "$store" "$mnt" "$@" || return 1
  digests "$mnt" >"$tmp/.after"
  same "$tmp/.before" "$tmp/.after"
}
