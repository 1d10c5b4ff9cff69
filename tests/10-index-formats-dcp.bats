#!/usr/bin/env bats
# bats file_tags=slow
# What PyTorch writes: the `.metadata` of DCP, and what torch.save leaves in a zip archive. Read as
# PyTorch reads it, and refused where it is damaged or made to do harm.
load helpers/common

fixtures=${BATS_TEST_DIRNAME}/fixtures

# made KIND: such pickles in $tmp/KIND.
made() {
  mkdir -p "$tmp/$1"
  python3 "$HELPERS/bad_pickles.py" "$1" "$tmp/$1"
}

# refused FILE COMMAND TEXT…: COMMAND of ckpt-test refuses it, for the reason given
refused() {
  local file=$1 command=$2
  shift 2
  fails 1 ckpt-test "$command" "$file" || return 1
  says "'$file'" "$@"
}

# all_refused COMMAND FILE…: each of them, in one run
all_refused() {
  local command=$1 file
  shift
  fails 1 ckpt-test "$command" "$@" || return 1
  for file in "$@"; do
    [[ "$stdout" == *"$file: refused: cannot read '$file': "* ]] || fail "$file is read" || return 1
  done
}

@test "a .metadata is read as PyTorch reads it: names, dtypes, shapes" {
  local folder
  for folder in dcp-1rank dcp-2ranks; do
    ok ckpt-test dcp "$fixtures/$folder/.metadata"
    sed -nE 's/^tensor (.*) group=[a-z]+ dtype=(.*) shape=(.*)$/\1 \2 \3/p' "$tmp/.stdout" >"$tmp/is"
    jq -r '{bfloat16: "BF16", bool: "BOOL", complex64: "C64", float16: "F16", float32: "F32", float64: "F64",
      float8_e4m3fn: "F8_E4M3", int32: "I32", int64: "I64", uint8: "U8"} as $names |
      to_entries[] | "\(.key) \($names[.value.dtype]) \(.value.shape | join(","))"' \
      "$fixtures/$folder.expect.json" | LC_ALL=C sort >"$tmp/expected"
    diff -u "$tmp/expected" "$tmp/is"
  done
}

@test "each entry that a .metadata names is a tensor of that size in its file" {
  local file at size dtype
  ok ckpt-test dcp "$fixtures/dcp-2ranks/.metadata"
  awk '$1 == "tensor" { split($4, dtype, "=") }
    $1 == "bytes" { dtype[2] = "" }
    $1 == "chunk" && dtype[2] { split($3, size, "="); split($4, file, "="); split($5, at, "[=+]"); print dtype[2] "|" size[2] "|" file[2] "|" at[2] "|" at[3] }' \
    "$tmp/.stdout" >"$tmp/entries"
  [ "$(wc -l <"$tmp/entries")" -ge 20 ]
  while IFS='|' read -r dtype size file at len; do
    ok ckpt-test torch "$fixtures/dcp-2ranks/$file" "$at" "$len"
    says "tensor  dtype=$dtype shape=$size "
  done <"$tmp/entries"
}

@test "groups are the first of two steps or more in the state dict; one step has none" {
  ok ckpt-test dcp "$fixtures/dcp-2ranks/.metadata"
  says 'tensor model.rows group=model' 'bytes note group=-' 'bytes optim.param_groups.0.lr group=optim'
}

@test "a .metadata of older PyTorch, or with other planners' classes in it, is read all the same" {
  local name
  made old
  for name in torch-2.1 no-planner int-path custom-planner not-transformed; do
    ok ckpt-test dcp "$tmp/old/$name.metadata"
    says 'dtype=F32 shape=4,4' 'chunk start=2,0 size=2,4 file=__0_0.distcp at=100+100' 'file=__0_0.distcp at=200+100'
    says_not opaque
  done
  ok ckpt-test dcp "$tmp/old/torch-2.1.metadata"
  says 'tensor model.w group=model' 'bytes note group=-'
  ok ckpt-test dcp "$tmp/old/int-path.metadata"
  says 'tensor model.w group=3' 'bytes note group=0'
}

