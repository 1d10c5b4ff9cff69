#!/usr/bin/env bats
# bats file_tags=fast
# What files say of the tensors in them: zip archives, .npy headers, DCP's sharding in safetensors headers.
load helpers/common
load helpers/clients

# python CODE ARGS…: with numpy and safetensors
python() {
  ok env -C "$tmp" "$clients_python" -W ignore -c "$@"
}

# Both make a file a line of stdin, numbered from 1, by one interpreter.

# safetensors: N.st with a tensor 'w' of [2, 3] F32 and a scalar 's', with that DCP_SHARDING_INFO ("": none)
safetensors() {
  python3 - "$tmp" 3<&0 <<'EOF'
import json, os, struct, sys
for number, line in enumerate(os.fdopen(3), 1):
    header = {"w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "s": {"dtype": "U8", "shape": [], "data_offsets": [24, 25]}}
    info = line.rstrip("\n").split("|")[0]
    if info:
        header["__metadata__"] = {"DCP_SHARDING_INFO": info, "DCP_VERSION": "1.0", "format": "pt"}
    text = json.dumps(header).encode()
    with open(f"{sys.argv[1]}/{number}.st", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + bytes(25))
EOF
}

# npy: lines "VERSION;BYTES;HEADER;…": N.npy with that header and so many zeros
npy() {
  python3 - "$tmp" 3<&0 <<'EOF'
import os, struct, sys
for number, line in enumerate(os.fdopen(3), 1):
    version, size, text = line.rstrip("\n").split(";")[:3]
    text = text.encode() + b"\n"
    length = struct.pack("<H" if version == "1" else "<I", len(text))
    with open(f"{sys.argv[1]}/{number}.npy", "wb") as f:
        f.write(b"\x93NUMPY" + bytes([int(version), 0]) + length + text + bytes(int(size)))
EOF
}

@test "every hostile zip archive is refused, with the reason" {
  local file
  python3 "$HELPERS/bad_zips.py" "$tmp/bad"
  for file in "$tmp"/bad/*.zip; do
    fails 1 ckpt-test zip "$file"
    says "'$file'" "$(cat "${file%.zip}.why")"
  done
  [ "$(find "$tmp/bad" -maxdepth 1 -name '*.zip' | wc -l)" -ge 40 ]
}

@test "zip archives with comments, padding and ZIP64 fields are read, at any place in a file" {
  local file
  python3 "$HELPERS/bad_zips.py" "$tmp"
  for file in "$tmp"/good/*.zip; do
    ok ckpt-test zip "$file"
    [ "$(basename "$file")" = none.zip ] || says_like '^a [0-9]+ 5 3610a686$'
    { head -c 41 /dev/zero && cat "$file" && echo behind; } >"$tmp/inside"
    cp "$tmp/.stdout" "$tmp/alone"
    ok ckpt-test zip "$tmp/inside" 41 "$(stat -c %s "$file")"
    awk '{ $2 += 41; print }' "$tmp/alone" >"$tmp/moved"
    same "$tmp/moved" "$tmp/.stdout"
  done
  fails 1 ckpt-test zip "$tmp/inside" 41 1000000
  says 'truncated'
}

@test "the records of an archive are those that Python sees, and a packed one is told apart" {
  python3 - "$tmp/x.zip" >"$tmp/expected" <<'EOF'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    for i in range(300):
        z.writestr(f"data/{i}", bytes([i % 251]) * (i * 37), zipfile.ZIP_DEFLATED if i == 7 else zipfile.ZIP_STORED)
with zipfile.ZipFile(sys.argv[1]) as z, open(sys.argv[1], "rb") as f:
    for i in z.infolist():
        f.seek(i.header_offset + 26)
        lengths = f.read(4)
        at = i.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")
        print(i.filename, at, i.compress_size, ("packed " if i.compress_type else "") + f"{i.CRC:08x}")
EOF
  ok ckpt-test zip "$tmp/x.zip"
  same "$tmp/expected" "$tmp/.stdout"
}

@test "opening an entry of a DCP folder takes two reads, however large its tensor is" {
  python3 - "$tmp/x.zip" <<'EOF'
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    for name, size in (("data.pkl", 500), (".format_version", 1), (".storage_alignment", 2), ("byteorder", 6), ("data/0", 10**6),
                       ("version", 2), (".data/serialization_id", 40)):
        z.writestr("archive/" + name, bytes(size))
EOF
  # A sanitizer cannot look for leaks in a process that is traced.
  ok env ASAN_OPTIONS=detect_leaks=0:exitcode=99 strace -qq -e trace=pread64 -P "$tmp/x.zip" -o "$tmp/calls" "$CKPT_BIN/ckpt-test" zip "$tmp/x.zip"
  # The sums are read after that, from the first record on.
  assert_eq "$(grep -c ', 4096, ' "$tmp/calls")" 2 'reads of headers'
}

@test ".npy headers that numpy would not write, or that cannot be a tensor, are refused" {
  local number=0
  cat >"$tmp/table" <<'EOF'
1;23;{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), };truncated
1;25;{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), };bytes follow
1;24;{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), };big-endian
1;24;{'descr': '=f4', 'fortran_order': False, 'shape': (2, 3), };not known here
1;24;{'descr': '|V4', 'fortran_order': False, 'shape': (2, 3), };raw bytes
1;24;{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), };Python objects
1;24;{'descr': '<U1', 'fortran_order': False, 'shape': (2, 3), };strings
1;24;{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (3,), };times
1;16;{'descr': '<f16', 'fortran_order': False, 'shape': (1,), };not known here
1;24;{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), };structured
1;24;{'descr': '<f4', 'fortran_order': 0, 'shape': (6,), };True or False
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (6), };must be a tuple
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': 6, };must be a tuple
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (-6,), };0 or more
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (06,), };0 or more
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (2 3), };no comma
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), };0 or more
1;0;{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), };overflows
1;24;{'descr': '<f4', 'fortran_order': False};lacks
1;24;{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,), };twice
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1};a key besides
1;24;{'descr': '<f4', 'fortran_order': False, 'shape': (6,), } + {};goes on
1;24;('descr', '<f4');begin with '{'
4;24;{'descr': '<f4', 'fortran_order': False, 'shape': (6,), };version is 4.0
EOF
  echo "1;4;{'descr': '<f4', 'fortran_order': False, 'shape': ($(printf '1, %.0s' {1..65})), };64 dimensions" >>"$tmp/table"
  npy <"$tmp/table"
  while IFS=';' read -r _ _ _ why; do
    number=$((number + 1))
    fails 1 ckpt-test npy "$tmp/$number.npy"
    says "'$tmp/$number.npy' is not a .npy that can be read" "$why"
  done <"$tmp/table"
  assert_eq "$number" 25 'headers'
  head -c 9 "$tmp/1.npy" >"$tmp/short"
  fails 1 ckpt-test npy "$tmp/short"
}

@test "keys of a .npy header may come in any order, with blanks and other quotes" {
  npy <<<"1;24;{\"shape\" : ( 2,3 ) ,'descr':'<i4','fortran_order':False}     "
  ok ckpt-test npy "$tmp/1.npy"
  says_like '^I32 shape=2,3 offset=[0-9]+$'
}

@test "what numpy saves is read: all types, versions, both orders" {
  requires clients
  python 'import numpy as np
types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U64": "<u8", "U32": "<u4",
         "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8", "C128": "<c16"}
for name, descr in types.items():
    np.save(name, np.zeros((2, 0, 5) if name == "U8" else (2, 3, 5), descr))
for i in 1, 2, 3:
    with open(f"v{i}.npy", "wb") as f:
        np.lib.format.write_array(f, np.zeros(3), (i, 0))
np.save("fortran", np.zeros((2, 3, 5), order="F"))
np.save("scalar", np.float32(1))
print(*types)'
  for name in $stdout; do
    ok ckpt-test npy "$tmp/$name.npy"
    says_like "^$name shape=2,[03],5 offset=128$"
  done
  for name in v1 v2 v3; do
    ok ckpt-test npy "$tmp/$name.npy"
    says_like '^F64 shape=3 offset=128$'
  done
  ok ckpt-test npy "$tmp/fortran.npy"
  says 'shape=2,3,5 stride=1,2,6 offset=128'
  ok ckpt-test npy "$tmp/scalar.npy"
  says 'F32 shape= offset=128'
}

@test "numpy loads the .npy headers that are written, and writes the same itself" {
  requires clients
  for dtype in F64 F32 F16 BF16 I64 I32 I16 I8 U64 U32 U16 U8 BOOL C64 C128 F8_E4M3 F8_E5M2FNUZ; do
    ok ckpt-test npy-print "$dtype" 2 3
    cp "$tmp/.stdout" "$tmp/$dtype.npy"
    head -c 96 /dev/zero >>"$tmp/$dtype.npy"
  done
  ok ckpt-test npy-print F32 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1
  cp "$tmp/.stdout" "$tmp/deep.npy" && head -c 4 /dev/zero >>"$tmp/deep.npy"
  ok ckpt-test npy-print F32
  cp "$tmp/.stdout" "$tmp/scalar.npy" && head -c 4 /dev/zero >>"$tmp/scalar.npy"
  ok ckpt-test npy-print F32 0
  cp "$tmp/.stdout" "$tmp/none.npy"
  python 'import glob, io, numpy as np
for path in glob.glob("*.npy"):
    a, head = np.load(path), io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(a))
    text = open(path, "rb").read()
    assert len(text) % 64 in (a.nbytes % 64, 96 % 64) and text[:8] == head.getvalue()[:8], path
    assert text[10:].split(b"}")[0].rstrip() == head.getvalue()[10:].split(b"}")[0].rstrip(), path
    print(path, a.dtype.str, a.shape)'
  says 'BF16.npy <u2 (2, 3)' 'F8_E4M3.npy |u1 (2, 3)' 'C128.npy <c16 (2, 3)' 'scalar.npy <f4 ()' 'none.npy <f4 (0,)'
  fails 1 ckpt-test npy-print F4 2
}

@test "where DCP's safetensors writer says that tensors begin is read" {
  safetensors <<'EOF'
{"w": {"saved_offsets": [4, 0]}, "s": {"saved_offsets": []}}
{"w": {"saved_offsets": [0, 3]}}

EOF
  ok ckpt-test saved-offsets "$tmp/1.st"
  assert_eq "$stdout" $'w 4,0\ns '
  ok ckpt-test saved-offsets "$tmp/2.st"
  assert_eq "$stdout" $'w 0,3\ns'
  ok ckpt-test saved-offsets "$tmp/3.st"
  assert_eq "$stdout" none
}

@test "sharding information that is damaged, or of other tensors, is refused" {
  local number=0
  cat >"$tmp/table" <<'EOF'
[]|no object
{|
{"x": {"saved_offsets": [0]}}|tensor 'x': it is not in the file
{"w": {"saved_offsets": [0]}}|not the same length
{"w": {"saved_offsets": [0, 0, 0]}}|not the same length
{"w": {"saved_offsets": [0, -1]}}|0 or more
{"w": {"saved_offsets": [0, 1.5]}}|0 or more
{"w": {"saved_offsets": [0, 9223372036854775807]}}|less than 2^63
{"w": {"saved_offsets": {}}}|no list
{"w": [0, 0]}|no list
{"w": {}}|no list
{"w": {"saved_offsets": [0, 0]}, "w": {"saved_offsets": [0, 0]}}|
EOF
  safetensors <"$tmp/table"
  while IFS='|' read -r _ why; do
    number=$((number + 1))
    fails 1 ckpt-test saved-offsets "$tmp/$number.st"
    says "'$tmp/$number.st': 'DCP_SHARDING_INFO' is damaged" "$why"
  done <"$tmp/table"
  assert_eq "$number" 12 'texts'
}
