#!/bin/bash
# test.sh - installs what the tests need, builds, runs all tests, and leaves nothing behind.
set -u
cd "$(dirname "$0")" || exit 1
. tools/packages.sh

usage() {
	cat <<'END'
usage: ./test.sh [--fast] [NAME...]

Runs every test of the project and ends with one line "N passed, N failed, N skipped".

  --fast   without the sanitizer build, the clang build, the slow integration tests and the lab
  NAME     only these: unit, sanitize, clang, integration, lab, or the name of one file in
           tests/integration without "test_" and ".py" (node_launch)

Packages that are missing are installed with apt-get, which needs root; so do the integration
tests and the lab, which are skipped without it. Builds lie in build/, build-sanitize/ and build-clang/.
The exit code is 0 when nothing failed.
END
}

fast=no names=()
for word; do
	case $word in
	--fast) fast=yes ;;
	-h | --help) usage && exit 0 ;;
	-*) usage >&2 && exit 2 ;;
	unit | sanitize | clang | integration | lab) names+=("$word") ;;
	*)
		[ -f "tests/integration/test_$word.py" ] || {
			echo "test.sh: there is no test \"$word\"; see ./test.sh --help" >&2
			exit 2
		}
		names+=("$word")
		;;
	esac
done

results=$(mktemp -d /var/tmp/brume-results-XXXXXX)
trap 'rm -rf "$results"' EXIT
trap 'exit 130' INT TERM
passed=0 failed=0 skipped=0 failures=()

step() { printf '\n== %s\n' "$1"; }

