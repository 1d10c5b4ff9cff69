# shellcheck shell=bash
# The daemon ends while something is written or committed through it: at random moments, and at each of its own calls.
# Needs helpers/counters.bash and helpers/kills.bash.

# Files a save has here: so many that it takes about a second.
writer_files=80

# write_and_name NAME: writes into the open checkpoint, and gives it its lasting name
write_and_name() {
  rm -f "$tmp/log"
  mkdir "$mnt/$1.tmp"
  # shellcheck disable=SC2016 # for another shell
  start bash -c '"$1" write "$2.tmp" "$3" "$4" "$5" && exec mv "$2.tmp" "$2"' save "$HELPERS/writer.py" "$mnt/$1" "$tmp/log" "$seed" "$writer_files"
}

# has_synced LINES: until so much is in the log, or the writer has ended
has_synced() {
  local lines
  until { mapfile -t lines <"$tmp/log"; } 2>/dev/null && [ "${#lines[@]}" -ge "$1" ] || ! kill -0 "$leader" 2>/dev/null; do :; done
}

# at_random_in_a_save: the moment to kill: three in four while it writes, by how far it is, since its speed changes;
# the others any time at all, the commit too
at_random_in_a_save() {
  if [ $((killed % 4)) -eq 3 ]; then
    sleep_ms $((RANDOM * save_ms * 12 / 10 / 32768))
  else
    has_synced $((1 + RANDOM * save_lines * 9 / 10 / 32768))
    sleep_ms $((RANDOM * 10 / 32768))
  fi
}

# kill_the_writers_daemon: kill -9; the writer is told, and does not wait for ever
kill_the_writers_daemon() {
  local pid
  pid=$(daemon_of "$mnt")
  cp "$tmp/log" "$tmp/log-before"
  kill -KILL "$pid"
  gone_within 5 "$pid"
  forget_mount "$pid"
  await_end
  ok ckptfs umount "$mnt"
}

# note_write_outcome NAME
note_write_outcome() {
  local how=midway
  killed=$((killed + 1))
  [ -s "$tmp/log-before" ] || how=before
  if [ -e "$store/$1" ]; then
    how=committed
  elif grep -qx end "$tmp/log-before"; then
    how=closed
  fi
  case $how in
  midway) midway=$((midway + 1)) ;;
  closed | committed) finished=$((finished + 1)) ;;
  esac
  echo "kill $killed: $how, the writer ended with $outcome: $(cat "$tmp/killed.out")"
  [ "$how" = committed ] || [ "$outcome" -ne 0 ] || fail "the writer was not told"
}

# kill_writers COUNT: saves through a daemon that is killed. What is committed verifies; what is open is open, with every
# byte that was synced, takes more files and is committed.
kill_writers() {
  local i name begin save_ms save_lines leader
  kills_begin
  committed run/step-0 1
  mount_store "$store" "$mnt"
  begin=$(date +%s%N)
  write_and_name run/measured
  wait "$leader" || fail "$(cat "$tmp/killed.out")" || return 1
  save_ms=$((($(date +%s%N) - begin) / 1000000)) save_lines=$(wc -l <"$tmp/log")
  echo "a save takes $save_ms ms and says $save_lines lines"
  for ((i = 1; i <= $1; i++)); do
    name=run/step-$i
    write_and_name "$name"
    at_random_in_a_save
    kill_the_writers_daemon || return 1
    note_write_outcome "$name" || return 1
    ok ckptfs verify "$store" || return 1
    says 'run/step-0: ok' || return 1
    mount_store "$store" "$mnt" || return 1
    if [ -e "$store/$name" ]; then
      not test -e "$store/$name.tmp" || fail "both names are there" || return 1
    else
      is_open_and_goes_on "$name" || return 1
    fi
    ok "$HELPERS/writer.py" check "$mnt/$name" "$tmp/log" "$seed" || return 1
    ok ckptfs verify "$store/$name" || return 1
    rm -rf "${store:?}/$name"
  done
  same_tree "$mnt/run/step-0" "$store/run/step-0" || return 1
  umount_store "$mnt" || return 1
  at_least_half
}

