#!/usr/bin/env bats
# bats file_tags=fast,fuse
# Mounting and unmounting: through ckptfs, mount.ckptfs and mount(8), well and badly.
load helpers/common

setup() {
  requires fuse
  new_store
  committed run1/step-1
  mnt=$tmp/mnt
  mkdir "$mnt"
}

# The daemon that serves $mnt in the background.
background_daemon() {
  pgrep -f "mount.ckptfs.*$mnt"
}

@test "ckptfs mount returns when the mount answers, ckptfs umount when its daemon has ended" {
  local pid
  ok ckptfs mount "$store" "$mnt"
  same "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  grep -qE "^$store $mnt fuse.ckptfs " /proc/self/mounts
  pid=$(background_daemon)
  ok ckptfs umount "$mnt"
  gone_within 0 "$pid" || fail "the daemon still runs"
  [ -z "$(ls -A "$mnt")" ]
}

@test "a mount over the store itself changes no path" {
  cp -r "$store" "$tmp/before"
  ok ckptfs mount "$store"
  grep -qF " $store fuse.ckptfs " /proc/self/mounts
  same_tree "$store" "$tmp/before"
  ok ckptfs ls "$store"
  says_like '^run1/step-1 +committed'
  ok ckptfs verify "$store/run1/step-1"
  ok ckptfs umount "$store"
  ok ckptfs verify "$store"
}

@test "what a mount over its store hides can be committed and aborted through it" {
  make_files "$store/run1/step-2.tmp"
  make_files "$store/run1/step-3.tmp"
  ok ckptfs mount "$store"
  ok ckptfs commit "$store/run1/step-2.tmp"
  [ -e "$store/run1/step-2/big.bin" ]
  ok ckptfs ls "$store"
  says_like '^run1/step-2 +committed'
  ok ckptfs abort "$store/run1/step-3.tmp"
  errno_is ENOENT stat "$store/run1/step-3.tmp"
  ok ckptfs umount "$store"
  ok ckptfs verify "$store"
  says 'run1/step-2: ok'
}

# in_namespace SCRIPT: run it in a mount namespace of its own, so that what it mounts is seen by nobody else.
in_namespace() {
  ok unshare --mount bash -euc "export tmp='$tmp' store='$store' mnt='$mnt'"$'\n'"$1"
}

@test "mount(8) and an fstab line take it as any other type" {
  requires root
  echo "$store $mnt ckptfs defaults,noatime,nofail,x-systemd.automount 0 0" >"$tmp/fstab"
  # mount(8) looks for mount.TYPE in /sbin only.
  # shellcheck disable=SC2016
  in_namespace '
    mkdir "$tmp/sbin"
    cp "$CKPT_BIN/mount.ckptfs" "$tmp/sbin/"
    mount --bind "$tmp/sbin" "$(realpath /sbin)"
    mount -T "$tmp/fstab" "$mnt"
    cmp "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
    umount "$mnt"'
  eventually 10 not background_daemon
}

@test "an ordinary user can mount and unmount" {
  requires root fusermount3
  chmod 755 "$tmp"
  mkdir "$tmp/home" "$tmp/dev"
  chown 65534:65534 "$mnt" "$tmp/home"
  # Where udev does not run, only root may open the device.
  # shellcheck disable=SC2016
  in_namespace '
    mount -t tmpfs none "$tmp/dev"
    mknod -m 666 "$tmp/dev/fuse" c 10 229
    mount --bind "$tmp/dev/fuse" /dev/fuse
    as_nobody=('"${as_nobody[*]}"')
    "${as_nobody[@]}" ckptfs mount "$store" "$mnt"
    "${as_nobody[@]}" cmp "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
    "${as_nobody[@]}" ckptfs umount "$mnt"
    ! grep -q " $mnt " /proc/self/mounts'
  not background_daemon
}

@test "SIGTERM and SIGINT unmount and end" {
  local signal pid
  for signal in TERM INT; do
    mount_store "$store" "$mnt"
    pid=$(daemon_of "$mnt")
    kill "-$signal" "$pid"
    gone_within 10 "$pid" || fail "still running after SIG$signal"
    not is_mounted "$mnt"
  done
}

