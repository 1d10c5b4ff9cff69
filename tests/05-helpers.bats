#!/usr/bin/env bats
# bats file_tags=fast
# The helpers themselves: a helper that never fails would make every test pass.
load helpers/common

# wrong CMD…: the helper must say no.
wrong() {
  ! "$@" >"$tmp/wrong.log" 2>&1 || fail "did not fail: $*"
}

@test "ok and fails look at the exact exit status" {
  ok true
  fails 3 bash -c 'echo reason; exit 3'
  wrong ok false
  wrong fails 1 bash -c 'echo reason; exit 2'
  wrong fails 1 true
}

@test "a failure without a message is not accepted" {
  wrong fails 1 false
}

@test "ending by a signal is never what was expected" {
  wrong try bash -c 'kill -SEGV $$'
  wrong fails 139 bash -c 'echo x; kill -SEGV $$'
}

@test "a command that outlasts its deadline fails" {
  DEADLINE=0.2 wrong ok sleep 5
}

@test "what a sanitizer finds is not taken for an exit status of ours" {
  wrong fails 99 bash -c 'echo finding; exit 99'
}

@test "output is kept apart and together" {
  ok bash -c 'echo one; echo two >&2'
  assert_eq "$stdout" one
  assert_eq "$stderr" two
  assert_eq "$output" $'one\ntwo'
}

@test "says, says_not and says_like look for text" {
  ok printf 'a shard [x]\nsecond line\n'
  says 'shard [x]' second
  says_not third
  says_like '^second' 'l.ne$'
  wrong says second third
  wrong says_not first second
  wrong says_like '^line'
}

@test "assert_eq shows both sides" {
  assert_eq a a
  wrong assert_eq "is this" "should be that"
  grep -q 'is this' "$tmp/wrong.log"
  grep -q 'should be that' "$tmp/wrong.log"
}

@test "same and same_tree see one other byte, a missing file and another link" {
  mkdir "$tmp/a" "$tmp/b"
  echo x | tee "$tmp/a/f" >"$tmp/b/f"
  same_tree "$tmp/a" "$tmp/b"
  same "$tmp/a/f" "$tmp/b/f"
  ckpt-test flip "$tmp/b/f" 0
  wrong same "$tmp/a/f" "$tmp/b/f"
  wrong same_tree "$tmp/a" "$tmp/b"
  cp "$tmp/a/f" "$tmp/b/f"
  touch "$tmp/b/more"
  wrong same_tree "$tmp/a" "$tmp/b"
  rm "$tmp/b/more"
  ln -s here "$tmp/a/l"
  ln -s there "$tmp/b/l"
  wrong same_tree "$tmp/a" "$tmp/b"
}

@test "a snapshot sees a changed byte even where size and mtime are the same" {
  mkdir "$tmp/dir"
  echo text >"$tmp/dir/f"
  snapshot "$tmp/dir" >"$tmp/before"
  ckpt-test flip "$tmp/dir/f" 2 7
  snapshot "$tmp/dir" >"$tmp/after"
  wrong same "$tmp/before" "$tmp/after"
  ckpt-test flip "$tmp/dir/f" 2 7
  snapshot "$tmp/dir" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "eventually gives up" {
  eventually 5 true
  wrong eventually 0 false
}

@test "what is required and missing fails the test under CI=true" {
  requires bash
  CI=true wrong requires no-such-tool-at-all
}

@test "errno_is compares the exact errno" {
  errno_is ENOENT open "$tmp/none"
  errno_is OK open "$tmp"
  errno_is EISDIR open-write "$tmp"
  wrong errno_is OK open "$tmp/none"
}

@test "ckpt-test compare finds one flipped bit, also when many threads read" {
  random_bytes 1 3000000 >"$tmp/a"
  cp "$tmp/a" "$tmp/b"
  ok ckpt-test compare "$tmp/a" "$tmp/b" 300 4
  ok ckpt-test map-compare "$tmp/a" "$tmp/b"
  ckpt-test flip "$tmp/b" 1500000 3
  fails 1 ckpt-test compare "$tmp/a" "$tmp/b" 300 4
  fails 1 ckpt-test map-compare "$tmp/a" "$tmp/b"
}

@test "ckpt-test map-sum and read-random read what is there" {
  printf '\001\000\000\000\000\000\000\000\002' >"$tmp/words"
  ok ckpt-test map-sum "$tmp/words"
  assert_eq "$stdout" 0000000000000003
  ok ckpt-test map-sum /dev/null
  random_bytes 1 10000 >"$tmp/pages"
  ok ckpt-test read-random "$tmp/pages" 100
  fails 1 ckpt-test read-random "$tmp/words" 1
}

@test "a lease is refused while a mapping for writing lives, and given when it is gone" {
  echo text >"$tmp/f"
  ok ckpt-test lease "$tmp/f"
  assert_eq "$stdout" OK
  hold map "$tmp/f"
  ok ckpt-test lease "$tmp/f"
  assert_eq "$stdout" EAGAIN
  let_go
  ok ckpt-test lease "$tmp/f"
  assert_eq "$stdout" OK
}

@test "the test models are the same at each making, and a slice compares with itself only" {
  make_model "$tmp/a.safetensors" small
  make_model "$tmp/b.safetensors" small
  same "$tmp/a.safetensors" "$tmp/b.safetensors"
  slice "$tmp/a.safetensors" compare "$tmp/b.safetensors"
  ckpt-test flip "$tmp/b.safetensors" "$(($(stat -c %s "$tmp/b.safetensors") - 1))"
  wrong slice "$tmp/a.safetensors" compare "$tmp/b.safetensors"
  slice "$tmp/a.safetensors" cut d3 0 3 >"$tmp/0"
  slice "$tmp/a.safetensors" cut d3 2 3 >"$tmp/2"
  assert_eq "$(stat -c %s "$tmp/0")" 120
  assert_eq "$(stat -c %s "$tmp/2")" 120
  wrong same "$tmp/0" "$tmp/2"
}

@test "the leak check sees a process and a mount that were left" {
  bash -c "exec -a 'ckpt-test left $tmp/x' sleep 100" 3>&- 4>&- &
  eventually 5 pgrep -f "left $tmp/x"
  wrong no_leaks
  grep -q 'still running' "$tmp/wrong.log"
  if available root; then
    mkdir "$tmp/left"
    mount -t tmpfs left "$tmp/left"
    wrong no_leaks
    grep -q 'still mounted' "$tmp/wrong.log"
  fi
  no_leaks
}