# is_open_and_goes_on NAME: after a kill; then it is committed, once by mv, once by the command
is_open_and_goes_on() {
  assert_eq "$(state_of "$1.tmp")" open "state of $1.tmp" || return 1
  ok "$HELPERS/writer.py" check "$mnt/$1.tmp" "$tmp/log" "$seed" || return 1
  ok mkdir -p "$mnt/$1.tmp/rank-0" || return 1
  # Its first file, if it did not come to that.
  mkdir -p "$tmp/more"
  "$HELPERS/writer.py" write "$tmp/more" "$tmp/more.log" "$seed" 1 2>/dev/null
  [ -e "$mnt/$1.tmp/rank-0/shard-00000" ] || ok cp "$tmp/more/rank-0/shard-00000" "$mnt/$1.tmp/rank-0/shard-00000" || return 1
  if [ $((killed % 2)) -eq 0 ]; then
    ok mv "$mnt/$1.tmp" "$mnt/$1" || return 1
  else
    ok ckptfs commit "$mnt/$1.tmp" || return 1
  fi
  assert_eq "$(ls -A "$store/$1/.ckptfs")" manifest.jsonl "what is left in .ckptfs"
}

# --- each call of the daemon in turn --------------------------------------------------------------

# step_files DIR: what is committed there, small
step_files() {
  mkdir -p "$1/sub"
  random_bytes 2 300000 >"$1/a.bin"
  random_bytes 3 1100000 >"$1/sub/b.bin"
  echo note >"$1/sub/note.txt"
  ln -s sub/note.txt "$1/link"
}

# faulty_mount CALL:K:ACTION: a daemon of the fault build. False: it met the fault before the mount answered.
faulty_mount() {
  local pid deadline=$((SECONDS + 20))
  mkdir -p "$mnt"
  CKPTFS_IO_FAULT=$1 "$CKPT_FAULTS/mount.ckptfs" "$store" "$mnt" --foreground ${CKPTFS_MOUNT_OPTIONS:+-o "$CKPTFS_MOUNT_OPTIONS"} >"$mnt.log" 2>&1 3>&- 4>&- </dev/null &
  pid=$!
  echo "$pid $mnt" >>"$tmp/.mounts"
  until [ -e "$mnt/.ckptfs/stats" ] 2>/dev/null; do
    kill -0 "$pid" 2>/dev/null || break
    [ "$SECONDS" -lt "$deadline" ] || fail "the mount does not answer: $(cat "$mnt.log")" || return 1
    sleep 0.01
  done
  gone_within 0 "$pid" || return 0
  drop_faulty
  return 1
}

# drop_faulty: end the daemon of faulty_mount, if it lives. Sets $fired.
drop_faulty() {
  local pid
  pid=$(daemon_of "$mnt")
  if gone_within 0 "$pid"; then
    { wait "$pid"; } 2>/dev/null || true
    ! is_mounted "$mnt" || ckptfs umount "$mnt" >/dev/null 2>&1 3>&- 4>&- || fail "the dead mount does not go" || return 1
  else
    # What was asked of it before is done.
    ckptfs umount "$mnt" >/dev/null 2>&1 3>&- 4>&- || unmount "$mnt" || return 1
    gone_within 10 "$pid" || fail "the daemon does not end" || return 1
    { wait "$pid"; } 2>/dev/null || true
  fi
  forget_mount "$pid"
  fired=no
  ! grep -q 'io fault: ' "$mnt.log" || fired=yes
}

# faulted_save CALL:K:ACTION: files are written through that daemon, synced, closed; then mv commits. Sets $wrote and
# $moved, the exit statuses.
faulted_save() {
  rm -rf "${store:?}"/run/step-2*
  wrote=0 moved=0
  faulty_mount "$1" || { wrote=99 moved=99 && return 0; }
  cp -a "$tmp/source" "$mnt/run/step-2.tmp" >"$tmp/cp" 2>&1 || wrote=$?
  sync "$mnt"/run/step-2.tmp/{a.bin,sub/b.bin,sub/note.txt} >>"$tmp/cp" 2>&1 || wrote=$?
  # Whoever could not write everything does not commit.
  if [ "$wrote" -eq 0 ]; then
    mv "$mnt/run/step-2.tmp" "$mnt/run/step-2" >"$tmp/mv" 2>&1 || moved=$?
  else
    moved=98
    cp "$tmp/cp" "$tmp/mv"
  fi
  # Sums that are made in the background are made before it ends.
  drop_faulty || return 1
  printf '%s: fired: %s, cp: %s, mv: %s %s\n' "$1" "$fired" "$wrote" "$moved" "$(cat "$tmp/mv")"
  tail -3 "$mnt.log" | sed 's/^/  log: /'
}

