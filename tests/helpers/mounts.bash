# shellcheck shell=bash
# Mounts of a test: daemons in the foreground, known by their process ids, all gone at the end.

# mount_store STORE MNT [OPTIONS]: returns when the mount answers; its log is MNT.log
mount_store() {
  local mnt=$2 options=${3:-} pid
  options=$options${options:+${CKPTFS_MOUNT_OPTIONS:+,}}${CKPTFS_MOUNT_OPTIONS:-}
  mkdir -p "$mnt"
  # bats waits for whoever holds its descriptors 3 and 4; a background job has SIGINT ignored.
  env --default-signal=INT mount.ckptfs "$1" "$mnt" --foreground ${options:+-o "$options"} >"$mnt.log" 2>&1 3>&- 4>&- </dev/null &
  pid=$!
  echo "$pid $mnt" >>"$tmp/.mounts"
  printf '$ mount.ckptfs %s %s --foreground %s & # pid %s\n' "$1" "$mnt" "${options:+-o $options}" "$pid"
  await_mount "$pid" "$mnt"
}

await_mount() {
  local deadline=$((SECONDS + 20))
  until grep -qF " $2 fuse.ckptfs " /proc/self/mounts && [ -e "$2/.ckptfs/stats" ]; do
    kill -0 "$1" 2>/dev/null || fail "the mount failed: $(cat "$2.log")" || return 1
    [ "$SECONDS" -lt "$deadline" ] || fail "the mount does not answer: $(cat "$2.log")" || return 1
    sleep 0.02
  done
}

# daemon_of MNT: process id of the daemon that mount_store started there last.
daemon_of() {
  awk -v mnt="$1" '$2 == mnt { pid = $1 } END { print pid }' "$tmp/.mounts"
}

# umount_store MNT: as a user does it; the daemon must have ended well.
umount_store() {
  local pid exit_status=0
  pid=$(daemon_of "$1")
  ok ckptfs umount "$1" || return 1
  wait "$pid" || exit_status=$?
  # 127: it was started by another shell (setup_file), so its status is not ours to ask for.
  [ "$exit_status" -eq 127 ] || assert_eq "$exit_status" 0 "exit status of the daemon" || return 1
  forget_mount "$pid"
}

forget_mount() {
  sed -i "/^$1 /d" "$tmp/.mounts"
}

is_mounted() {
  grep -qF " $1 " /proc/self/mounts
}

# drop_mounts: end what mount_store began. Fails when one does not end when asked.
drop_mounts() {
  local pid mnt rc=0
  [ -e "$tmp/.mounts" ] || return 0
  while read -r pid mnt; do
    sed 's/^/log: /' "$mnt.log"
    ! is_mounted "$mnt" || unmount "$mnt" || rc=1
    if ! gone_within 10 "$pid"; then
      echo "FAILED: the daemon $pid of '$mnt' did not end"
      kill -KILL "$pid"
      rc=1
    fi
    if grep -qE 'Sanitizer|runtime error' "$mnt.log" 2>/dev/null; then
      echo "FAILED: a sanitizer found something in the daemon of '$mnt'"
      rc=1
    fi
  done <"$tmp/.mounts"
  rm -f "$tmp/.mounts"
  return $rc
}

# Not through ckptfs, which is what is tested. An ordinary user has fusermount3.
unmount() {
  if [ "$(id -u)" -eq 0 ]; then
    umount "$1" 2>/dev/null || umount -l "$1"
  else
    fusermount3 -u "$1" 2>/dev/null || fusermount3 -uz "$1"
  fi
}

# gone_within SECONDS PID: it has ended (a zombie has) before so many seconds have passed.
gone_within() {
  local deadline=$((SECONDS + $1))
  until has_ended "$2"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.02
  done
}

# has_ended PID: it is no more, or a zombie of which no thread lives that could hold its files open
has_ended() {
  local threads=("/proc/$1/task/"*)
  [ -e "/proc/$1" ] || return 0
  grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null && [ "${#threads[@]}" -le 1 ]
}

# no_leaks: nothing is left of this test but files: no mount, no process, no loop device.
no_leaks() {
  local rc=0 pid mnt
  while read -r mnt; do
    echo "FAILED: still mounted: $mnt"
    unmount "$mnt" || true
    rc=1
  done < <(awk -v tmp="$tmp/" 'index($2, tmp) == 1 { print $2 }' /proc/self/mounts | tac)
  for pid in $(pgrep -f "(ckptfs|ckpt-test).*$tmp/"); do
    echo "FAILED: still running: $(tr '\0' ' ' <"/proc/$pid/cmdline")"
    kill -KILL "$pid"
    rc=1
  done
  return $rc
}

# The last thing each test does, and each file that mounts in setup_file.
clean_up() {
  local rc=0
  drop_mounts || rc=1
  drop_holders || rc=1
  drop_disks || rc=1
  no_leaks || rc=1
  return $rc
}

teardown() {
  clean_up
}

# hold read|write|map FILE: another process that keeps it so; sets $holder. `let_go` ends it.
hold() {
  : >"$tmp/.held"
  ckpt-test hold "$1" "$2" </dev/null >"$tmp/.held" 2>&1 3>&- 4>&- &
  holder=$!
  echo "$holder" >>"$tmp/.holders"
  eventually 10 grep -q ready "$tmp/.held"
}

let_go() {
  kill "$holder"
  wait "$holder" || true
}

drop_holders() {
  local pid
  [ -e "$tmp/.holders" ] || return 0
  while read -r pid; do
    # The number may be another process's by now.
    ! grep -qsa "^ckpt-test" "/proc/$pid/cmdline" || kill "$pid" || true
  done <"$tmp/.holders"
  rm -f "$tmp/.holders"
}
