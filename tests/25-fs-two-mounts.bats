#!/usr/bin/env bats
# bats file_tags=slow,fuse,root
# Several mounts of one store, each in a mount namespace of its own, as on two nodes: they write, commit and read
# beside each other, and beside processes that work in the store itself.
load helpers/common
load helpers/apart
load helpers/polls

setup() {
  requires fuse root unshare nsenter
  new_store
  committed run/step-0
  make_files "$tmp/source" 7
}

teardown() {
  local rc=0
  drop_apart || rc=1
  clean_up || rc=1
  return $rc
}

# save_many WHO COUNT THERE SOURCE: so many checkpoints, one after the other
# shellcheck disable=SC2016 # for another shell
save_many='
  set -e
  for i in $(seq "$2"); do
    mkdir "$3/run/$1-$i.tmp"
    cp -a "$4/." "$3/run/$1-$i.tmp"
    mv "$3/run/$1-$i.tmp" "$3/run/$1-$i"
  done'

@test "two mounts write and commit different checkpoints at the same time, and each sees the other's" {
  local who i pids=()
  mount_apart a
  mount_apart b
  for who in a b; do
    at $who bash -c "$save_many" save $who 5 "$there" "$tmp/source" >"$tmp/out.$who" 2>&1 3>&- 4>&- &
    pids+=($!)
  done
  for i in "${pids[@]}"; do
    wait "$i" || fail "a save failed: $(cat "$tmp/out.a" "$tmp/out.b")"
  done
  for who in a b; do
    for i in 1 2 3 4 5; do
      eventually 1 at a test -e "$there/run/$who-$i/big.bin"
      eventually 1 at b test -e "$there/run/$who-$i/big.bin"
      same_tree_at a "$there/run/$who-$i" "$tmp/source"
      same_tree_at b "$there/run/$who-$i" "$tmp/source"
    done
  done
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok' <<<"$stdout")" 11
  ok ckptfs ls --json "$store"
  assert_eq "$(jq -r '.[].seq' <<<"$stdout" | sort -n | uniq -d)" '' "sequence numbers that were given twice"
  end_apart a
  end_apart b
}

@test "two ranks write into one open checkpoint from two mounts; who commits is told who still writes, and takes all along" {
  local holder
  mount_apart a
  mount_apart b
  at a mkdir "$there/run/step-1.tmp"
  eventually 1 at b test -d "$there/run/step-1.tmp"
  at a cp -a "$tmp/source" "$there/run/step-1.tmp/rank-0"
  at b cp -a "$tmp/source" "$there/run/step-1.tmp/rank-1"
  eventually 1 at a cmp "$there/run/step-1.tmp/rank-1/big.bin" "$tmp/source/big.bin"
  # A rank that is not done yet, on the other node.
  at b ckpt-test hold write "$there/run/step-1.tmp/rank-1/big.bin" >"$tmp/held" 2>&1 3>&- 4>&- </dev/null &
  holder=$!
  eventually 5 grep -q ready "$tmp/held"
  fails_at 1 a mv "$there/run/step-1.tmp" "$there/run/step-1"
  says 'Device or resource busy'
  grep -qF 'rank-1/big.bin' "$tmp/a.log"
  at b getfattr --only-values -n user.ckptfs.state "$there/run/step-1.tmp" | grep -qx open
  # It goes on writing as if nothing had been.
  at b dd if="$tmp/source/big.bin" of="$there/run/step-1.tmp/rank-1/late" bs=100k status=none
  pkill -P "$holder" || kill "$holder"
  wait "$holder" || true
  ok_at a mv "$there/run/step-1.tmp" "$there/run/step-1"
  same_tree_at a "$there/run/step-1/rank-0" "$tmp/source"
  eventually 1 at b test -e "$there/run/step-1/rank-1/late"
  same_tree_at b "$there/run/step-1/rank-0" "$tmp/source"
  at b cmp "$there/run/step-1/rank-1/late" "$tmp/source/big.bin"
  fails_at 1 b touch "$there/run/step-1/rank-1/more"
  says 'Read-only file system'
  ok ckptfs verify "$store"
  says 'run/step-1: ok (9 shards'
  assert_eq "$(ls -A "$store/run/step-1/.ckptfs")" manifest.jsonl
  end_apart b
  end_apart a
}

