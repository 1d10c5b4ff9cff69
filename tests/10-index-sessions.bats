#!/usr/bin/env bats
# bats file_tags=fast
# Sessions: sums that writers leave, so that a commit reads nothing again; who is waited for; commits under another name.
load helpers/common

setup() {
  new_store
  open=$store/run1/step-1.partial
  make_files "$open"
}

# summed NAME FILE…: this is what a writer leaves that has ended; NAME "" is the store's own.
summed() {
  local name=$1 file
  local actions=()
  shift
  for file in "$@"; do
    actions+=("sum=$file")
  done
  ok ckpt-test session "$store" "$name" "${actions[@]}" tell=idle
}

summed_all() {
  summed "${1:-run1/step-1.partial}" "$open/big.bin" "$open/sub/block.bin" "$open/sub/deep/note.txt" "$open/empty"
}

session_of() {
  find "$1/.ckptfs" -maxdepth 1 -name 'session-*'
}

# read_shards COMMAND…: run it and list the shards that bytes were read of, or that were synced.
read_shards() {
  requires strace
  # LeakSanitizer cannot work in a process that is traced.
  try env ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" strace -f -y -qq -e trace=pread64,read,preadv,mmap,fdatasync,fsync,syncfs -o "$tmp/trace" "$@" || return 1
  assert_status 0 || return 1
  # A mapping of a program's own libraries is no reading of shards.
  grep -oE "$store/run1/[^>]*" "$tmp/trace" | grep -v '/\.ckptfs' | sed "s|^$store/run1/[^/]*/||" | grep -E '\.bin|\.txt|empty' | sort -u | paste -sd' ' >"$tmp/was_read"
}

sum_in_manifest() {
  jq -r --arg path "$2" 'select(.shard == $path) | .xxh128' "$1/.ckptfs/manifest.jsonl"
}

digest() {
  xxhsum -H2 "$1" | cut -d' ' -f1
}

# An owner as another process of this host would be: owner PID
owner() {
  jq -nc --arg host "$(hostname)" --arg boot "$(cat /proc/sys/kernel/random/boot_id)" --argjson pid "$1" \
    --argjson ticks "$(sed 's/.*) //' "/proc/$1/stat" | cut -d' ' -f20)" --argjson ns "$(stat -Lc %i "/proc/$1/ns/pid")" \
    '{host: $host, pid: $pid, boot_id: $boot, start_ticks: $ticks, pid_ns: $ns}'
}

# told FILE [PYTHON]: the line that a session tells of it, changed by a statement. (jq has no numbers as large.)
told() {
  python3 - "$1" "${2:-pass}" <<'END'
import json, os, re, subprocess, sys
path = sys.argv[1]
data, at = open(path, "rb").read(), os.stat(path)
def xxh(kind, size, text):
    said = subprocess.run(["xxhsum", kind, "-"], input=text, capture_output=True, check=True).stdout.decode()
    return re.search("[0-9a-f]{%d}" % size, said)[0]
sums = "".join(xxh("-H3", 16, data[i:i + 2**20]) for i in range(0, len(data), 2**20))
it = {"file": os.path.basename(path), "ino": at.st_ino, "size": at.st_size, "mtime_ns": at.st_mtime_ns,
      "ctime_ns": at.st_ctime_ns, "block": 2**20, "xxh3": sums, "xxh128": xxh("-H2", 32, data)}
exec(sys.argv[2])
print(json.dumps(it))
END
}

# leave_session NAME: stdin is the session file of a process that has ended.
leave_session() {
  mkdir -p "$open/.ckptfs"
  cat >"$open/.ckptfs/session-$1"
}

@test "a commit reads and syncs no shard that a session tells of" {
  summed_all
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" ''
  ok ckptfs verify "$store/run1/step-1"
  assert_eq "$(sum_in_manifest "$store/run1/step-1" big.bin)" "$(digest "$store/run1/step-1/big.bin")"
  assert_eq "$(ls -A "$store/run1/step-1/.ckptfs")" manifest.jsonl
}

@test "the store's own sessions count as well, whatever the files are called by then" {
  summed_all ''
  mv "$open" "$store/run1/step-2.tmp"
  mv "$store/run1/step-2.tmp/sub" "$store/run1/step-2.tmp/other"
  read_shards ckptfs commit "$store/run1/step-2.tmp"
  assert_eq "$(cat "$tmp/was_read")" ''
  ok ckptfs verify "$store/run1/step-2"
}

