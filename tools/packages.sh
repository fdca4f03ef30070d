# Debian packages, by what needs them; read by quickstart.sh and test.sh.
packages_build="gcc libc6-dev meson ninja-build pkg-config python3 uthash-dev libcmocka-dev
	libsystemd-dev libjansson-dev nettle-dev libmnl-dev libnftables-dev libseccomp-dev libcap-dev
	libcurl4-gnutls-dev libarchive-dev libisal-dev libzstd-dev zlib1g-dev libsqlite3-dev
	libmicrohttpd-dev libgnutls28-dev libwslay-dev"
packages_run="dnsmasq-base ca-certificates"
packages_demo="busybox-static docker-registry curl iproute2 nftables"
packages_test="clang clang-format python3-pytest python3-websocket iproute2 nftables
	util-linux zstd skopeo podman crun openssl tar e2fsprogs"
