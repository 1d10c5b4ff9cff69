#!/usr/bin/env bats
# bats file_tags=fast
# The command line: help, misuse, signals.
load helpers/common

commands='init commit ls show cat abort cp verify reindex latest mount umount'

@test "every command has a help text that shows its usage" {
  local command
  ok ckptfs --help
  for command in $commands; do
    says "$command" || return 1
  done
  for command in $commands; do
    ok ckptfs "$command" --help
    [[ "$stdout" == *"usage: ckptfs $command"* ]] || fail "no usage line"
    assert_eq "$stderr" ''
  done
}

@test "an unknown command or option is misuse, and the nearest one is suggested" {
  fails 2 ckptfs comit
  says "'comit'" "'commit'"
  fails 2 ckptfs ls --jsn
  says "'--jsn'" "'--json'"
  fails 2 ckptfs ls -x
  says "'-x'"
  fails 2 ckptfs --nonsense
  assert_eq "$stdout" ''
}

@test "missing and superfluous arguments are misuse" {
  local command
  for command in commit show cat abort verify mount umount cp init; do
    [ "$command" = init ] || fails 2 ckptfs "$command"
    assert_eq "$stdout" '' "stdout of $command"
  done
  fails 2 ckptfs cp one
  fails 2 ckptfs ls one two
  fails 2 ckptfs show one two
  fails 2 ckptfs umount one two
}

@test "a bad value of an option is misuse and touches nothing" {
  new_store
  make_files "$store/step-1"
  snapshot "$store" >"$tmp/before"
  fails 2 ckptfs commit "$store/step-1" --step -1
  fails 2 ckptfs commit "$store/step-1" --step 1x
  fails 2 ckptfs commit "$store/step-1" --step
  fails 2 ckptfs commit "$store/step-1" --meta novalue
  fails 2 ckptfs commit "$store/step-1" --meta =x
  says ckptfs
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "options may stand anywhere, and -- ends them" {
  new_store
  make_files "$store/-odd"
  ok ckptfs ls "$store" --json
  cd "$store"
  ok ckptfs commit --step=3 -- -odd
  ok ckptfs verify -- -odd
  says '-odd: ok'
}

@test "errors go to stderr as 'ckptfs: …', results to stdout" {
  fails 1 ckptfs ls "$tmp/none"
  assert_eq "$stdout" ''
  [[ "$stderr" == 'ckptfs: '* ]]
}

@test "a progress bar is shown on a terminal only" {
  new_store
  make_files "$store/step-1"
  ok ckptfs commit "$store/step-1"
  assert_eq "$stderr" ''
  [[ "$stdout" != *$'\r'* ]]
}