count() { # PASSED FAILED SKIPPED
	passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

# The outcome of something that is one test by itself.
verdict() { # NAME CODE
	if [ "$2" = 0 ]; then
		count 1 0 0 && echo "ok: $1"
	else
		count 0 1 0 && failures+=("$1") && echo "FAILED: $1"
	fi
}

# Adds what tools/count_results finds in files of results.
collect() { # SUITE FILE...
	local suite=$1 numbers line
	shift
	numbers=$(tools/count_results "$results/failures" "$@") || numbers="0 1 0"
	# shellcheck disable=SC2086 # three numbers
	count $numbers
	while read -r line; do failures+=("$suite: $line"); done <"$results/failures"
	# shellcheck disable=SC2086
	printf '%s: %d passed, %d failed, %d skipped\n' "$suite" $numbers
}

wanted() { # SUITE
	local name
	[ ${#names[@]} = 0 ] && return 0
	for name in "${names[@]}"; do [ "$name" = "$1" ] && return 0; done
	return 1
}

# Runs a command where nothing that it makes can stay: its processes end with it.  The shell in there
# is the init that takes care of orphans.
apart() {
	if [ "$(id -u)" = 0 ]; then
		# shellcheck disable=SC2016 # the inner shell expands them
		unshare --net --mount --pid --fork --kill-child --mount-proc -- \
			sh -c 'ip link set lo up; "$@"; exit $?' sh "$@"
	else
		"$@"
	fi
}

build() { # FOLDER TARGET... ; CC and the options in $options come from the caller
	local folder=$1
	shift
	if [ -f "$folder/build.ninja" ]; then
		# New files in the source folders are found when the build is set up.
		meson setup --reconfigure "$folder" >"$results/build.log" 2>&1
	else
		# shellcheck disable=SC2086 # $options is a list of words
		meson setup ${options:-} "$folder" >"$results/build.log" 2>&1
	fi && ninja -C "$folder" "$@" >>"$results/build.log" 2>&1 && return 0
	grep -E 'error|warning|ERROR|FAILED' "$results/build.log" | head -n 30
	return 1
}

run_meson_tests() { # SUITE FOLDER ARG...
	local suite=$1 folder=$2
	shift 2
	rm -f "$folder/meson-logs/testlog.json"
	# More at a time than processors: some only wait.
	apart meson test -C "$folder" --no-rebuild --num-processes $(($(nproc) + 2)) --print-errorlogs "$@" >"$results/meson.log" 2>&1
	grep -aE '^ *[0-9]+/[0-9]+ .*(FAIL|TIMEOUT|ERROR)' "$results/meson.log"
	collect "$suite" "$folder/meson-logs/testlog.json"
	[ -s "$results/failures" ] && tail -n 60 "$results/meson.log"
}

# Everything that a test could forget, in a form that diff can compare.
traces() {
	ip -o link 2>/dev/null | awk -F': ' '{ print "link " $2 }' | grep -E ' (brume|t[0-9a-f]+x)'
	nft list tables 2>/dev/null | grep -E ' (brume|t[0-9a-f]+x[0-9a-f]+)$'
	find /sys/fs/cgroup -maxdepth 2 -type d 2>/dev/null |
		grep -E '/(brume[a-z0-9]*|t[0-9a-f]+x[0-9a-f]+)$'
	grep -oE ' /[^ ]*brume-test-[^ ]*' /proc/self/mountinfo
	find /tmp /var/tmp /run/netns -maxdepth 1 -name 'brume-*' ! -path "$results" 2>/dev/null
	for entry in /proc/[0-9]*/cmdline; do
		tr '\0' ' ' <"$entry" 2>/dev/null | grep -aE "/brume-test-|$PWD/build.*/brume|-name brume-lab-"
	done
	true
}

start=$SECONDS
step "packages"
# shellcheck disable=SC2086 # lists of names
tools/install_packages $packages_build $packages_run $packages_demo $packages_test || {
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}
traces 2>/dev/null | sort >"$results/before"
# shellcheck disable=SC2086 # a list of names
tools/fetch_arm64 build/arm64 $packages_test_arm64 || echo "no emulated arm64 machines are tested"
tools/fetch_kernel || verdict "virtual machines are tested" 1

step "build with gcc"
options="-Dbuildtype=debugoptimized -Dwerror=true"
CC=gcc build build
built=$?
verdict "gcc build without warnings" $built

if wanted unit && [ $built = 0 ]; then
	step "unit tests, layer check, formatting, fuzz corpora"
	run_meson_tests unit build
fi

if [ $fast = no ] && wanted sanitize; then
	step "unit tests with address and undefined behaviour sanitizers"
	# -O1: half the time of -O2, and what is optimised away is not checked; -g1: lines and functions, a third
	# less again.  It warns of what cannot be; warnings are the other two builds' matter.
	options="-Db_sanitize=address,undefined -Db_lundef=false -Doptimization=1 -Ddebug=false -Dc_args=-g1"
	CC=gcc CC_LD=mold build build-sanitize
	code=$?
	verdict "sanitizer build" $code
	[ $code = 0 ] && run_meson_tests sanitize build-sanitize --suite unit --suite fuzz \
		--timeout-multiplier 4
fi

if [ $fast = no ] && wanted clang; then
	step "build with clang"
	# Only what it says matters, and clang says the same without optimising.
	options="-Dwerror=true -Doptimization=0 -Ddebug=false"
	CC=clang CC_LD=mold build build-clang
	verdict "clang build without warnings" $?
fi

files=()
for name in "${names[@]}"; do
	[ -f "tests/integration/test_$name.py" ] && files+=("tests/integration/test_$name.py")
done
if [ $built = 0 ] && { wanted integration || [ ${#files[@]} != 0 ]; }; then
	step "integration tests"
	# Some files last so long that they are run only by their names.
	wanted integration && for file in tests/integration/test_*.py; do
		[[ " ${files[*]} " == *" $file "* ]] || grep -q '^# test.sh: by name only' "$file" ||
			files+=("$file")
	done
	slow=()
	[ $fast = yes ] && slow=(--fast)
	mkdir "$results/integration"
	BRUME_BUILD=$PWD/build tools/run_integration "${slow[@]}" --results "$results/integration" "${files[@]}"
	found=()
	for file in "${files[@]}"; do found+=("$results/integration/$(basename "$file" .py).xml"); done
	collect integration "${found[@]}"
fi

# Virtual servers on Debian's kernels.  One processor each, side by side: most of a case is serial.
if [ $fast = no ] && [ $built = 0 ] && wanted lab; then
	step "lab: under systemd, control groups of version 2, kernels 6.1 and 6.12"
	if [ "$(id -u)" = 0 ]; then
		# shellcheck disable=SC2086 # lists of names
		tools/install_packages $packages_lab && tests/lab/run --all --build build --jobs 2 --cpus 1 \
			--junit "$results/lab.xml"
		collect lab "$results/lab.xml"
	else
		count 0 0 1 && echo "skipped: the lab needs root"
	fi
fi

step "nothing left behind"
traces 2>/dev/null | sort >"$results/after"
comm -13 "$results/before" "$results/after" | tee "$results/left"
[ ! -s "$results/left" ]
verdict "nothing left behind" $?

printf '\n%d minutes %d seconds\n' $(((SECONDS - start) / 60)) $(((SECONDS - start) % 60))
for name in "${failures[@]}"; do echo "failed: $name"; done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
