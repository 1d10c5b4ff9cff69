#!/usr/bin/env bats
# bats file_tags=fuse,mpi
# Views on the mount: whole tensors and whole models out of sharded checkpoints, their names, bytes, and what damage does.
load helpers/common
load helpers/counters
load helpers/ranks

setup() {
  requires fuse mpi
  new_store
  mnt=$tmp/mnt
  step=$mnt/run/step-1
  views=$step/.ckptfs
  plain=$store/run/step-1
}

# saved MIB [OPTIONS]: a checkpoint of a generated model from two ranks, $whole the bytes of its all.safetensors
saved() {
  whole=$tmp/whole.safetensors
  make_model "$tmp/model.safetensors" model "$1"
  ok launch 2 ckptfs-mpi save "$plain" --from "$tmp/model.safetensors" "${@:2}"
  ok launch 1 ckptfs-mpi load "$plain" --to "$whole"
}

# a_shard: a shard that is a file of its own, and the tensor it is a chunk of in $fqn
a_shard() {
  shard=$(cd "$plain" && find rank-00001 -type f -size +1024k | LC_ALL=C sort | head -n 1)
  fqn=${shard#*/}
  fqn=${fqn%@*}
}

descriptors_are_below() {
  [ "$(descriptors_of "$mnt")" -lt "$1" ]
}

damage_lines() {
  grep ': block ' "$mnt.log"
}

@test "what ranks saved by rows, by columns or on a mesh reads as one file, from any place, by many threads, in all sizes" {
  local shard
  for shard in '--shard 0' '--shard 1' '--mesh 2x1 --placements S1,S0'; do
    # shellcheck disable=SC2086 # two words
    saved 12 $shard
    mount_store "$store" "$mnt"
    same "$views/safetensors/all.safetensors" "$whole"
    assert_eq "$(stat -c %s "$views/safetensors/all.safetensors")" "$(stat -c %s "$whole")"
    ok ckpt-test compare "$views/safetensors/all.safetensors" "$whole" 1500 8
    ok ckpt-test map-compare "$views/safetensors/all.safetensors" "$whole"
    ok ckpt-test map-compare "$views/safetensors/all.safetensors" "$whole"
    ok ckpt-test compare "$views/safetensors/all.safetensors" "$whole" 9000 4
    umount_store "$mnt"
    rm -rf "$plain"
  done
}

@test "every way of verifying, and a mount without passthrough, give the same bytes" {
  local options
  saved 6 --shard 1
  for options in verify=auto verify=open verify=read verify=off verify_open_max=1KiB passthrough=off ro; do
    mount_store "$store" "$mnt" "$options"
    same "$views/safetensors/all.safetensors" "$whole"
    ok ckpt-test compare "$views/safetensors/all.safetensors" "$whole" 500 4
    umount_store "$mnt"
  done
}

@test "views are read-only files with the time of the commit, in folders that nothing else lists" {
  saved 2
  mount_store "$store" "$mnt"
  assert_eq "$(ls "$views")" $'XXH128SUMS\nhf\nmanifest.jsonl\nsafetensors\ntensors'
  assert_eq "$(stat -c '%a %Y' "$views/safetensors/all.safetensors")" "444 $(stat -c %Y "$views/manifest.jsonl")"
  assert_eq "$(stat -c %a "$views/tensors")" 555
  not grep -F .ckptfs <<<"$(ls -a "$step")"
  errno_is ENOENT stat "$views/tensors/none.npy"
  errno_is ENOENT stat "$views/none"
  errno_is ENOENT stat "$step/rank-00000/.ckptfs"
  not touch "$views/tensors/new"
  not rm "$views/safetensors/all.safetensors"
  not mkdir "$views/hf/new"
  errno_is ENOENT stat "$mnt/run/.ckptfs/tensors"
  ok cp -r "$views/hf" "$tmp/hf"
  same "$tmp/hf/model.safetensors" "$views/hf/model.safetensors"
  assert_eq "$(stat -c %i "$views/tensors"/* | sort | uniq -d)" ''
  umount_store "$mnt"
}

@test "a tensor's npy is what numpy reads of it, and the numbers of its files outlive the mount" {
  local before
  saved 2 --shard 1
  mount_store "$store" "$mnt"
  before=$(stat -c '%i %n' "$views/tensors"/*)
  python3 - "$views/tensors" "$tmp/model.safetensors" <<'PY'
import json, os, struct, sys
folder, path = sys.argv[1:]
data = open(path, "rb").read()
size, = struct.unpack("<Q", data[:8])
header = json.loads(data[8:8 + size])
seen = 0
for name, entry in header.items():
    if name == "__metadata__" or os.sep in name:
        continue
    kind = {"BF16": ".bf16-as-u16", "F8_E4M3": ".f8-as-u8", "F8_E5M2": ".f8-as-u8"}.get(entry["dtype"], "")
    npy = open(os.path.join(folder, name + kind + ".npy"), "rb").read()
    assert npy[:8] == b"\x93NUMPY\1\0", name
    start = 10 + struct.unpack("<H", npy[8:10])[0]
    shape = str(tuple(entry["shape"])).encode()
    assert shape in npy[:start] and b"'fortran_order': False" in npy[:start], name
    begin, end = entry["data_offsets"]
    assert npy[start:] == data[8 + size + begin:8 + size + end], name
    seen += 1
assert seen > 3
PY
  umount_store "$mnt"
  mount_store "$store" "$mnt"
  assert_eq "$(stat -c '%i %n' "$views/tensors"/*)" "$before"
  umount_store "$mnt"
}

@test "a flipped bit is EIO where a view needs that shard, one line tells of it, and the rest reads on" {
  local options
  saved 12
  a_shard
  ckpt-test flip "$plain/$shard" 5000 3
  for options in verify=auto verify=read verify_open_max=1KiB; do
    mount_store "$store" "$mnt" "$options"
    not cat "$views/tensors/$fqn.npy" >"$tmp/out"
    not cmp "$views/safetensors/all.safetensors" "$whole"
    damage_lines
    assert_eq "$(damage_lines | wc -l)" 1
    damage_lines | grep -qE "run/step-1/$shard'?: block 0 \(bytes 0-1048575\): xxh3-64 is [0-9a-f]{16}, should be [0-9a-f]{16}; .*run 'ckptfs verify $store/run/step-1'"
    [ "$(counter "$mnt" ckptfs_corrupt_blocks_total)" -ge 1 ]
    ok cmp -n 4096 "$views/safetensors/all.safetensors" "$whole"
    for other in "$views"/tensors/*; do
      [ "$other" = "$views/tensors/$fqn.npy" ] || ok dd if="$other" of=/dev/null bs=1M status=none || return 1
    done
    umount_store "$mnt"
  done
}

@test "a shard that is cut short behind a view that is mapped and open is an error, and the mount goes on" {
  saved 12
  a_shard
  mount_store "$store" "$mnt" verify=off
  hold read "$views/safetensors/all.safetensors"
  same "$views/safetensors/all.safetensors" "$whole"
  ok truncate -s 100 "$plain/$shard"
  not cat "$views/safetensors/all.safetensors" >"$tmp/out"
  grep -F "$shard' has become shorter in the store; run 'ckptfs verify $plain'" "$mnt.log"
  not ckpt-test map-compare "$views/tensors/$fqn.npy" "$whole"
  ok cat "$mnt/.ckptfs/stats"
  let_go
  umount_store "$mnt"
}

@test "reading a GiB of views takes no room in the store, and leaves no descriptors and little memory" {
  local used descriptors
  saved 64 --shard 1
  mount_store "$store" "$mnt"
  used=$(du -s --block-size=1 "$store" | cut -f1)
  ok ls -lR "$views"
  descriptors=$(descriptors_of "$mnt")
  for _ in $(seq 22); do dd if="$views/safetensors/all.safetensors" of=/dev/null bs=1M status=none; done
  assert_eq "$(du -s --block-size=1 "$store" | cut -f1)" "$used"
  # Some connections to the index may have come; of 35 shards none is open.
  eventually 3 descriptors_are_below $((descriptors + 8))
  [ "$(counter "$mnt" ckptfs_read_requests_total)" -ge 1000 ]
  [ "$(anonymous_kib "$mnt")" -lt 100000 ]
  umount_store "$mnt"
}

@test "views that are open read on while their checkpoint is renamed, and removed from the store" {
  saved 6
  mount_store "$store" "$mnt"
  mount_store "$store" "$tmp/other"
  exec {fd}<"$views/safetensors/all.safetensors"
  ok mv "$step" "$mnt/run/step-2"
  same "$mnt/run/step-2/.ckptfs/safetensors/all.safetensors" "$whole"
  eventually 2 same "$tmp/other/run/step-2/.ckptfs/safetensors/all.safetensors" "$whole"
  same "/proc/self/fd/$fd" "$whole"
  ok rm -r "$mnt/run/step-2"
  errno_is ENOENT stat "$mnt/run/step-2/.ckptfs/safetensors/all.safetensors"
  exec {fd}<&-
  ok ckptfs undelete "$store/run/step-2"
  eventually 2 same "$mnt/run/step-2/.ckptfs/safetensors/all.safetensors" "$whole"
  umount_store "$tmp/other"
  umount_store "$mnt"
}

@test "a checkpoint of PyTorch's DCP has the same views committed and in a mount of a folder that is no store" {
  cp -r "$CKPT_TOP/tests/fixtures/dcp-2ranks" "$tmp/bare"
  cp -r "$CKPT_TOP/tests/fixtures/dcp-2ranks" "$store/step-1"
  ok ckptfs commit "$store/step-1"
  mount_store "$store" "$mnt"
  mount_store "$tmp/bare" "$tmp/look"
  same_tree "$mnt/step-1/.ckptfs/tensors" "$tmp/look/.ckptfs/tensors"
  same_tree "$mnt/step-1/.ckptfs/safetensors" "$tmp/look/.ckptfs/safetensors"
  ok python3 - "$CKPT_TOP/tests/fixtures/dcp-2ranks.expect.json" "$mnt/step-1/.ckptfs/tensors" <<'PY'
import hashlib, json, os, sys
seen = 0
for fqn, entry in json.load(open(sys.argv[1])).items():
    path = os.path.join(sys.argv[2], fqn + ".npy")
    if not isinstance(entry, dict) or "sha256" not in entry or not os.path.exists(path):
        continue
    data = open(path, "rb").read()
    start = 10 + int.from_bytes(data[8:10], "little")
    assert hashlib.sha256(data[start:]).hexdigest() == entry["sha256"], fqn
    seen += 1
assert seen > 5, seen
PY
  # What changes in the plain folder shows within a second.
  ok rm "$tmp/bare/.metadata"
  eventually 3 errno_is ENOENT stat "$tmp/look/.ckptfs/tensors"
  umount_store "$tmp/look"
  umount_store "$mnt"
}

@test "a reader that is killed while a view's shards are verified holds up nothing, and an open view keeps the mount" {
  local pid
  saved 48 --shard 1
  mount_store "$store" "$mnt"
  cat "$views/safetensors/all.safetensors" >/dev/null 3>&- &
  pid=$!
  kill -KILL "$pid"
  wait "$pid" || true
  hold read "$views/hf/model.safetensors"
  fails 1 ckptfs umount "$mnt"
  same "$views/safetensors/all.safetensors" "$whole"
  let_go
  umount_store "$mnt"
}

@test "a view of a tensor has its name, type and shape as attributes, and lists those and no others" {
  local where view
  cp -r "$CKPT_TOP/tests/fixtures/dcp-2ranks" "$tmp/bare"
  cp -r "$CKPT_TOP/tests/fixtures/dcp-2ranks" "$store/step-1"
  ok ckptfs commit "$store/step-1"
  mount_store "$store" "$mnt"
  mount_store "$tmp/bare" "$tmp/look" "index=$tmp/index.db"
  for where in "$mnt/step-1/.ckptfs" "$tmp/look/.ckptfs"; do
    view=$where/tensors/model.cols.bf16-as-u16.npy
    assert_eq "$(getfattr --absolute-names --only-values -n user.ckptfs.fqn "$view")" model.cols
    assert_eq "$(getfattr --absolute-names --only-values -n user.ckptfs.dtype "$view")" BF16
    assert_eq "$(getfattr --absolute-names --only-values -n user.ckptfs.shape "$view")" '[6,11]'
    assert_eq "$(getfattr --absolute-names --only-values -n user.ckptfs.shape "$where/tensors/model.scalar.npy")" '[]'
    assert_eq "$(getfattr --absolute-names -m - "$view" | grep -c .)" 4
    for view in "$view" "$where/safetensors/all.safetensors" "$where/tensors"; do
      errno_is ENODATA getxattr "$view" user.ckptfs.rank
      errno_is ENODATA getxattr "$view" user.none
    done
    errno_is ENODATA getxattr "$where/safetensors/all.safetensors" user.ckptfs.fqn
    assert_eq "$(getfattr --absolute-names -m - "$where/safetensors/all.safetensors" "$where/tensors")" ''
  done
  umount_store "$tmp/look"
  umount_store "$mnt"
}

@test "nobody reads in a view what he may not read in the shards, committed or not" {
  requires root setpriv
  local dir
  mkdir "$tmp/bare"
  make_model "$tmp/bare/model.safetensors" model 2
  chmod 755 "$tmp" "$tmp/bare" "$store"
  mkdir -m 755 "$store/step-1" "$store/step-2" "$store/step-2/inside"
  cp "$tmp/bare/model.safetensors" "$store/step-1"
  cp "$tmp/bare/model.safetensors" "$store/step-2/inside"
  chmod 640 "$store/step-1/model.safetensors" "$tmp/bare/model.safetensors"
  chown 1234:2345 "$store/step-1/model.safetensors" "$tmp/bare/model.safetensors"
  chmod 700 "$store/step-2/inside"
  ok ckptfs commit "$store/step-1"
  ok ckptfs commit "$store/step-2"
  mount_store "$store" "$mnt"
  mount_store "$tmp/bare" "$tmp/look" "index=$tmp/index.db"
  for dir in "$mnt/step-1/.ckptfs" "$tmp/look/.ckptfs"; do
    assert_eq "$(stat -c '%a %u:%g' "$dir/hf/model.safetensors")" '440 1234:2345'
    fails 1 setpriv --reuid 65534 --regid 65534 --clear-groups cat "$dir/tensors/embed.weight.npy"
    says 'Permission denied'
    ok setpriv --reuid 1234 --regid 65534 --clear-groups cmp "$dir/hf/model.safetensors" "$dir/hf/model.safetensors"
    ok setpriv --reuid 65534 --regid 2345 --clear-groups cmp "$dir/tensors/step.npy" "$dir/tensors/step.npy"
  done
  assert_eq "$(stat -c %a "$mnt/step-2/inside/.ckptfs/hf/model.safetensors")" 400
  ok chmod 644 "$tmp/bare/model.safetensors"
  eventually 3 setpriv --reuid 65534 --regid 65534 --clear-groups cat "$tmp/look/.ckptfs/tensors/step.npy"
  umount_store "$tmp/look"
  umount_store "$mnt"
}

@test "who may read less than others of one shard reads no view of it" {
  requires root setpriv
  local gid
  cp -r "$CKPT_TOP/tests/fixtures/dcp-2ranks" "$tmp/bare"
  chmod 755 "$tmp" "$tmp/bare"
  chmod 604 "$tmp/bare/"*.distcp
  chown 1234:2345 "$tmp/bare/__0_0.distcp"
  chown 3456:4567 "$tmp/bare/__1_0.distcp"
  mount_store "$tmp/bare" "$tmp/look" "index=$tmp/index.db"
  for gid in 2345 4567; do
    fails 1 setpriv --reuid 65534 --regid "$gid" --clear-groups cat "$tmp/look/__0_0.distcp" "$tmp/look/__1_0.distcp"
    fails 1 setpriv --reuid 65534 --regid "$gid" --clear-groups cat "$tmp/look/.ckptfs/tensors/model.rows.npy"
    says 'Permission denied'
  done
  umount_store "$tmp/look"
}
