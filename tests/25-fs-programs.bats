#!/usr/bin/env bats
# bats file_tags=slow,fuse
# Real programs write into an open checkpoint of a mount as into any folder: what they leave there is what they
# leave in a plain one, byte for byte and mode for mode; it is committed, mounted again, compared and verified.
load helpers/common
load helpers/programs

setup() {
  requires fuse
  new_store
  committed run/step-0
  mnt=$tmp/mnt
  plain=$tmp/plain
  mkdir "$plain"
  mount_store "$store" "$mnt"
  run=$mnt/run
}

# both CMD…: in the open folder of the mount ($1 of the command is where), and in the plain one
both() {
  local where
  for where in "$run/w.tmp" "$plain"; do
    mkdir -p "$where"
    (cd "$where" && ok "$@") || fail "in '$where'" || return 1
  done
}

@test "cp -a brings links, modes, times and xattrs along, into a mount, out of it and within it" {
  make_tree "$tmp/tree"
  ok cp -a "$tmp/tree" "$run/w.tmp"
  ok cp -a "$tmp/tree" "$plain/copy"
  ok cp -a "$run/w.tmp" "$tmp/back"
  alike "$tmp/back" "$tmp/tree" modes times links xattrs
  ok cp -a "$run/w.tmp" "$run/within.tmp"
  alike "$run/within.tmp" "$tmp/tree" modes times links xattrs
  ok cp -r --sparse=always "$tmp/tree/deep/sparse" "$run/within.tmp/sparse"
  [ "$(stat -c %b "$run/within.tmp/sparse")" -lt 1000 ] || fail "no holes in the copy"
  rm -r "$run/within.tmp"
  not test -e "$store/run/within.tmp"
  final w "$plain/copy" modes times xattrs
}

@test "cp -al makes a second tree of the same files within one checkpoint, and no link between two" {
  make_tree "$tmp/tree"
  mkdir "$run/w.tmp" "$plain/w"
  ok cp -a "$tmp/tree" "$run/w.tmp/first"
  ok cp -al "$run/w.tmp/first" "$run/w.tmp/second"
  [ "$run/w.tmp/first/big.bin" -ef "$run/w.tmp/second/big.bin" ]
  ok cp -a "$tmp/tree" "$plain/w/first"
  ok cp -al "$plain/w/first" "$plain/w/second"
  alike "$run/w.tmp" "$plain/w" links
  fails 1 cp -al "$run/w.tmp/first" "$run/other.tmp"
  says 'Invalid cross-device link'
  rm -r "$run/other.tmp" "$run/w.tmp/first" "$plain/w/first"
  touch -d '2020-02-02 UTC' "$run/w.tmp" "$plain/w"
  final w "$plain/w" modes times xattrs
}

@test "rsync -a, --inplace, --append-verify and --delete bring an open checkpoint up to date" {
  requires rsync
  local where rsync=(rsync -aHX)
  make_tree "$tmp/tree"
  for where in "$run/w.tmp/" "$plain/"; do
    ok "${rsync[@]}" "$tmp/tree/" "$where"
  done
  alike "$run/w.tmp" "$tmp/tree" modes times links xattrs
  # A changed block, a longer file, one that is gone, a folder in the place of a file.
  random_bytes 9 5000 | dd of="$tmp/tree/big.bin" bs=1000 seek=700 conv=notrunc status=none
  random_bytes 10 400000 >>"$tmp/tree/sub/block.bin"
  rm "$tmp/tree/sub/deep/note.txt" "$tmp/tree/empty"
  mkdir "$tmp/tree/empty"
  for where in "$run/w.tmp/" "$plain/"; do
    ok "${rsync[@]}" --inplace --no-whole-file --delete "$tmp/tree/" "$where"
  done
  random_bytes 11 90000 >>"$tmp/tree/big.bin"
  touch -d '2022-02-02 02:02:02.222 UTC' "$tmp/tree/big.bin" "$tmp/tree/empty" "$tmp/tree"
  for where in "$run/w.tmp/" "$plain/"; do
    ok "${rsync[@]}" --append-verify --delete "$tmp/tree/" "$where"
    # Nothing is left to do, by sums too.
    ok "${rsync[@]}" --checksum --delete --dry-run --itemize-changes "$tmp/tree/" "$where"
    assert_eq "$stdout" '' "what rsync would still change in '$where'"
  done
  alike "$plain" "$tmp/tree" modes xattrs links
  final w "$plain" modes xattrs
}

