# shellcheck shell=bash
# Small file systems of their own, on loop devices: to run full, to be read-only.

# small_disk MIB MNT: an empty ext4 of that size
small_disk() {
  truncate -s "$1M" "$2.img"
  mkfs.ext4 -q -m 0 -O ^has_journal "$2.img"
  mkdir -p "$2"
  mount -o loop "$2.img" "$2"
  echo "$2" >>"$tmp/.disks"
}

# fill_disk MNT KIB: leave so many KiB free
fill_disk() {
  local free
  free=$(df --output=avail -k "$1" | tail -1)
  fallocate -l "$((free - $2))K" "$1/filler"
}

drop_disks() {
  local mnt rc=0
  [ -e "$tmp/.disks" ] || return 0
  while read -r mnt; do
    umount "$mnt" || umount -l "$mnt" || rc=1
  done < <(tac "$tmp/.disks")
  rm -f "$tmp/.disks"
  return $rc
}
