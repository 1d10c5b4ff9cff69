#!/usr/bin/env bats
# bats file_tags=fast,fuse
# Names and attributes through a read-write mount: what is open answers as a plain folder does, what
# is committed refuses every change.
load helpers/common

setup() {
  requires fuse
  new_store
  mnt=$tmp/mnt
}

# attributes DIR: one line for everything in it, but for numbers and times that no two folders share.
attributes() {
  (cd "$1" && find . -name .ckptfs -prune -o -printf '%y %m %n %U %G %P -> %l\n' | grep -v '^d.* -> $' | LC_ALL=C sort
    find . -name .ckptfs -prune -o -type d -printf '%y %m %U %G %P\n' | LC_ALL=C sort)
}

# on_both SCRIPT [PREFIX…]: run by bash in $mnt/here and in a plain folder; what it says, its exit
# status, and what is there afterwards are the same.
on_both() {
  local script=$1 dir
  shift
  mkdir -p "$mnt/here" "$tmp/plain"
  chmod 777 "$mnt/here" "$tmp/plain"
  for dir in "$mnt/here" "$tmp/plain"; do
    (cd "$dir" && "$@" bash -c "$script" >"$tmp/said" 2>&1 || echo "exit $?" >>"$tmp/said")
    cat "$tmp/said"
    mv "$tmp/said" "$tmp/said-$(basename "$dir")"
    attributes "$dir" >"$tmp/attributes-$(basename "$dir")"
  done
  same "$tmp/said-here" "$tmp/said-plain"
  same "$tmp/attributes-here" "$tmp/attributes-plain"
}

@test "names come, move and go in an open folder as they do in a plain one" {
  mount_store "$store" "$mnt"
  # shellcheck disable=SC2016
  on_both '
    mkdir -p a/b/c; mkdir a; mkdir x/y
    echo one >a/f; ln a/f a/g; ln a/f a/b/h; stat -c "%h %n" a/f; ln a a2; ln a/none a/n
    ln -s ../f a/b/s; ln -s "" e; readlink a/b/s; ln a/b/s a/b/s2; readlink a/b/s2; cat a/b/s2
    mkfifo a/p; mv a/p a/q; mv -n a/q a/f; rm a/q
    python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\"a/sock\")"; ls a
    rm a/f; stat -c "%h %n" a/g; cat a/g a/b/h
    mv a/g a/b/c; mv a/b/c/g g2; cat g2; mv -T a d; ls d d/b; mv d/b/c d/b/c/inner
    mkdir full full/x target; mv -T target full; mv -T g2 full; mv -T full g2; mv -T full target; ls target
    rmdir target; rmdir g2; rmdir none; rm d/b; unlink target; rmdir target/x target
    ln -f g2 d/b/h; echo two >g2; cat d/b/h; rm -r d; ls; rm g2; ls -A'
  umount_store "$mnt"
}

@test "rename takes NOREPLACE and EXCHANGE, and nothing it does not know" {
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/a/inner" "$mnt/b"
  echo 1 >"$mnt/a/1" && echo 2 >"$mnt/b/2" && echo 3 >"$mnt/3"
  errno_is EEXIST rename2 "$mnt/a/1" "$mnt/b/2" noreplace
  errno_is EEXIST rename2 "$mnt/a" "$mnt/b" noreplace
  errno_is OK rename2 "$mnt/a/1" "$mnt/b/1" noreplace
  errno_is ENOENT rename2 "$mnt/a/1" "$mnt/3" exchange
  errno_is ENOENT rename2 "$mnt/3" "$mnt/a/1" exchange
  errno_is OK rename2 "$mnt/b/1" "$mnt/3" exchange
  assert_eq "$(cat "$mnt/b/1" "$mnt/3" | tr -d '\n')" 31
  # A folder with a file, while one stands in each.
  cd "$mnt/a/inner"
  errno_is OK rename2 "$mnt/a" "$mnt/b/2" exchange
  assert_eq "$(cat "$mnt/a")" 2
  [ -d "$mnt/b/2/inner" ]
  echo here >file
  assert_eq "$(cat "$mnt/b/2/inner/file")" here
  cd "$tmp"
  errno_is EINVAL rename2 "$mnt/b/2" "$mnt/b" exchange
  errno_is EINVAL rename2 "$mnt/3" "$mnt/4" whiteout
  same_tree "$mnt" "$store"
  umount_store "$mnt"
}