@test "an rsync --partial that is interrupted goes on where it was" {
  requires rsync
  local size pid
  random_bytes 1 12000000 >"$plain/large.bin"
  mkdir "$run/w.tmp"
  rsync -a --partial --bwlimit=3m "$plain/" "$run/w.tmp/" >/dev/null 2>&1 3>&- 4>&- &
  pid=$!
  eventually 10 compgen -G "$run/w.tmp/.large.bin.*"
  sleep 1
  # rsync's child that writes renames what it has when it is told to end.
  kill -INT "$pid"
  wait "$pid" || true
  eventually 5 test -e "$run/w.tmp/large.bin"
  size=$(stat -c %s "$run/w.tmp/large.bin")
  [ "$size" -gt 0 ] && [ "$size" -lt 12000000 ] || fail "$size bytes were kept"
  assert_eq "$(find "$run/w.tmp" -type f | wc -l)" 1 "files"
  cmp -n "$size" "$run/w.tmp/large.bin" "$plain/large.bin"
  ok rsync -a --partial --inplace --no-whole-file --stats "$plain/" "$run/w.tmp/"
  [ "$(sed -n 's/^Matched data: \([0-9,]*\) bytes/\1/p' <<<"$stdout" | tr -d ,)" -gt 0 ] || fail "it began anew"
  by=commit final w "$plain" modes times
}

@test "tar unpacks links and holes and xattrs, compares them, and packs the same again when they are committed" {
  make_tree "$tmp/tree"
  ok tar --sparse --xattrs -C "$tmp/tree" -cf "$tmp/tree.tar" .
  both tar --xattrs -xpf "$tmp/tree.tar"
  (cd "$run/w.tmp" && ok tar -df "$tmp/tree.tar")
  alike "$plain" "$tmp/tree" links
  [ "$(stat -c %b "$run/w.tmp/deep/sparse")" -eq "$(stat -c %b "$plain/deep/sparse")" ] || fail "other holes"
  final w "$plain" modes times xattrs
  mount_store "$store" "$mnt"
  # What is committed has one name each.
  assert_eq "$(cd "$run/w" && tar -df "$tmp/tree.tar" 2>&1 | grep -v ': Not linked to ')" '' "what tar finds different"
  mkdir "$tmp/again"
  tar --format=posix -C "$run/w" -cf - . | tar -C "$tmp/again" -xpf -
  alike "$tmp/again" "$tmp/tree" modes times
  umount_store "$mnt"
}

@test "dd writes, appends, cuts, overwrites, with and without the page cache and fsync" {
  random_bytes 5 3000000 >"$tmp/in"
  both dd if="$tmp/in" of=fsync bs=64k conv=fsync status=none
  both dd if="$tmp/in" of=dsync bs=500k oflag=dsync status=none
  both dd if="$tmp/in" of=direct bs=128k count=20 oflag=direct iflag=fullblock status=none
  both dd if="$tmp/in" of=fsync bs=1k count=7 oflag=append conv=notrunc status=none
  both dd if="$tmp/in" of=fsync bs=1001 count=3 seek=90 conv=notrunc,fdatasync status=none
  both dd if="$tmp/in" of=dsync bs=1M seek=1 count=1 status=none
  both dd if=/dev/null of=dsync bs=1 seek=1234567 status=none
  both dd if=/dev/zero of=zeros bs=64k count=50 conv=sparse,excl status=none
  both dd if=fsync of=copy bs=4k iflag=direct conv=swab status=none
  (cd "$run/w.tmp" && fails 1 dd if=/dev/zero of=zeros count=1 conv=excl status=none)
  final w "$plain" modes
}

