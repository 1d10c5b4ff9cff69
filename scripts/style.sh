#!/bin/sh
# Ceilings of the house style: a C file has at most 600 lines, a function 70, and
# no two C files of the tree have one name. Prints the figures; exit 1 on a finding.
set -eu
cd "$(dirname "$0")/.."

FILE_MAX=600
FUNCTION_MAX=70

files=$(find index fs mpi tests -name '*.[ch]' -not -path '*/fixtures/*' | sort)
[ -n "$files" ] || { echo "style: no C files found" >&2; exit 1; }

failed=0
twice=$(for f in $files; do basename "$f"; done | sort | uniq -d)
for name in $twice; do
    echo "style: several files are called $name:" >&2
    printf '%s\n' "$files" | grep "/$name\$" >&2
    failed=1
done

# A function begins with '{' in the first column and ends with '}' there; other
# blocks that do (struct, enum, tables) have '};' or text before the brace.
# shellcheck disable=SC2086  # one word a file: names here have no blanks
awk -v file_max="$FILE_MAX" -v function_max="$FUNCTION_MAX" '
    FNR == 1 { start = 0; file_count++ }
    FNR == file_max + 1 { printf "style: %s: more than %d lines\n", FILENAME, file_max; bad = 1 }
    /^\{/ { start = FNR; head = previous }
    /^\}$/ && start {
        length_lines = FNR - start - 1
        lengths[count++] = length_lines
        if (length_lines > function_max) {
            printf "style: %s:%d: function of %d lines: %s\n", FILENAME, start, length_lines, head
            bad = 1
        }
        start = 0
    }
    { previous = $0 }
    END {
        for (i = 1; i < count; i++) { # insertion sort: some thousand small numbers
            value = lengths[i]
            for (k = i - 1; k >= 0 && lengths[k] > value; k--)
                lengths[k + 1] = lengths[k]
            lengths[k + 1] = value
        }
        printf "style: %d files, %d functions, median %d lines, nine in ten at most %d, longest %d\n", \
            file_count, count, lengths[int(count / 2)], lengths[int(count * 9 / 10)], lengths[count - 1]
        exit bad
    }' $files || failed=1

exit $failed
