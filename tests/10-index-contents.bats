#!/usr/bin/env bats
# bats file_tags=fast
# What a commit, and show, make of the files of known formats: which tensors there are, and why some are not shown.
load helpers/common
load helpers/clients

setup() {
  new_store
  dcp=$CKPT_TOP/tests/fixtures/dcp-2ranks
}

# keep NAME DIR: a copy of DIR, committed
keep() {
  mkdir -p "$store/$1"
  cp -r "$2/." "$store/$1"
  chmod -R u+w "$store/$1"
  ok ckptfs commit "$store/$1"
}

# tensors_are EXPECT: what show has printed last as JSON holds every tensor of EXPECT, with its type and shape
tensors_are() {
  printf '%s\n' "$output" >"$tmp/json"
  python3 - "$tmp/json" "$1" <<'END' || fail "other tensors: $output"
import json, sys
NAMES = {"float32": "F32", "float64": "F64", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "uint8": "U8",
         "bool": "BOOL", "float8_e4m3fn": "F8_E4M3", "complex64": "C64"}
got = {row["fqn"]: (row["dtype"], row["shape"]) for row in json.load(open(sys.argv[1])) if row["dtype"]}
want = {fqn: (NAMES[entry["dtype"]], entry["shape"]) for fqn, entry in json.load(open(sys.argv[2])).items()}
assert got == want, got.items() ^ want.items()
END
}

@test "the tensors of PyTorch's own checkpoints are listed with their types, shapes and groups" {
  local name
  for name in dcp-1rank dcp-2ranks; do
    keep "$name" "$CKPT_TOP/tests/fixtures/$name"
    ok ckptfs show --tensors --json "$store/$name"
    tensors_are "$CKPT_TOP/tests/fixtures/$name.expect.json"
    # The same of the folder as it lies there.
    ok ckptfs show --tensors --json "$CKPT_TOP/tests/fixtures/$name"
    tensors_are "$CKPT_TOP/tests/fixtures/$name.expect.json"
  done
  ok ckptfs show "$store/dcp-2ranks"
  says_like '^tensor set \.: 17 tensors, 5 bytes entries, '
  says_like '^  group model: 15 tensors, '
  says_like '^  group optim: 2 tensors, 3 bytes entries, '
  says 'complex tensors are left out of safetensors views: model.c64'
  says_not 'not understood'
  # Columns of a matrix, and a transposed one.
  grep -q '"tensor":"model.cols".*"start":\[0,6\]' "$store/dcp-2ranks/.ckptfs/manifest.jsonl"
  grep -q '"tensor":"model.tposed".*"stride":\[1,4\]' "$store/dcp-2ranks/.ckptfs/manifest.jsonl"
}