@test "git makes, packs and checks a repository, which it reads again when it is committed" {
  requires git
  local where
  export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
  export GIT_AUTHOR_DATE='2026-01-01T00:00:00Z' GIT_COMMITTER_DATE='2026-01-01T00:00:00Z' GIT_CONFIG_NOSYSTEM=1
  make_tree "$tmp/tree"
  both git init -q -b main
  for where in "$run/w.tmp" "$plain"; do
    cp -a "$tmp/tree/." "$where/"
    (
      cd "$where"
      seq 300 | split -l 1 -a 3 - part-
      ok git add -A
      ok git commit -qm one
      for i in 1 2 3 4 5; do
        random_bytes "$i" 100000 >"sub/block.bin"
        git mv "part-aa$(printf %b "\\x6$i")" "moved-$i"
        ok git commit -qam "change $i"
      done
      ok git branch other HEAD~3
      ok git checkout -q other
      ok git merge -q main
      ok git gc -q --aggressive --prune=now
      ok git fsck --full --strict
      ok git clone -q . "$tmp/clone-$(basename "$where")"
      ok git status --porcelain
      assert_eq "$stdout" '' "git status"
      # What git itself measured on a disk of its own is no part of the repository.
      rm -f .git/index
    )
  done
  assert_eq "$(git -C "$run/w.tmp" rev-parse HEAD other main)" "$(git -C "$plain" rev-parse HEAD other main)"
  same_tree "$tmp/clone-w.tmp/sub" "$tmp/clone-plain/sub"
  # Packs come out alike in bytes only with the same number of threads and the same deltas: what they hold is compared.
  assert_eq "$(git -C "$run/w.tmp" rev-list --all --objects | sort | sha256sum)" "$(git -C "$plain" rev-list --all --objects | sort | sha256sum)"
  ok mv "$run/w.tmp" "$run/w"
  umount_store "$mnt"
  ok ckptfs verify "$store"
  says 'run/step-0: ok' 'run/w: ok'
  mount_store "$store" "$mnt"
  export GIT_OPTIONAL_LOCKS=0
  ok git -C "$run/w" fsck --full --strict
  ok git clone -q "$run/w" "$tmp/clone-again"
  same_tree "$tmp/clone-again/sub" "$tmp/clone-plain/sub"
  # Its exit status for that is 128, which try() takes for a signal.
  not git -C "$run/w" commit --allow-empty -qm no >"$tmp/refused" 2>&1
  grep -q 'Read-only file system' "$tmp/refused"
  umount_store "$mnt"
}

# ledger DIR MODE: three processes add to one database at the same time
ledger() {
  local who pids=()
  sqlite3 "$1/$2.db" "PRAGMA journal_mode=$2; CREATE TABLE t(who, n, filler); CREATE INDEX i ON t(n);" >/dev/null
  for who in 1 2 3; do
    sqlite3 -cmd '.timeout 60000' "$1/$2.db" < <(
      for n in $(seq 40); do
        echo "BEGIN IMMEDIATE; INSERT INTO t SELECT $who, $n, hex(zeroblob(500)) FROM generate_series(1, 5); COMMIT;"
        [ $((n % 10)) -ne 0 ] || echo "DELETE FROM t WHERE who = $who AND n = $((n - 5)); SELECT count(*) FROM t;"
      done
    ) >"$tmp/ledger.$who" 2>&1 3>&- 4>&- &
    pids+=($!)
  done
  for who in "${pids[@]}"; do
    wait "$who" || fail "a writer failed: $(cat "$tmp"/ledger.*)" || return 1
  done
  not grep -qi error "$tmp"/ledger.? || fail "$(cat "$tmp"/ledger.?)" || return 1
}

