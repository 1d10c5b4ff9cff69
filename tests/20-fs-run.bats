#!/usr/bin/env bats
# bats file_tags=fuse,slow,once
# ckptfs run: a command with a mount of its own, of which nothing is left when it has ended, however it
# ends. And what `ckptfs mount` says where something is mounted already.
load helpers/common

setup() {
  requires fuse
  new_store
  committed run1/step-1
  mkdir "$tmp/mnt"
  fuse_mode=$(stat -c %a /dev/fuse)
}

teardown() {
  chmod "$fuse_mode" /dev/fuse 2>/dev/null || true
  clean_up
}

# nothing_left: no daemon, no mount.
nothing_left() {
  ! pgrep -f "mount\.ckptfs.*$tmp/" && ! grep -qF " $tmp/" /proc/self/mounts
}

# nothing_left_of WORD: nor a process that has WORD in its command line.
nothing_left_of() {
  nothing_left && ! pgrep -f "$1"
}

# in_background CMD…: sets $job; its output goes to $tmp/job.
in_background() {
  # What the last job said is not this one's word that it is ready.
  : >"$tmp/job"
  "$@" >"$tmp/job" 2>&1 3>&- 4>&- </dev/null &
  job=$!
  eventually 10 grep -q ready "$tmp/job"
}

# ended_with CODE: the job has.
ended_with() {
  local code=0
  wait "$job" || code=$?
  sed 's/^/job: /' "$tmp/job"
  assert_eq "$code" "$1" 'exit status of the job'
}

# for_user: a user without other rights, in a group besides his own: "${as_user[@]}"; a store of his, and /dev/fuse for all, as most systems have it.
for_user() {
  requires root setpriv
  as_user=(setpriv --reuid=1234 --regid=1234 --groups=4321 --inh-caps=-all env "HOME=$tmp/home" "XDG_CACHE_HOME=$tmp/home/cache")
  chmod 755 "$tmp"
  mkdir -p "$tmp/home"
  chown -R 1234:1234 "$store" "$tmp/home" "$tmp/mnt"
  chmod 666 /dev/fuse
  "${as_user[@]}" unshare --user true || {
    [ "${CI:-}" != true ] || fail 'users may not make namespaces here' || return 1
    skip 'users may not make namespaces here'
  }
}

@test "the command sees the mount, nobody else does, and nothing is left of it" {
  ok ckptfs run "$store" "$tmp/mnt" -- sh -c "ls '$tmp/mnt'; cmp '$tmp/mnt/run1/step-1/big.bin' '$store/run1/step-1/big.bin' && stat -c %s '$tmp/mnt/.ckptfs/README' >/dev/null"
  assert_eq "$output" run1
  nothing_left
  in_background ckptfs run "$store" "$tmp/mnt" -- sh -c "ls '$tmp/mnt/run1'; echo ready; sleep 30"
  not is_mounted "$tmp/mnt"
  assert_eq "$(ls "$tmp/mnt")" ''
  kill "$job"
  ended_with 143
  nothing_left
}

@test "without a mount point the store itself is covered, also where the command begins in it" {
  cd "$store/run1"
  ok ckptfs run "$store" -- sh -c 'pwd; [ -e ../.ckptfs/stats ] && ls -A . && readlink .ckptfs/latest'
  assert_eq "$output" "$store/run1"$'\n'step-1$'\n'"../step-1"
  [ ! -e "$store/.ckptfs/stats" ]
  nothing_left
}

# cannot_run CODE COMMAND TEXT: as a shell would say it, which `try` takes for a signal.
cannot_run() {
  local code=0
  ckptfs run "$store" "$tmp/mnt" -- "$2" >"$tmp/said" 2>&1 3>&- || code=$?
  assert_eq "$code" "$1" || return 1
  grep -qF "$3" "$tmp/said"
}

@test "input, output, arguments and exit code are the command's own, and nothing is added" {
  assert_eq "$(printf 'a\nb\n' | ckptfs run "$store" "$tmp/mnt" -- cat 3>&-)" $'a\nb'
  # shellcheck disable=SC2016
  try ckptfs run "$store" "$tmp/mnt" -- sh -c 'echo "$1/$2"; echo err >&2; exit 7' sh 'x y' -o
  assert_status 7
  assert_eq "$stdout" 'x y/-o'
  assert_eq "$stderr" err
  cannot_run 127 no-such-command "cannot run 'no-such-command': there is no such command"
  cannot_run 126 "$store/run1/step-1/big.bin" 'Permission denied'
  fails 1 ckptfs run "$store/run1" "$tmp/mnt" -- true
  says 'not a store'
  fails 1 ckptfs run "$store" "$tmp/none" -- true
  says 'does not exist'
  fails 2 ckptfs run "$store" "$tmp/mnt" true
  says "needs a command behind '--'"
  fails 2 ckptfs run "$store" "$tmp/mnt" --
  fails 2 ckptfs run "$store" "$tmp/mnt" -o no_such_option -- true
  says 'no_such_option'
  ok ckptfs run --help
  nothing_left
}