@test "what a user makes is the user's, with the user's umask, in set-group-ID folders the group's" {
  requires root setpriv
  mount_store "$store" "$mnt" allow_other
  chmod 711 "$tmp"
  # shellcheck disable=SC2016
  on_both '
    umask 027; mkdir d; echo x >d/f; ln -s f d/s; mkfifo d/p; ln d/f d/g
    umask 0; mkdir w; echo x >w/f; mkfifo w/p; umask 077; mkdir n; echo x >n/f' "${as_nobody[@]}"
  stat -c %U:%G "$store/here/d/f" | grep -qx "$(id -un 65534):$(id -gn 65534)"
  mkdir -m 2777 "$mnt/here/group" "$tmp/plain/group"
  chgrp 4242 "$mnt/here/group" "$tmp/plain/group"
  chmod 2777 "$mnt/here/group" "$tmp/plain/group"
  # shellcheck disable=SC2016
  on_both '
    cd group || exit; mkdir d; echo x >f; ln -s f s; mkfifo p; mkdir d/e; echo x >d/e/g
    chmod 777 f; chgrp 4242 f' "${as_nobody[@]}"
  # Nobody becomes another user by a mount, nor by what a mount has left in the store.
  ok chmod 6777 "$mnt/here/group/f"
  assert_eq "$(stat -c %a "$store/here/group/f")" 777
  umount_store "$mnt"
}

@test "a group that only a supplementary group may write in lets its members make things" {
  requires root setpriv
  mount_store "$store" "$mnt" allow_other
  chmod 711 "$tmp"
  mkdir "$mnt/shared"
  chown 0:4242 "$mnt/shared"
  chmod 775 "$mnt/shared"
  ok setpriv --reuid=65534 --regid=65534 --groups=4242 --inh-caps=-all mkdir "$mnt/shared/d"
  ok setpriv --reuid=65534 --regid=65534 --groups=4242 --inh-caps=-all touch "$mnt/shared/d/f" "$mnt/shared/f"
  fails 1 "${as_nobody[@]}" mkdir "$mnt/shared/e"
  fails 1 "${as_nobody[@]}" touch "$mnt/shared/g"
  fails 1 "${as_nobody[@]}" mv "$mnt/shared/f" "$mnt/shared/h"
  assert_eq "$(stat -c %u:%g "$store/shared/d" "$store/shared/f" | sort -u)" 65534:65534
  umount_store "$mnt"
}

@test "another user is held to modes and the sticky bit" {
  requires root setpriv
  mount_store "$store" "$mnt" allow_other
  chmod 711 "$tmp"
  # shellcheck disable=SC2016
  mkdir -p "$mnt/here" "$tmp/plain"
  for dir in "$mnt/here" "$tmp/plain"; do
    mkdir -m 755 "$dir/mine"
    mkdir -m 1777 "$dir/sticky"
    echo root >"$dir/mine/f"
    echo root >"$dir/sticky/f"
    chmod 644 "$dir/mine/f" "$dir/sticky/f"
  done
  on_both '
    echo x >mine/f; echo x >mine/g; rm -f mine/f; mkdir mine/d; chmod 600 mine/f; touch mine/f
    chown 65534 sticky/f; rm -f sticky/f; mv sticky/f sticky/g; touch -d 2001-01-01 sticky/f
    setfattr -n user.a -v 1 sticky/f; truncate -s 0 sticky/f; echo y >sticky/mine; rm sticky/mine; cat sticky/f' "${as_nobody[@]}"
  umount_store "$mnt"
}

