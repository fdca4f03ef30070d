#pragma once
/*
 * model/node.h - a server that runs the agent, and the first message it sends.
 *
 * No state, thread-safe.
 */
#include <jansson.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "model/meta.h"

enum node_state { NODE_OFFLINE, NODE_ONLINE };

/* What the node's hardware can do for virtual machines, as it measured. */
struct node_virtualization {
	char *backend; /* "brume-vmm", "qemu"; NULL: none */
	char *why;     /* NULL: the node has said nothing about it */
	bool usable;   /* its /dev/kvm can be used */
	bool nested_paging, apicv, iommu;
	double ring0_mips, ring3_mips; /* million instructions a second; 0: not measured */
};

/* What the node says about itself. */
struct node_facts {
	char *version;
	char *kernel;
	char *cgroup; /* "v1", "v2" or "hybrid" */
	uint32_t cpus;
	uint64_t memory_bytes;
	char *boot_id;
	struct node_virtualization virtualization;
};

struct node {
	struct meta meta; /* project "_" */
	struct node_facts facts;
	enum node_state state;
};

int node_decode(const json_t *doc, struct node **ret, struct error *err);
json_t *node_encode(const struct node *node);
void node_free(struct node *node);
DEFINE_AUTO(struct node *, node_free)

/* The body of the agent link's hello: the facts and the node's name, which the caller frees. */
int node_hello_decode(const json_t *object, char **ret_name, struct node_facts *facts,
		      struct error *err);
json_t *node_hello_encode(const char *name, const struct node_facts *facts);

/* *to becomes a copy of `from`. */
void node_facts_copy(struct node_facts *to, const struct node_facts *from);

void node_facts_done(struct node_facts *facts);