@test "mount options are the mount's" {
  fails 1 ckptfs run "$store" "$tmp/mnt" -o ro -- touch "$tmp/mnt/file"
  says 'Read-only file system'
  ok ckptfs run "$store" "$tmp/mnt" -o "log=$tmp/log" -- touch "$tmp/mnt/file"
  grep -q mounted "$tmp/log"
  [ -e "$store/file" ]
}

@test "a command that dies of a signal makes run die of the same one" {
  for signal in TERM KILL SEGV; do
    python3 - "$store" "$tmp/mnt" "$signal" <<'END'
import signal, subprocess, sys
store, mnt, name = sys.argv[1:]
ended = subprocess.run(["ckptfs", "run", store, mnt, "--", "sh", "-c", f"kill -{name} $$"]).returncode
assert ended == -getattr(signal, "SIG" + name), ended
END
  done
  nothing_left
}

@test "signals are passed on once, and the command decides what they mean" {
  cat >"$tmp/job.sh" <<'END'
trap 'echo usr1' USR1
trap 'echo int' INT
trap 'echo term; exit 5' TERM
echo ready
while :; do sleep 0.1; done
END
  in_background env --default-signal=INT ckptfs run "$store" "$tmp/mnt" -- bash "$tmp/job.sh"
  kill -USR1 "$job"
  eventually 5 grep -q usr1 "$tmp/job"
  kill -INT "$job"
  eventually 5 grep -q int "$tmp/job"
  kill -TERM "$job"
  ended_with 5
  assert_eq "$(cat "$tmp/job")" $'ready\nusr1\nint\nterm'
  nothing_left
}

@test "under nohup the daemon ends with the command all the same" {
  ok nohup ckptfs run "$store" "$tmp/mnt" -- ls "$tmp/mnt/run1"
  says step-1
  says_not 'does not end'
  nothing_left
}

@test "who ends all processes of a job with SIGTERM leaves it its mount until the command has ended" {
  cat >"$tmp/job.sh" <<'END'
trap 'sleep 0.5; ls "$1/run1"; exit 6' TERM
echo ready
while :; do sleep 0.1; done
END
  in_background ckptfs run "$store" "$tmp/mnt" -- bash "$tmp/job.sh" "$tmp/mnt"
  pgrep -f "mount\.ckptfs.*$tmp/mnt" | xargs kill -TERM
  pgrep -P "$job" | xargs kill -TERM
  ended_with 6
  grep -qx step-1 "$tmp/job"
  nothing_left
}

@test "kill -9 of run takes the command, what it has started, and the daemon with it" {
  in_background ckptfs run "$store" "$tmp/mnt" -- bash -c "setsid sleep 1717.1 & sleep 1717.2 & echo ready; wait"
  kill -KILL "$job"
  ended_with 137
  eventually 10 nothing_left_of 'sleep 1717'
}

@test "whatever else is killed with -9, no daemon and no mount stays" {
  in_background ckptfs run "$store" "$tmp/mnt" -- sh -c "echo ready; sleep 1717.3; ls '$tmp/mnt' && exit 4"
  keeper=$(pgrep -P "$job" -x ckptfs)
  kill -KILL "$keeper"
  eventually 5 nothing_left
  pkill -P "$(pgrep -P "$job" -x sh)" sleep
  ended_with 4
  in_background ckptfs run "$store" "$tmp/mnt" -- sh -c 'echo ready; exec sleep 1717.4'
  kill -KILL "$job" "$(pgrep -P "$job" -x ckptfs)"
  ended_with 137
  eventually 5 nothing_left_of 'sleep 1717'
  in_background ckptfs run "$store" "$tmp/mnt" -- sh -c "echo ready; sleep 2; ls '$tmp/mnt'"
  kill -KILL "$(pgrep -f "mount\.ckptfs.*$tmp/mnt")"
  ended_with 2
  grep -q "the daemon of the mount '$tmp/mnt' has ended" "$tmp/job"
  nothing_left
}

