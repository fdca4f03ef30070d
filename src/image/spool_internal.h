#pragma once
/*
 * image/spool_internal.h - a file that one thread appends to while another reads behind it.
 *
 * The page cache is the queue between the network and the unpacking: nothing has to be throttled,
 * a broken download can be gone on with, and the finished file is the blob.  One writer, one
 * reader.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct spool {
	int fd; /* borrowed */
	pthread_mutex_t lock;
	pthread_cond_t grown;
	uint64_t size;
	bool ended;     /* nothing will be appended any more */
	bool abandoned; /* nobody reads any more */
	int result;     /* of the writer: 0 or -errno */
};

/* `size` bytes of the file are there already. */
void spool_init(struct spool *spool, int fd, uint64_t size);

/* -ECANCELED when the reader gave up, else 0 or what write() says. */
int spool_append(struct spool *spool, const void *data, size_t size);

/* The writer has finished: with 0, or with an error that the reader shall get. */
void spool_end(struct spool *spool, int result);

/* Waits for bytes behind `offset`; 0 at the end.  Waits for a good portion unless the end is near.
 */
ssize_t spool_read(struct spool *spool, uint64_t offset, void *data, size_t size);

/* The reader gives up: it and the writer get -ECANCELED from now on. */
void spool_abandon(struct spool *spool);
void spool_done(struct spool *spool);
