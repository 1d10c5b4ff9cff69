# shellcheck shell=bash
# Mounts in mount namespaces of their own, as two nodes or two containers have them: nobody else sees them, and all of
# them are at the same path, $there. Needs root.

there=$tmp/there
declare -gA apart=() # load sources this in a function

# mount_apart NAME [OPTIONS]: $store; its log is $tmp/NAME.log
mount_apart() {
  local deadline=$((SECONDS + 20)) options=${2:-}
  options=$options${options:+${CKPTFS_MOUNT_OPTIONS:+,}}${CKPTFS_MOUNT_OPTIONS:-}
  mkdir -p "$there"
  env --default-signal=INT unshare --mount --propagation private \
    mount.ckptfs "$store" "$there" --foreground ${options:+-o "$options"} >"$tmp/$1.log" 2>&1 3>&- 4>&- </dev/null &
  apart[$1]=$!
  echo "$! $1" >>"$tmp/.apart"
  # Before unshare has done its work the namespace is ours.
  until [ "$(readlink "/proc/${apart[$1]}/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ] && at "$1" test -e "$there/.ckptfs/stats" 2>/dev/null; do
    kill -0 "${apart[$1]}" 2>/dev/null || fail "the mount $1 failed: $(cat "$tmp/$1.log")" || return 1
    [ "$SECONDS" -lt "$deadline" ] || fail "the mount $1 does not answer: $(cat "$tmp/$1.log")" || return 1
    sleep 0.02
  done
}

# at NAME CMD…: run a program where that mount is
at() {
  nsenter --mount="/proc/${apart[$1]}/ns/mnt" -- "${@:2}"
}

# ok_at NAME CMD…, fails_at STATUS NAME CMD…
ok_at() {
  ok nsenter --mount="/proc/${apart[$1]}/ns/mnt" -- "${@:2}"
}

fails_at() {
  fails "$1" nsenter --mount="/proc/${apart[$2]}/ns/mnt" -- "${@:3}"
}

# same_tree_at NAME DIR OTHER
same_tree_at() {
  at "$1" diff -r --no-dereference --exclude=.ckptfs "$2" "$3" || fail "for $1 '$2' and '$3' differ"
}

# end_apart NAME: as a node that is shut down
end_apart() {
  local exit_status=0
  kill -TERM "${apart[$1]}"
  wait "${apart[$1]}" || exit_status=$?
  assert_eq "$exit_status" 0 "exit status of the daemon $1" || return 1
  sed -i "/^${apart[$1]} /d" "$tmp/.apart"
}

drop_apart() {
  local pid name rc=0
  [ -e "$tmp/.apart" ] || return 0
  while read -r pid name; do
    sed "s/^/log $name: /" "$tmp/$name.log"
    kill -TERM "$pid" 2>/dev/null || true
    gone_within 10 "$pid" || {
      echo "FAILED: the daemon $pid of $name did not end"
      kill -KILL "$pid"
      rc=1
    }
    not grep -E 'Sanitizer|runtime error' "$tmp/$name.log" || rc=1
  done <"$tmp/.apart"
  rm -f "$tmp/.apart"
  return $rc
}
