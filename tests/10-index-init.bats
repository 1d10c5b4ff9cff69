#!/usr/bin/env bats
# bats file_tags=fast
# Making a store of a folder.
load helpers/common

@test "init makes a store of an existing tree without moving or changing a byte" {
  make_files "$store/run1/step-1"
  echo config >"$store/run1/config.json"
  snapshot "$store" >"$tmp/before"
  ok ckptfs init "$store"
  [ -f "$store/.ckptfs/store.json" ]
  snapshot "$store" | grep -v '\./\.ckptfs' | grep -v ' \. $' >"$tmp/after"
  grep -v ' \. $' "$tmp/before" >"$tmp/was"
  same "$tmp/was" "$tmp/after"
}

@test "init creates a folder that is not there" {
  ok ckptfs init "$tmp/new/store"
  [ -f "$tmp/new/store/.ckptfs/store.json" ]
}

@test "store.json tells the format, a UUID and the time, and nothing else" {
  new_store
  jq -e '.ckptfs == 1 and (keys == ["ckptfs","created","id"])
    and (.id | test("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"))
    and (.created | test("^2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9:]{8}.*Z$"))' "$store/.ckptfs/store.json"
}

@test "init of a store says so and changes nothing" {
  new_store
  snapshot "$store" >"$tmp/before"
  ok ckptfs init "$store"
  says already
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "stores do not nest" {
  new_store
  mkdir "$store/run1"
  fails 1 ckptfs init "$store/run1"
  says "$store" "store"
  [ ! -e "$store/run1/.ckptfs" ]
}

@test "init in a committed checkpoint is refused" {
  new_store
  committed step-1
  cp -r "$store/step-1" "$tmp/bare"
  mkdir -p "$tmp/bare/sub"
  fails 1 ckptfs init "$tmp/bare/sub"
  says checkpoint
  [ ! -e "$tmp/bare/sub/.ckptfs" ]
}

@test "init of a file is refused and names it" {
  echo x >"$tmp/file"
  fails 1 ckptfs init "$tmp/file"
  says "'$tmp/file'" 'not a folder'
}

@test "init without permission says so and leaves nothing" {
  requires root
  mkdir -m 755 "$tmp/theirs"
  fails 1 "${as_nobody[@]}" ckptfs init "$tmp/theirs"
  says_like '[Pp]ermission'
  [ -z "$(ls -A "$tmp/theirs")" ]
}

@test "a folder that is in no store is told apart from one that does not exist" {
  mkdir "$tmp/plain"
  fails 1 ckptfs ls "$tmp/plain"
  says "'$tmp/plain'" 'ckptfs init'
  fails 1 ckptfs ls "$tmp/none"
  says "'$tmp/none'"
  says_like 'does not exist|no such'
}

@test "a store of a newer format is refused, and says what to do" {
  new_store
  sed -i 's/"ckptfs":1/"ckptfs":2/' "$store/.ckptfs/store.json"
  snapshot "$store" >"$tmp/before"
  mkdir "$store/step-1"
  echo x >"$store/step-1/f"
  snapshot "$store" >"$tmp/before"
  fails 1 ckptfs ls "$store"
  says newer upgrade
  fails 1 ckptfs commit "$store/step-1"
  says newer
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

@test "a damaged store.json is named" {
  local text
  new_store
  for text in '' '{' '[]' '{"ckptfs":1}' '{"ckptfs":1,"id":"x","created":"y"}' '{"ckptfs":"1"}'; do
    printf '%s' "$text" >"$store/.ckptfs/store.json"
    fails 1 ckptfs ls "$store"
    says store.json
  done
}

@test "a store is found by walking up, through symbolic links, and by -C and CKPTFS_STORE" {
  new_store
  committed run1/step-1
  ln -s "$store/run1" "$tmp/short"
  ok ckptfs verify "$tmp/short/step-1"
  says 'run1/step-1: ok'
  ok ckptfs -C "$store" verify run1/step-1
  says 'run1/step-1: ok'
  ok ckptfs verify -C "$store" run1/step-1
  ok env CKPTFS_STORE="$store" ckptfs verify run1/step-1
  says 'run1/step-1: ok'
  cd "$store/run1"
  ok ckptfs verify step-1
  says 'run1/step-1: ok'
  ok ckptfs ls
  says run1/step-1
}
