# shellcheck shell=bash
# Completion of ckptfs for bash. What there is to complete is asked of ckptfs itself: commands and options of --help,
# checkpoints of the index, tensors of `show --tensors`, so that this file cannot disagree with the program.

# A line each; nothing where the program fails.
__ckptfs_commands() {
  "$1" --help 2>/dev/null | sed -n '/^Commands:/,/^$/s/^  \([a-z][a-z-]*\) .*/\1/p'
}

# __ckptfs_options PROGRAM COMMAND: -n, --number …
__ckptfs_options() {
  "$1" "$2" --help 2>/dev/null | sed -n '/^Options:/,$s/^  \(-.*\)/\1/p' | grep -oE '^-[A-Za-z]\b|(^|, )--[a-z][a-z-]*' | tr -d ', '
}

# __ckptfs_takes_value PROGRAM COMMAND OPTION: what the value is called ("FILE"); fails where there is none
__ckptfs_value_of() {
  "$1" "$2" --help 2>/dev/null | sed -n '/^Options:/,$p' | grep -E -- "^  (-[A-Za-z], )?$3 |^  $3(,| )" |
    sed -nE 's/^  (-[A-Za-z], )?-{1,2}[A-Za-z-]+ ([A-Z=]+).*/\2/p' | grep .
}

# Names below the store that -C or $CKPTFS_STORE names.
__ckptfs_names() {
  local program=$1 command=$2 base=$3
  [ -n "$base" ] || return 0
  case $command in
  undelete) "$program" find removed "$base" ;;
  *) "$program" sql --csv 'SELECT name FROM checkpoints' "$base" | sed -n '2,$p' ;;
  esac 2>/dev/null | sed "s|^$base/||"
}

__ckptfs_tensors() {
  "$1" ${2:+-C "$2"} show --tensors "$3" 2>/dev/null | sed -n '2,$s/ .*//p'
}

# __ckptfs_add_lines: the lines of stdin that begin with $cur
__ckptfs_add_lines() {
  local line
  while IFS= read -r line; do
    [[ $line != "$cur"* ]] || COMPREPLY+=("$line")
  done
}

_ckptfs() {
  local program=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} command='' base=${CKPTFS_STORE:-} path='' value='' i
  local before=${COMP_WORDS[COMP_CWORD - 1]}
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    -C) base=${COMP_WORDS[++i]} ;;
    -*) ;;
    *) [ -z "$command" ] && command=${COMP_WORDS[i]} || path=${COMP_WORDS[i]} ;;
    esac
  done
  compopt -o filenames 2>/dev/null
  if [ "$before" = -C ]; then
    mapfile -t COMPREPLY < <(compgen -d -- "$cur")
  elif [ -z "$command" ] && [[ $cur == -* ]]; then
    __ckptfs_add_lines <<<$'-C\n--help\n--version'
  elif [ -z "$command" ]; then
    __ckptfs_add_lines < <(__ckptfs_commands "$program")
  elif [[ $before == -* ]] && value=$(__ckptfs_value_of "$program" "$command" "$before"); then
    case $value in
    FQN) __ckptfs_add_lines < <(__ckptfs_tensors "$program" "$base" "${path:-.}") ;;
    FILE | DIR) mapfile -t COMPREPLY < <(compgen -f -- "$cur") ;;
    esac
  elif [[ $cur == -* ]]; then
    __ckptfs_add_lines < <(__ckptfs_options "$program" "$command")
  else
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    __ckptfs_add_lines < <(__ckptfs_names "$program" "$command" "$base")
  fi
}

complete -F _ckptfs ckptfs
