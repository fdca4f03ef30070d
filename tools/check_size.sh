#!/bin/sh
# check_size.sh FILE BYTES - fails when a program has grown above its limit.  What weighs is found with
# -Wl,-Map in its link: sscanf(), dates and name look-ups are what the C library has that is heavy.
size=$(stat -Lc %s "$1") || exit 1
echo "$1: $size bytes, at most $2"
[ "$size" -le "$2" ]
