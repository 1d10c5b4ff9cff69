# shellcheck shell=bash
# Readers that look at every moment while others write. Needs helpers/apart.bash.

# poll_while_others_save SECONDS: a -o ro mount shows whole, committed checkpoints, and nothing else, while another
# mount saves by renaming, and a third party in the store by names that are the lasting ones from the beginning.
poll_while_others_save() {
  local stop=$tmp/stop i pids=() poller
  mount_apart writer
  mount_apart reader ro
  rm -rf "$store/run/step-0"
  at reader "$HELPERS/poll_ro.py" "$there" "$tmp/source" "$stop" 'run/moved-#' 'run/moved-#.tmp' 'run/late-#' 'run/here-#.partial' run/.ckptfs/latest >"$tmp/poller" 2>&1 3>&- 4>&- &
  poller=$!
  # Slowly, so that each is open for some time.
  # shellcheck disable=SC2016 # for another shell
  local writer='
    set -e
    for ((i = 0; ; i++)); do
      [ ! -e "$1" ] || exit 0
      open=${2//#/$i}
      mkdir -p "$open"
      for part in big.bin sub empty link; do
        cp -a "$3/$part" "$open/"
        sleep 0.02
      done
      eval "${4//#/$i}"
    done'
  at writer bash -c "$writer" w "$stop" "$there/run/moved-#.tmp" "$tmp/source" "mv '$there/run/moved-#.tmp' '$there/run/moved-#'" >"$tmp/out.moved" 2>&1 3>&- 4>&- &
  pids+=($!)
  bash -c "$writer" w "$stop" "$store/run/late-#" "$tmp/source" "ckptfs commit '$store/run/late-#'" >"$tmp/out.late" 2>&1 3>&- 4>&- &
  pids+=($!)
  at writer bash -c "$writer" w "$stop" "$there/run/here-#.partial" "$tmp/source" "ckptfs commit '$there/run/here-#.partial'" >"$tmp/out.here" 2>&1 3>&- 4>&- &
  pids+=($!)
  for ((i = 0; i < $1 * 10; i++)); do
    kill -0 "$poller" 2>/dev/null || break
    sleep 0.1
  done
  : >"$stop"
  for i in "${pids[@]}"; do
    wait "$i" || fail "a writer failed: $(cat "$tmp"/out.*)" || return 1
  done
  wait "$poller" || fail "$(cat "$tmp/poller")" || return 1
  cat "$tmp/poller"
  echo "# $(cat "$tmp/poller")" >&3
  # Both sides did something.
  [ "$(sed 's/ looks.*//' "$tmp/poller")" -ge $(($1 * 2)) ] || fail "the poller looked too seldom" || return 1
  [ "$(find "$store/run" -mindepth 1 -maxdepth 1 -type d -name '*[0-9]' | wc -l)" -ge $(($1 * 3)) ] || fail "too little was saved" || return 1
  ok ckptfs verify "$store" || return 1
  end_apart reader || return 1
  end_apart writer
}
