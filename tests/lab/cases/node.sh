#!/bin/sh
# A node launches instances with limits, networks and published ports; an instance cannot get out, its devices
# are denied, its limits can be changed and what it consumes is told.
#
# lab: time=900
# Each kernel has its share; the cases systemd and no_ipv6 launch on 6.12 as well.
case $LAB_KERNEL in
6.12)
	lab-pytest node_confine node_seatbelts node_update node_stats -- \
		-k "confine or privileged_place or limits_change or below_what_is_used or one_sample or stats_shows"
	;;
*) lab-pytest node_launch ;;
esac
