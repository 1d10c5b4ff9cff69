# shellcheck shell=bash
# A run under kill -9: of its trainer, or of the daemon it writes through, at random moments.

# killed_run LAST SEED: until step LAST is saved. Each resume finds the newest committed checkpoint; at most the open one is lost.
# $kills says how often somebody was killed while the run was under way.
killed_run() {
  local last=$1 noted=$tmp/acknowledged trainer rc daemon
  RANDOM=$2
  kills=0
  mkdir -p "$store/run"
  echo "seed $2"
  while :; do
    is_mounted "$mnt" || mount_store "$store" "$mnt" || return 1
    python3 "$HELPERS/trainer.py" "$mnt/run" "$last" "$noted" >>"$tmp/trainer.log" 2>&1 3>&- &
    trainer=$!
    # Some 10 ms a step: so a kill comes after a few.
    sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
    if ! kill -0 "$trainer" 2>/dev/null || [ "$(tail -n 1 "$noted" 2>/dev/null || echo 0)" -ge "$last" ]; then
      rc=0
      wait "$trainer" || rc=$?
      [ "$rc" -eq 0 ] || fail "trainer: exit $rc: $(tail -n 3 "$tmp/trainer.log")" || return 1
      return 0
    fi
    kills=$((kills + 1))
    if [ $((RANDOM % 2)) -eq 0 ]; then
      kill -KILL "$trainer"
    else
      daemon=$(daemon_of "$mnt")
      kill -KILL "$daemon"
      gone_within 10 "$daemon" || return 1
      # -f: a thread of the dead daemon may wait for a folder that a client holds, which waits for the daemon.
      umount -c -i -f -l "$mnt" || return 1
      forget_mount "$daemon"
    fi
    rc=0
    wait "$trainer" || rc=$?
    # 3 is the trainer's own finding; anything else is how a killed run ends.
    [ "$rc" -ne 3 ] || fail "$(tail -n 3 "$tmp/trainer.log")" || return 1
  done
}
