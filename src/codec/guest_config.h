#pragma once
/*
 * codec/guest_config.h - guest.json: what the first process of a virtual machine is told
 * (docs/design/0007-virtual-machines.md).
 *
 * Written by the agent into the instance's part of the initramfs, read by brume-init (guest/).  One
 * struct serves both ways: strings are borrowed, from whoever fills it in for encoding, from the
 * document after decoding.  Pure; not shared between threads.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "codec/oci_spec.h"

struct error;

enum {
	GUEST_CONFIG_MAX = 1 << 20, /* bytes of the document */
	GUEST_NICS_MAX = 8,
	GUEST_ADDRESSES_MAX = 8, /* and gateways, of one interface */
	GUEST_NAMES_MAX = 8,     /* name servers, and search domains */
	GUEST_TMPFS_MAX = 64,
	GUEST_MAC_SIZE = 6,
};

#define GUEST_CONFIG_PATH "/brume/guest.json"

struct guest_nic {
	uint8_t mac[GUEST_MAC_SIZE];
	const char *name;                           /* "eth0"; NULL: as the kernel has called it */
	const char *addresses[GUEST_ADDRESSES_MAX]; /* "10.90.0.2/24", "fd00::2/64" */
	size_t address_count;
	const char *gateways[GUEST_ADDRESSES_MAX];
	size_t gateway_count;
	uint32_t mtu; /* 0: as it is */
};

struct guest_tmpfs {
	const char *target;
	uint64_t size_bytes; /* 0: half of the memory */
	uint32_t mode;       /* 01777 when it was not given */
	const char *options; /* "noexec,nosuid,nodev,ro", or NULL */
};

struct guest_config {
	const char *hostname;
	/* For encoding: runtime-spec's `process`, borrowed.  Decoded: `process`, checked. */
	const json_t *process_object;
	const struct oci_process *process;
	/*
	 * "NAME[:GROUP]", looked up in the image's passwd and group by the guest, instead of
	 * process.user; HOME is set when process.env has none.  NULL: process.user holds.  A user
	 * that is not 0 then has the ambient ones of process.capabilities.
	 */
	const char *user;
	bool input;              /* port brume.in leads to the command's stdin; else /dev/null */
	const char *stop_signal; /* NULL: TERM */
	const char *lower;       /* serial numbers of disks */
	const char *upper;       /* NULL: changes are kept in memory */
	bool read_only;
	struct guest_nic nics[GUEST_NICS_MAX];
	size_t nic_count;
	const char *nameservers[GUEST_NAMES_MAX];
	size_t nameserver_count;
	const char *search[GUEST_NAMES_MAX];
	size_t search_count;
	const char *hosts; /* the text of /etc/hosts, or NULL */
	struct guest_tmpfs tmpfs[GUEST_TMPFS_MAX];
	size_t tmpfs_count;
	struct oci_pair *sysctls;
	size_t sysctl_count;
	bool reap;         /* the command is not process 1 of its own, a small init is */
	uint64_t pids_max; /* 0: no limit */
	int64_t time_ms;   /* wall clock at start; 0: as the machine's clock has it */

	struct oci_spec *owner; /* of what was decoded */
};

/* A new reference.  -EINVAL: a text is not UTF-8. */
int guest_config_encode(const struct guest_config *config, json_t **ret, struct error *err);

/* *ret is the caller's until guest_config_done(); untouched on failure. */
int guest_config_decode(const char *text, size_t size, struct guest_config *ret, struct error *err);

/* The member `network` alone: what the interfaces of a guest that runs shall be.  As above. */
int guest_nics_encode(const struct guest_nic *nics, size_t count, json_t **ret, struct error *err);
int guest_nics_decode(const json_t *array, struct guest_config *ret, struct error *err);

void guest_config_done(struct guest_config *config);
static inline void guest_config_done_autop(struct guest_config *config)
{
	guest_config_done(config);
}