@test "a checkpoint whose bytes are not those that torch has summed is not committed, unless it is asked for" {
  mkdir "$store/step-1"
  cp "$dcp"/{.metadata,*.distcp} "$store/step-1"
  chmod u+w "$store"/step-1/*
  printf X | dd of="$store/step-1/__0_0.distcp" bs=1 seek=720 conv=notrunc status=none
  fails 1 ckptfs commit "$store/step-1"
  says_like "damaged: __0_0.distcp: record 'archive/data/0': crc32 is [0-9a-f]{8}, should be [0-9a-f]{8}; save it again"
  [ ! -e "$store/step-1/.ckptfs/manifest.jsonl" ]
  ok ckptfs commit --no-crc "$store/step-1"
  ok ckptfs verify "$store/step-1"
  fails 1 ckptfs verify --deep "$store/step-1"
  says_like "^step-1/__0_0.distcp: record 'archive/data/0': crc32 is "
  keep step-2 "$dcp"
  ok ckptfs verify --deep "$store/step-2"
}

@test "a file that is missing, cut off or another's puts the whole metadata out, and the shards stay readable" {
  mkdir -p "$tmp/x"
  cp -r "$dcp/." "$tmp/x"
  chmod -R u+w "$tmp/x"
  mv "$tmp/x/__1_0.distcp" "$tmp/away"
  keep gone "$tmp/x"
  ok ckptfs show "$store/gone"
  says_like "^not understood: .metadata: 'model.bool' lies in '__1_0.distcp', which is not there$"
  says_not 'tensor set'
  ok ckptfs cat "$store/gone/__0_0.distcp"
  head -c 20000 "$tmp/away" >"$tmp/x/__1_0.distcp"
  keep cut "$tmp/x"
  ok ckptfs show "$store/cut"
  says_like "^not understood: .metadata: '.*' reaches past the end of '__1_0.distcp'"
  cp "$tmp/x/__0_0.distcp" "$tmp/x/__1_0.distcp"
  head -c 40000 /dev/zero >>"$tmp/x/__1_0.distcp"
  keep other "$tmp/x"
  ok ckptfs show "$store/other"
  says_like '^not understood: .metadata: '
  fails 1 ckptfs ls "$store/other/.ckptfs/tensors"
}

@test "what this user may not read is told of, and the rest is shown" {
  requires root setpriv
  chmod 755 "$tmp"
  mkdir -p "$tmp/x" "$tmp/home"
  "$HELPERS/make_safetensors.py" "$tmp/x/model.safetensors" small
  "$HELPERS/make_safetensors.py" "$tmp/x/other.safetensors" small
  cp "$dcp"/{.metadata,*.distcp} "$tmp/x"
  chmod 600 "$tmp/x/other.safetensors" "$tmp/x/__1_0.distcp"
  chmod 644 "$tmp/x/.metadata"
  ok "${as_nobody[@]}" ckptfs show "$tmp/x"
  says 'not understood: other.safetensors: this user may not read it'
  says "not understood: .metadata: '__1_0.distcp': this user may not read it"
  says_like '^tensor set \.: '
  # Whether a model is complete is not known without its index.
  mkdir "$tmp/y"
  family "$tmp/y"
  chmod 600 "$tmp/y/model.safetensors.index.json"
  ok "${as_nobody[@]}" ckptfs show "$tmp/y"
  says 'not understood: model.safetensors.index.json: this user may not read it'
  says_not 'tensor set'
}

@test "each folder is a set of its own, and a family that was consolidated is one with its parts" {
  mkdir -p "$tmp/x/model" "$tmp/x/optim" "$tmp/y/sharded"
  cp "$dcp"/{.metadata,*.distcp} "$tmp/x/model"
  cp "$CKPT_TOP"/tests/fixtures/dcp-1rank/{.metadata,*.distcp} "$tmp/x/optim"
  keep two "$tmp/x"
  ok ckptfs show "$store/two"
  says_like '^tensor set model: 17 tensors'
  says_like '^tensor set optim: 15 tensors'
  "$HELPERS/make_safetensors.py" "$tmp/y/model-00001-of-00001.safetensors" small
  "$HELPERS/make_safetensors.py" "$tmp/y/sharded/shard-00001-model-00001-of-00001.safetensors" small
  keep one "$tmp/y"
  ok ckptfs show "$store/one"
  assert_eq "$(grep -c '^tensor set' <<<"$output")" 1 sets
  says_like '^tensor set \.: '
  # Whoever made the family was killed: its parts are all there.
  truncate -s -1 "$tmp/y/model-00001-of-00001.safetensors"
  keep half "$tmp/y"
  ok ckptfs show "$store/half"
  says_like '^tensor set sharded: ' '^not understood: model-00001-of-00001.safetensors: .*truncated'
}

# safetensors FILE FQN: a file with one tensor
safetensors() {
  printf '%-56s' "{\"$2\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}" >"$tmp/header"
  { printf '\x38\0\0\0\0\0\0\0'; cat "$tmp/header"; printf 12345678; } >"$1"
}

# family DIR: a model of two files, with an index
family() {
  safetensors "$1/model-00001-of-00002.safetensors" a
  safetensors "$1/model-00002-of-00002.safetensors" b
  printf '{"metadata":{},"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}' \
    >"$1/model.safetensors.index.json"
}

@test "a family is shown whole or not at all" {
  local x=$tmp/x index='not understood: model.safetensors.index.json'
  mkdir "$x"
  family "$x"
  ok ckptfs show "$x"
  says_like '^tensor set \.: 2 tensors, 16 bytes$'
  says_not 'not understood'
  truncate -s -1 "$x/model-00002-of-00002.safetensors"
  keep cut "$x"
  ok ckptfs show "$store/cut"
  says "$index: 'b' should lie in 'model-00002-of-00002.safetensors', which is not understood"
  says_not 'tensor set'
  fails 1 ckptfs ls "$store/cut/.ckptfs/hf"
  safetensors "$x/model-00002-of-00002.safetensors" c
  ok ckptfs show "$x"
  says "$index: 'b' should lie in 'model-00002-of-00002.safetensors', which does not hold it"
  says_not 'tensor set'
  rm "$x/model-00002-of-00002.safetensors"
  keep gone "$x"
  ok ckptfs show "$store/gone"
  says "$index: 'b' should lie in 'model-00002-of-00002.safetensors', which is not there"
  says_not 'tensor set'
}

# parts DIR START…: a file of DCP's safetensors writer for each START, which holds two rows of w from there on
parts() {
  python3 - "$@" <<'END'
import json, os, sys
folder, starts = sys.argv[1], sys.argv[2:]
os.makedirs(folder, exist_ok=True)
for i, start in enumerate(starts):
    dtype = "F32" if start[-1] != "h" else "I32"
    info = {"w": {"saved_offsets": [int(start.rstrip("h")), 0]}}
    header = {"__metadata__": {"DCP_SHARDING_INFO": json.dumps(info), "DCP_VERSION": "1.0"},
              "w": {"dtype": dtype, "shape": [2, 3], "data_offsets": [0, 24]}}
    text = json.dumps(header).encode()
    with open(f"{folder}/shard-{i:05d}-model-00001-of-00001.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + bytes(24))
END
}

@test "parts of DCP's safetensors writer are one tensor, unless they leave a gap, overlap or differ in type" {
  parts "$tmp/good" 2 0
  keep good "$tmp/good"
  ok ckptfs show --tensors "$store/good"
  says_like '^w +F32 +\[4,3\] +48 +2$'
  parts "$tmp/gap" 0 3
  keep gap "$tmp/gap"
  ok ckptfs show "$store/gap"
  says_like '^not understood: shard-00000-.*element \[2, 0\] is in no chunk'
  says_like '^not understood: shard-00001-.*element \[2, 0\] is in no chunk'
  says_not 'tensor set'
  parts "$tmp/overlap" 0 1
  keep overlap "$tmp/overlap"
  ok ckptfs show "$store/overlap"
  says_like '^not understood: shard-00001-.*overlap'
  says_not 'tensor set'
  parts "$tmp/types" 0 2h
  keep types "$tmp/types"
  ok ckptfs show "$store/types"
  says_like '^not understood: shard-00001-.*differ in type'
  says_not 'tensor set'
  # Nothing tells how long it was: without its last part it would only be shorter.
  parts "$tmp/cut" 0 2 4
  truncate -s -1 "$tmp/cut/shard-00002-model-00001-of-00001.safetensors"
  keep cut "$tmp/cut"
  ok ckptfs show "$store/cut"
  says_like '^not understood: shard-00002-.*truncated' \
    "^not understood: shard-00000-.*: its parts of tensors are not complete without 'shard-00002-[^']*', which is not understood$"
  says_not 'tensor set'
  mv "$tmp/cut/shard-00002-model-00001-of-00001.safetensors" "$tmp/away"
  ln -s ../away "$tmp/cut/shard-00002-model-00001-of-00001.safetensors"
  ok ckptfs show "$tmp/cut"
  says_like "^not understood: shard-00001-.*: its parts .* without 'shard-00002-[^']*', which is no regular file$" \
    '^not understood: shard-00002-.*: it is a symbolic link'
  says_not 'tensor set'
}

@test "arrays of numpy are tensors, and what is compressed or of no such type says so" {
  requires clients
  mkdir "$tmp/x"
  "$CKPT_TOP/build/venv/bin/python3" - "$tmp/x" <<'END'
import sys, numpy as np
d = sys.argv[1]
np.save(f"{d}/w.npy", np.arange(12, dtype="<f4").reshape(3, 4, order="F"))
np.save(f"{d}/names.npy", np.array(["a", "b"]))
np.save(f"{d}/big.npy", np.zeros(3, ">f8"))
np.savez(f"{d}/opt.npz", m=np.ones((2, 3)), step=np.int64(7))
np.savez_compressed(f"{d}/packed.npz", m=np.ones((2, 3)))
END
  keep s "$tmp/x"
  ok ckptfs show --tensors "$store/s"
  says_like '^w +F32 +\[3,4\]'
  says_like '^opt\.m +F64 +\[2,3\]'
  says_like '^opt\.step +I64 +\[\]'
  ok ckptfs show "$store/s"
  says_like '^not understood: packed.npz: .*compressed'
  says_like '^not understood: names.npy: '
  says_like '^not understood: big.npy: .*big-endian'
  # What is out contradicts nobody: the one file that is left has the names in it.
  mkdir "$tmp/z"
  "$HELPERS/make_safetensors.py" "$tmp/z/model-00001-of-00002.safetensors" small
  printf '{"weight_map":{"w":"model-00002-of-00002.safetensors"}}' >"$tmp/z/model.safetensors.index.json"
  "$CKPT_TOP/build/venv/bin/python3" -c 'import sys, numpy as np; np.savez(sys.argv[1], scalar=np.ones(3))' "$tmp/z/a.npz"
  keep u "$tmp/z"
  ok ckptfs show --tensors "$store/u"
  says_like '^scalar +F64 +\[3\]'
  # Two that claim one name are both out.
  rm "$tmp/z/model.safetensors.index.json" "$tmp/z/a.npz"
  cp "$tmp/z/model-00001-of-00002.safetensors" "$tmp/z/other.safetensors"
  keep v "$tmp/z"
  ok ckptfs show "$store/v"
  says_like "^not understood: model-00001-of-00002.safetensors: '.*' is told of by 'other.safetensors', too"
  says_like "^not understood: other.safetensors: '.*' is told of by 'model-00001-of-00002.safetensors', too"
  # One file alone needs no name before its arrays'.
  mkdir "$tmp/y"
  cp "$tmp/x/opt.npz" "$tmp/y"
  keep t "$tmp/y"
  ok ckptfs show --tensors "$store/t"
  says_like '^m +F64 +\[2,3\]'
}

# torch_file FILE FQN…: as torch.save writes it, with a tensor of two elements for each FQN
torch_file() {
  python3 - "$@" <<'END'
import collections, io, pickle, sys, types, zipfile
file, fqns = sys.argv[1], sys.argv[2:]
torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
def _rebuild_tensor_v2(*args): pass
_rebuild_tensor_v2.__module__ = "torch._utils"
utils._rebuild_tensor_v2 = _rebuild_tensor_v2
sys.modules |= {"torch": torch, "torch._utils": utils}
class Tensor:
    def __reduce__(self):
        return _rebuild_tensor_v2, (torch.FloatStorage(), 0, (2,), (1,), False, collections.OrderedDict())
class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, "0", "cpu", 2) if isinstance(value, torch.FloatStorage) else None
state = {}
for fqn in fqns:
    part, *path = state, *fqn.split("/")
    for step in path[:-1]:
        part = part.setdefault(step, {})
    part[path[-1]] = Tensor()
data = io.BytesIO()
Pickler(data, 2).dump(state)
with zipfile.ZipFile(file, "w") as archive:
    archive.writestr("archive/data.pkl", data.getvalue())
    archive.writestr("archive/data/0", bytes(8))
END
}

@test "of files of torch.save that claim one name both are out, and so is one that has it twice" {
  mkdir "$tmp/x" "$tmp/y"
  torch_file "$tmp/x/a.pt" b.w
  torch_file "$tmp/x/a.b.pt" w
  torch_file "$tmp/x/c.pt" w
  keep two "$tmp/x"
  ok ckptfs show --tensors "$store/two"
  says_like '^c\.w +F32 +\[2\] '
  says_not a.b.w
  ok ckptfs show "$store/two"
  says "not understood: a.pt: 'a.b.w' is told of by 'a.b.pt', too" "not understood: a.b.pt: 'a.b.w' is told of by 'a.pt', too"
  torch_file "$tmp/y/m.pt" a.b a/b
  ok ckptfs show "$tmp/y"
  says "not understood: m.pt: two tensors in it are called 'a.b'"
  says_not 'tensor set'
}

# npz FILE METHOD NAME…: an archive with something that is no array by each name, whose first ~ is a byte that is no UTF-8
npz() {
  python3 - "$@" <<'END'
import struct, sys, zipfile
file, method, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
head = b"{'descr':'<f4','fortran_order':False,'shape':(2,)}".ljust(117) + b"\n"
with zipfile.ZipFile(file, "w", method) as archive:
    for name in names:
        archive.writestr(f"{name}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + bytes(8))
text = open(file, "rb").read()
open(file, "wb").write(text.replace(b"~", b"\xff"))
END
}

@test "of what one file leaves out twenty are named and the rest are counted" {
  mkdir "$tmp/x"
  npz "$tmp/x/a.npz" 8 k{01..25}
  ok ckptfs show "$tmp/x"
  assert_eq "$(grep -c "^not understood: a.npz: tensor 'k[0-9]*': it is compressed" <<<"$output")" 20 "tensors named"
  says 'not understood: a.npz: and 5 more tensors like those'
  npz "$tmp/x/a.npz" 8 k{01..20}
  ok ckptfs show "$tmp/x"
  assert_eq "$(grep -c "^not understood: a.npz: tensor 'k[0-9]*': it is compressed" <<<"$output")" 20 "tensors named"
  says_not 'more tensors'
}

@test "a name that no manifest can hold puts its file out, no other, and reaches no terminal as it is" {
  mkdir "$tmp/x"
  npz "$tmp/x/a.npz" 0 good 'bad~'
  safetensors "$tmp/x/model.safetensors" w
  keep s "$tmp/x"
  ok ckptfs show "$store/s"
  says "not understood: a.npz: the name of tensor 'bad\\xff' is no UTF-8"
  says_like '^tensor set \.: 1 tensors, 8 bytes$'
  grep -q '"tensor":"w"' "$store/s/.ckptfs/manifest.jsonl"
  torch_file "$tmp/x/m.pt" $'a.\e[31m' $'a/\e[31m'
  ok ckptfs show "$tmp/x"
  says "not understood: m.pt: two tensors in it are called 'm.a.\\x1b[31m'"
}

@test "verify --deep names the metadata and the archives that it cannot look into" {
  mkdir "$tmp/x"
  cp "$dcp"/{.metadata,*.distcp} "$tmp/x"
  chmod u+w "$tmp/x/.metadata"
  truncate -s -1 "$tmp/x/.metadata"
  torch_file "$tmp/x/m.pt" w
  truncate -s -1 "$tmp/x/m.pt"
  keep s "$tmp/x"
  ok ckptfs verify "$store/s"
  assert_eq "$stderr" '' 'without --deep'
  ok ckptfs verify --deep "$store/s"
  says_like '^s: ok \(' "^ckptfs: s/.metadata: not checked: cannot read '.metadata': .*pickle" \
    "^ckptfs: s/m.pt: not checked: 'm.pt' is no valid zip archive: "
  # Of a file in which many archives have lost their ends, one line tells it.
  cp "$dcp"/{.metadata,*.distcp} "$tmp/x"
  rm "$tmp/x/m.pt"
  python3 - "$tmp/x/__1_0.distcp" <<'END'
import pathlib, sys
file = pathlib.Path(sys.argv[1])
text = file.read_bytes()
assert text.count(b"PK\5\6") > 1
file.chmod(0o644)
file.write_bytes(text.replace(b"PK\5\6", b"XX\5\6"))
END
  mkdir "$store/t"
  cp "$tmp/x/".[!.]* "$tmp/x"/* "$store/t"
  ok ckptfs commit --no-crc "$store/t"
  ok ckptfs verify --deep "$store/t"
  assert_eq "$(grep -c '^ckptfs: t/__1_0.distcp: not checked: ' <<<"$output")" 1 lines
}

@test "tensors that lie deep in a folder in no store make it a checkpoint by its name, and else are pointed at" {
  mkdir -p "$tmp/runs/step-1/a/b" "$tmp/mine/a/b" "$tmp/runs/step-2/a/b/c/d"
  safetensors "$tmp/runs/step-1/a/b/model.safetensors" w
  safetensors "$tmp/mine/a/b/model.safetensors" w
  safetensors "$tmp/runs/step-2/a/b/c/d/model.safetensors" w
  ok ckptfs show "$tmp/runs/step-1"
  says_like '^name: step-1$' '^tensor set a/b: 1 tensors, 8 bytes$'
  fails 1 ckptfs show "$tmp/mine"
  says "tensors lie below it; name the folder that holds them, '$tmp/mine/a/b'"
  ok ckptfs show "$tmp/mine/a/b"
  says_like '^tensor set \.: 1 tensors, 8 bytes$'
  fails 1 ckptfs show "$tmp/runs/step-2"
  says 'no tensor format is recognised in it'
  # Whole checkpoints in it are none of its own.
  mkdir -p "$tmp/runs/step-3/more/step-4"
  safetensors "$tmp/runs/step-3/more/step-4/model.safetensors" w
  fails 1 ckptfs show "$tmp/runs/step-3"
  says "'$tmp/runs/step-3/more/step-4'"
}