@test "what no session tells of is read, and only that" {
  summed run1/step-1.partial "$open/big.bin" "$open/empty"
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" 'sub/block.bin sub/deep/note.txt'
  ok ckptfs verify "$store/run1/step-1"
}

@test "a hard link is known by its inode under both names" {
  ln "$open/big.bin" "$open/sub/again.bin"
  summed_all
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" ''
  assert_eq "$(sum_in_manifest "$store/run1/step-1" sub/again.bin)" "$(digest "$store/run1/step-1/big.bin")"
}

@test "sums are not trusted when the file was touched, written, or replaced" {
  local at
  summed_all
  touch "$open/big.bin"
  at=$(stat -c %y "$open/sub/block.bin")
  random_bytes 99 1048576 >"$tmp/other"
  # The same inode, size and mtime: the ctime tells.
  cp "$tmp/other" "$open/sub/block.bin"
  touch -d "$at" "$open/sub/block.bin"
  cp -p "$open/sub/deep/note.txt" "$tmp/note"
  rm "$open/sub/deep/note.txt"
  cp -p "$tmp/note" "$open/sub/deep/note.txt"
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" 'big.bin sub/block.bin sub/deep/note.txt'
  ok ckptfs verify "$store/run1/step-1"
}

@test "the session of a foreign program needs host, pid and the sums; torn, damaged and lying lines are passed over" {
  {
    printf '{"host": "elsewhere", "pid": 77}\n'
    told "$open/big.bin"
    # Lies that can be seen: a wrong count of sums, a wrong block size, digests that are none, another size.
    told "$open/sub/block.bin" 'it["xxh3"] += 16 * "0"'
    told "$open/sub/block.bin" 'it["block"] = 2**21'
    told "$open/sub/block.bin" 'it["xxh3"] = 16 * "z"'
    told "$open/sub/block.bin" 'it["xxh128"] = "abc"'
    told "$open/sub/block.bin" 'it["size"] += 1'
    told "$open/sub/block.bin" 'it["mtime_ns"] -= 1'
    told "$open/sub/block.bin" 'it["ino"] = -1'
    printf '\n{"nothing":1}\nnot json "ino": 5\n[1,2]\n{"ino":"x"}\n'
    told "$open/sub/deep/note.txt" 'it["later"] = [1]; it["rank"] = 3'
    printf '{"doing": "idle"}\n'
    told "$open/empty" | tr -d '\n' # torn: it lacks its line feed
  } | leave_session elsewhere-77
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" 'empty sub/block.bin'
  ok ckptfs verify "$store/run1/step-1"
  assert_eq "$(jq 'select(.shard == "sub/deep/note.txt").rank' "$store/run1/step-1/.ckptfs/manifest.jsonl")" 3
}

@test "garbage, a FIFO, a link and an empty file among the sessions keep no commit from its work" {
  mkdir -p "$open/.ckptfs" "$store/.ckptfs/sessions"
  head -c 100000 /dev/urandom >"$open/.ckptfs/session-a-1"
  : >"$open/.ckptfs/session-b-2"
  mkfifo "$open/.ckptfs/session-c-3" "$store/.ckptfs/sessions/x-1"
  ln -s /etc/passwd "$open/.ckptfs/session-d-4"
  mkdir "$store/.ckptfs/sessions/folder"
  printf '{"host":"elsewhere","pid":1}' >"$store/.ckptfs/sessions/y-2"
  ok ckptfs commit "$open"
  ok ckptfs verify "$store/run1/step-1"
}

@test "another user's word counts for his own files only" {
  requires root
  leave_session elsewhere-77 < <(printf '{"host":"elsewhere","pid":77}\n{"doing":"idle"}\n'; told "$open/big.bin"; told "$open/sub/block.bin")
  chown nobody "$open/.ckptfs/session-elsewhere-77" "$open/sub/block.bin"
  # chown has changed the ctime: what was told of that file must be told again.
  told "$open/sub/block.bin" >>"$open/.ckptfs/session-elsewhere-77"
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" 'big.bin empty sub/deep/note.txt'
}