@test "sqlite3 keeps its databases whole under three writers, with a rollback journal and with a WAL" {
  requires sqlite3
  local mode where
  mkdir "$run/w.tmp"
  for mode in delete persist wal; do
    for where in "$run/w.tmp" "$plain"; do
      ledger "$where" $mode
      assert_eq "$(sqlite3 "$where/$mode.db" 'PRAGMA integrity_check')" ok "$mode in $where"
      assert_eq "$(sqlite3 "$where/$mode.db" 'SELECT count(*), count(DISTINCT who), sum(n) FROM t')" '540|3|11100' "$mode in $where"
      sqlite3 "$where/$mode.db" 'SELECT who, n, count(*) FROM t GROUP BY 1, 2 ORDER BY 1, 2' >"$where/$mode.txt"
      sqlite3 "$where/$mode.db" 'PRAGMA journal_mode=delete; VACUUM' >/dev/null
      # The rows came in another order each time.
      sqlite3 "$where/$mode.db" ".dump" | grep '^INSERT' | sort >"$where/$mode.dump"
      cp "$where/$mode.db" "$tmp/$mode.$(basename "$where")"
      rm "$where/$mode.db"
      ls -A "$where"
    done
    cp "$tmp/$mode.w.tmp" "$run/w.tmp/$mode.db"
    cp "$tmp/$mode.w.tmp" "$plain/$mode.db"
  done
  final w "$plain" modes
  mount_store "$store" "$mnt"
  for mode in delete persist wal; do
    assert_eq "$(sqlite3 -readonly "$run/w/$mode.db" 'SELECT count(*) FROM t')" 540
    fails 8 sqlite3 "$run/w/$mode.db" 'INSERT INTO t VALUES(1,1,1)'
    says readonly
  done
  umount_store "$mnt"
}

@test "an editor's ways to save: a backup and a new file, a rename over the old one, writing in place" {
  requires vi
  local where way
  for where in "$run/w.tmp" "$plain"; do
    mkdir -p "$where"
    seq 2000 >"$where/text"
    chmod 640 "$where/text"
    ln "$where/text" "$where/text-too"
    for way in 'backupcopy=no writebackup' 'backupcopy=yes backup' 'backupcopy=auto nowritebackup' 'backupcopy=no backup fsync'; do
      (cd "$where" && ok vi -es -u NONE -i NONE -c "set $way" -c '%s/7$/seven/e' -c '5d' -c '1t3' -c 'wq' text)
      # As other editors do it.
      sed -i.old '1d' "$where/text"
      perl -i -pe 's/^1/one /' "$where/text"
    done
    (cd "$where" && ok vi -es -u NONE -c 'set directory=. updatecount=1' -c '1,100d' -c 'w! other' -c 'q!' text)
  done
  assert_eq "$(find "$run/w.tmp" -name '*.sw*')" '' "swap files"
  final w "$plain" modes
}

@test "fio writes and verifies by its own sums: system calls, aio and mappings, cached and direct, and reads them when committed" {
  requires fio
  local engine fio=(fio --directory="$run/w.tmp" --size=12m --nrfiles=3 --bs=16k --verify=xxhash --verify_fatal=1 --output-format=terse)
  mkdir "$run/w.tmp"
  for engine in psync libaio mmap; do
    ok "${fio[@]}" --name=$engine --ioengine=$engine --iodepth=8 --rw=randwrite --do_verify=1
    ok "${fio[@]}" --name=$engine-two --ioengine=$engine --numjobs=2 --rw=write --fsync=50 --fallocate=none --do_verify=1
  done
  ok "${fio[@]}" --name=direct --ioengine=libaio --iodepth=16 --direct=1 --rw=randwrite --do_verify=1
  ok "${fio[@]}" --name=mixed --ioengine=psync --rw=randrw --rwmixread=40 --overwrite=1 --bsrange=4k-64k --do_verify=1
  find "$run/w.tmp" -name 'local-*' -delete
  rm -f ./local-*-verify.state
  cp -a "$run/w.tmp/." "$plain"
  final w "$plain" modes times
  mount_store "$store" "$mnt"
  fio=("${fio[@]/w.tmp/w}")
  for engine in psync libaio mmap; do
    ok "${fio[@]}" --name=$engine --ioengine=$engine --rw=read --readonly --do_verify=1
  done
  ok "${fio[@]}" --name=direct --ioengine=psync --direct=1 --rw=read --readonly --do_verify=1
  # It can say no.
  umount_store "$mnt"
  ckpt-test flip "$store/run/w/psync.0.1" 1000000
  mount_store "$store" "$mnt" verify=off
  try "${fio[@]}" --name=psync --ioengine=psync --rw=read --readonly --do_verify=1
  [ "$status" -ne 0 ] || fail "fio did not see a flipped bit"
  umount_store "$mnt"
}

