#!/bin/bash
# docker and containerd with brume-oci as their runtime: run, limits, exec, logs, pause, stats, kill, health checks,
# a build.
#
# lab: time=900 default=6.1 packages=docker.io,containerd,iptables,apparmor
set -eu
step() { printf '\n== %s\n' "$*"; }
fail() {
	printf 'FAILED: %s\n' "$*"
	tail -n 40 containerd.log dockerd.log || true
	exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR
eventually() { # COMMAND...
	for _ in $(seq 300); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.2
	done
	fail "never came true: $*"
}
engines=()
cleanup() {
	trap - ERR
	kill "${engines[@]}" 2>/dev/null || true
	wait || true
}
trap cleanup EXIT

step "the engines"
containerd >containerd.log 2>&1 &
engines+=($!)
eventually ctr version
mkdir -p /etc/docker
dockerd --containerd /run/containerd/containerd.sock --add-runtime brume="$BRUME_BUILD/brume-oci" \
	--default-runtime brume --bridge=none --iptables=false --ip-masq=false --exec-opt \
	native.cgroupdriver=cgroupfs >dockerd.log 2>&1 &
engines+=($!)
eventually docker version
docker info -f '{{.DefaultRuntime}} {{.CgroupVersion}} {{.CgroupDriver}}' | tee info
grep -q '^brume 2 cgroupfs' info

step "an image"
mkdir -p root/bin root/tmp root/etc
cp /bin/busybox root/bin/
for applet in sh echo cat head tail touch id sleep tty; do ln -s busybox root/bin/$applet; done
echo 'root:x:0:0:root:/root:/bin/sh' >root/etc/passwd
tar -C root -c . | docker import -c 'CMD ["sh"]' - box >/dev/null

step "run"
[ "$(docker run --rm --network none box echo hello)" = hello ]
code=0
docker run --rm --network none box sh -c 'exit 7' || code=$?
[ $code = 7 ]
docker run --rm --network none --memory 64m --pids-limit 30 --cpus 0.5 box cat /sys/fs/cgroup/memory.max \
	/sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max | tee limits
[ "$(tr '\n' ' ' <limits)" = "67108864 30 50000 100000 " ]
code=0
docker run --rm --network none --memory 32m --memory-swap 32m box sh -c 'head -c 100m /dev/zero | tail' || code=$?
[ $code = 137 ]
docker run --rm --network none --read-only --tmpfs /tmp --user 1000:1000 --cap-drop ALL box \
	sh -c 'touch /x 2>/dev/null && exit 1; touch /tmp/x && id -u'

step "exec, logs, pause, stats, update, top, kill"
docker run -d --name web --network none box sh -c 'echo started; exec sleep 100000' >/dev/null
[ "$(docker logs web)" = started ]
[ "$(docker exec web cat /proc/1/comm)" = sleep ]
[ "$(echo words | docker exec -i web cat)" = words ]
docker exec -t web tty | grep -q /dev/pts/0
code=0
docker exec web sh -c 'exit 3' || code=$?
[ $code = 3 ]
docker pause web
[ "$(docker inspect -f '{{.State.Status}}' web)" = paused ]
docker unpause web
docker stats --no-stream --format '{{.Name}} {{.PIDs}}' web | tee stats
grep -q '^web 1' stats
docker update --memory 48m --memory-swap 48m web >/dev/null
[ "$(docker exec web cat /sys/fs/cgroup/memory.max)" = $((48 << 20)) ]
docker top web | grep -q 'sleep 100000'
docker kill web >/dev/null
[ "$(docker wait web)" = 137 ]
docker rm web >/dev/null

step "a health check"
docker run -d --name well --network none --health-cmd 'test -e /tmp/well' --health-interval 1s --health-timeout 60s \
	--health-retries 1 box sleep 100000 >/dev/null
health() { [ "$(docker inspect -f '{{.State.Health.Status}}' well)" = "$1" ]; }
eventually health unhealthy
docker exec well touch /tmp/well
eventually health healthy
docker rm -f well >/dev/null

step "a build"
mkdir context
cat >context/Dockerfile <<'END'
FROM box
ENV COLOUR=blue
RUN echo $COLOUR >/colour && id -u >/who
CMD ["cat", "/colour", "/who"]
END
DOCKER_BUILDKIT=0 docker build --network none -t built context
[ "$(docker run --rm --network none built | tr '\n' ' ')" = "blue 0 " ]
code=0
printf 'FROM box\nRUN exit 5\n' | DOCKER_BUILDKIT=0 docker build --network none - || code=$?
[ $code = 5 ]
[ -z "$(docker ps -aq -f status=running)" ]
docker ps -aq | xargs -r docker rm >/dev/null

step "containerd itself"
docker save box >box.tar
ctr image import box.tar >/dev/null
image=$(ctr image ls -q)
run() { ctr run --rm --runc-binary "$BRUME_BUILD/brume-oci" "$@"; }
[ "$(run "$image" one echo from containerd)" = "from containerd" ]
ctr run -d --runc-binary "$BRUME_BUILD/brume-oci" "$image" two sleep 100000
[ "$(ctr task exec --exec-id e two cat /proc/1/comm)" = sleep ]
ctr task pause two
ctr task ls | grep -q PAUSED
ctr task resume two
ctr task metrics two | tee metrics
grep -q memory metrics
ctr task kill -s SIGKILL two
eventually sh -c 'ctr task ls | grep two | grep -q STOPPED'
ctr task rm two || true
ctr container rm two
echo done