# bats test_tags=slow,sanitized
@test "a living session that writes is waited for, then named" {
  ckpt-test session "$store" run1/step-1.partial tell=writing ready sleep=60 >"$tmp/out" 3>&- &
  local pid=$!
  eventually 5 grep -q ready "$tmp/out"
  ok ckptfs ls "$store"
  says "writer on $(hostname), pid $pid"
  errno_of commit run1/step-1.partial run1/step-1
  says EBUSY 'is being written' "pid $pid"
  fails 1 ckptfs abort "$open"
  says "pid $pid"
  kill "$pid"
  wait "$pid" || true
  # Its process is gone, and so it is waited for no more.
  ok ckptfs commit "$open"
}

errno_of() {
  try ckpt-test "$1" "$store" "${@:2}"
}

# bats test_tags=slow,sanitized
@test "a living session that makes sums is waited for as long as it lives" {
  ckpt-test session "$store" run1/step-1.partial tell=summing ready sleep=3 "sum=$open/big.bin" tell=idle sleep=60 >"$tmp/out" 3>&- &
  local pid=$!
  eventually 5 grep -q ready "$tmp/out"
  # The helper's commit gives a writer one second.
  read_shards ckpt-test commit "$store" run1/step-1.partial run1/step-1
  assert_eq "$(cat "$tmp/was_read")" 'empty sub/block.bin sub/deep/note.txt'
  kill "$pid"
  wait "$pid" || true
}

@test "an idle session keeps nobody from committing or dropping" {
  ckpt-test session "$store" run1/step-1.partial "sum=$open/big.bin" tell=idle ready sleep=60 >"$tmp/out" 3>&- &
  local pid=$!
  eventually 5 grep -q ready "$tmp/out"
  ok ckptfs ls "$store"
  says_like '^run1/step-1.partial +open .* a commit'
  ok ckptfs abort "$open"
  make_files "$open"
  ckpt-test session "$store" run1/step-1.partial tell=idle ready sleep=60 >"$tmp/out2" 3>&- &
  local second=$!
  eventually 5 grep -q ready "$tmp/out2"
  ok ckptfs commit "$open"
  kill "$pid" "$second"
  wait "$pid" "$second" || true
}

@test "a session whose process is gone is nobody's, and one that says nothing is a writer's" {
  printf '%s\n' "$(owner $$ | jq -c '.start_ticks += 1')" | leave_session "$(hostname)-$$"
  ok ckptfs ls "$store"
  says_not 'writer on'
  printf '{"host":"%s","pid":%d}\n' "$(hostname)" $$ | leave_session "$(hostname)-$$"
  ok ckptfs ls "$store"
  says "writer on $(hostname), pid $$"
  # A minute without a touch: dead, though nobody can see its process.
  touch -d '2 minutes ago' "$open/.ckptfs/session-$(hostname)-$$"
  ok ckptfs ls "$store"
  says_not 'writer on'
  ok ckptfs commit "$open"
}

@test "how far a collective save is stands behind its writer; what is torn, a lie or from nowhere is passed over" {
  local line good='{"doing":"writing","done":1048576,"total":4194304,"ranks":4,"slowest":3,"since":"2026-11-22T20:41:07.123456789Z"}'
  {
    owner $$
    printf '%-191s\n' "$good"
  } | leave_session "$(hostname)-$$"
  ok ckptfs ls "$store"
  says "writer on $(hostname), pid $$ (1.0 MiB of 4.0 MiB; rank 3 of 4 is the slowest)"
  for line in "${good/1048576/9999999}" "${good/1048576/-1}" "${good/4194304/true}" "${good/2026/never}" "${good/\"since\"/\"then\"}" "${good:0:60}"; do
    {
      owner $$
      printf '%s\n' "$line"
    } | leave_session "$(hostname)-$$"
    ok ckptfs ls "$store" || return 1
    says "writer on $(hostname), pid $$" || return 1
    says_not 'MiB of' || return 1
  done
  # Whatever is noted in the store, only the session in the checkpoint is believed.
  mkdir -p "$store/.ckptfs/saves"
  printf '{"saves":"../../etc"}\n{"saves":"run1"}\n' >"$store/.ckptfs/saves/$(hostname)-$$"
  ok ckptfs verify "$store"
}

