#pragma once
/*
 * machine/seed.h - the small disk from which cloud-init in a cloud image learns who it is
 * (NoCloud).
 *
 * An ISO 9660 image named "cidata" with user-data, meta-data and network-config; it is made in
 * memory and given to the machine as one more read-only disk.  Everything that comes from people is
 * written as JSON, which YAML contains, so that a name cannot become a key.
 * Used by the agent for machines that firmware boots.  No state, thread-safe.
 */
#include <stdint.h>

struct error;

enum {
	SEED_USER_DATA_MAX = 256 * 1024,
	SEED_NICS_MAX = 8,
};

struct seed_nic {
	uint8_t mac[6];
	char *const *addresses; /* strv of "10.90.0.2/24" */
	char *const *gateways;  /* strv of addresses; NULL: none */
	uint16_t mtu;           /* 0: the guest's own */
	const char *name;       /* that it is to have; NULL: eth and its number */
};

struct seed {
	const char *instance_id; /* a new one: cloud-init does everything anew */
	const char *hostname;
	char *const *ssh_keys; /* strv of lines of authorized_keys; NULL: none */
	const char
		*user_data; /* as cloud-init takes it ("#cloud-config", "#!/bin/sh"); NULL: none */
	struct seed_nic nics[SEED_NICS_MAX];
	unsigned int nic_count;
	char *const *nameservers, *const *search;
};

/* Returns a descriptor that is open for reading only, for struct machine_disk. */
int seed_make(const struct seed *seed, struct error *err);
