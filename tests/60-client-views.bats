#!/usr/bin/env bats
# bats file_tags=slow,fuse
# What PyTorch, safetensors and numpy wrote through a mount, whole again through the views of it. One job saves a small
# checkpoint of every kind; the tests only read.
load helpers/common
load helpers/clients
load helpers/client_views

setup_file() {
  requires_client torch safetensors numpy
  local name
  new_store
  mkdir "$store/run" "$tmp/expect"
  mount_store "$store" "$tmp/mnt"
  ranks 4 views_save "$tmp/mnt/run" "$tmp/expect"
  grep -E '^[a-z_]+ [a-z_0-9]*$' "$tmp/.stdout" >"$tmp/sets"
  cp -r "$store/run" "$tmp/plain"
  for name in $(cut -d' ' -f1 "$tmp/sets" | uniq); do
    ok ckptfs commit "$tmp/mnt/run/$name"
  done
  umount_store "$tmp/mnt"
}

teardown_file() {
  clean_up
}

setup() {
  saved=$BATS_FILE_TMPDIR
  mnt=$tmp/mnt
}

# controls PREFIX SUFFIX: EXPECT and CONTROL of every set, for check_views
controls() {
  local name inner
  while read -r name inner; do
    printf '%s\n' "$saved/expect/$name${inner:+"+$inner"}.json" "$1/$name${inner:+"/$inner"}$2"
  done <"$saved/sets"
}

# check_all HOW PREFIX SUFFIX: all sets, with one client
check_all() {
  local arguments
  mapfile -t arguments < <(controls "$2" "$3")
  [ "${#arguments[@]}" -eq 28 ] || fail "not every kind of checkpoint was saved: ${arguments[*]}" || return 1
  check_views "$1" "${arguments[@]}"
}

@test "on a mount each tensor of each kind of checkpoint is what was saved, and PyTorch's own consolidation agrees" {
  mount_store "$saved/store" "$mnt"
  check_all dcp "$mnt/run" /.ckptfs
  assert_eq "$(grep -c 'PyTorch agrees' <<<"$stdout")" 8 "sets that PyTorch consolidated"
  umount_store "$mnt"
}

@test "safetensors' loaders for PyTorch give each tensor that was saved, with every element type, whole and in slices" {
  mount_store "$saved/store" "$mnt" ro
  check_all torch "$mnt/run" /.ckptfs
  umount_store "$mnt"
}

@test "ckptfs cp and cat give each tensor of folders that are in no store" {
  local name inner set
  while read -r name inner; do
    set=$name${inner:+/$inner}
    copied "$saved/plain/$set" "$tmp/copy/$set"
    cat_gives "$saved/plain/$set" "$tmp/copy/$set"
  done <"$saved/sets"
  check_all numpy "$tmp/copy" ""
}

@test "a mount of a folder that is no store gives each tensor" {
  mount_store "$saved/plain" "$mnt"
  check_all numpy "$mnt" /.ckptfs
  umount_store "$mnt"
}

@test "show says which tensor sets and groups there are, and which tensors safetensors cannot hold" {
  ok ckptfs show "$saved/store/run/two_sets"
  says pytorch_model_fsdp_0 optimizer_0
  ok ckptfs show "$saved/store/run/dtypes"
  says 'complex tensors are left out of safetensors views' model.complex64 model.complex128
  ok ckptfs show "$saved/plain/placements"
  says model optim
}
