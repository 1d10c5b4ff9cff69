#!/usr/bin/env bats
# bats file_tags=fault
# Stores and names that must be refused: by every command, in words, and nothing changes.
load helpers/common

# bats test_tags=slow
@test "every command refuses a store of a newer format, says that it is newer, and changes nothing" {
  local command arguments
  new_store
  committed run1/step-1
  make_files "$store/run1/step-2.tmp" 2
  sed -i 's/"ckptfs":1/"ckptfs":2/' "$store/.ckptfs/store.json"
  snapshot "$store" >"$tmp/before"
  while read -r command arguments; do
    # shellcheck disable=SC2086
    fails 1 ckptfs "$command" ${arguments//STORE/$store} || return 1
    says newer upgrade || return 1
  done <<'END'
ls STORE
ls STORE/run1/step-1
show STORE/run1/step-1
cat STORE/run1/step-1/big.bin
cp STORE/run1/step-1 STORE/../copy
verify STORE
verify STORE/run1/step-1
commit STORE/run1/step-2.tmp
abort STORE/run1/step-2.tmp
latest STORE
reindex STORE
init STORE
mount STORE STORE/run1
END
  [ ! -e "$tmp/copy" ]
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=slow,mpi
@test "ranks refuse to load from or save into a store of a newer format" {
  requires mpi
  new_store
  make_model "$tmp/model.safetensors" small
  ok mpi 2 save "$store/step-1" --from "$tmp/model.safetensors"
  sed -i 's/"ckptfs":1/"ckptfs":2/' "$store/.ckptfs/store.json"
  snapshot "$store" >"$tmp/before"
  fails 1 mpi 2 load "$store/step-1" --to "$tmp/out"
  says newer
  [ ! -e "$tmp/out" ]
  fails 1 mpi 2 save "$store/step-2" --from "$tmp/model.safetensors"
  says newer
  fails 1 mpi 2 verify "$store/step-1"
  says newer
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=slow
@test "names that are not allowed are refused, escaped where they hold what a terminal obeys" {
  new_store
  make_files "$store/bell"$'\a'
  refuses_commit "$store/bell"$'\a' 'bell\x07'
  make_files "$store/latin"$'\xe9'/step-1
  refuses_commit "$store/latin"$'\xe9'/step-1 'latin\xe9' UTF-8
  make_files "$store/.ckptfs/step-1"
  refuses_commit "$store/.ckptfs/step-1"
  refuses_commit "$store"
  refuses_commit "$store/.ckptfs"
  ok ckptfs ls "$store"
  says_not committed
  not grep -q $'\a' "$tmp/.stdout" "$tmp/.stderr"
}

# bats test_tags=fast
@test "a store whose control folder is a symbolic link or a file is no store" {
  new_store
  committed step-1
  mv "$store/.ckptfs" "$tmp/control"
  ln -s "$tmp/control" "$store/.ckptfs"
  snapshot "$tmp/control" >"$tmp/before"
  fails 1 ckptfs ls "$store"
  fails 1 ckptfs init "$store"
  rm "$store/.ckptfs"
  echo x >"$store/.ckptfs"
  fails 1 ckptfs ls "$store"
  fails 1 ckptfs init "$store"
  says .ckptfs
  assert_eq "$(cat "$store/.ckptfs")" x
  snapshot "$tmp/control" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

# bats test_tags=fast
@test "below a store's top no symbolic link is followed, out of it or within" {
  new_store
  committed run1/step-1
  make_files "$tmp/outside/step-2"
  ln -s "$tmp/outside" "$store/out"
  ln -s run1 "$store/alias"
  fails 1 ckptfs commit "$store/out/step-2"
  [ ! -e "$tmp/outside/step-2/.ckptfs" ]
  try ckptfs ls "$store"
  says_not out/step-2 alias/step-1
  # Nor is a link within it another name.
  fails 1 ckptfs verify "$store/alias/step-1"
}

# bats test_tags=slow
@test "what one user may not read keeps nobody from the rest, and is named when it is asked for" {
  requires root
  local command
  chmod 755 "$tmp"
  mkdir -p "$tmp/home"
  chown 65534:65534 "$tmp/home"
  new_store
  committed run1/step-1
  committed run1/step-2 2
  committed run2/step-3 3
  # make_files has a file of mode 0640.
  chmod -R a+rX "$store"
  chmod 700 "$store/run1/step-2/sub"
  fails 1 "${as_nobody[@]}" ckptfs verify "$store"
  says 'run1/step-1: ok' 'run2/step-3: ok' 'run1/step-2/sub/block.bin: '
  # ls passes over one that may not be entered; verify must not end as if it had seen all.
  chmod 700 "$store/run1/step-2"
  fails 1 "${as_nobody[@]}" ckptfs verify "$store"
  says 'run1/step-1: ok' 'run2/step-3: ok' "'run1/step-2'" 'Permission denied'
  ok "${as_nobody[@]}" ckptfs ls "$store"
  says_like '^run1/step-1 +committed' '^run2/step-3 +committed'
  for command in verify ls; do
    fails 1 "${as_nobody[@]}" ckptfs $command "$store/run1/step-2" || return 1
    says step-2 || return 1
    says_like '[Pp]ermission|may not' || return 1
  done
  fails 1 "${as_nobody[@]}" ckptfs cat "$store/run1/step-2/big.bin"
  says_like '[Pp]ermission'
  ok ckptfs verify "$store"
  says 'run1/step-2: ok'
}