@test "what a writer is doing is found behind a mebibyte of sums, too" {
  mkdir "$store/big.partial"
  truncate -s 20G "$store/big.partial/huge"
  {
    owner $$
    printf '{"doing":"idle"}\n'
    printf '{"file":"huge","ino":1,"size":21474836480,"mtime_ns":1,"ctime_ns":1,"block":1048576,"xxh3":"%0327680d"}\n' 0
  } >"$tmp/session"
  mkdir "$store/big.partial/.ckptfs"
  cp "$tmp/session" "$store/big.partial/.ckptfs/session-x-1"
  ok ckptfs ls "$store"
  says_not 'writer on'
  ok ckptfs abort "$store/big.partial"
}

# bats test_tags=slow,sanitized
@test "a session ends with the commit of its checkpoint, and its process is told" {
  ckpt-test session "$store" run1/step-1.partial tell=idle ready sleep=2 tell=writing >"$tmp/out" 3>&- &
  local pid=$! rc=0
  eventually 5 grep -q ready "$tmp/out"
  ok ckptfs commit "$open"
  wait "$pid" || rc=$?
  assert_eq "$rc" 1
  grep -q '^ENOENT: .*committed or dropped' "$tmp/out"
  assert_eq "$(ls -A "$store/run1/step-1/.ckptfs")" manifest.jsonl
  errno_of session run1/step-1
  says EROFS
}

# bats test_tags=slow,sanitized
@test "a session goes with its checkpoint when that is renamed" {
  ckpt-test session "$store" run1/step-1.partial tell=writing ready sleep=2 "sum=$store/run1/step-3.tmp/big.bin" tell=idle >"$tmp/out" 3>&- &
  local pid=$!
  eventually 5 grep -q ready "$tmp/out"
  mv "$open" "$store/run1/step-3.tmp"
  wait "$pid"
  read_shards ckptfs commit "$store/run1/step-3.tmp"
  assert_eq "$(cat "$tmp/was_read")" 'empty sub/block.bin sub/deep/note.txt'
}

@test "a session that is removed leaves the folder as it was" {
  snapshot "$open" >"$tmp/before"
  ok ckpt-test session "$store" run1/step-1.partial "sum=$open/big.bin" remove
  snapshot "$open" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  ok ckpt-test session "$store" run1/step-1.partial "sum=$open/big.bin"
  assert_eq "$(session_of "$open" | wc -l)" 1
}

@test "a session file begins anew before it exceeds 64 MiB" {
  local file
  ok ckpt-test session "$store" '' "sum=$open/empty" fill=69000000 "sum=$open/big.bin" tell=idle
  file=$(find "$store/.ckptfs/sessions" -type f)
  [ "$(stat -c %s "$file")" -lt 67108864 ]
  assert_eq "$(head -1 "$file" | jq -r .host)" "$(hostname)"
  grep -q '"file":"big.bin"' "$file"
  not grep -q '"file":"empty"' "$file"
  read_shards ckptfs commit "$open"
  assert_eq "$(cat "$tmp/was_read")" 'empty sub/block.bin sub/deep/note.txt'
}

@test "old sessions of the dead are removed from the store by whoever meets them, others stay" {
  summed '' "$open/big.bin"
  mkdir -p "$store/.ckptfs/sessions"
  cp "$(find "$store/.ckptfs/sessions" -type f)" "$tmp/session"
  rm "$store/.ckptfs/sessions/"*
  cp "$tmp/session" "$store/.ckptfs/sessions/old-1"
  cp "$tmp/session" "$store/.ckptfs/sessions/young-2"
  echo garbage >"$store/.ckptfs/sessions/garbage-3"
  touch -d '2 days ago' "$store/.ckptfs/sessions/old-1" "$store/.ckptfs/sessions/garbage-3"
  touch -d '23 hours ago' "$store/.ckptfs/sessions/young-2"
  ok ckptfs commit "$open"
  assert_eq "$(ls "$store/.ckptfs/sessions")" young-2
}

@test "a save begins where only sums were left, never by dropping files that somebody wrote" {
  mkdir -p "$store/run1/step-9.partial"
  cp "$open/big.bin" "$store/run1/step-9.partial/"
  summed run1/step-9.partial "$store/run1/step-9.partial/big.bin"
  make_files "$tmp/source"
  fails 1 ckptfs cp "$tmp/source" "$store/run1/step-9"
  [ -e "$store/run1/step-9.partial/big.bin" ]
}