@test "modes, owners and times are set as on a plain file, to the nanosecond" {
  requires root
  mount_store "$store" "$mnt"
  # shellcheck disable=SC2016
  on_both '
    echo one >f; mkdir d; ln -s f s; chmod 604 f; chmod 1731 d; chmod 2755 d
    chown 11:12 f; chown 13 d; chgrp 14 d; chown -h 15:16 s; stat -c "%u %g %a %n" f d s
    touch -d "2001-02-03 04:05:06.789012345 UTC" f d; touch -h -d "1999-01-01 00:00:00.000000001 UTC" s
    touch -a -d "2011-02-03 04:05:06.1 UTC" f; touch -m -d "2012-02-03 04:05:06.2 UTC" d
    touch -d "1960-01-01 00:00:00 UTC" old; stat -c "%X %Y %x %y %n" f d s old
    touch f; [ $(($(date +%s) - $(stat -c %Y f))) -lt 5 ] && echo now
    truncate -s 5000000 f; stat -c "%s" f; truncate -s 3 f; cat f; truncate -s -1 none d; truncate -s 5 s; stat -Lc %s s'
  umount_store "$mnt"
}

@test "the user's own attributes are set on files and folders, and no others" {
  mount_store "$store" "$mnt"
  # shellcheck disable=SC2016
  on_both '
    echo one >f; mkdir d
    setfattr -n user.a -v 1 f d; setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr "\0" x)" f
    getfattr -d f d; setfattr -x user.a f; setfattr -x user.a f; getfattr -d f
    setfattr -h -n user.a -v 1 s; ln -s f s; getfattr --only-values -n user.long s | wc -c'
  errno_is EPERM setxattr "$mnt/here/f" user.ckptfs.step
  errno_is EPERM removexattr "$mnt/here/f" user.ckptfs.step
  errno_is EOPNOTSUPP setxattr "$mnt/here/f" trusted.x
  errno_is EOPNOTSUPP setxattr "$mnt/here/f" security.x
  errno_is EPERM setxattr "$mnt/.ckptfs/README" user.x
  umount_store "$mnt"
}