# churn N: folders and checkpoints that come and go, in $there, for four seconds
churn() {
  local end=$((SECONDS + 4)) i=0 dir=$there/run$(($1 % 3))
  while [ "$SECONDS" -lt "$end" ]; do
    i=$((i + 1))
    mkdir -p "$dir/k$1-$i.tmp"
    head -c 30000 /dev/zero >"$dir/k$1-$i.tmp/file"
    mv "$dir/k$1-$i.tmp" "$dir/k$1-$i"
    # So that this mount knows the other's folders. What goes while it looks is no error.
    ls -lR "$dir" >/dev/null 2>&1 || true
    mkdir "$dir/o$1-$i"
    cp -a "$dir/o$1-$i" "$dir/p$1-$i"
    mv "$dir/p$1-$i" "$dir/q$1-$i"
    rm -r "$dir/q$1-$i" "$dir/o$1-$i" "$dir/k$1-$i"
  done
}

@test "two mounts make and remove folders side by side, whose inode numbers the file system uses again" {
  local one name pids=()
  export -f churn
  export there
  mount_apart a
  mount_apart b
  for one in 0 1 2 3 4 5; do
    name=a
    [ $((one / 3)) -eq 0 ] || name=b
    at "$name" bash -ec "churn $one" >"$tmp/churn.$one" 2>&1 3>&- 4>&- &
    pids+=($!)
  done
  for one in 0 1 2 3 4 5; do
    wait "${pids[one]}" || fail "$(cat "$tmp/churn.$one")"
    assert_eq "$(cat "$tmp/churn.$one")" ''
  done
  ok ckptfs verify "$store"
  end_apart b
  end_apart a
}

# race NAME CMD_A CMD_B: both at the same moment; exactly one wins, the other is told by an errno that makes sense
race() {
  local one two
  one=0 two=0
  at a bash -c "until [ -e '$tmp/go.$1' ]; do :; done; $2" >"$tmp/out.a" 2>&1 3>&- 4>&- &
  local first=$!
  at b bash -c "until [ -e '$tmp/go.$1' ]; do :; done; $3" >"$tmp/out.b" 2>&1 3>&- 4>&- &
  local second=$!
  : >"$tmp/go.$1"
  wait "$first" || one=$?
  wait "$second" || two=$?
  echo "$1: a says $one: $(cat "$tmp/out.a"); b says $two: $(cat "$tmp/out.b")"
  case "$one $two" in
  "0 1") lost=b ;;
  "1 0") lost=a ;;
  *) fail "not one of them won" || return 1 ;;
  esac
  grep -qE 'No such file|resource busy|File exists|Read-only|not empty|is committed|being committed|Stale|no such' "$tmp/out.$lost" || fail "the other was not told why" || return 1
}

@test "two mounts commit the same checkpoint at the same time: one wins, the other is told, and it is whole" {
  local i lost move commit
  mount_apart a
  mount_apart b
  for i in $(seq 9); do
    at a mkdir "$there/run/step-$i.tmp"
    eventually 2 at b test -d "$there/run/step-$i.tmp"
    at a cp -a "$tmp/source" "$there/run/step-$i.tmp/rank-0"
    at b cp -a "$tmp/source" "$there/run/step-$i.tmp/rank-1"
    move="mv -T '$there/run/step-$i.tmp' '$there/run/step-$i'"
    commit="ckptfs commit '$there/run/step-$i.tmp'"
    case $((i % 3)) in
    0) race "$i" "$move" "$move" ;;
    1) race "$i" "$move" "ckptfs commit '$store/run/step-$i.tmp'" ;;
    2) race "$i" "$commit" "$commit" ;;
    esac
    not test -e "$store/run/step-$i.tmp"
    eventually 1 at a test -e "$there/run/step-$i/rank-1/big.bin"
    eventually 1 at b test -e "$there/run/step-$i/rank-1/big.bin"
    same_tree_at a "$there/run/step-$i/rank-0" "$tmp/source"
    same_tree_at b "$there/run/step-$i/rank-1" "$tmp/source"
    assert_eq "$(ls -A "$store/run/step-$i/.ckptfs")" manifest.jsonl
  done
  ok ckptfs verify "$store"
  assert_eq "$(grep -c ': ok' <<<"$stdout")" 10
  end_apart a
  end_apart b
}

