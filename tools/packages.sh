# Debian packages, by what needs them; read by quickstart.sh and test.sh.
packages_build="gcc libc6-dev meson ninja-build pkg-config python3 uthash-dev libcmocka-dev
	libsystemd-dev libjansson-dev nettle-dev libmnl-dev libnftables-dev libseccomp-dev libcap-dev
	libcurl4-gnutls-dev libarchive-dev libisal-dev libzstd-dev zlib1g-dev liblz4-dev liblzma-dev
	libsqlite3-dev libmicrohttpd-dev libgnutls28-dev libwslay-dev liburing-dev"
packages_run="dnsmasq-base ca-certificates"
packages_vm="qemu-system-x86 erofs-utils e2fsprogs" # with quickstart.sh --with-vm
packages_demo="busybox-static docker-registry curl iproute2 nftables"
packages_test="clang clang-format iperf3 mold erofs-utils python3-pytest python3-pytest-timeout
	python3-websocket iproute2 nftables
	util-linux zstd skopeo podman crun openssl tar e2fsprogs uidmap procps catatonit
	qemu-system-x86 qemu-utils syslinux syslinux-common mtools openssh-client qemu-system-arm qemu-efi-aarch64
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross frr"
# Of arm64, fetched by tools/fetch_arm64 and not installed: for the tests of emulated machines.
packages_test_arm64="busybox-static linux-image-cloud-arm64"
# For tests/lab: on this machine, and in the servers that it boots.
packages_lab="qemu-system-x86 mmdebstrap busybox-static kmod e2fsprogs util-linux"
packages_lab_guest="systemd systemd-sysv libpam-systemd dbus dbus-user-session udev kmod procps
	util-linux python3 python3-pytest python3-websocket busybox-static iproute2 nftables
	dnsmasq-base docker-registry crun uidmap attr acl e2fsprogs ca-certificates
	golang-github-containers-common libsystemd0 libjansson4 libnettle8 libmnl0 libnftables1
	libseccomp2 libcap2 libcap2-bin libcurl3-gnutls libarchive13 libisal2 libzstd1 zlib1g libsqlite3-0
	libmicrohttpd12 libgnutls30 libwslay1 liburing2"
