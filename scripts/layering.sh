#!/bin/bash
# Proves the direction of dependencies, twice: by what the sources include and by
# what the programs link.
#
#   base <- db <- format <- store <- view <- { cli, fs, mpi }   never sideways, never up
#
# Usage: scripts/layering.sh [BUILD-DIRECTORY]. Prints each rule that was checked; exit 1 on a finding.
set -euo pipefail
build=$(realpath "${1:-build}")
cd "$(dirname "$0")/.."

failed=0
checked=0

finding() {
    echo "layering: $*" >&2
    failed=1
}

# layer_of FILE: its layer's name, empty for what is outside all layers.
layer_of() {
    case $1 in
    index/*/*) local rest=${1#index/}; echo "${rest%%/*}" ;;
    fs/*) echo fs ;;
    mpi/*) echo mpi ;;
    esac
}

rank_of() {
    case $1 in
    base) echo 0 ;;
    db) echo 1 ;;
    format) echo 2 ;;
    store) echo 3 ;;
    view) echo 4 ;;
    cli | fs | mpi) echo 5 ;;
    *) echo 9 ;;
    esac
}

# resolve FILE INCLUDED: the path below the top that `#include "INCLUDED"` in FILE means.
resolve() {
    local candidate
    for candidate in "$(dirname "$1")/$2" "index/$2"; do
        if [ -f "$candidate" ]; then
            realpath --relative-to=. "$candidate"
            return
        fi
    done
}

# check_own FILE INCLUDED: one of our own headers.
check_own() {
    local file=$1 target from to
    target=$(resolve "$file" "$2")
    if [ -z "$target" ]; then
        finding "$file includes \"$2\", which is not there"
        return
    fi
    from=$(layer_of "$file")
    to=$(layer_of "$target")
    [ "$from" = "$to" ] && return
    case $target in
    *_internal.h) finding "$file includes $target, which is private to its layer" ;;
    esac
    if [ "$(rank_of "$to")" -ge "$(rank_of "$from")" ]; then
        finding "$file ($from) includes $target ($to): that is up or sideways"
    elif [ "$(rank_of "$from")" = 5 ]; then
        case $target in
        index/base/*.h | index/store/store.h | index/view/view.h | index/format/format.h) ;;
        *) finding "$file includes $target: $from takes base/*.h, store/store.h, view/view.h, format/format.h and its own" ;;
        esac
    fi
}

# check_foreign FILE INCLUDED: a library's header, each of which has one home.
check_foreign() {
    local file=$1 home
    case $2 in
    sqlite3*.h) home='index/db/*' ;;
    xxh*.h) home=index/base/hash.c ;;
    jansson*.h) home=index/base/json.c ;;
    libdeflate.h) home=index/base/crc32.c ;;
    fuse* | linux/fuse.h) home='fs/*' ;;
    mpi*.h) home='mpi/*' ;;
    *) return 0 ;;
    esac
    # shellcheck disable=SC2254  # $home is a pattern
    case $file in
    $home) ;;
    *) finding "$file includes <$2>, which only $home may" ;;
    esac
}

check_includes() {
    local file kind name
    while IFS=: read -r file kind name; do
        checked=$((checked + 1))
        case $kind in
        '"') check_own "$file" "$name" ;;
        '<') check_foreign "$file" "$name" ;;
        esac
    done < <(grep -rHE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include' index fs mpi |
        sed -E 's/^([^:]*):[^"<]*(["<])([^">]*)[">].*/\1:\2:\3/')
    [ "$checked" -gt 0 ] || finding "found no include at all; is this the right tree?"
    echo "layering: $checked includes: base <- db <- format <- store <- view <- {cli, fs, mpi}"
    echo "layering: only index/db has sqlite3.h, base/hash.c xxhash.h, base/json.c jansson.h, base/crc32.c libdeflate.h, fs fuse, mpi mpi.h"
}

# check_links PROGRAM PATTERN...: the program is there and needs no library of these names.
check_links() {
    local program=$build/$1 needed pattern
    shift
    if [ ! -f "$program" ]; then
        finding "$program is missing: nothing can be said of what it links"
        return
    fi
    needed=$(readelf -d "$program" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
    [ -n "$needed" ] || finding "$program: readelf shows no needed library at all"
    for pattern in "$@"; do
        if grep -q "^$pattern" <<<"$needed"; then
            finding "$program links $(grep "^$pattern" <<<"$needed" | tr '\n' ' ')"
        else
            echo "layering: $(basename "$program") needs no $pattern"
        fi
    done
}

check_includes
check_links ckptfs libmpi libopen-rte libfuse
check_links mount.ckptfs libmpi libopen-rte
check_links ckptfs-mpi libfuse
check_links libckptfs-mpi.so libfuse

if [ $failed = 0 ]; then echo "layering: ok"; else echo "layering: FAILED" >&2; fi
exit $failed
