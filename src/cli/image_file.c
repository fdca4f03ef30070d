#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/listing.h"
#include "cli/resource.h"
#include "cli/transfer.h"
#include "cli/verb.h"
#include "cli/wait.h"
#include "client/client.h"
#include "client/tar.h"
#include "codec/uri.h"
#include "model/image.h"

/* "dir/web.tar.gz" -> "web"; the caller frees. */
static char *image_name_of_file(const char *path)
{
	static const char *const endings[] = { ".gz",  ".zst", ".tgz", ".tar",
					       ".oci", ".raw", ".img", ".qcow2" };
	size_t size = strlen(path);
	AUTO(free) char *name = NULL;
	const char *slash;

	while (size > 1 && path[size - 1] == '/')
		size--;
	slash = memrchr(path, '/', size);
	name = slash ? mem_strndup(slash + 1, size - (size_t) (slash + 1 - path))
		     : mem_strndup(path, size);
	for (size_t i = 0; i < ARRAY_COUNT(endings); i++) {
		size_t ending = strlen(endings[i]);

		size = strlen(name);
		if (size > ending && strcmp(name + size - ending, endings[i]) == 0)
			name[size - ending] = '\0';
	}
	return TAKE_PTR(name);
}

static int image_open_source(struct cli *cli, struct transfer *transfer, const char *path,
			     struct error *err)
{
	struct stat st;

	if (strcmp(path, "-") == 0) {
		transfer->fd = dup(STDIN_FILENO);
		if (transfer->fd < 0)
			return error_set(err, -errno, "cannot read the input");
		if (isatty(STDIN_FILENO)) {
			cli_set_hint(cli, "like: brume image import - NAME < image.tar");
			return cli_usage(cli, err, "the input is a terminal, not an image");
		}
		return 0;
	}
	transfer->fd = open(path, O_RDONLY | O_CLOEXEC);
	if (transfer->fd < 0 || fstat(transfer->fd, &st) < 0)
		return error_set(err, -errno, "cannot open %s", path);
	if (S_ISREG(st.st_mode))
		transfer->total_bytes = (uint64_t) st.st_size;
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (faccessat(transfer->fd, "oci-layout", F_OK, 0) < 0) {
		cli_set_hint(cli,
			     "for a root file system: tar -C %s -c . | brume image import - NAME",
			     path);
		return error_say(err, -EINVAL, "%s is no OCI layout: it has no file \"oci-layout\"",
				 path);
	}
	return tar_new(path, &transfer->tar, err);
}

struct image_import_options {
	const char *platform, *format;
};

#define IMPORT(member) offsetof(struct image_import_options, member)

static const struct option_def image_import_options[] = {
	{ 0, "format", "FORMAT", OPTION_STRING, IMPORT(format),
	  "raw or qcow2: FILE is such a disk; without it that is found out" },
	{ 0, "platform", "OS/ARCH", OPTION_STRING, IMPORT(platform),
	  "of a disk or a root file system, like linux/arm64; else the node's" },
	{},
};

static int image_import_send(struct cli *cli, struct transfer *transfer,
			     const struct image_import_options *options, const char *name,
			     json_t **ret, struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *platform = uri_encode(options->platform ? options->platform : "");
	AUTO(free)
	char *path = mem_printf("/images?import=1&name=%s%s%s%s%s", escaped,
				options->format ? "&format=" : "",
				options->format ? options->format : "",
				options->platform ? "&platform=" : "", platform);
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_upload(client, "POST", path, transfer_source, transfer, ret, err);
	transfer_clear(transfer);
	return r < 0 ? cli_failed(cli, path, r) : 0;
}

static int image_import_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	const struct image_import_options *options = userdata;
	const char *file = arguments->words[0];
	AUTO(free) char *made_up = image_name_of_file(file);
	const char *name = arguments->word_count > 1 ? arguments->words[1] : made_up;
	AUTO(free) char *title = mem_printf("importing %s", name);
	AUTO(json_decref) json_t *operation = NULL, *image = NULL;
	struct transfer transfer = { .cli = cli, .title = title, .fd = -1 };
	const char *target;
	int r;

	if (options->format && !image_format_is_valid(options->format))
		return cli_usage(cli, err, "--format: there are raw and qcow2");
	if (strcmp(file, "-") == 0 && arguments->word_count < 2)
		return cli_usage(cli, err, "an image from the input needs a NAME");
	r = image_open_source(cli, &transfer, file, err);
	if (r == 0)
		r = image_import_send(cli, &transfer, options, name, &operation, err);
	tar_free(transfer.tar);
	fd_close(transfer.fd);
	if (r == 0)
		r = wait_operation(cli, title, operation, NULL, err);
	if (r < 0)
		return r;
	target = resource_text(operation, "spec.target.name");
	if (cli->style.format == FORMAT_JSON) {
		r = listing_get(cli, "images", target ? target : name, &image, err);
		if (r == 0)
			cli_print_json(cli, image);
		return r;
	}
	fprintf(cli->out, cli->options.quiet ? "%s\n" : "%s: imported\n", target ? target : name);
	return 0;
}

