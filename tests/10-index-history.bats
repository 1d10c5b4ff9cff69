#!/usr/bin/env bats
# bats file_tags=fast
# What a store knows of itself: log, find, sql, plot. One store, never changed, and an old one with what it must give.
load helpers/common

setup_file() {
  local step
  new_store
  for step in 100 200 300 1000 2000; do
    mkdir -p "$store/run1/step-$step/sub"
    random_bytes "$step" $((step * 1000)) >"$store/run1/step-$step/w.bin"
    echo "$step" >"$store/run1/step-$step/sub/n"
    ckptfs commit "$store/run1/step-$step" --meta "loss=$(awk "BEGIN { print 300 / $step + 0.5 }")" --meta "note=it's <$step>" >/dev/null 3>&-
  done
  mkdir -p "$store/run2/checkpoint-5"
  cat >"$store/run2/checkpoint-5/trainer_state.json" <<'END'
{"global_step": 5, "epoch": 0.5, "log_history": [{"loss": 3.0, "step": 1}, {"loss": 2.5, "learning_rate": 1e-05, "step": 5},
 {"eval_loss": 2.7, "step": 5}]}
END
  ckptfs commit "$store/run2/checkpoint-5" >/dev/null 3>&-
  mkdir -p "$store/run1/step-3000.tmp"
  echo open >"$store/run1/step-3000.tmp/w.bin"
  mkdir -p "$store/run1/step-50"
  make_model "$store/run1/step-50/model.safetensors" small
  ckptfs commit "$store/run1/step-50" >/dev/null 3>&-
  mkdir -p "$store/run3/step-1"
  echo 1 >"$store/run3/step-1/x"
  ckptfs commit "$store/run3/step-1" >/dev/null 3>&-
  ckptfs rm "$store/run3/step-1" >/dev/null 3>&-
  cp -r "$CKPT_TOP/tests/fixtures/good/store-v1" "$tmp/v1"
  snapshot "$store" >"$tmp/before"
}

# Whatever was asked, nothing has changed.
teardown_file() {
  snapshot "$store" >"$tmp/after"
  same "$tmp/before" "$tmp/after"
}

setup() {
  store=$BATS_FILE_TMPDIR/store
  v1=$BATS_FILE_TMPDIR/v1
  expect=$CKPT_TOP/tests/fixtures/good/store-v1.expect
}

# column N: that column of the last output, joined by blanks
column() {
  awk -v n="$1" 'NR > 1 { print $n }' <<<"$stdout" | paste -sd' '
}

# on_terminal COLUMNS COMMAND: its output there, in $tmp/terminal
on_terminal() {
  ok script -qec "stty cols $1; $2" /dev/null || return 1
  tr -d '\r' <"$tmp/.stdout" >"$tmp/terminal"
}

# --- log -----------------------------------------------------------------------

@test "log lists what was committed, newest first by the order of commits, not by step" {
  ok ckptfs log "$store/run1"
  assert_eq "$(column 1)" '50 2000 1000 300 200 100'
  ok ckptfs log --reverse "$store/run1"
  assert_eq "$(column 1)" '100 200 300 1000 2000 50'
}

@test "log -n shows the last ones only" {
  ok ckptfs log -n 2 "$store/run1"
  assert_eq "$(column 1)" '50 2000'
  ok ckptfs log -n 2 --reverse "$store/run1"
  assert_eq "$(column 1)" '2000 50'
}

@test "log shows metadata of the commit and of trainer_state.json, the newest entry of its log" {
  ok ckptfs log "$store"
  says_like '^ *1000  run1/step-1000 .* 0\.8 ' '^ *5  run2/checkpoint-5 .* 2\.5 +2\.7 '
  ok ckptfs log --json "$store/run2"
  jq -e '.[0].meta == {loss: 2.5, eval_loss: 2.7, learning_rate: 0.00001, epoch: 0.5}' "$tmp/.stdout"
}

