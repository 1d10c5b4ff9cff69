# shellcheck shell=bash
# kill -9 at random moments, for the short and for the long tests.

# kills_begin: seeds bash's RANDOM and prints the seed; CKPTFS_SEED repeats a run.
kills_begin() {
  seed=${CKPTFS_SEED:-$(($(date +%s%N) % 32768))}
  echo "seed $seed"
  RANDOM=$seed
  killed=0 midway=0 finished=0
}

# start CMD…: in the background, as leader of a session. Sets $leader.
start() {
  setsid "$@" >"$tmp/killed.out" 2>&1 3>&- 4>&- </dev/null &
  leader=$!
}

# begins PATH: until it is there, its first write, or $leader has ended
begins() {
  until [ -e "$1" ] || ! kill -0 "$leader" 2>/dev/null; do :; done
}

# measure LEFT DONE CMD…: how long it takes until LEFT is there (start_ms), and from then until DONE is (write_ms)
measure() {
  local left=$1 finished=$2 begin middle end
  shift 2
  begin=$(date +%s%N)
  start "$@"
  begins "$left"
  middle=$(date +%s%N)
  begins "$finished"
  end=$(date +%s%N)
  wait "$leader" || fail "$*: $(cat "$tmp/killed.out")" || return 1
  start_ms=$(((middle - begin) / 1000000)) write_ms=$(((end - middle) / 1000000))
  echo "begins to write after $start_ms ms, and writes for $write_ms ms"
}

sleep_ms() {
  sleep "$(($1 / 1000)).$(printf '%03d' $(($1 % 1000)))"
}

# at_random LEFT: the moment to kill: three in four some time after the first write, the others any time at all
at_random() {
  if [ $((killed % 4)) -eq 3 ]; then
    sleep_ms $((RANDOM * (start_ms + write_ms) / 32768))
  else
    begins "$1"
    sleep_ms $((RANDOM * write_ms * 8 / 10 / 32768))
  fi
}

# await_end: sets $outcome, the exit status of $leader; all that it started is gone too
await_end() {
  outcome=0
  # What the shell says of a killed job is no finding.
  { wait "$leader" || outcome=$?; } 2>/dev/null
  eventually 10 no_group "$leader"
}

# kill_all: kill -9 the whole session: mpirun makes a process group for each rank
kill_all() {
  local all
  mapfile -t all < <(ps -o pid= --sid "$leader")
  kill -KILL "${all[@]// /}" 2>/dev/null || true
  await_end
}

# kill_a_rank: kill -9 one rank; mpirun and the others must end by themselves
kill_a_rank() {
  local ranks
  mapfile -t ranks < <(pgrep -P "$leader" -f 'ckptfs-mpi save')
  [ "${#ranks[@]}" -eq 0 ] || kill -KILL "${ranks[RANDOM % ${#ranks[@]}]}" 2>/dev/null || true
  await_end
}

# Zombies that nobody has fetched yet do not count.
no_group() {
  not grep -qE '^[^Z]' <(ps -o stat= --sid "$1")
}

# note_outcome LEFT DONE: counts how it ended. LEFT is there only between the first and the last write, DONE only after it.
note_outcome() {
  local how=before
  killed=$((killed + 1))
  # The machine's speed changes, and the time in which kills fall follows it.
  if [ -e "$2" ]; then
    how=after
    finished=$((finished + 1))
    write_ms=$((write_ms * 3 / 4))
  elif [ -e "$1" ]; then
    how=midway
    midway=$((midway + 1))
    write_ms=$((write_ms * 11 / 10 + 1))
  fi
  echo "kill $killed: exit $outcome, $how"
  last_kill=$how
}

# at_least_half: at least half of the kills hit what they should
at_least_half() {
  echo "# seed $seed: $killed kills, $midway between the first and the last write, $finished after the commit" >&3
  [ $((midway * 2)) -ge "$killed" ] || fail "only $midway of $killed kills hit between the first and the last write"
}