# after_fault: one name, one state, the old one well, what is open whole as far as it was written; it can be finished.
after_fault() {
  ok ckptfs verify "$store" || return 1
  says 'run/step-0: ok' || return 1
  ok ckptfs ls "$store" || return 1
  state=$(awk '$1 ~ /step-2/ { print $1, $2 }' <<<"$stdout")
  case "$state" in
  '' | 'run/step-2.tmp open')
    not test -e "$store/run/step-2" || fail "half committed" || return 1
    [ "$moved" -ne 0 ] || fail "mv said that it is done" || return 1
    [ "$wrote" -ne 0 ] || same_tree "$store/run/step-2.tmp" "$tmp/source" || return 1
    ;;
  'run/step-2 committed') ;;
  *) fail "half visible: '$state'" || return 1 ;;
  esac
  mount_store "$store" "$mnt" || return 1
  if [ "$state" != 'run/step-2 committed' ]; then
    # What a copy left half is copied again: nothing of it is locked or final.
    ok cp -a "$tmp/source/." "$mnt/run/step-2.tmp" || return 1
    ok mv "$mnt/run/step-2.tmp" "$mnt/run/step-2" || return 1
    # Who was killed behind the commit point left its lock or session there, which disturbs nobody.
    assert_eq "$(ls -A "$store/run/step-2/.ckptfs")" manifest.jsonl "what is left in .ckptfs" || return 1
  fi
  same_tree "$mnt/run/step-2" "$tmp/source" || return 1
  same_tree "$mnt/run/step-0" "$store/run/step-0" || return 1
  umount_store "$mnt" || return 1
  ok ckptfs verify "$store" || return 1
  says 'run/step-0: ok' 'run/step-2: ok (3 shards'
}

# daemon_loop AT_LEAST ACTION CALL…: every call of that name that the daemon makes, in turn
daemon_loop() {
  local at_least=$1 action=$2 call k total=0 early=0 wrote moved state fired
  [ -d "$tmp/source" ] || step_files "$tmp/source"
  for call in "${@:3}"; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 2000 ] || fail "no end of $call"
      faulted_save "$call:$k:$action" || return 1
      [ "$fired" = yes ] || break
      # The mount does not come about: what there is to prove is in 20-fs-mount.bats.
      [ "$moved" -ne 99 ] || { early=$((early + 1)) && continue; }
      total=$((total + 1))
      after_fault || return 1
    done
  done
  echo "# $action: $total faults fired while something was written or committed, $early before" >&3
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}

# command_loop AT_LEAST ACTION CALL…: the same for 'ckptfs commit' on the store, while a mount wrote the files and lives on
command_loop() {
  local at_least=$1 action=$2 call k total=0 name outcome
  [ -d "$tmp/source" ] || step_files "$tmp/source"
  mount_store "$store" "$mnt" || return 1
  for call in "${@:3}"; do
    for ((k = 1; ; k++)); do
      [ "$k" -lt 2000 ] || fail "no end of $call"
      name=run/$call-$k
      cp -a "$tmp/source" "$mnt/$name.tmp" || return 1
      outcome=0
      { CKPTFS_IO_FAULT=$call:$k:$action timeout 60 "$CKPT_FAULTS/ckptfs" commit "$store/$name.tmp" >"$tmp/out" 2>&1 3>&- 4>&- </dev/null; } 2>/dev/null || outcome=$?
      echo "$call:$k:$action: exit $outcome: $(cat "$tmp/out")"
      grep -q 'io fault: ' "$tmp/out" || break
      total=$((total + 1))
      if [ -e "$store/$name" ]; then
        not test -e "$store/$name.tmp" || fail "both names are there" || return 1
        [ "$outcome" = 0 ] || [ "$outcome" = 137 ] || fail "exit $outcome, and it is committed" || return 1
        eventually 1 test -e "$mnt/$name" || return 1
      else
        [ "$outcome" -ne 0 ] || fail "exit 0, and it is not committed" || return 1
        # The mount goes on writing there, and commits what the dead one left.
        eventually 2 mkdir "$mnt/$name.tmp/goes-on" || return 1
        rmdir "$mnt/$name.tmp/goes-on"
        ok mv "$mnt/$name.tmp" "$mnt/$name" || return 1
        assert_eq "$(ls -A "$store/$name/.ckptfs")" manifest.jsonl "what is left in .ckptfs" || return 1
      fi
      same_tree "$mnt/$name" "$tmp/source" || return 1
      # Another command has as many calls only if it finds as much.
      rm -rf "${store:?}/$name"
    done
  done
  same_tree "$mnt/run/step-0" "$store/run/step-0" || return 1
  umount_store "$mnt" || return 1
  ok ckptfs verify "$store" || return 1
  echo "# $action: $total faults fired" >&3
  [ "$total" -ge "$at_least" ] || fail "only $total faults fired"
}
