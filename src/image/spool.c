#include "image/spool_internal.h"

#include <errno.h>
#include <unistd.h>

#include "base/file.h"

enum { PORTION = 128 << 10 }; /* fewer wake-ups than one per network packet */

void spool_init(struct spool *spool, int fd, uint64_t size)
{
	*spool = (struct spool){ .fd = fd, .size = size };
	pthread_mutex_init(&spool->lock, NULL);
	pthread_cond_init(&spool->grown, NULL);
}

int spool_append(struct spool *spool, const void *data, size_t size)
{
	const char *p = data;
	uint64_t before = spool->size; /* only the writer changes it */

	for (size_t done = 0; done < size;) {
		ssize_t n = pwrite(spool->fd, p + done, size - done, (off_t) (before + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t) n;
	}
	pthread_mutex_lock(&spool->lock);
	spool->size = before + size;
	bool abandoned = spool->abandoned;
	if (before / PORTION != spool->size / PORTION)
		pthread_cond_signal(&spool->grown);
	pthread_mutex_unlock(&spool->lock);
	return abandoned ? -ECANCELED : 0;
}

void spool_end(struct spool *spool, int result)
{
	pthread_mutex_lock(&spool->lock);
	spool->ended = true;
	spool->result = result;
	pthread_cond_signal(&spool->grown);
	pthread_mutex_unlock(&spool->lock);
}

ssize_t spool_read(struct spool *spool, uint64_t offset, void *data, size_t size)
{
	uint64_t limit;
	int result;

	/* Whole portions until the end: what lies behind the last one waits for it. */
	pthread_mutex_lock(&spool->lock);
	while (!spool->ended && !spool->abandoned && spool->size / PORTION * PORTION <= offset)
		pthread_cond_wait(&spool->grown, &spool->lock);
	limit = spool->ended ? spool->size : spool->size / PORTION * PORTION;
	result = spool->abandoned ? -ECANCELED : spool->result;
	pthread_mutex_unlock(&spool->lock);

	if (result < 0)
		return result;
	if (limit - offset < size)
		size = (size_t) (limit - offset);
	for (;;) {
		ssize_t n = pread(spool->fd, data, size, (off_t) offset);

		if (n >= 0)
			return n == 0 && size > 0 ? -EIO : n;
		if (errno != EINTR)
			return -errno;
	}
}

void spool_abandon(struct spool *spool)
{
	pthread_mutex_lock(&spool->lock);
	spool->abandoned = true;
	pthread_cond_signal(&spool->grown);
	pthread_mutex_unlock(&spool->lock);
}

void spool_done(struct spool *spool)
{
	pthread_cond_destroy(&spool->grown);
	pthread_mutex_destroy(&spool->lock);
}
