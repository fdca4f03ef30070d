#!/bin/sh
# list_files.sh FOLDER PATTERN - the files of one folder, sorted, relative to the source root.
cd "$MESON_SOURCE_ROOT" 2>/dev/null || cd "$(dirname "$0")/.." || exit 1
[ -d "$1" ] || exit 0
find "$1" -maxdepth 1 -name "$2" | LC_ALL=C sort
