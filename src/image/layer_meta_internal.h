#pragma once
/*
 * image/layer_meta_internal.h - what layers/HEX/meta.json says about an unpacked layer.
 *
 * Written by the agent's side when a worker has finished the layer, read by rootfs.  Whether the
 * tar described its root folder matters: if not, the layer below decides how `/` looks.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct error;

struct layer_meta {
	uint64_t bytes; /* of all files */
	uint64_t inodes;
	bool has_root;
	uint32_t root_mode, root_uid, root_gid; /* as in the image: ids from 0 */
};

json_t *layer_meta_json(const struct layer_meta *meta);
int layer_meta_read(const json_t *object, struct layer_meta *ret, struct error *err);
