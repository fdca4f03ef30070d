#pragma once
/*
 * codec/image_change.h - changes of an image's configuration in the words of a Dockerfile.
 *
 *	CMD ["nginx", "-g", "daemon off;"]	ENTRYPOINT ...	ENV A=b C="d e"	EXPOSE 80 53/udp
 *	LABEL a=b	USER web	WORKDIR /srv	VOLUME /data	STOPSIGNAL SIGINT
 *ONBUILD ...
 *
 * The word and what it says may be separated by '=' too (ENV=A=b).  A list may be JSON.  People and
 * programs write them; they are applied to the member `config` of an OCI image configuration.
 * Pure, thread-safe.  Used by api/ (to refuse at once) and image/.
 */
#include <jansson.h>

struct error;

enum { IMAGE_CHANGES_MAX = 256, IMAGE_CHANGE_TEXT_MAX = 128 * 1024 };

/* Applies all in order; -EINVAL names the one that is not understood, `config` is then unusable. */
int image_changes_apply(json_t *config, char *const *changes, struct error *err);

/* The same without a configuration. */
int image_changes_check(char *const *changes, struct error *err);