# --- where a session belongs, and what may be changed ---------------------------------------------

@test "a session belongs into the topmost temporary folder, else into a numbered open one, else to the store" {
  local path expected
  make_files "$store/run2/step-5.orbax-checkpoint-tmp-1/default.tmp"
  make_files "$store/run3/checkpoint-7/global_step7"
  echo '{}' >"$store/run3/checkpoint-7/trainer_state.json"
  make_files "$store/run3/notes"
  echo x >"$store/loose.tmp"
  echo x >"$store/run3/checkpoint-8.tmp"
  while read -r path expected; do
    try ckpt-test place "$store" "$path"
    assert_eq "$stdout" "'$expected'" "place of '$path'"
  done <<'END'
run1/step-1.partial/sub/deep/note.txt run1/step-1.partial
run1/step-1.partial run1/step-1.partial
run2/step-5.orbax-checkpoint-tmp-1/default.tmp/big.bin run2/step-5.orbax-checkpoint-tmp-1
run3/checkpoint-7/global_step7/big.bin run3/checkpoint-7
run3/checkpoint-7/trainer_state.json run3/checkpoint-7
run3/notes/big.bin
run3/checkpoint-8.tmp
loose.tmp
run1/nothing/here
END
}

@test "a guard sees the committed and the frozen, and nothing else" {
  local path expected
  committed run1/step-2
  make_files "$store/run1/step-3"
  make_files "$store/run1/step-4"
  make_files "$store/run1/step-6.tmp"
  mkdir -p "$store/run1/step-3/.ckptfs" "$store/run1/step-4/.ckptfs" "$store/run1/step-6.tmp/.ckptfs"
  owner $$ >"$store/run1/step-3/.ckptfs/commit.lock"
  owner $$ | jq -c '.start_ticks += 1' >"$store/run1/step-4/.ckptfs/commit.lock"
  # A manifest in a folder with a temporary name, and one that a killed commit left its lock beside.
  cp "$store/run1/step-2/.ckptfs/manifest.jsonl" "$store/run1/step-6.tmp/.ckptfs/"
  owner $$ >"$store/run1/step-2/.ckptfs/commit.lock"
  ln -s step-2 "$store/run1/link"
  while read -r path expected; do
    try ckpt-test guard "$store" "$path"
    assert_eq "$stdout" "$expected" "guard of '$path'"
  done <<'END'
run1/step-2/sub/big.bin committed run1/step-2
run1/step-2 committed run1/step-2
run1/step-2/none/at/all committed run1/step-2
run1/step-3/new frozen run1/step-3
run1/step-4/new free
run1/step-6.tmp/big.bin free
run1/link free
run1 free
none/at/all free
run1/step-1.partial/big.bin/below free
END
  try ckpt-test guard "$store" ''
  assert_eq "$stdout" free
}

@test "a lock and a session that a killed commit left in a committed checkpoint bother nobody, and go" {
  committed run1/step-2
  printf '%s\n' "$(owner $$ | jq -c '.start_ticks += 1')" >"$store/run1/step-2/.ckptfs/commit.lock"
  cp "$store/run1/step-2/.ckptfs/commit.lock" "$store/run1/step-2/.ckptfs/session-x-1"
  ok ckptfs verify "$store/run1/step-2"
  rm -f "$store"/.ckptfs/index.db*
  ok ckptfs ls "$store"
  says_like '^run1/step-2 +committed'
  ok ckptfs show "$store/run1/step-2"
  assert_eq "$(ls -A "$store/run1/step-2/.ckptfs")" manifest.jsonl
}

# --- under another name --------------------------------------------------------------------------------

@test "a commit takes the name that it is given, also in another folder, and replaces an empty one" {
  mkdir -p "$store/run2/other/best"
  errno_of commit run1/step-1.partial run2/other/best
  says OK
  assert_eq "$(state_of run2/other/best)" committed
  [ ! -e "$open" ]
  ok ckptfs verify "$store/run2/other/best"
  assert_eq "$(head -1 "$store/run2/other/best/.ckptfs/manifest.jsonl" | jq -r .name)" run2/other/best
}

