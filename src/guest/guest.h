#pragma once
/*
 * guest/guest.h - brume-init: the first process of a virtual machine
 * (docs/design/0007-virtual-machines.md).
 *
 * Boots from the initramfs into the image's root, runs the image's command, serves the guest
 * channel, tells how the command ended, and turns the machine off.  When it cannot, it says so on
 * the port brume.status and on the console.
 */

/* Never returns when it is process 1. */
int guest_main(int argc, char **argv);