@test "a commit by another process takes what a mount wrote; whoever reads there or stands there goes on" {
  local step
  mount_apart a
  step=$there/run/step-1.tmp
  at a cp -a "$tmp/source" "$step"
  # A reader that has a file open and works in a folder of it, and asks after the commit.
  at a bash -euc "
    cd '$step/sub'
    exec 8<'$step/big.bin'
    head -c 1000000 <&8 >'$tmp/read'
    inode=\$(stat -c %i .)
    : >'$tmp/reading'
    until [ -e '$tmp/committed' ]; do sleep 0.02; done
    cat <&8 >>'$tmp/read'
    cmp block.bin '$tmp/source/sub/block.bin'
    ls deep
    [ \"\$(stat -c %i .)\" = \"\$inode\" ]
    not() { ! \"\$@\"; }
    not touch new 2>'$tmp/refused'
  " >"$tmp/reader" 2>&1 3>&- 4>&- &
  local reader=$!
  eventually 5 test -e "$tmp/reading"
  ok ckptfs commit "$store/run/step-1.tmp"
  eventually 1 at a test -e "$there/run/step-1/big.bin"
  : >"$tmp/committed"
  wait "$reader" || fail "the reader: $(cat "$tmp/reader")"
  same "$tmp/read" "$tmp/source/big.bin"
  grep -q 'Read-only file system' "$tmp/refused"
  same_tree_at a "$there/run/step-1" "$tmp/source"
  fails_at 1 a cp "$tmp/source/empty" "$there/run/step-1/new"
  says 'Read-only file system'
  ok ckptfs verify "$store"
  end_apart a
}

@test "-o ro mounts show nothing that is open, at any moment" {
  poll_while_others_save 5
}

@test "with -o ro a latest that is shown leads somewhere, whenever its group was looked at last" {
  local link deadline=$((SECONDS + 10))
  rm -rf "$store/run/step-0"
  mkdir -p "$store/run"
  mount_apart reader ro
  # The top is found empty, half a second later the group; so what is remembered of the top ends first.
  fails_at 1 reader stat "$there/latest"
  sleep 0.5
  fails_at 1 reader stat "$there/run"
  cp -a "$tmp/source" "$store/run/step-1.tmp"
  ok ckptfs commit "$store/run/step-1.tmp"
  # At the first moment that it is there.
  until link=$(at reader readlink "$there/latest" 2>/dev/null); do
    [ "$SECONDS" -lt "$deadline" ] || fail 'no latest is shown' || return 1
  done
  assert_eq "$link" run/step-1
  ok_at reader stat "$there/$link"
  end_apart reader
}

@test "a file that is still open for reading keeps its mode, times and attributes when another mount commits it under a new name" {
  local before reader
  mount_apart a
  mount_apart b
  at a mkdir "$there/run/s.tmp"
  at a cp "$tmp/source/big.bin" "$there/run/s.tmp/f"
  # shellcheck disable=SC2016 # for another shell
  at a bash -c '
    exec 5<"$1/run/s.tmp/f"
    touch "$2/ready"
    until [ -e "$2/go" ]; do sleep 0.05; done
    chmod 600 /proc/self/fd/5
    touch -d @1 /proc/self/fd/5
    setfattr -n user.mark -v 1 /proc/self/fd/5' keep "$there" "$tmp" >"$tmp/said" 2>&1 3>&- 4>&- &
  reader=$!
  eventually 5 test -e "$tmp/ready"
  at b mv "$there/run/s.tmp" "$there/run/s"
  before=$(stat -c '%a %y %z' "$store/run/s/f")
  touch "$tmp/go"
  wait "$reader" && fail "a committed file was changed"
  assert_eq "$(stat -c '%a %y %z' "$store/run/s/f")" "$before"
  end_apart a
  end_apart b
}
