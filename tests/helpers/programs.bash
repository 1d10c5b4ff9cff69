# shellcheck shell=bash
# Programs that write into an open checkpoint of a mount, and into a plain folder beside it: what comes of it is
# the same, before the commit, after it, and in the next mount.

# A source folder for the tools that copy: hard and symbolic links, a sparse file, odd modes and times, user xattrs.
make_tree() {
  make_files "$1" 3
  mkdir -p "$1/deep/er/est" "$1/nothing"
  ln "$1/sub/block.bin" "$1/deep/second name"
  ln "$1/empty" "$1/deep/er/none"
  ln -s ../none-such "$1/deep/dangling"
  truncate -s 9000000 "$1/deep/sparse"
  random_bytes 8 70000 | dd of="$1/deep/sparse" bs=4096 seek=700 conv=notrunc status=none
  install -m 0555 /dev/null "$1/deep/er/program"
  echo '#!/bin/sh' >"$1/deep/er/script"
  chmod 0711 "$1/deep/er/script"
  setfattr -n user.note -v 'kept as it is' "$1/big.bin"
  setfattr -n user.empty "$1/deep/er/script"
  chmod 0700 "$1/deep/er/est"
  chmod 1777 "$1/nothing"
  find "$1" -mindepth 1 -depth -print0 | xargs -0 touch -h -d '2019-05-06 07:08:09.987654321 UTC'
  touch -h -d '1975-01-01 00:00:00.000000001 UTC' "$1/link"
  touch -d '2019-05-06 07:08:09.5 UTC' "$1"
}

# attributes DIR WHAT…: a line for each thing in it; WHAT are modes, times, links. Symbolic links have their
# time in no manifest. Nothing that is committed has more names than one.
attributes() {
  local dir=$1 what=" ${*:2} "
  [[ "$what" != *" modes "* ]] || find "$dir" -name .ckptfs -prune -o \( -type f -printf '%P: %y %m %U:%G %s\n' -o -printf '%P: %y %m %U:%G %l\n' \)
  [[ "$what" != *" times "* ]] || find "$dir" -name .ckptfs -prune -o -not -type l -printf '%P: changed %T@\n'
  [[ "$what" != *" links "* ]] || find "$dir" -name .ckptfs -prune -o -type f -links +1 -printf '%i %P: %n\n' | LC_ALL=C sort |
    awk '{ groups[$1] = groups[$1] " =" substr($0, length($1) + 1) } END { for (i in groups) print groups[i] }'
  [[ "$what" != *" xattrs "* ]] || (cd "$dir" && getfattr -Rdh -m '^user\.' . 2>/dev/null) |
    awk '/^# file: / { file = $0 } /^user\./ && !/^user\.ckptfs\./ { print file, $0 }'
}

# alike DIR OTHER WHAT…: the same bytes, and the same attributes
alike() {
  same_tree "$1" "$2" || return 1
  diff <(attributes "$1" "${@:3}" | LC_ALL=C sort) <(attributes "$2" "${@:3}" | LC_ALL=C sort) || fail "attributes of '$1' and '$2' differ"
}

# final NAME PLAIN WHAT…: the open checkpoint run/NAME.tmp is as PLAIN; it is committed, by mv or, with $by=commit,
# by the command; then it is still so, here and in the next mount, and verifies.
final() {
  local name=$1 plain=$2 what=("${@:3}")
  alike "$mnt/run/$name.tmp" "$plain" "${what[@]}" links || return 1
  if [ "${by:-mv}" = mv ]; then
    ok mv "$mnt/run/$name.tmp" "$mnt/run/$name" || return 1
  else
    ok ckptfs commit "$mnt/run/$name.tmp" || return 1
  fi
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run/$name")" committed || return 1
  alike "$mnt/run/$name" "$plain" "${what[@]}" || return 1
  umount_store "$mnt" || return 1
  ok ckptfs verify "$store" || return 1
  says 'run/step-0: ok' "run/$name: ok" || return 1
  assert_eq "$(ls -A "$store/run/$name/.ckptfs")" manifest.jsonl "what is left in .ckptfs" || return 1
  mount_store "$store" "$mnt" || return 1
  alike "$mnt/run/$name" "$plain" "${what[@]}" || return 1
  umount_store "$mnt"
}

# stress_all DIR SECONDS: stress-ng's file system class in DIR, all stressors at the same time, each checking what it
# sees. Left out: bind-mount, binderfs, eventfd, ioprio, procfs (nothing of a folder's), fiemap and verity
# (ioctls that FUSE does not pass on: they would skip themselves).
stressors=(access chattr chdir chmod chown copy-file dentry dir dirdeep dirmany dnotify dup fallocate fanotify fcntl file-ioctl
  filename flock fpunch fsize fstat getdent handle hdd inode-flags inotify io iomix lease link locka lockf lockofd mknod open
  rename symlink sync-file touch utime xattr)
# Their files are as small, and their open folders as few, as they can be: it is the calls that count.
stress_sizes=(--hdd-bytes 16m --fallocate-bytes 16m --iomix-bytes 16m --copy-file-bytes 128m --sync-file-bytes 16m --dirdeep-inodes 1000 --chdir-dirs 1024)

stress_all() {
  local stressor all=()
  for stressor in "${stressors[@]}"; do
    all+=("--$stressor" 1)
  done
  stress "$1" "$2" "${all[@]}"
}

# stress DIR SECONDS --STRESSOR N…
stress() {
  mkdir -p "$1"
  ok stress-ng "${@:3}" "${stress_sizes[@]}" --timeout "$2" --verify --temp-path "$1" || return 1
  # It says so of what it finds wrong, whatever its exit status is.
  not grep -E '^stress-ng: (fail|error)' "$tmp/.stdout" "$tmp/.stderr" || fail "stress-ng found something"
}