@test "a name that a checkpoint cannot have is refused, and nothing changes" {
  local final code
  committed run1/step-2
  make_files "$store/run3"
  snapshot "$store" >"$tmp/before"
  while read -r final code; do
    errno_of commit run1/step-1.partial "$final"
    says "$code: "
  done <<'END'
run1/step-4.tmp EINVAL
run1/../x EINVAL
run1/.ckptfs EINVAL
run1/step-2/inner EINVAL
nowhere/step-1 ENOENT
run1/step-2 EEXIST
run3 EEXIST
END
  errno_of commit run3 run4
  says 'EINVAL: ' 'lasting name'
  errno_of commit run1/step-2 run4
  says 'EINVAL: '
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "with replace the old checkpoint goes to the trash and the new one has its name" {
  local old_id
  committed run1/step-1 7
  old_id=$(head -1 "$store/run1/step-1/.ckptfs/manifest.jsonl" | jq -r .id)
  errno_of commit run1/step-1.partial run1/step-1 replace
  says OK
  ok ckptfs verify "$store"
  same "$store/run1/step-1/big.bin" <(random_bytes 1 2500000)
  assert_eq "$(ls "$store/.ckptfs/trash")" "$old_id"
}

@test "a pinned checkpoint is not replaced" {
  committed run1/step-1 7
  mkdir -p "$store/.ckptfs/pins"
  touch "$store/.ckptfs/pins/$(head -1 "$store/run1/step-1/.ckptfs/manifest.jsonl" | jq -r .id)"
  snapshot "$store" >"$tmp/before"
  errno_of commit run1/step-1.partial run1/step-1 replace
  says 'EPERM: ' pinned
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "replace neither replaces an open checkpoint nor a folder with files" {
  make_files "$store/run1/step-1"
  errno_of commit run1/step-1.partial run1/step-1 replace
  says 'EEXIST: '
  assert_eq "$(state_of run1/step-1.partial)" open
}

# --- whole digests that no writer told ---------------------------------------------------------------

# sums_of NAME: what the mount's XXH128SUMS holds.
sums_of() {
  sort "$tmp/mnt/$1/.ckptfs/XXH128SUMS" | sed 's/.*  //' | paste -sd' '
}

@test "a whole digest that no writer told is learned by verify, for good" {
  local id file
  requires fuse
  leave_session elsewhere-77 < <(printf '{"host":"elsewhere","pid":77}\n{"doing":"idle"}\n'; told "$open/big.bin" 'del it["xxh128"]'; told "$open/sub/deep/note.txt" 'del it["xxh128"]')
  ok ckptfs commit "$open"
  mount_store "$store" "$tmp/mnt"
  assert_eq "$(sums_of run1/step-1)" 'empty sub/block.bin'
  ok ckptfs verify "$store/run1/step-1"
  says 'run1/step-1: ok (4 shards'
  id=$(head -1 "$store/run1/step-1/.ckptfs/manifest.jsonl" | jq -r .id)
  file=$store/.ckptfs/catalog/$id.jsonl
  assert_eq "$(jq -r 'select(.shard == "big.bin").xxh128' "$file")" "$(digest "$store/run1/step-1/big.bin")"
  # No entry of a committed checkpoint times out: a mount that looked before may keep its text.
  umount_store "$tmp/mnt"
  mount_store "$store" "$tmp/mnt"
  (cd "$tmp/mnt/run1/step-1" && xxhsum --quiet -c .ckptfs/XXH128SUMS)
  assert_eq "$(wc -l <"$tmp/mnt/run1/step-1/.ckptfs/XXH128SUMS")" 4
  umount_store "$tmp/mnt"
  # It outlives the index, and is not made again.
  rm -f "$store"/.ckptfs/index.db*
  mount_store "$store" "$tmp/mnt"
  assert_eq "$(wc -l <"$tmp/mnt/run1/step-1/.ckptfs/XXH128SUMS")" 4
  umount_store "$tmp/mnt"
  stat -c '%i %y' "$file" >"$tmp/before"
  ok ckptfs verify "$store"
  stat -c '%i %y' "$file" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
  # Damaged it is as none, and is made anew.
  sed -i 's/big.bin/bug.bin/' "$file"
  ok ckptfs verify "$store"
  grep -q big.bin "$file"
  # What verify cannot read rightly it does not learn.
  rm "$file"
  ckpt-test flip "$store/run1/step-1/big.bin" 1500000
  fails 1 ckptfs verify "$store"
  not grep -q big.bin "$file"
  grep -q note.txt "$file"
}