@test "hostile names, names of 255 bytes and deep paths" {
  mount_store "$store" "$mnt"
  # shellcheck disable=SC2016
  on_both '
    name() { head -c "$1" /dev/zero | tr "\0" n; }
    for n in "$(printf "new\nline")" "$(printf "\t\r\033[31m")" "$(printf "\377\376\200")" " lead" "trail " "-rf" "*" "a\\b" "\"quoted\"" "..." "é" "$(name 255)"; do
      echo x >"./$n" && mkdir "./d-${n:0:200}" && mv "./$n" "./d-${n:0:200}/$n" && ln "./d-${n:0:200}/$n" "./$n" && cat "./$n" || echo "not $n"
    done
    echo x >"$(name 256)" || echo "not 256"; mkdir "$(name 256)" || echo "not 256"
    mv -- -rf "$(name 256)" || echo "not 256"; ln -s "$(name 4000)" long-link; readlink long-link | wc -c
    d=.; for i in $(seq 70); do d=$d/deep-$i; mkdir "$d" || echo "not $i"; done; echo bottom >"$d/f"; mv deep-1 deeper; cat "deeper${d#./deep-1}/f"'
  umount_store "$mnt"
}

@test "what stands in a folder or has a file open goes on when a folder above is renamed" {
  mount_store "$store" "$mnt"
  mkdir -p "$mnt/run/a/b/c"
  cd "$mnt/run/a/b/c"
  exec 8>out
  mv "$mnt/run" "$mnt/other"
  echo through >&8
  exec 8>&-
  echo new >new
  mkdir d
  mv "$mnt/other/a" "$mnt/moved"
  rm new
  [ "$(ls)" = "$(printf 'd\nout')" ]
  assert_eq "$(cat "$mnt/moved/b/c/out")" through
  cd "$tmp"
  umount_store "$mnt"
}

# bats test_tags=slow,sanitized
@test "a file with hard links is found for as long as it has a name" {
  mount_store "$store" "$mnt"
  mkdir "$mnt/d"
  echo one >"$mnt/a"
  for i in 1 2 3 4; do ln "$mnt/a" "$mnt/d/$i"; done
  stat -c %h "$mnt/a" "$mnt/d"/* >/dev/null
  exec 8<"$mnt/d/2"
  rm "$mnt/d/4" "$mnt/a"
  # By the open file: it has no name here but those that it was met under.
  ok stat -L -c %h /proc/self/fd/8
  chmod 640 "/proc/$$/fd/8"
  mv "$mnt/d/3" "$mnt/b"
  rm "$mnt/d/2"
  assert_eq "$(stat -L -c '%h %a' "/proc/$$/fd/8")" "2 640"
  echo two >"$mnt/b"
  assert_eq "$(cat "$mnt/d/1")" two
  # Gone behind the mount: the other name does.
  rm "$store/b"
  eventually 1 bash -c "[ \"\$(stat -L -c %h /proc/$$/fd/8)\" = 1 ]"
  rm "$mnt/d/1"
  assert_eq "$(stat -L -c '%h %s' "/proc/$$/fd/8")" "0 4"
  exec 8<&-
  umount_store "$mnt"
}

@test "a file whose last name is gone is read, written, truncated and changed by who has it open" {
  mount_store "$store" "$mnt"
  echo first >"$mnt/f"
  exec 8<>"$mnt/f"
  rm "$mnt/f"
  # The stored file's number may be another's as soon as nobody has it.
  for i in $(seq 30); do echo "$i" >"$mnt/new-$i"; done
  assert_eq "$(cat <&8)" first
  echo second >&8
  chmod 600 "/proc/$$/fd/8"
  touch -d 2001-01-01 "/proc/$$/fd/8"
  setfattr -n user.a -v 1 "/proc/$$/fd/8"
  assert_eq "$(stat -L -c '%h %a %Y %s' "/proc/$$/fd/8")" "0 600 978307200 13"
  truncate -s 3 "/proc/$$/fd/8"
  assert_eq "$(stat -L -c %s "/proc/$$/fd/8")" 3
  exec 8<&-
  for i in $(seq 30); do assert_eq "$(cat "$mnt/new-$i")" "$i"; done
  umount_store "$mnt"
}

@test "a folder that was removed leads nowhere, whoever stands in it, also when its number is another's" {
  mount_store "$store" "$mnt"
  mkdir "$mnt/gone"
  cd "$mnt/gone"
  rmdir "$mnt/gone"
  for i in $(seq 20); do mkdir "$mnt/new-$i"; done
  fails 1 touch file
  fails 1 mkdir dir
  [ -z "$(ls -A 2>/dev/null)" ]
  cd "$tmp"
  assert_eq "$(find "$store" -name file -o -name dir)" ""
  umount_store "$mnt"
}

@test "nothing called .ckptfs is made, renamed, changed or removed" {
  committed run1/step-1
  mkdir "$store/open"
  mount_store "$store" "$mnt"
  snapshot "$store/run1" >"$tmp/before"
  echo x >"$mnt/loose"
  for dir in "$mnt" "$mnt/run1" "$mnt/open" "$mnt/run1/step-1"; do
    errno_is EEXIST mkdir "$dir/.ckptfs"
    not ln -s x "$dir/.ckptfs"
    not mv -T "$mnt/loose" "$dir/.ckptfs"
    not mv -T "$dir/.ckptfs" "$mnt/moved"
    not rmdir "$dir/.ckptfs"
    not rm -rf "$dir/.ckptfs"
    not chmod 777 "$dir/.ckptfs"
    not touch "$dir/.ckptfs/new"
    not mkdir "$dir/.ckptfs/new"
    not touch "$dir/.ckptfs"
  done
  errno_is EPERM rename "$mnt/open" "$mnt/run1/.ckptfs"
  errno_is EPERM rmdir "$mnt/.ckptfs"
  errno_is EPERM unlink "$mnt/.ckptfs/README"
  errno_is EPERM rename "$mnt/.ckptfs/README" "$mnt/README"
  errno_is EROFS unlink "$mnt/run1/step-1/.ckptfs/manifest.jsonl"
  rm "$mnt/loose"
  snapshot "$store/run1" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  [ -z "$(ls -A "$store/open")" ]
  [ -f "$store/.ckptfs/store.json" ]
  umount_store "$mnt"
}

@test "devices are not made" {
  requires root
  mount_store "$store" "$mnt"
  not mknod "$mnt/c" c 1 3
  not mknod "$mnt/b" b 7 0
  says_not 'Input/output'
  [ -z "$(ls "$mnt")" ]
  umount_store "$mnt"
}

# immutable_as PREFIX…: the table of calls, on a committed checkpoint of whom it is.
immutable_as() {
  ckpt-test random 1 10 >"$store/group-file"
  chmod 711 "$tmp"
  snapshot "$store/run1/step-1" >"$tmp/before"
  getfattr -R -d "$store/run1/step-1" >"$tmp/attributes-before" 2>&1
  ok "$@" ckpt-test immutable "$mnt/run1/step-1" "$mnt/outside"
  says 'calls, 0 wrong'
  snapshot "$store/run1/step-1" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  getfattr -R -d "$store/run1/step-1" >"$tmp/attributes-after" 2>&1
  same "$tmp/attributes-before" "$tmp/attributes-after"
  assert_eq "$(ls "$store/outside")" loose
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
}

@test "a committed checkpoint refuses every call that changes something, made by root" {
  make_files "$store/run1/step-1"
  setfattr -n user.mine -v 1 "$store/run1/step-1/sub/block.bin"
  mkdir "$store/outside"
  echo loose >"$store/outside/loose"
  ckptfs commit "$store/run1/step-1"
  mount_store "$store" "$mnt"
  immutable_as
  umount_store "$mnt"
}

@test "a committed checkpoint refuses every call that changes something, made by its owner" {
  requires root setpriv
  make_files "$store/run1/step-1"
  setfattr -n user.mine -v 1 "$store/run1/step-1/sub/block.bin"
  mkdir "$store/outside"
  echo loose >"$store/outside/loose"
  chown -hR 65534:65534 "$store/run1" "$store/outside"
  ckptfs commit "$store/run1/step-1"
  mount_store "$store" "$mnt" allow_other
  immutable_as "${as_nobody[@]}"
  umount_store "$mnt"
}

@test "a committed checkpoint is renamed as a whole, and goes on being served where it is open" {
  committed run1/step-1
  mkdir "$store/run2"
  mount_store "$store" "$mnt"
  exec 8<"$mnt/run1/step-1/big.bin"
  ls -lR "$mnt" >/dev/null
  local number
  number=$(stat -c %i "$mnt/run1/step-1/sub/block.bin")
  cd "$mnt/run1/step-1/sub"
  ok mv "$mnt/run1/step-1" "$mnt/run2/best"
  same "$mnt/run2/best/big.bin" "$store/run2/best/big.bin"
  same /proc/self/fd/8 "$store/run2/best/big.bin"
  same block.bin "$store/run2/best/sub/block.bin"
  cd "$tmp"
  same_tree "$mnt/run2/best" "$store/run2/best"
  not test -e "$mnt/run1/step-1"
  assert_eq "$(stat -c %i "$mnt/run2/best/sub/block.bin")" "$number"
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run2/best")" committed
  # Over an empty folder, too; and with another one in exchange.
  mkdir "$mnt/run1/empty"
  ok mv -T "$mnt/run2/best" "$mnt/run1/empty"
  committed run2/other 2
  eventually 1 test -e "$mnt/run2/other/big.bin"
  errno_is OK rename2 "$mnt/run2/other" "$mnt/run1/empty" exchange
  same "$mnt/run2/other/big.bin" "$store/run2/other/big.bin"
  same "$mnt/run1/empty/big.bin" "$store/run1/empty/big.bin"
  exec 8<&-
  ok ckptfs verify "$store"
  umount_store "$mnt"
}

@test "a committed checkpoint never gets a temporary name, a place in another one, or a name none can have" {
  committed run1/step-1
  committed run1/step-2 2
  mkdir -p "$store/run1/step-3.tmp" "$store/a/b/c/d/e/f/g/h"
  mount_store "$store" "$mnt"
  snapshot "$store" >"$tmp/before"
  errno_is EPERM rename "$mnt/run1/step-1" "$mnt/run1/step-1.tmp"
  errno_is EPERM rename "$mnt/run1/step-1" "$mnt/run1/tmp-1"
  errno_is EPERM rename "$mnt/run1/step-1" "$mnt/run1/step-3.tmp/inner"
  errno_is EPERM rename2 "$mnt/run1/step-1" "$mnt/run1/step-3.tmp" exchange
  errno_is EROFS rename "$mnt/run1/step-1" "$mnt/run1/step-2/inner"
  errno_is EROFS rename "$mnt/run1/step-1" "$mnt/run1/step-2"
  errno_is EINVAL rename "$mnt/run1/step-1" "$mnt/a/b/c/d/e/f/g/h/i"
  errno_is EINVAL rename "$mnt/run1/step-1" "$mnt/run1/$(printf 'new\nline')"
  errno_is EINVAL rename "$mnt/run1/step-1" "$mnt/run1/$(printf '\377')"
  # A group takes its checkpoints along.
  errno_is EPERM rename "$mnt/run1" "$mnt/run1.partial"
  errno_is EINVAL rename "$mnt/run1" "$mnt/a/b/c/d/e/f/g/h"
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  umount_store "$mnt"
}

@test "a group that holds committed checkpoints is renamed with them" {
  committed run1/step-1
  committed run1/deep/step-2 2
  mount_store "$store" "$mnt"
  exec 8<"$mnt/run1/step-1/big.bin"
  ls -lR "$mnt" >/dev/null
  cd "$mnt/run1/deep/step-2"
  ok mv "$mnt/run1" "$mnt/renamed"
  same /proc/self/fd/8 "$store/renamed/step-1/big.bin"
  same big.bin "$store/renamed/deep/step-2/big.bin"
  same "$mnt/renamed/step-1/sub/block.bin" "$store/renamed/step-1/sub/block.bin"
  same "$mnt/renamed/deep/step-2/sub/block.bin" "$store/renamed/deep/step-2/sub/block.bin"
  cd "$tmp"
  same_tree "$mnt/renamed" "$store/renamed"
  assert_eq "$(readlink "$mnt/renamed/.ckptfs/latest")" ../deep/step-2
  exec 8<&-
  umount_store "$mnt"
}

@test "a file is not moved or linked out of a checkpoint or from one into another" {
  committed run1/step-1
  mkdir "$store/run1/step-2.tmp" "$store/run1/step-3.tmp"
  echo two >"$store/run1/step-2.tmp/f"
  mount_store "$store" "$mnt"
  errno_is EXDEV rename "$mnt/run1/step-2.tmp/f" "$mnt/run1/step-3.tmp/f"
  errno_is EXDEV link "$mnt/run1/step-2.tmp/f" "$mnt/run1/step-3.tmp/f"
  errno_is EXDEV link "$mnt/run1/step-1/big.bin" "$mnt/run1/step-3.tmp/f"
  errno_is EXDEV link "$mnt/run1/step-1/big.bin" "$mnt/run1/linked"
  errno_is EROFS link "$mnt/run1/step-2.tmp/f" "$mnt/run1/step-1/f"
  errno_is EROFS rename "$mnt/run1/step-2.tmp/f" "$mnt/run1/step-1/f"
  errno_is EROFS rename "$mnt/run1/step-1/big.bin" "$mnt/run1/step-3.tmp/f"
  # mv copies then; out of a group and into it, and within one, it need not.
  ok mv "$mnt/run1/step-2.tmp/f" "$mnt/run1/step-3.tmp/f"
  errno_is OK link "$mnt/run1/step-3.tmp/f" "$mnt/run1/loose"
  errno_is OK rename "$mnt/run1/step-3.tmp/f" "$mnt/run1/loose2"
  errno_is OK rename "$mnt/run1/loose2" "$mnt/run1/step-2.tmp/g"
  mkdir "$mnt/run1/step-2.tmp/sub"
  errno_is OK rename "$mnt/run1/step-2.tmp/g" "$mnt/run1/step-2.tmp/sub/g"
  errno_is OK link "$mnt/run1/step-2.tmp/sub/g" "$mnt/run1/step-2.tmp/h"
  # A folder goes anywhere by one rename.
  errno_is OK rename "$mnt/run1/step-2.tmp/sub" "$mnt/run1/step-3.tmp/sub"
  errno_is OK rename "$mnt/run1/step-3.tmp" "$mnt/step-3.tmp"
  umount_store "$mnt"
}

@test "an open checkpoint is not replaced, but for an empty one" {
  mkdir -p "$store/run1/step-1.tmp" "$store/run1/step-2.tmp" "$store/run1/step-3.tmp"
  echo one >"$store/run1/step-1.tmp/f"
  echo two >"$store/run1/step-2.tmp/f"
  mount_store "$store" "$mnt"
  errno_is EBUSY rename "$mnt/run1/step-1.tmp" "$mnt/run1/step-2.tmp"
  errno_is OK rename "$mnt/run1/step-1.tmp" "$mnt/run1/step-3.tmp"
  assert_eq "$(cat "$mnt/run1/step-3.tmp/f")" one
  umount_store "$mnt"
}

@test "rm -r of an open checkpoint takes what sessions have left in it along" {
  mkdir -p "$store/run1/step-1.tmp/sub" "$store/run1/plain/.ckptfs"
  mount_store "$store" "$mnt"
  random_bytes 1 100000 >"$mnt/run1/step-1.tmp/f"
  random_bytes 2 100000 >"$mnt/run1/step-1.tmp/sub/g"
  eventually 10 test -e "$store/run1/step-1.tmp/.ckptfs"
  ok rm -r "$mnt/run1/step-1.tmp"
  not test -e "$store/run1/step-1.tmp"
  ok rmdir "$mnt/run1/plain"
  not test -e "$store/run1/plain"
  # The name is free.
  mkdir "$mnt/run1/step-1.tmp"
  echo x >"$mnt/run1/step-1.tmp/f"
  errno_is ENOTEMPTY rmdir "$mnt/run1/step-1.tmp"
  umount_store "$mnt"
}

@test "mv from a temporary to a lasting name commits, and the name leads to the committed one at once" {
  mount_store "$store" "$mnt"
  make_files "$mnt/run1/step-9.tmp"
  cd "$mnt/run1/step-9.tmp/sub"
  ok mv "$mnt/run1/step-9.tmp" "$mnt/run1/step-9"
  ok cat "$mnt/run1/step-9/.ckptfs/manifest.jsonl"
  says '"end":true'
  assert_eq "$(getfattr --only-values -n user.ckptfs.state "$mnt/run1/step-9")" committed
  assert_eq "$(getfattr --only-values -n user.ckptfs.step "$mnt/run1/step-9")" 9
  errno_is EROFS create "$mnt/run1/step-9/new"
  # Whoever stood in it can read, and no more.
  same block.bin "$store/run1/step-9/sub/block.bin"
  errno_is EROFS create new
  errno_is EROFS chmod block.bin
  errno_is EROFS truncate block.bin
  errno_is EROFS setxattr block.bin user.x
  errno_is EROFS rename block.bin other
  errno_is EXDEV link block.bin "$mnt/run1/linked"
  cd "$tmp"
  ok ckptfs verify "$store/run1/step-9"
  # The name is taken from now on.
  mkdir "$mnt/run1/step-9.tmp"
  echo again >"$mnt/run1/step-9.tmp/f"
  errno_is EROFS rename "$mnt/run1/step-9.tmp" "$mnt/run1/step-9"
  grep -q "'run1/step-9', which is a committed checkpoint" "$mnt.log"
  umount_store "$mnt"
}
