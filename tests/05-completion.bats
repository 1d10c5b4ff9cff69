#!/usr/bin/env bats
# bats file_tags=fast
# Completion in bash and zsh says what --help says, and what is in the store.
load helpers/common

setup_file() {
  new_store
  mkdir -p "$store/run1/step-1" "$store/run1/step-2"
  make_model "$store/run1/step-1/model.safetensors" small
  echo 2 >"$store/run1/step-2/x"
  ckptfs commit "$store"/run1/step-* >/dev/null 3>&-
}

setup() {
  store=$BATS_FILE_TMPDIR/store
  completion=$CKPT_TOP/scripts/completion
  cd "$tmp" || return
}

# bash_completes WORD…: what bash would offer for the last of them, a line each, sorted
bash_completes() {
  bash -c 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _ckptfs; printf "%s\n" "${COMPREPLY[@]}"' "$completion/ckptfs.bash" "$@" 2>/dev/null 3>&- | LC_ALL=C sort
}

# zsh_completes WORD…: the same; files are "FILES", what stands for a value in capitals
zsh_completes() {
  zsh -f -c 'completion=$1; shift
    _describe() { local list=$argv[-1]; print -l -- "${(@)${(P@)list}%%:*}"; }
    _files() { print FILES; }
    _message() { print -- $1; }
    compadd() { local list=$argv[-1]; print -l -- "${(P@)list}"; }
    words=("$@") CURRENT=${#argv}
    source $completion/_ckptfs' zsh "$completion" "$@" 3>&- | LC_ALL=C sort
}

# What --help lists, without regard to the completions.
commands() {
  ckptfs --help 3>&- | awk '/^Commands:/ { on = 1; next } /^$/ { on = 0 } on { print $1 }' | LC_ALL=C sort
}

options() {
  ckptfs "$1" --help 3>&- | awk '/^Options:/ { on = 1; next } on' | grep -oE '^  -[^ ]+( --[^ ]+)?|^  -., --[^ ]+' | tr -d ',' | tr ' ' '\n' | grep . | LC_ALL=C sort
}

@test "bash completes every command of --help" {
  commands >"$tmp/commands"
  grep -qx doctor "$tmp/commands"
  bash_completes ckptfs '' >"$tmp/offered"
  same "$tmp/offered" "$tmp/commands"
  assert_eq "$(bash_completes ckptfs doc)" doctor
}

@test "bash completes every option of every command, as its --help has them" {
  local command
  for command in $(commands); do
    options "$command" >"$tmp/options"
    bash_completes ckptfs "$command" - >"$tmp/offered"
    same "$tmp/offered" "$tmp/options" || fail "$command" || return 1
  done
}

@test "bash completes checkpoints of the store that -C or CKPTFS_STORE names" {
  assert_eq "$(bash_completes ckptfs -C "$store" show run1/ | paste -sd' ')" 'run1/step-1 run1/step-2'
  CKPTFS_STORE=$store assert_eq "$(CKPTFS_STORE=$store bash_completes ckptfs verify run1/step-2)" run1/step-2
  assert_eq "$(bash_completes ckptfs show "$store/ru")" "$store/run1"
}

@test "bash completes the names of tensors where one is asked for" {
  ckptfs show --help 3>&- | grep -q -- '--tensor FQN' || skip "no option takes the name of a tensor"
  bash_completes ckptfs show "$store/run1/step-1" --tensor dtype.f >"$tmp/offered"
  grep -qx dtype.f32 "$tmp/offered"
  not grep -qvE '^dtype\.f' "$tmp/offered"
}

@test "bash offers nothing for a number, and files for a file" {
  touch "$tmp/picture.svg"
  assert_eq "$(bash_completes ckptfs log -n '')" ''
  assert_eq "$(bash_completes ckptfs plot -o pict)" picture.svg
}

@test "zsh completes the same commands and options" {
  requires zsh
  local command
  commands >"$tmp/commands"
  zsh_completes ckptfs '' >"$tmp/offered"
  same "$tmp/offered" "$tmp/commands"
  for command in log plot doctor commit; do
    # Of two spellings it offers the long one.
    options "$command" | grep -vE '^-[a-z]$' | LC_ALL=C sort >"$tmp/options"
    zsh_completes ckptfs "$command" - >"$tmp/offered"
    same "$tmp/offered" "$tmp/options" || fail "$command" || return 1
  done
}

@test "zsh completes checkpoints, and says what a value is" {
  requires zsh
  assert_eq "$(zsh_completes ckptfs -C "$store" show '' | paste -sd' ')" 'FILES run1/step-1 run1/step-2'
  assert_eq "$(zsh_completes ckptfs gc --age '')" AGE
  assert_eq "$(zsh_completes ckptfs plot -o '')" FILES
}

@test "the completions are installed where the shells look for them" {
  make -s -C "$CKPT_TOP" -n install DESTDIR="$tmp/root" prefix=/usr B="$CKPT_BUILD" 2>/dev/null 3>&- | tr ' ' '\n' >"$tmp/plan"
  grep -q "$tmp/root/usr/share/bash-completion/completions/ckptfs" "$tmp/plan"
  grep -q "$tmp/root/usr/share/zsh/site-functions/_ckptfs" "$tmp/plan"
}

@test "the script for torchrun and the link that mount(8) needs for fuse.ckptfs are installed" {
  make -s -C "$CKPT_TOP" -n install DESTDIR="$tmp/root" prefix=/usr B="$CKPT_BUILD" 2>/dev/null 3>&- | tr -s " '" '\n' >"$tmp/plan"
  grep -qx "$tmp/root/usr/share/ckptfs/ckptfs_dcp.py" "$tmp/plan"
  [ ! -x "$CKPT_BIN/mount.ckptfs" ] || grep -qx "$tmp/root/usr/sbin/mount.fuse.ckptfs" "$tmp/plan"
}
