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
}

@test "a family whose index names what is not there is no model" {
  mkdir "$tmp/x"
  "$HELPERS/make_safetensors.py" "$tmp/x/model-00001-of-00002.safetensors" small
  printf '{"metadata":{},"weight_map":{"scalar":"model-00001-of-00002.safetensors","w":"model-00002-of-00002.safetensors"}}' \
    >"$tmp/x/model.safetensors.index.json"
  keep s "$tmp/x"
  ok ckptfs show "$store/s"
  says "not understood: model.safetensors.index.json: 'w' should lie in 'model-00002-of-00002.safetensors', which is not there"
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