static int image_export_receive(struct cli *cli, struct transfer *transfer, const char *name,
				struct error *err)
{
	AUTO(free) char *escaped = uri_encode(name);
	AUTO(free) char *path = mem_printf("/images/%s/export", escaped);
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_download(client, path, transfer_sink, transfer, err);
	transfer_clear(transfer);
	if (r < 0 && err->code == 0) /* the sink's own failure has no words */
		return error_set(err, r, "cannot write the image");
	return r < 0 ? cli_failed(cli, path, r) : 0;
}

/* The file appears under its name only when it is complete. */
static int image_export_file(struct cli *cli, const char *name, const char *file,
			     struct transfer *transfer, struct error *err)
{
	AUTO(free) char *partial = mem_printf("%s.partial", file);
	int r;

	transfer->fd = open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (transfer->fd < 0)
		return error_set(err, -errno, "cannot write %s", partial);
	r = image_export_receive(cli, transfer, name, err);
	if (close(transfer->fd) < 0 && r == 0)
		r = error_set(err, -errno, "cannot write %s", partial);
	if (r == 0 && rename(partial, file) < 0)
		r = error_set(err, -errno, "cannot write %s", file);
	if (r < 0)
		unlink(partial);
	return r;
}

static int image_export_run(struct cli *cli, const void *userdata,
			    const struct arguments *arguments, struct error *err)
{
	const char *name = arguments->words[0];
	const char *file = arguments->word_count > 1 ? arguments->words[1] : "-";
	AUTO(free) char *title = mem_printf("exporting %s", name);
	struct transfer transfer = { .cli = cli, .title = title, .fd = STDOUT_FILENO };
	char size[HUMAN_SIZE];
	int r;

	(void) userdata;
	if (strcmp(file, "-") == 0) {
		if (isatty(STDOUT_FILENO)) {
			cli_set_hint(cli, "like: brume image export %s image.tar", name);
			return cli_usage(cli, err, "an image is not written to a terminal");
		}
		return image_export_receive(cli, &transfer, name, err);
	}
	r = image_export_file(cli, name, file, &transfer, err);
	if (r < 0)
		return r;
	human_bytes(transfer.done_bytes, size);
	cli_note(cli, "%s: %s", file, size);
	return 0;
}

const struct verb verb_image_import = {
	.name = "import",
	.synopsis = "[OPTIONS] FILE|FOLDER|- [NAME]",
	.summary = "Take in an image from a file",
	.help = "FILE is an OCI layout tar, what `docker save` writes, or the tar of a root file "
		"system, also\n"
		"compressed; or the disk of a virtual machine (qcow2 or raw: a cloud image); "
		"FOLDER "
		"is an\n"
		"OCI layout; - is the input.  Without NAME the file gives it.\n\n"
		"Examples:\n  brume image import web.tar\n  docker save web | brume image import - "
		"web\n"
		"  tar -C rootfs -c . | brume image import - base\n"
		"  brume image import debian-12-genericcloud-amd64.qcow2 debian-12\n",
	.options = image_import_options,
	.options_size = sizeof(struct image_import_options),
	.words_min = 1,
	.words_max = 2,
	.completion = COMPLETE_FILE,
	.run = image_import_run,
};

const struct verb verb_image_export = {
	.name = "export",
	.synopsis = "NAME [FILE|-]",
	.summary = "Write an image as the tar of an OCI layout",
	.help = "The image of a disk is written as the file that it came as.\n\n"
		"Examples:\n  brume image export web web.tar\n"
		"  brume image export web | ssh other brume image import - web\n",
	.words_min = 1,
	.words_max = 2,
	.completion = COMPLETE_IMAGE,
	.run = image_export_run,
};
