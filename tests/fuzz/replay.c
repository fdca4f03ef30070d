/*
 * replay.c - runs a fuzz target over stored inputs, without libFuzzer.
 *
 * Linked with one fuzz_*.c; the arguments are files, or folders of files.  The empty input and
 * every proper beginning of a short file are tried as well, because truncation is what a decoder
 * meets most often.  A finding is a crash, an assertion or a sanitizer's report.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_INPUT_BYTES (4u << 20)
#define MAX_BEGINNINGS 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned replayed;

/* A copy of exactly this size, so that the sanitizer sees the first byte read too far. */
static void try_input(const uint8_t *data, size_t size)
{
	uint8_t *copy = calloc(1, size ? size : 1);

	if (!copy) {
		fprintf(stderr, "out of memory\n");
		exit(1);
	}
	memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
	replayed++;
}

static void replay_file(const char *path)
{
	uint8_t *data = malloc(MAX_INPUT_BYTES);
	FILE *file = fopen(path, "rb");
	size_t size;

	if (!data || !file) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	size = fread(data, 1, MAX_INPUT_BYTES, file);
	fclose(file);
	try_input(data, size);
	for (size_t shorter = 0; shorter < size && size <= MAX_BEGINNINGS; shorter++)
		try_input(data, shorter);
	free(data);
}

static void replay(const char *path)
{
	struct stat st;
	struct dirent *entry;
	DIR *folder;

	if (stat(path, &st) < 0) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	if (!S_ISDIR(st.st_mode)) {
		replay_file(path);
		return;
	}
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		char inner[4096];

		if (entry->d_name[0] == '.')
			continue;
		snprintf(inner, sizeof(inner), "%s/%s", path, entry->d_name);
		replay(inner);
	}
	if (folder)
		closedir(folder);
}

int main(int argc, char **argv)
{
	try_input((const uint8_t *) "", 0);
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%u inputs\n", replayed);
	return 0;
}