# kill_commits COUNT: commits that the daemon makes, which is killed; each can be done again, nothing committed is lost
kill_commits() {
  local i name start_ms write_ms leader last_kill
  kills_begin
  committed run/step-0 1
  mount_store "$store" "$mnt"
  for _ in 1 2; do
    commit_source "$store/run/measured.tmp"
    measure "$store/run/measured.tmp/.ckptfs" "$store/run/measured" ckpt-test control "$mnt" 1 run/measured.tmp || return 1
    rm -r "$store/run/measured"
  done
  for ((i = 1; i <= $1; i++)); do
    name=run/step-$i
    commit_source "$store/$name.tmp"
    start ckpt-test control "$mnt" 1 "$name.tmp"
    at_random "$store/$name.tmp/.ckptfs"
    kill_daemon
    note_outcome "$store/$name.tmp/.ckptfs" "$store/$name"
    mount_store "$store" "$mnt"
    nothing_half "$name" || return 1
    cmp "$mnt/run/step-0/big.bin" "$store/run/step-0/big.bin"
    [ "$last_kill" = after ] || ok ckptfs commit "$mnt/$name.tmp" || return 1
    is_whole "$name" || return 1
    rm -rf "${store:?}/$name"
  done
  ok ckptfs verify "$store" || return 1
  same_tree "$mnt/run/step-0" "$store/run/step-0" || return 1
  umount_store "$mnt" || return 1
  at_least_half
}

# kill_daemon: kill -9; whoever waits for it must be told
kill_daemon() {
  local pid
  pid=$(daemon_of "$mnt")
  kill -KILL "$pid"
  gone_within 5 "$pid"
  forget_mount "$pid"
  await_end
  ok ckptfs umount "$mnt"
}

# commit_source DIR: enough to keep a commit busy for a while: bytes to hash, files to sync.
commit_source() {
  mkdir -p "$1/many"
  [ -e "$tmp/source.bin" ] || random_bytes 5 96MiB >"$tmp/source.bin"
  cp "$tmp/source.bin" "$1/source.bin"
  (cd "$1/many" && seq 400 | split -l 1 -a 4 - part-)
}

# nothing_half NAME: after a kill the store verifies, and NAME is committed or not there
nothing_half() {
  ok ckptfs verify "$store" || return 1
  says 'run/step-0: ok' || return 1
  ok ckptfs ls "$store" || return 1
  if [ "$last_kill" = after ]; then
    says_like "^$1 +committed" || return 1
    [ ! -e "$store/$1.tmp" ] && [ ! -e "$store/$1.partial" ] || fail "both names are there" || return 1
  else
    says_not "$1 "
    [ ! -e "$store/$1" ] || fail "half committed: $(ls -la "$store/$1" "$store/$1/.ckptfs")" || return 1
  fi
}

# is_whole NAME: it is committed, verifies, and the mount shows its bytes
is_whole() {
  ok ckptfs verify "$store/$1" || return 1
  says "$1: ok (401 shards" || return 1
  assert_eq "$(ls -A "$store/$1/.ckptfs")" manifest.jsonl "what is left in .ckptfs" || return 1
  eventually 3 cmp "$mnt/$1/source.bin" "$tmp/source.bin"
}

# kill_saves COUNT: the same for ckptfs-mpi save: all processes at once, or, every third time, one rank
kill_saves() {
  local i name start_ms write_ms leader last_kill
  kills_begin
  committed run/step-0 1
  make_model "$tmp/model.safetensors" model 256
  mount_store "$store" "$mnt"
  for _ in 1 2; do
    measure "$store/run/measured.partial" "$store/run/measured" mpi 2 save "$store/run/measured" --from "$tmp/model.safetensors" || return 1
    rm -r "$store/run/measured"
  done
  for ((i = 1; i <= $1; i++)); do
    name=run/save-$i
    start mpi 2 save "$store/$name" --from "$tmp/model.safetensors"
    at_random "$store/$name.partial"
    if [ $((i % 3)) -eq 0 ]; then kill_a_rank; else kill_all; fi
    note_outcome "$store/$name.partial" "$store/$name"
    nothing_half "$name" || return 1
    [ "$last_kill" = after ] || ok mpi 2 save "$store/$name" --from "$tmp/model.safetensors" || return 1
    is_the_model "$name" || return 1
    rm -rf "${store:?}/$name"
  done
  ok ckptfs verify "$store" || return 1
  same_tree "$mnt/run/step-0" "$store/run/step-0" || return 1
  umount_store "$mnt" || return 1
  at_least_half
}

# is_the_model NAME: what the mount shows of it are the slices of the input
is_the_model() {
  [ ! -e "$store/$1.partial" ] || fail "the open one is still there" || return 1
  ok ckptfs verify "$store/$1" || return 1
  rm -rf "$tmp/copied"
  eventually 3 test -e "$mnt/$1/.ckptfs/manifest.jsonl"
  cp -r "$mnt/$1" "$tmp/copied"
  slice "$tmp/model.safetensors" shards "$tmp/copied" 2
}

# read_until_error FILE PLAIN OUT: read it again and again; other bytes are the only thing that must not come
read_until_error() {
  while cat "$1" >"$3.bytes" 2>"$3"; do
    cmp -s "$3.bytes" "$2" || {
      echo "other bytes" >>"$3"
      return 1
    }
  done
}
