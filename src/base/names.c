#include "base/names.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *) a, *(const char *const *) b);
}

int names_list(int dir_fd, const char *shown, char ***ret, struct error *err)
{
	AUTO(strv_free) char **names = mem_new0(char *);
	size_t bytes = 0, count = 0, capacity = 0;
	/* An open folder of its own: its position is nobody else's. */
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *item;

	if (!dir) {
		int r = error_set(err, -errno, "read the folder '%.300s'", shown);

		fd_close(fd);
		return r;
	}
	while (bytes <= NAMES_BYTES_MAX && (item = readdir(dir))) {
		if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
			continue;
		bytes += strlen(item->d_name) + 1;
		if (count + 1 >= capacity) {
			capacity = capacity ? capacity * 2 : 64;
			names = mem_realloc(names, capacity, sizeof(*names));
		}
		names[count++] = mem_strdup(item->d_name);
		names[count] = NULL;
	}
	closedir(dir);
	if (bytes > NAMES_BYTES_MAX)
		return error_say(err, -E2BIG, "the folder '%.300s' has too many names", shown);
	qsort(names, count, sizeof(*names), compare);
	*ret = TAKE_PTR(names);
	return 0;
}
