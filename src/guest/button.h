#pragma once
/*
 * guest/button.h - the machine's power button: pressed, the command is asked to end, and the
 * machine turns off; pressed again, at once.
 *
 * The host uses the guest channel; the button is for who has only the monitor (brume-vmm's SIGTERM
 * and control socket, QEMU's system_powerdown).  A kernel without ACPI's button or without evdev
 * has none, which is no error.  One thread, the loop's.
 */
struct guest;

/* Opens what there is; called when the modules are loaded. */
void button_watch(struct guest *guest);
