# shellcheck shell=bash
# What a mount tells of itself in .ckptfs/stats, and what the kernel tells of its daemon.

# counter MNT NAME: that number of the stats
counter() {
  awk -v name="$2" '$1 == name { print $2 }' "$1/.ckptfs/stats"
}

reads_of() {
  counter "$1" ckptfs_read_requests_total
}

verified_of() {
  counter "$1" ckptfs_verified_bytes_total
}

# passthrough_of MNT: state="…",reason="…"
passthrough_of() {
  sed -n 's/^ckptfs_passthrough{\(.*\)} 1$/\1/p' "$1/.ckptfs/stats"
}

# descriptors_of MNT: how many its daemon has open
descriptors_of() {
  find "/proc/$(daemon_of "$1")/fd" -mindepth 1 | wc -l
}

# anonymous_kib MNT: memory of its daemon that is no file's
anonymous_kib() {
  awk '/^RssAnon:/ { print $2 }' "/proc/$(daemon_of "$1")/status"
}

# Does the kernel have FUSE passthrough, and may we use it? Asked of the kernel: what the daemon says is what is tested.
has_passthrough() {
  [ "$(id -u)" -eq 0 ] || return 1
  zgrep -qs '^CONFIG_FUSE_PASSTHROUGH=y' /proc/config.gz || grep -qs '^CONFIG_FUSE_PASSTHROUGH=y' "/boot/config-$(uname -r)"
}

# passthrough_store [MIB]: new_store in a place whose files can be handed to the kernel: not on a stacked file system.
passthrough_store() {
  case "$(stat -f -c %T "$tmp")" in
  overlayfs | fuseblk | UNKNOWN*)
    small_disk "${1:-64}" "$tmp/disk"
    new_store "$tmp/disk/store"
    ;;
  *) new_store ;;
  esac
}