@test "what is written and renamed in it is committed when it returns" {
  ok ckptfs run "$store" -- sh -c "cd '$store' && mkdir run1/step-2.tmp && head -c 300000 /dev/urandom >run1/step-2.tmp/a && mv run1/step-2.tmp run1/step-2 && ckptfs rm run1/step-1"
  ok ckptfs verify "$store"
  says 'run1/step-2: ok (1 shards, 300000 bytes)'
  assert_eq "$(state_of run1/step-1)" removed
  nothing_left
}

@test "a user needs neither root nor fusermount3, and is himself in it" {
  for_user
  mkdir "$tmp/bin"
  ln -s "$(command -v sh)" "$(command -v id)" "$(command -v mkdir)" "$(command -v mv)" "$(command -v ls)" "$tmp/bin"
  ok "${as_user[@]}" env "PATH=$CKPT_BIN:$tmp/bin" ckptfs run "$store" "$tmp/mnt" -- sh -c "id -u; id -g; cd '$tmp/mnt' && mkdir run1/step-2.tmp && echo x >run1/step-2.tmp/a && mv run1/step-2.tmp run1/step-2 && ls -ln run1/step-2"
  says_like '^1234$' '^-rw-r--r-- 1 1234 1234 2 '
  assert_eq "$(stat -c '%u:%g' "$store/run1/step-2/a")" 1234:1234
  ok ckptfs verify "$store"
  says 'run1/step-2: ok'
  ok "${as_user[@]}" ckptfs run "$store" -- sh -c "ckptfs rm '$store/run1/step-2' && ckptfs undelete '$store/run1/step-2' && ckptfs pin '$store/run1/step-2'"
  assert_eq "$(state_of run1/step-2)" pinned
  nothing_left
}

@test "a user writes where only his other groups let him, and no further" {
  for_user
  mkdir "$store/project" "$store/foreign"
  chgrp 4321 "$store/project"
  chmod 2775 "$store/project"
  echo secret >"$store/foreign/file"
  chmod 600 "$store/foreign/file"
  ok "${as_user[@]}" ckptfs run "$store" "$tmp/mnt" -- sh -c "cd '$tmp/mnt/project' && mkdir run && echo x >run/file && echo y >>run/file && cat run/file"
  assert_eq "$stdout" $'x\ny'
  assert_eq "$(stat -c '%u:%g' "$store/project/run/file")" 1234:4321
  fails 1 "${as_user[@]}" ckptfs run "$store" "$tmp/mnt" -- cat "$tmp/mnt/foreign/file"
  says 'Permission denied'
  fails 1 "${as_user[@]}" ckptfs run "$store" "$tmp/mnt" -- mkdir "$tmp/mnt/foreign/mine"
  says 'Permission denied'
}

@test "kill -9 of a user's run leaves nothing either" {
  for_user
  in_background "${as_user[@]}" ckptfs run "$store" "$tmp/mnt" -- sh -c 'sleep 1717.5 & echo ready; wait'
  kill -KILL "$job"
  ended_with 137
  eventually 10 nothing_left_of 'sleep 1717'
}

@test "a user who may not open /dev/fuse is told so" {
  for_user
  chmod 600 /dev/fuse
  fails 1 "${as_user[@]}" ckptfs run "$store" "$tmp/mnt" -- true
  says /dev/fuse
  nothing_left
}

@test "where the store is mounted already, mount says so and run just runs" {
  mount_store "$store" "$tmp/mnt"
  try ckptfs mount "$store" "$tmp/mnt"
  assert_status 0
  assert_eq "$stderr" "ckptfs: '$store' is mounted on '$tmp/mnt' already"
  assert_eq "$stdout" ''
  try ckptfs run "$store" "$tmp/mnt" -- sh -c "ls '$tmp/mnt'; exit 3"
  assert_status 3
  assert_eq "$output" run1
  new_store "$tmp/other"
  fails 1 ckptfs mount "$tmp/other" "$tmp/mnt"
  says "on '$tmp/mnt' the store '$tmp/store' is mounted" "ckptfs umount $tmp/mnt"
  fails 1 ckptfs run "$tmp/other" "$tmp/mnt" -- true
  is_mounted "$tmp/mnt"
}

@test "a store that is mounted over itself is not mounted twice" {
  mount_store "$store" "$store"
  try ckptfs mount "$store"
  assert_status 0
  says 'already'
  try ckptfs run "$store" -- ls "$store"
  assert_status 0
  assert_eq "$output" run1
  assert_eq "$(grep -cF " $store fuse.ckptfs " /proc/self/mounts)" 1
}
