# shellcheck shell=bash
# Views as clients read them; with helpers/clients.

# check_views numpy|torch|dcp EXPECT CONTROL [EXPECT CONTROL]…: see helpers/client_views_check.py
check_views() {
  DEADLINE=100 ok env OMP_NUM_THREADS=1 "$clients_python" -W ignore "$HELPERS/client_views_check.py" "$@"
}

# copied SET DEST: tensors/, safetensors/ and hf/ of the tensor set in folder SET, by ckptfs cp
copied() {
  mkdir -p "$2" || return 1
  ok ckptfs cp "$1/.ckptfs/tensors" "$2" || return 1
  ok ckptfs cp "$1/.ckptfs/safetensors" "$2" || return 1
  # There is none where the set holds no model.
  try ckptfs cp "$1/.ckptfs/hf" "$2"
}

# cat_gives SET COPY: `ckptfs cat` gives the bytes of each file that was copied
cat_gives() {
  local file
  while read -r file; do
    ckptfs cat "$1/.ckptfs/$file" 3>&- | cmp - "$2/$file" || fail "cat of '$1/.ckptfs/$file' gives other bytes" || return 1
  done < <(cd "$2" && find . -type f -printf '%P\n')
}
