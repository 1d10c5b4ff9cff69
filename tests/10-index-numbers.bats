#!/usr/bin/env bats
# bats file_tags=slow
# show --stats, --tensor and --tree, and diff: what is said of the numbers in tensors, against numpy.
load helpers/common
load helpers/clients

setup() {
  requires clients
  new_store
  mkdir -p "$tmp/a" "$tmp/b"
  numpy make "$tmp/a" 1
}

numpy() {
  "$clients_python" "$HELPERS/tensor_numbers.py" "$@"
}

# holds WORD FILE…: what the last command printed as JSON is so
holds() {
  printf '%s\n' "$output" >"$tmp/json"
  numpy "$@" "$tmp/json" || fail "$output"
}

# keep NAME DIR: a copy of DIR, committed
keep() {
  mkdir -p "$store/$1"
  cp -r "$2/." "$store/$1"
  ok ckptfs commit "$store/$1"
}

@test "statistics are numpy's for every dtype, with NaN and Inf, of the empty and of one number" {
  keep s "$tmp/a"
  ok ckptfs show --stats --json "$store/s"
  holds stats "$tmp/a/model.safetensors"
  ok ckptfs show --tensor normal --tensor ends --tensor bits.F32 --tensor nothing --tensor empty.I8 --json "$store/s"
  holds stats "$tmp/a/model.safetensors"
  # A folder that is in no store.
  ok ckptfs show --stats --json "$tmp/a"
  holds stats "$tmp/a/model.safetensors"
}

@test "a tensor is shown with its histogram, no wider than the terminal, and a mistyped one is named" {
  local width
  keep s "$tmp/a"
  for width in 40 80 200; do
    ok env COLUMNS=$width ckptfs show --tensor normal "$store/s"
    says_like '^mean: '
    says_like '^histogram:'
    [ "$(wc -L <<<"$output")" -le "$width" ] || fail "wider than $width"
    assert_eq "$(grep -c ' \.\.' <<<"$output")" 20 bars
  done
  fails 1 ckptfs show --tensor normel "$store/s"
  says "did you mean 'normal'"
  fails 2 ckptfs show --stats --tree "$store/s"
}

@test "what is printed of PyTorch's own checkpoints is what it was, on a terminal of any width and on none" {
  local fixtures=$CKPT_TOP/tests/fixtures width
  cd "$fixtures"
  for width in 40 80 200; do
    diff <(COLUMNS=$width NO_COLOR=1 ckptfs show --stats dcp-2ranks) dcp-2ranks.stats.txt
    diff <(COLUMNS=$width ckptfs show --tree dcp-2ranks) dcp-2ranks.tree.txt
    diff <(COLUMNS=$width ckptfs diff dcp-1rank dcp-2ranks) dcp.diff.txt
  done
  diff <(COLUMNS=80 ckptfs show --tensor model.cols dcp-2ranks) dcp-2ranks.cols.txt
  # And it is so: against numpy, out of the view of all tensors that safetensors can hold.
  ok ckptfs cp dcp-2ranks/.ckptfs/safetensors/all.safetensors "$tmp/all.safetensors"
  ckptfs show --stats --json dcp-2ranks | python3 -c 'import json, sys; json.dump([row for row in json.load(sys.stdin) if row["dtype"][0] != "C"], sys.stdout)' >"$tmp/json"
  numpy stats "$tmp/all.safetensors" "$tmp/json"
}

@test "the tree counts what is below each name" {
  mkdir "$tmp/tree"
  "$HELPERS/make_safetensors.py" "$tmp/tree/model.safetensors" model 1
  keep s "$tmp/tree"
  ok ckptfs show --tree "$store/s"
  assert_eq "$output" 'embed.weight  F32 [256,256]  256.0 KiB
layers.0  3 entries, 4.0 MiB
  attn.weight  F32 [1024,1024]  4.0 MiB
  bias  BF16 [1021]  2.0 KiB
  norm.weight  F32 [1024]  4.0 KiB
step  I64 []  8 B'
  ok ckptfs show --tree --json "$store/s"
  says '"path":"layers.0","tensors":3,"bytes":4200442'
}