@test "what a .metadata tells and nobody here understands stays closed, with the reason" {
  made old
  ok ckpt-test dcp "$tmp/old/custom-storage.metadata"
  says 'tensor model.w group=- dtype=F32 shape=4,4 opaque: it was stored by a writer'
  ok ckpt-test dcp "$tmp/old/custom-tensor.metadata"
  says 'tensor x group=- opaque: it is described by a class' 'tensor model.w group=- dtype=F32 shape=4,4'$'\n'
  ok ckpt-test dcp "$tmp/old/transformed.metadata"
  says 'shape=4,4 opaque: its bytes were transformed'
  ok ckpt-test dcp "$tmp/old/unknown-dtype.metadata"
  says 'tensor w group=- shape=4,4 opaque: its element type' 'opaque: its layout is not strided'
}

@test "boxes without elements are passed over" {
  made old
  ok ckpt-test dcp "$tmp/old/empty-boxes.metadata"
  assert_eq "$(grep -c chunk "$tmp/.stdout")" 2
}

@test "a .metadata that contradicts itself is refused, and the tensor named" {
  made metadata
  all_refused dcp "$tmp"/metadata/*.metadata
  refused "$tmp/metadata/overlap.metadata" dcp "'w'" '[0..3)x[0..4)' overlap
  refused "$tmp/metadata/hole.metadata" dcp "'w'" 'in no chunk'
  refused "$tmp/metadata/outside.metadata" dcp "'w'" '[2..5)x[0..4) leaves its shape'
  refused "$tmp/metadata/not-stored.metadata" dcp "'w'" '[0..2)x[0..4) is stored nowhere'
  refused "$tmp/metadata/parent-path.metadata" dcp "'../__0_0.distcp'"
  refused "$tmp/metadata/range.metadata" dcp "'w'" 'offset or length'
  refused "$tmp/metadata/stored-twice.metadata" dcp "'w'" twice
  refused "$tmp/metadata/shared-chunks.metadata" dcp 'chunks of its own'
}

@test "each opcode that is not on the list is refused by number and name" {
  local code name refusals=0
  made opcodes
  # One run: 256 files, a line each, or tensors.
  fails 1 ckpt-test torch-pickle "$tmp"/opcodes/op-*.pkl
  while read -r code name; do
    if grep -qF "$(printf "op-%03d.pkl': opcode 0x%02x (%s) at byte 3 of its pickle is not allowed" "$code" "$code" "$name")" "$tmp/.stdout"; then
      refusals=$((refusals + 1))
      printf '%s\n' "$name" >>"$tmp/names"
    else
      printf '%s\n' "$name" >>"$tmp/allowed"
    fi
  done <"$tmp/opcodes/names"
  assert_eq "$(LC_ALL=C sort "$tmp/allowed" | paste -sd' ')" "$(tr -s ' \n' ' ' <<<'ADDITEMS APPEND APPENDS BINBYTES
    BINBYTES8 BINFLOAT BINGET BININT BININT1 BININT2 BINPERSID BINPUT BINUNICODE BINUNICODE8 BUILD BYTEARRAY8 EMPTY_DICT
    EMPTY_LIST EMPTY_SET EMPTY_TUPLE FRAME FROZENSET GLOBAL LONG1 LONG_BINGET LONG_BINPUT MARK MEMOIZE NEWFALSE NEWOBJ
    NEWOBJ_EX NEWTRUE NONE PROTO REDUCE SETITEM SETITEMS SHORT_BINBYTES SHORT_BINUNICODE STACK_GLOBAL STOP TUPLE TUPLE1
    TUPLE2 TUPLE3' | sed 's/ $//')"
  [ "$refusals" -ge 190 ]
}

@test "bombs, cycles, lies about lengths: refused, quickly, with the reason" {
  made hostile
  DEADLINE=10 all_refused torch-pickle "$tmp"/hostile/*.pkl
  refused "$tmp/hostile/memo-bomb.pkl" torch-pickle 'too often'
  refused "$tmp/hostile/list-in-itself.pkl" torch-pickle 'holds itself'
  refused "$tmp/hostile/memo-gap.pkl" torch-pickle LONG_BINPUT gap
  refused "$tmp/hostile/key-twice.pkl" torch-pickle "'w' twice"
  refused "$tmp/hostile/longer-string.pkl" torch-pickle BINUNICODE8 'byte 2' 'longer than what is left'
  refused "$tmp/hostile/tensor-too-far.pkl" torch-pickle 'byte 28 of a storage of 24'
}

# bats test_tags=slow,sanitized
@test "a pickle that is cut anywhere, or has bytes flipped, does no harm" {
  local seed=$RANDOM
  printf 'seed %s\n' "$seed"
  ok ckpt-test pickle-damage "$fixtures/dcp-2ranks/.metadata" 3000 "$seed"
  python3 -m zipfile -e "$fixtures/torch/objects.pt" "$tmp/out"
  ok ckpt-test pickle-damage "$tmp/out/objects/data.pkl" 3000 "$seed"
}

@test "torch.save's dicts, lists and tuples are walked as PyTorch walks them, to the same bytes" {
  local path dtype shape stride span sum at
  ok ckpt-test torch "$fixtures/torch/objects.pt"
  cp "$tmp/.stdout" "$tmp/is"
  assert_eq "$(awk '{ print $2 }' "$tmp/is" | paste -sd' ')" "$(awk '{ print $1 }' "$fixtures/torch/objects.expect.txt" | paste -sd' ')"
  while read -r path dtype shape stride span sum; do
    grep "^tensor $path " "$tmp/is" >"$tmp/line"
    if [ "$dtype" = opaque ]; then
      grep -q ' opaque: ' "$tmp/line" || fail "$path is open"
      continue
    fi
    shape=${shape:1:-1}
    stride=${stride/#-/} # none: row-major
    grep -q " dtype=$dtype shape=$shape${stride:+ stride=$stride} at=" "$tmp/line" || fail "$path: $(cat "$tmp/line")"
    at=$(sed 's/.*at=//' "$tmp/line")
    assert_eq "$(tail -c +$((at + 1)) "$fixtures/torch/objects.pt" | head -c "$span" | sha256sum | cut -d' ' -f1)" "$sum" "$path"
  done <"$fixtures/torch/objects.expect.txt"
}

@test "torch's files of other kinds are refused with what to do" {
  cp "$fixtures/torch/objects.pt" "$tmp/big.pt"
  chmod u+w "$tmp/big.pt"
  python3 - "$tmp/big.pt" "$tmp/foreign.pt" <<'EOF'
import sys, zipfile
path = sys.argv[1]
with zipfile.ZipFile(path) as old:
    records = [(name, old.read(name)) for name in old.namelist()]
with zipfile.ZipFile(path, "w") as new:
    for name, data in records:
        new.writestr(name, b"big" if name.endswith("/byteorder") else data)
with zipfile.ZipFile(sys.argv[2], "w") as foreign:
    foreign.writestr("notes/readme.txt", "hello")
EOF
  refused "$tmp/big.pt" torch 'byte order' 'little-endian machine'
  refused "$tmp/foreign.pt" torch "without 'data.pkl'"
  printf '\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.' >"$tmp/old.pt"
  refused "$tmp/old.pt" torch 'is no zip archive' 'load and save it again'
}

@test "the time for tens of thousands of tensors does not grow with their square" {
  python3 "$HELPERS/bad_pickles.py" many 40000 "$tmp/many.metadata"
  DEADLINE=10 ok bash -c "ckpt-test dcp '$tmp/many.metadata' | grep -c ^tensor"
  assert_eq "$stdout" 40000
}
