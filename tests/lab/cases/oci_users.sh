#!/bin/sh
# brume-oci of ordinary users and of systemd: delegated groups, ranges of ids, scopes, a user's own manager.
#
# lab: time=300 default=6.12
lab-pytest oci_rootless oci_systemd -- -k "life or range or delegated or manager or run_and"
