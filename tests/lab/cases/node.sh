#!/bin/sh
# A node launches instances with limits, networks and published ports; an instance cannot get out.
#
# lab: time=900
lab-pytest node_launch node_confine
