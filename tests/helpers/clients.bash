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
