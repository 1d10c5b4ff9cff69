#!/usr/bin/env bats
# bats file_tags=fast
# Inputs that the fuzzers began with, and those that once ended a parser, run again; with sanitizers in `make asan`.
load helpers/common

@test "every input that is kept for a parser runs to its end" {
  local parser folder count=0
  ok "$CKPT_BIN/ckpt-fuzz-replay"
  for parser in $stdout; do
    [ -d "$CKPT_TOP/tests/fixtures/fuzz/$parser" ] || fail "no inputs are kept for $parser"
    for folder in "$CKPT_TOP/tests/fixtures/fuzz/$parser" "$CKPT_TOP/tests/fixtures/fuzz/crashes/$parser"; do
      [ -d "$folder" ] || continue
      ok "$CKPT_BIN/ckpt-fuzz-replay" "$parser" "$folder"/*
      says "$parser: $(find "$folder" -type f | wc -l) inputs"
      count=$((count + 1))
    done
  done
  [ "$count" -ge 5 ]
}

@test "inputs are kept only for parsers that there are" {
  local folder
  ok "$CKPT_BIN/ckpt-fuzz-replay"
  for folder in "$CKPT_TOP"/tests/fixtures/fuzz/*/ "$CKPT_TOP"/tests/fixtures/fuzz/crashes/*/; do
    # Without a crash that is kept, there is no folder for them.
    [ -d "$folder" ] || continue
    folder=$(basename "$folder")
    [ "$folder" = crashes ] || says_like "^$folder$"
  done
}