@test "errors of mounting name the thing and the remedy, and exit 32" {
  fails 32 mount.ckptfs "$store" "$tmp/none"
  says "$tmp/none"
  mkdir "$store/group"
  fails 32 mount.ckptfs "$store/group" "$mnt"
  says "'$store/group' lies in the store '$store'"
  fails 32 mount.ckptfs "$tmp/none" "$mnt"
  says "$tmp/none"
  echo x >"$tmp/file"
  fails 32 mount.ckptfs "$store" "$tmp/file"
  says "$tmp/file"
  sed -i 's/"ckptfs":1/"ckptfs":9/' "$store/.ckptfs/store.json"
  fails 32 mount.ckptfs "$store" "$mnt"
  says newer
  not is_mounted "$mnt"
}

@test "wrong options of mount.ckptfs are named, exit 1" {
  fails 1 mount.ckptfs "$store" "$mnt" -o nonsense
  says "'nonsense'"
  fails 1 mount.ckptfs "$store" "$mnt" -o verify=sometimes
  says sometimes
  fails 1 mount.ckptfs "$store"
  fails 1 mount.ckptfs
  not is_mounted "$mnt"
}

@test "mount(8)'s own options are taken, and -f is only a rehearsal" {
  ok mount.ckptfs "$store" "$mnt" -f -o rw
  not is_mounted "$mnt"
  ok mount.ckptfs "$store" "$mnt" -n -s -v -o rw,nosuid,nodev,noexec,noatime,user,_netdev,nofail,auto,x-anything=1
  ok umount "$mnt"
  eventually 10 not background_daemon
}

@test "a mount point that is busy with the same store or another is told apart" {
  ok ckptfs mount "$store" "$mnt"
  ok ckptfs mount "$store" "$mnt"
  says already
  ckptfs init "$tmp/other" >/dev/null
  fails 1 ckptfs mount "$tmp/other" "$mnt"
  says "$mnt"
  fails 32 mount.ckptfs "$store" "$mnt"
  says "$mnt"
  ok ckptfs umount "$mnt"
}

@test "ckptfs mount without the mount point says how to make it" {
  fails 1 ckptfs mount "$store" "$tmp/none"
  says "$tmp/none" mkdir
}

@test "ckptfs umount names who keeps a mount busy, and works when they are gone" {
  mount_store "$store" "$mnt"
  hold read "$mnt/run1/step-1/big.bin"
  fails 1 ckptfs umount "$mnt"
  says "$holder" ckpt-test big.bin
  is_mounted "$mnt"
  let_go
  umount_store "$mnt"
}

@test "ckptfs umount of what is not mounted, or not by ckptfs, says so" {
  fails 1 ckptfs umount "$mnt"
  says "$mnt"
  fails 1 ckptfs umount "$tmp/none"
  says "$tmp/none"
  fails 1 ckptfs umount /proc
  says /proc
}

# bats test_tags=slow,sanitized
@test "a dead mount is told as such, cleared by umount, and by the next mount" {
  local pid
  mount_store "$store" "$mnt"
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  gone_within 5 "$pid"
  errno_is ENOTCONN opendir "$mnt"
  # Until the kernel's second of caching is over, the folder seems to be there.
  eventually 2 not ckptfs ls "$mnt"
  fails 1 ckptfs ls "$mnt"
  says "$mnt" dead 'ckptfs umount'
  fails 32 mount.ckptfs "$store" "$mnt"
  says "$mnt" 'ckptfs umount'
  ok ckptfs umount "$mnt"
  not is_mounted "$mnt"
  forget_mount "$pid"
  mount_store "$store" "$mnt"
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  gone_within 5 "$pid"
  forget_mount "$pid"
  ok ckptfs mount "$store" "$mnt"
  same "$mnt/run1/step-1/big.bin" "$store/run1/step-1/big.bin"
  ok ckptfs umount "$mnt"
}

@test "the daemon keeps its command line, so that people can see what it serves" {
  ok ckptfs mount "$store" "$mnt"
  ok bash -c "tr '\0' ' ' <'/proc/$(background_daemon)/cmdline'"
  says "$store" "$mnt"
  ok ckptfs umount "$mnt"
}

