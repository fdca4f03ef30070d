#pragma once
/*
 * kern/count_bpf.h - BPF programs that count what passes interfaces, and the map they count in.
 *
 * One map and two programs, one for each way, serve all interfaces of a segment.  An interface that
 * has an entry in the map is counted, packets of the segment's own addresses apart from all others.
 * Entries outlive their interface, and the map lives as long as one of the programs is somebody's
 * filter (kern/filter.h), whoever dies meanwhile: so nothing that was counted is lost.
 *
 * Used by net/.  Returns 0 or -errno.  No state, thread-safe.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kern/filter.h"

enum { COUNT_BPF_OWNER_SIZE = 32, COUNT_BPF_ENTRIES_MAX = 4096, COUNT_BPF_INSNS_MAX = 80 };

/* Addresses of the segment; bytes as they stand in packets. */
struct count_bpf_inside {
	bool ipv4, ipv6; /* the next ones mean something */
	uint8_t net4[4], mask4[4];
	uint8_t net6[16], mask6[16];
};

struct count_bpf_sum {
	uint64_t bytes, packets;
};

/* Frames with their Ethernet header; one that is still to be cut counts as one. */
struct count_bpf_way {
	struct count_bpf_sum inside, outside;
};

/* As it stands in the map. */
struct count_bpf_entry {
	char owner[COUNT_BPF_OWNER_SIZE]; /* no 0 behind it when it fills that */
	struct count_bpf_way leaving, arriving;
	uint64_t serial; /* another one says that the counts began anew */
};

int count_bpf_map_new(int *ret_fd);

/* Loads the program of one way; inside are also link-local, multicast and unspecified addresses. */
int count_bpf_load(const struct count_bpf_inside *inside, enum filter_way way, int map_fd,
		   int *ret_fd);

struct bpf_insn;

/* The instructions alone, COUNT_BPF_INSNS_MAX at most; returns how many. */
int count_bpf_build(const struct count_bpf_inside *inside, enum filter_way way, int map_fd,
		    struct bpf_insn *ret);

/* A program that is loaded, and its map. */
int count_bpf_open(uint32_t program_id, int *ret_fd);
int count_bpf_map_of(int program_fd, int *ret_fd);

/* -ENOENT: the interface has no entry.  Counts of another one begin with those in `entry`. */
int count_bpf_get(int map_fd, int link_index, struct count_bpf_entry *ret);
int count_bpf_add(int map_fd, int link_index, const struct count_bpf_entry *entry);
int count_bpf_delete(int map_fd, int link_index);

/* Hands all entries to `fn`, in no order. */
int count_bpf_list(int map_fd,
		   void (*fn)(int link_index, const struct count_bpf_entry *entry, void *data),
		   void *data);