@test "differences are numpy's: changed, recast, reshaped, added and removed, the most changed first" {
  numpy change "$tmp/b" "$tmp/a/model.safetensors"
  keep a "$tmp/a"
  keep b "$tmp/b"
  fails 1 ckptfs diff --json "$store/a" "$store/b"
  holds diff "$tmp/a/model.safetensors" "$tmp/b/model.safetensors"
  fails 1 ckptfs diff --json "$store/b" "$store/a"
  holds diff "$tmp/b/model.safetensors" "$tmp/a/model.safetensors"
  # Bare folders, and one of each.
  fails 1 ckptfs diff --json "$tmp/a" "$store/b"
  holds diff "$tmp/a/model.safetensors" "$tmp/b/model.safetensors"
  fails 1 ckptfs diff "$store/a" "$tmp/b"
  says_like '^large +changed +I64'
  says_like '^new +added'
  says_like '^tensors: [0-9]+ equal, 10 differ$'
}

@test "a checkpoint saved on 4 ranks by columns equals one saved on 3 by rows, in another store" {
  ckptfs init "$tmp/other"
  ok mpi 4 save "$store/s" --from "$tmp/a/model.safetensors" --shard 1
  ok mpi 3 save "$tmp/other/t" --from "$tmp/a/model.safetensors" --shard 0
  ok ckptfs diff "$store/s" "$tmp/other/t"
  says_like '^tensors: [0-9]+ equal, 0 differ$'
  ok ckptfs diff --json "$store/s" "$tmp/a"
  assert_eq "$output" '[]'
  numpy change "$tmp/b" "$tmp/a/model.safetensors"
  ok mpi 2 save "$tmp/other/u" --from "$tmp/b/model.safetensors"
  fails 1 ckptfs diff --json "$store/s" "$tmp/other/u"
  holds diff "$tmp/a/model.safetensors" "$tmp/b/model.safetensors"
}

@test "what the sums prove equal is not read, and damage in what is read is an error" {
  keep a "$tmp/a"
  cp -r "$store/a" "$tmp/copy"
  # Unread, so that nobody notices.
  printf X | dd of="$tmp/copy/model.safetensors" bs=1 seek=100000 conv=notrunc status=none
  ok ckptfs diff "$store/a" "$tmp/copy"
  numpy change "$tmp/b" "$tmp/a/model.safetensors"
  keep b "$tmp/b"
  printf X | dd of="$store/b/model.safetensors" bs=1 seek=100000 conv=notrunc status=none
  fails 1 ckptfs diff "$store/a" "$store/b"
  says 'xxh3-64 is'
}

@test "the norm of a tensor over steps is a panel of the plot" {
  local i
  requires gnuplot
  numpy change "$tmp/b" "$tmp/a/model.safetensors"
  keep run/step-1 "$tmp/a"
  keep run/step-2 "$tmp/b"
  ok ckptfs plot -o "$tmp/plain.svg" "$store"
  ok ckptfs plot -o "$tmp/x.svg" --tensor normal --tensor sparse "$store"
  for i in normal sparse; do
    grep -q "L2 norm of $i" "$tmp/x.svg" || fail "no panel for $i"
    not grep -q "L2 norm of $i" "$tmp/plain.svg"
  done
  fails 1 ckptfs plot -o "$tmp/y.svg" --tensor nothere "$store"
  says "no checkpoint here has a tensor 'nothere'"
  [ ! -e "$tmp/y.svg" ]
}

@test "without tensors, or with --shards, the shards are compared" {
  committed x 1
  committed y 1
  ok ckptfs diff "$store/x" "$store/y"
  says_like '^shards: 4 equal, 0 differ'
  committed z 2
  fails 1 ckptfs diff --shards "$store/x" "$store/z"
  says_like '^big.bin +differs'
  says_like '^empty +equal'
  keep s "$tmp/a"
  fails 1 ckptfs diff --shards --json "$store/s" "$store/x"
  says '"shard":"model.safetensors","state":"removed"'
  fails 1 ckptfs diff "$store/x" "$store/none"
  fails 2 ckptfs diff "$store/x"
}