@test "-o ro shows committed checkpoints, the way to them, loose files there and latest, nothing open" {
  make_files "$store/run1/step-2.tmp"
  make_files "$store/run2/step-9.partial"
  mkdir -p "$store/run3/empty"
  echo loose >"$store/run1/config.json"
  mount_store "$store" "$mnt" ro
  ok ls "$mnt"
  assert_eq "$(paste -sd' ' <<<"$stdout")" "$(paste -sd' ' <<<"$stdout" | grep -o 'latest run1\|run1')"
  ok ls "$mnt/run1"
  says step-1 config.json latest
  says_not step-2
  errno_is ENOENT stat "$mnt/run1/step-2.tmp"
  errno_is ENOENT stat "$mnt/run2/step-9.partial"
  assert_eq "$(readlink "$mnt/run1/latest")" step-1
  same "$mnt/run1/latest/big.bin" "$store/run1/step-1/big.bin"
  umount_store "$mnt"
}

@test "-o index= puts the index elsewhere, and the store's folder is left alone" {
  rm -f "$store"/.ckptfs/index.db*
  mount_store "$store" "$mnt" "index=$tmp/elsewhere.db"
  same_tree "$mnt/run1/step-1" "$store/run1/step-1"
  umount_store "$mnt"
  [ -e "$tmp/elsewhere.db" ]
  [ ! -e "$store/.ckptfs/index.db" ]
}

@test "inode numbers survive a remount and a rebuilt index" {
  mount_store "$store" "$mnt"
  find "$mnt/run1/step-1" -printf '%i %P\n' >"$tmp/before"
  umount_store "$mnt"
  rm -f "$store"/.ckptfs/index.db*
  mount_store "$store" "$mnt"
  find "$mnt/run1/step-1" -printf '%i %P\n' >"$tmp/after"
  umount_store "$mnt"
  same "$tmp/before" "$tmp/after"
}

@test "setuid bits are masked, and the mount is nosuid and nodev" {
  make_files "$store/run1/step-2"
  chmod 4755 "$store/run1/step-2/big.bin"
  ok ckptfs commit "$store/run1/step-2"
  mount_store "$store" "$mnt"
  assert_eq "$(stat -c %a "$mnt/run1/step-2/big.bin")" 755
  grep " $mnt " /proc/self/mounts | grep nosuid | grep -q nodev
  umount_store "$mnt"
}

@test "-o log= takes the log, -o verify= and passthrough= are taken" {
  local word
  ckpt-test flip "$store/run1/step-1/big.bin" 10
  ok ckptfs mount "$store" "$mnt" -o "log=$tmp/log,passthrough=off,verify=read"
  fails 1 cat "$mnt/run1/step-1/big.bin"
  ok ckptfs umount "$mnt"
  grep -q 'run1/step-1/big.bin.*block 0' "$tmp/log"
  for word in auto open; do
    ok ckptfs mount "$store" "$mnt" -o "verify=$word"
    errno_is EIO read "$mnt/run1/step-1/big.bin"
    ok ckptfs umount "$mnt"
  done
}

@test "names in open folders pass through whatever they hold" {
  local name
  mkdir -p "$store/run1/step-2.tmp"
  for name in $'new\nline' $'bad\xffutf8' ' blank ' '"' $'\e[31m' '.hidden' '-' '*'; do
    echo "$name" >"$store/run1/step-2.tmp/$name"
  done
  mount_store "$store" "$mnt"
  same_tree "$mnt/run1/step-2.tmp" "$store/run1/step-2.tmp"
  umount_store "$mnt"
}

@test "deep folders, committed and not, are reached" {
  local deep=$store/run1/step-2 i
  for i in {1..50}; do deep=$deep/d$i; done
  mkdir -p "$deep"
  echo deep >"$deep/file"
  mount_store "$store" "$mnt"
  assert_eq "$(cat "$mnt${deep#"$store"}/file")" deep
  ok ckptfs commit "$store/run1/step-2"
  eventually 2 grep -q deep "$mnt${deep#"$store"}/file"
  same_tree "$mnt/run1/step-2" "$store/run1/step-2"
  umount_store "$mnt"
}
