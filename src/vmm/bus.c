#include "vmm/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

/*
 * A device is called without any lock of the bus, so that it may move itself; `users` counts the
 * calls in flight, and removing waits for them.
 */
struct range {
	const char *name;
	uint64_t start, size;
	const struct bus_ops *ops;
	void *data;
	unsigned int users;     /* atomic */
	uint64_t reads, writes; /* atomic */
};

struct bus {
	pthread_rwlock_t lock;
	pthread_mutex_t idle_lock;
	pthread_cond_t idle;
	struct range **ranges; /* lowest first */
	unsigned int count, capacity;
	unsigned int removing; /* atomic: threads in bus_remove() */
	uint64_t lost;         /* atomic: accesses that nobody owns */
};

struct bus *bus_new(void)
{
	struct bus *bus = mem_new0(struct bus);

	pthread_rwlock_init(&bus->lock, NULL);
	pthread_mutex_init(&bus->idle_lock, NULL);
	pthread_cond_init(&bus->idle, NULL);
	return bus;
}

void bus_free(struct bus *bus)
{
	if (!bus)
		return;
	for (unsigned int i = 0; i < bus->count; i++)
		free(bus->ranges[i]);
	free(bus->ranges);
	pthread_rwlock_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->idle_lock);
	pthread_cond_destroy(&bus->idle);
	free(bus);
}

/* The first range that starts above `address`. */
static unsigned int find_above(const struct bus *bus, uint64_t address)
{
	unsigned int low = 0, high = bus->count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;

		if (bus->ranges[middle]->start <= address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool is_free(const struct bus *bus, uint64_t start, uint64_t size)
{
	if (size == 0 || start + size - 1 < start)
		return false;
	for (unsigned int i = 0; i < bus->count; i++) {
		const struct range *range = bus->ranges[i];

		if (range->start <= start + size - 1 && start <= range->start + range->size - 1)
			return false;
	}
	return true;
}

static void insert(struct bus *bus, struct range *range)
{
	unsigned int at = find_above(bus, range->start);

	memmove(bus->ranges + at + 1, bus->ranges + at, (bus->count - at) * sizeof(*bus->ranges));
	bus->ranges[at] = range;
	bus->count++;
}

static struct range *take_out(struct bus *bus, uint64_t start)
{
	unsigned int above = find_above(bus, start);
	struct range *range = above > 0 ? bus->ranges[above - 1] : NULL;

	if (!range || range->start != start)
		return NULL;
	memmove(bus->ranges + above - 1, bus->ranges + above,
		(bus->count - above) * sizeof(*bus->ranges));
	bus->count--;
	return range;
}

int bus_add(struct bus *bus, const char *name, uint64_t start, uint64_t size,
	    const struct bus_ops *ops, void *data, struct error *err)
{
	struct range *range;
	int r = 0;

	pthread_rwlock_wrlock(&bus->lock);
	if (!is_free(bus, start, size)) {
		r = -EEXIST;
	} else {
		if (bus->count == bus->capacity) {
			bus->capacity = bus->capacity ? 2 * bus->capacity : 16;
			bus->ranges = mem_realloc(bus->ranges, bus->capacity, sizeof(*bus->ranges));
		}
		range = mem_new0(struct range);
		*range = (struct range){ name, start, size, ops, data };
		insert(bus, range);
	}
	pthread_rwlock_unlock(&bus->lock);
	if (r < 0)
		return error_set(err, r, "%s at %#llx", name, (unsigned long long) start);
	return 0;
}

void bus_remove(struct bus *bus, uint64_t start)
{
	struct range *range;

	pthread_rwlock_wrlock(&bus->lock);
	range = take_out(bus, start);
	pthread_rwlock_unlock(&bus->lock);
	if (!range)
		return;
	__atomic_add_fetch(&bus->removing, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_lock(&bus->idle_lock);
	while (__atomic_load_n(&range->users, __ATOMIC_SEQ_CST) > 0)
		pthread_cond_wait(&bus->idle, &bus->idle_lock);
	pthread_mutex_unlock(&bus->idle_lock);
	__atomic_sub_fetch(&bus->removing, 1, __ATOMIC_SEQ_CST);
	free(range);
}

int bus_move(struct bus *bus, uint64_t old_start, uint64_t new_start)
{
	struct range *range;
	int r = 0;

	pthread_rwlock_wrlock(&bus->lock);
	range = take_out(bus, old_start);
	if (!range) {
		r = -ENOENT;
	} else {
		if (is_free(bus, new_start, range->size))
			range->start = new_start;
		else
			r = -EEXIST;
		insert(bus, range);
	}
	pthread_rwlock_unlock(&bus->lock);
	return r;
}

/* The range that has all of the access, with one more user; and where in it. */
static struct range *range_get(struct bus *bus, uint64_t address, unsigned int size,
			       uint64_t *ret_offset)
{
	struct range *range = NULL;
	unsigned int above;

	pthread_rwlock_rdlock(&bus->lock);
	above = find_above(bus, address);
	if (above > 0) {
		range = bus->ranges[above - 1];
		*ret_offset = address - range->start;
		if (*ret_offset >= range->size || size > range->size - *ret_offset)
			range = NULL;
		else
			__atomic_add_fetch(&range->users, 1, __ATOMIC_SEQ_CST);
	}
	pthread_rwlock_unlock(&bus->lock);
	if (!range)
		__atomic_add_fetch(&bus->lost, 1, __ATOMIC_RELAXED);
	return range;
}

static void range_put(struct bus *bus, struct range *range)
{
	/* Whoever removes the range may free it as soon as it sees no user: not touched after. */
	if (__atomic_sub_fetch(&range->users, 1, __ATOMIC_SEQ_CST) == 0 &&
	    __atomic_load_n(&bus->removing, __ATOMIC_SEQ_CST) > 0) {
		pthread_mutex_lock(&bus->idle_lock);
		pthread_cond_broadcast(&bus->idle);
		pthread_mutex_unlock(&bus->idle_lock);
	}
}

uint64_t bus_read(struct bus *bus, uint64_t address, unsigned int size)
{
	uint64_t mask = size >= 8 ? UINT64_MAX : (1ull << (8 * size)) - 1;
	uint64_t offset, value;
	struct range *range = range_get(bus, address, size, &offset);

	if (!range)
		return mask;
	__atomic_add_fetch(&range->reads, 1, __ATOMIC_RELAXED);
	value = range->ops->read ? range->ops->read(range->data, offset, size) : mask;
	range_put(bus, range);
	return value & mask;
}

void bus_write(struct bus *bus, uint64_t address, unsigned int size, uint64_t value)
{
	uint64_t offset;
	struct range *range = range_get(bus, address, size, &offset);

	if (!range)
		return;
	__atomic_add_fetch(&range->writes, 1, __ATOMIC_RELAXED);
	if (range->ops->write)
		range->ops->write(range->data, offset, size, value);
	range_put(bus, range);
}

void bus_count(struct bus *bus, bus_count_fn fn, void *data)
{
	pthread_rwlock_rdlock(&bus->lock);
	for (unsigned int i = 0; i < bus->count; i++) {
		const struct range *range = bus->ranges[i];

		fn(data, range->name, range->start,
		   __atomic_load_n(&range->reads, __ATOMIC_RELAXED),
		   __atomic_load_n(&range->writes, __ATOMIC_RELAXED));
	}
	pthread_rwlock_unlock(&bus->lock);
}

uint64_t bus_lost(const struct bus *bus)
{
	return __atomic_load_n(&bus->lost, __ATOMIC_RELAXED);
}