@test "log --json gives sizes in bytes, seconds, and metadata as an object" {
  ok ckptfs log --json "$store/run1"
  jq -e 'length == 6 and (.[1] | .name == "run1/step-2000" and .step == 2000 and .size == 2000005 and .shards == 2 and .world_size == null
    and .save_seconds >= 0 and .meta == {loss: 0.65, note: "it'"'"'s <2000>"})' "$tmp/.stdout"
}

@test "log of a store without commits is a line of titles, and of a file an error" {
  ok ckptfs init "$tmp/empty"
  ok ckptfs log "$tmp/empty"
  assert_eq "$(wc -l <<<"$stdout")" 1
  fails 1 ckptfs log "$store/run1/step-100/w.bin"
  says "name a store, a group or a checkpoint"
}

@test "log of an old store is on terminals of 40 to 200 columns what it always was" {
  for columns in 40 60 80 120 200; do
    on_terminal "$columns" "ckptfs log $v1"
    same "$tmp/terminal" "$expect/log-$columns.txt"
    [ "$(wc -L <"$tmp/terminal")" -le "$columns" ] || fail "a line is longer than $columns columns"
  done
}

@test "log draws bars on a terminal that shows UTF-8, and nowhere else" {
  on_terminal 100 "ckptfs log $store/run1"
  grep -E '^loss  █▄▃▁▁  3\.5 → 0\.65$' "$tmp/terminal"
  on_terminal 100 "LC_ALL=C ckptfs log $store/run1"
  not grep 'loss  ' <(sed 1d "$tmp/terminal")
  ok ckptfs log "$store/run1"
  says_not '→'
}

@test "what is in a trainer_state.json harms nobody" {
  local n=0 text
  new_store "$tmp/evil"
  for text in '{"log_history":[1,[2],{"loss":{"a":1},"\u001b[31mred":3}]}' "$(printf '[%.0s' {1..5000})" '{"log_history":{"loss":[1]},"epoch":"x","best_metric":1e400}' ''; do
    mkdir -p "$store/run/step-$((++n))"
    printf '%s' "$text" >"$store/run/step-$n/trainer_state.json"
  done
  mkdir "$store/run/step-9"
  ln -s "$expect/../trainer_state.json" "$store/run/step-9/trainer_state.json"
  echo 9 >"$store/run/step-9/x"
  ok ckptfs commit --step 1 "$store"/run/step-*
  ok ckptfs log "$store"
  not grep -q $'\e' "$tmp/.stdout"
  says '\x1b[31mred'
  ok ckptfs log --json "$store"
  jq -e 'map(.meta | length) | add == 1' "$tmp/.stdout"
}

@test "log has no colours, with NO_COLOR or without" {
  on_terminal 80 "NO_COLOR=1 ckptfs log $store"
  cp "$tmp/terminal" "$tmp/plain"
  on_terminal 80 "ckptfs log $store"
  same "$tmp/terminal" "$tmp/plain"
  not grep -q $'\e' "$tmp/terminal"
}

# --- find ----------------------------------------------------------------------

# finds EXPRESSION NAME…: exactly these, by bytes of the name
finds() {
  ok ckptfs find "$1" "$store" || return 1
  assert_eq "$(paste -sd' ' <<<"${stdout//$store\//}")" "${*:2}" "what '$1' finds"
}

@test "find compares steps, sizes and metadata, and joins with and, or, not and parentheses" {
  finds 'loss < 2 and step > 300' run1/step-1000 run1/step-2000
  finds 'loss<1.6 and (step=300 or step = 2000)' run1/step-2000 run1/step-300
  finds 'size >= 1MiB' run1/step-2000
  finds 'step != 5 AND NOT step > 150' run1/step-100 run1/step-50
  finds 'step == 5 or step = 50 and tensors > 0' run1/step-50 run2/checkpoint-5
  finds 'tensors > 0' run1/step-50
}

@test "find compares text by equality, order, pattern and regular expression" {
  finds "note = 'it''s <300>'" run1/step-300
  finds 'note = "it'"'"'s <300>"' run1/step-300
  finds "name like 'RUN1/%-_00'" run1/step-100 run1/step-200 run1/step-300
  finds "name ~ '^run2/'" run2/checkpoint-5
  finds "committed > '2020' and step < 10" run2/checkpoint-5
  finds 'meta.loss > 3' run1/step-100
}

@test "find knows states; removed checkpoints only where it is asked for them" {
  finds 'state = open' run1/step-3000.tmp
  finds 'state = removed' run3/step-1
  finds 'removed' run3/step-1
  fails 1 ckptfs find 'step = 1' "$store"
  finds 'not committed' run1/step-3000.tmp
}

@test "a comparison with what a checkpoint does not have is false" {
  finds 'loss != 77' run1/step-100 run1/step-1000 run1/step-200 run1/step-2000 run1/step-300 run2/checkpoint-5
  finds 'not loss' run1/step-3000.tmp run1/step-50
}

@test "find exits 1 where nothing is found, and 2 where the expression is wrong, saying where" {
  fails 1 ckptfs find 'step > 1e9' "$store"
  says 'nothing was found'
  fails 2 ckptfs find 'loss < ' "$store"
  says 'ends where a value is expected'
  fails 2 ckptfs find '(loss < 2' "$store"
  fails 2 ckptfs find 'loss < 2 step > 1' "$store"
  says 'at character 10'
  fails 2 ckptfs find "name = 'x" "$store"
  fails 2 ckptfs find "name ~ '['" "$store"
  says 'no extended regular expression'
  fails 2 ckptfs find "$(printf '(%.0s' {1..200})step" "$store"
  says 'inside each other'
  fails 2 ckptfs find "$(head -c 70000 /dev/zero | tr '\0' x)" "$store"
}

@test "find lists the names there are when it does not know one" {
  fails 2 ckptfs find 'los < 2' "$store"
  says "did you mean 'loss'" world_size learning_rate
}

@test "what find prints can be used from here" {
  cd "$store/run1"
  ok ckptfs find 'step = 300'
  assert_eq "$stdout" step-300
  ok ckptfs -C "$store" find 'step = 300' run1
  assert_eq "$stdout" "$store/run1/step-300"
  ok ckptfs find --json 'step = 300'
  jq -e 'length == 1 and .[0].name == "run1/step-300" and .[0].meta.loss == 1.5' "$tmp/.stdout"
}

# --- sql -----------------------------------------------------------------------

@test "sql gives the views of an old store as it always did" {
  ok ckptfs sql --csv 'select name, seq, step, world_size, save_seconds, writer, meta, shards, tensors, size from checkpoints order by name' "$v1"
  same "$tmp/.stdout" "$expect/sql-checkpoints.csv"
  ok ckptfs sql --csv 'select checkpoint, path, rank, size, mode, xxh128, block, pack from shards order by checkpoint, path' "$v1"
  same "$tmp/.stdout" "$expect/sql-shards.csv"
  ok ckptfs sql --csv 'select checkpoint, tensor_set, fqn, dtype, shape, elements from tensors order by 1, 2, 3' "$v1"
  same "$tmp/.stdout" "$expect/sql-tensors.csv"
  ok ckptfs sql --csv 'select checkpoint, fqn, shard, rank, start, size from chunks order by 1, 2, 3' "$v1"
  same "$tmp/.stdout" "$expect/sql-chunks.csv"
}

@test "sql brings the index up to date first, and builds one that is gone" {
  rm -f "$v1"/.ckptfs/index.db*
  ok ckptfs sql --csv 'select count(*) from shards' "$v1"
  assert_eq "$(tail -1 <<<"$stdout")" 47
}

@test "sql joins, groups, and reads the metadata as JSON" {
  ok ckptfs sql --json "select c.name, c.meta ->> '\$.loss' as loss, sum(s.size) as bytes from checkpoints c
    join shards s on s.checkpoint = c.name where loss < 1 group by 1 order by 1; -- and that is all" "$store"
  jq -e '. == [{name: "run1/step-1000", loss: 0.8, bytes: 1000005}, {name: "run1/step-2000", loss: 0.65, bytes: 2000005}]' "$tmp/.stdout"
}

@test "sql prints a table, with '-' for what is not there" {
  ok ckptfs sql "select step, null as missing, writer from checkpoints where step = 100" "$store"
  assert_eq "$(sed -E 's/ {2,}/|/g' <<<"$stdout" | paste -sd/)" "STEP|MISSING|WRITER/ 100|-|$(ckptfs show "$store/run1/step-100" | sed -n 's/^writer: //p')"
}

@test "sql reads the documented views and nothing else, and changes nothing" {
  local statement
  for statement in 'select * from entry' 'select sql from sqlite_master' 'delete from checkpoint' 'drop table checkpoint' 'drop view shards' \
    'create table x(a)' "attach '$tmp/x.db' as x" 'pragma journal_mode = delete' "select load_extension('x')" 'vacuum' 'begin' \
    'insert into checkpoints(name) values(1)' "select writefile('$tmp/x', 1)" 'select 1; delete from checkpoint' 'select ?1' '' 'selec' 'select x'; do
    fails 2 ckptfs sql "$statement" "$store" || return 1
  done
  [ ! -e "$tmp/x.db" ] && [ ! -e "$tmp/x" ]
  ok ckptfs sql --csv "select group_concat(value) from json_each('[1,2]')" "$store"
  assert_eq "$(tail -1 <<<"$stdout")" '"1,2"'
}

# bats test_tags=root
@test "who has no place for an index asks one in memory" {
  requires root
  chmod 755 "$BATS_FILE_TMPDIR"
  ok "${as_nobody[@]}" HOME=/nonexistent XDG_CACHE_HOME=/nonexistent ckptfs sql --csv 'select count(*), sum(size) > 0 from shards' "$store"
  assert_eq "$(tail -1 <<<"$stdout")" 12,1
  fails 2 "${as_nobody[@]}" HOME=/nonexistent XDG_CACHE_HOME=/nonexistent ckptfs sql 'select * from entry' "$store"
}

@test "a query that would never end is ended by a signal" {
  local code=0
  # --foreground: else timeout(1) tells its group as well, and a second signal kills at once.
  timeout --foreground --preserve-status -s INT 2 ckptfs sql 'with recursive t(x) as (select 1 union all select x + 1 from t) select max(x) from t' "$store" 2>"$tmp/err" 3>&- || code=$?
  assert_eq "$code" 130
  grep interrupted "$tmp/err"
}

# --- plot ----------------------------------------------------------------------

# labels FILE: the words in the picture
labels() {
  sed -n 's/.*<tspan[^>]*>\([^<]*\)<.*/\1/p; s/.*<text>\([^<]*\)<.*/\1/p' "$1" | paste -sd'|'
}

@test "plot draws size, save time and each number over steps, with labels and units" {
  requires gnuplot
  ok ckptfs plot "$store" -o "$tmp/all.svg"
  python3 -c 'import sys, xml.etree.ElementTree as t; t.parse(sys.argv[1])' "$tmp/all.svg"
  for word in 'size (MiB)' 'save time (s)' loss eval_loss learning_rate step run1 run2; do
    [[ "$(labels "$tmp/all.svg")" == *"$word"* ]] || fail "no label '$word': $(labels "$tmp/all.svg")"
  done
  [[ "$(labels "$tmp/all.svg")" != *note* ]] || fail "text was plotted"
}

@test "plot takes the metadata it is told, and writes to standard output" {
  requires gnuplot
  ok ckptfs plot "$store/run1" --meta loss -o -
  grep -q '</svg>' "$tmp/.stdout"
  fails 1 ckptfs plot "$store/run1" --meta los -o "$tmp/x.svg"
  says "there is 'loss'"
  [ ! -e "$tmp/x.svg" ]
}

@test "names from a checkpoint are text to gnuplot, whatever is in them" {
  requires gnuplot
  new_store "$tmp/evil"
  mkdir -p "$store/it's \`touch $(basename "$tmp")\`/step-1"
  echo 1 >"$store/it's \`touch $(basename "$tmp")\`/step-1/x"
  ok ckptfs commit "$store"/it*/step-1 --meta "a'b \`touch pwned\` @x \$y=1"
  cd "$tmp"
  ok ckptfs plot "$store" -o evil.svg
  [ ! -e pwned ]
  [[ "$(labels evil.svg)" == *"touch pwned"* ]]
}

@test "plot says how to get gnuplot where there is none, and what is wrong with a place to write to" {
  mkdir "$tmp/bin"
  cp "$CKPT_BIN/ckptfs" "$tmp/bin"
  fails 1 env PATH="$tmp/bin" ckptfs plot "$store" -o "$tmp/x.svg"
  says gnuplot-nox
  fails 2 ckptfs plot "$store"
  says "-o FILE.svg"
  ok ckptfs init "$tmp/empty"
  fails 1 ckptfs plot "$tmp/empty" -o "$tmp/x.svg"
  says 'nothing is committed'
}