# It opens every mount of the machine, those of other tests, too.
# bats test_tags=alone
@test "stress-ng's file system class, all at once and verified, leaves nothing behind and breaks nothing" {
  requires stress-ng
  stress_all "$run/w.tmp" 5
  assert_eq "$(ls -A "$run/w.tmp")" '' "what is left"
  echo over >"$run/w.tmp/note"
  echo over >"$plain/note"
  final w "$plain" modes
}

# Names that only POSIX takes: control characters, newlines, bytes that are no UTF-8.
hostile=($'new\nline' $'tab\tbell\a' $'esc\e[31mred' $'del\x7f' $'latin1-\xe9' $'broken-\xe2\x82' $'overlong-\xc0\xaf' $'surrogate-\xed\xa0\x80')
# Names that look dangerous, and that a commit takes.
# shellcheck disable=SC2016 # that is what they are
odd=(-rf --help ' ' ' leading' 'trailing ' '$HOME' '`id`' 'a;b|c&d' "quote'\"s" 'back\slash' '*' '?[x]' '...' '#' '~' '%s%n' 'größe' '数' '🙂' $'nfd-e\u0301' $'nfc-\u00e9' $'rtl-\u202e')

@test "hostile names pass through while open; a commit names the first it refuses, escaped, and takes the odd ones" {
  local where name long
  long=$(printf '%.0sx' $(seq 251))
  for where in "$run/w.tmp" "$plain"; do
    mkdir -p "$where"
    (
      cd "$where"
      for name in "${hostile[@]}" "${odd[@]}" "$long-255" "ä${long:1}-a"; do
        printf '%s' "$name" >"./$name"
        mkdir "./$name.d" 2>/dev/null || true
        ln -s -- "$name" "./$name.l" 2>/dev/null || true
      done
      mv "./${hostile[0]}" "./again${hostile[0]}"
      cat "./${hostile[4]}" >"./copy"
      not touch "./$long-2556" 2>/dev/null
    )
  done
  diff <(cd "$run/w.tmp" && find . -print0 | sort -z | od -c) <(cd "$plain" && find . -print0 | sort -z | od -c)
  alike "$run/w.tmp" "$plain" modes
  assert_eq "$(ls -b "$run/w.tmp")" "$(ls -b "$plain")"
  # One at a time, so that each kind is named.
  for name in "again${hostile[0]}" "${hostile[@]:1}"; do
    rm -rf "$run/one.tmp"
    mkdir "$run/one.tmp"
    echo x >"$run/one.tmp/good"
    mv "$run/w.tmp/$name" "$run/one.tmp/$name"
    fails 1 ckptfs commit "$run/one.tmp"
    says 'one.tmp/' '\x'
    not grep -qP '[^\x20-\x7e]' <<<"$stderr" || fail "not escaped"
    fails 1 mv "$run/one.tmp" "$run/one"
    grep -qF 'one.tmp' "$mnt.log"
    assert_eq "$(getfattr --only-values -n user.ckptfs.state "$run/one.tmp")" open
    rm -rf "${run:?}/w.tmp/$name.d" "$run/w.tmp/$name.l" "${plain:?}/$name" "$plain/$name.d" "$plain/$name.l"
  done
  rm -rf "$run/one.tmp" "$run/w.tmp/${hostile[0]}.d" "$run/w.tmp/${hostile[0]}.l" "$plain/${hostile[0]}.d" "$plain/${hostile[0]}.l" "$plain/again${hostile[0]}"
  final w "$plain" modes
}
