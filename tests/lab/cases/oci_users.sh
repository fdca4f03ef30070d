#!/bin/sh
# brume-oci of ordinary users and of systemd: delegated groups, ranges of ids, scopes, a user's own manager; and
# what its events tell on control groups of version 2.
#
# lab: time=300 default=6.12
lab-pytest oci_rootless oci_systemd oci_events -- \
	-k "life or range or delegated or manager or run_and or refused or stats_once or oom"
