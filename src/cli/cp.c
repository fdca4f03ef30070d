#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "cli/cp_path.h"
#include "cli/human.h"
#include "cli/transfer.h"
#include "cli/verb.h"
#include "client/client.h"
#include "client/tar.h"
#include "client/untar.h"
#include "codec/uri.h"

struct cp_options {
	bool archive, follow;
};

#define CP(member) offsetof(struct cp_options, member)

static const struct option_def cp_options[] = {
	{ 'a', "archive", NULL, OPTION_FLAG, CP(archive), "keep the owners of files" },
	{ 'L', "follow-link", NULL, OPTION_FLAG, CP(follow),
	  "when SRC is a symbolic link, copy what it leads to" },
	{},
};

/* The API's path of a file of the instance; `more` is further members of the query. */
static char *cp_url(const struct cp_place *place, const char *path, const char *more)
{
	AUTO(free) char *name = uri_encode(place->instance);
	AUTO(free) char *encoded = uri_encode(path);

	return mem_printf("/instances/%s/files?path=%s%s", name, encoded, more);
}

/* An answer 404 is about a file as often as about the instance, whose name is in the words then. */
static int cp_failed(struct cli *cli, const struct error *err, int r)
{
	cli_failed(cli, "/instances", r);
	if (client_status(cli->client) == 404 && strncmp(err->msg, "instance ", 9) != 0)
		cli->hint[0] = '\0';
	return r;
}

/* What the path is: *ret_kind stays CP_NOTHING when there is nothing. */
static int cp_stat(struct cli *cli, const struct cp_place *place, bool follow,
		   enum cp_kind *ret_kind, struct error *err)
{
	AUTO(free) char *url = cp_url(place, place->path, follow ? "&stat=1&follow=1" : "&stat=1");
	AUTO(json_decref) json_t *stat = NULL;
	struct client *client = NULL;
	const char *type;
	int r = cli_connect(cli, &client, err);

	if (r == 0)
		r = client_request(client, "GET", url, NULL, &stat, err);
	if (r < 0)
		return r;
	type = json_string_value(json_object_get(stat, "type"));
	*ret_kind = type && strcmp(type, "folder") == 0 ? CP_FOLDER : CP_FILE;
	return 0;
}

/* An answer 404 may mean the file or the instance; only the instance's own page tells. */
static int cp_stat_target(struct cli *cli, const struct cp_place *place, enum cp_kind *ret_kind,
			  struct error *err)
{
	int r = cp_stat(cli, place, true, ret_kind, err);

	if (r == -ENOENT) {
		AUTO(free) char *name = uri_encode(place->instance);
		AUTO(free) char *url = mem_printf("/instances/%s", name);

		r = cli_request(cli, "GET", url, NULL, NULL, err);
	}
	return r < 0 ? cp_failed(cli, err, r) : 0;
}

static enum cp_kind cp_local_kind(const char *path, bool follow)
{
	struct stat st;

	if (fstatat(AT_FDCWD, path, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return CP_NOTHING;
	return S_ISDIR(st.st_mode) ? CP_FOLDER : CP_FILE;
}

static void cp_say(struct cli *cli, const char *from, const char *to, uint64_t bytes)
{
	char size[HUMAN_SIZE];

	human_bytes(bytes, size);
	cli_note(cli, "%s copied to %s: %s", from, to, size);
}

/* -- out of an instance ----------------------------------------------------------------------- */

struct cp_out {
	struct transfer transfer;
	struct untar *untar; /* NULL: to the output as it is */
	struct error err;
};

static int cp_out_sink(void *userdata, const void *data, size_t size)
{
	struct cp_out *out = userdata;

	if (!out->untar)
		return transfer_sink(&out->transfer, data, size);
	transfer_moved(&out->transfer, size);
	return untar_feed(out->untar, data, size, &out->err);
}

static int cp_receive(struct cli *cli, const struct cp_place *from, bool follow, struct cp_out *out,
		      struct error *err)
{
	AUTO(free) char *url = cp_url(from, from->path, follow ? "&follow=1" : "");
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_download(client, url, cp_out_sink, out, err);
	transfer_clear(&out->transfer);
	if (r < 0 && out->err.code < 0) {
		*err = out->err;
		return r;
	}
	if (r < 0 && err->code == 0)
		return error_set(err, r, "cannot write");
	if (r < 0)
		return cp_failed(cli, err, r);
	return out->untar ? untar_end(out->untar, err) : 0;
}

static int cp_out_unpack(struct cli *cli, const struct cp_place *from, const char *dest,
			 const struct cp_options *options, struct cp_out *out, struct error *err)
{
	AUTO(cp_target_done) struct cp_target target = {};
	AUTO(fd_close) int dir_fd = -1;
	enum cp_kind kind = CP_NOTHING;
	int r = cp_stat(cli, from, options->follow, &kind, err);

	if (r < 0)
		return cp_failed(cli, err, r);
	r = cp_plan(from->path, kind, dest, cp_local_kind(dest, true), &target, err);
	if (r < 0)
		return r;
	dir_fd = open(target.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return error_set(err, -errno, "cannot open the folder %s", target.folder);
	const struct untar_options how = { .dir_fd = dir_fd,
					   .name = target.name,
					   .keep_ids = options->archive };
	out->untar = untar_new(&how);
	r = cp_receive(cli, from, options->follow, out, err);
	if (r < 0)
		return r;
	if (untar_skipped(out->untar) > 0)
		cli_note(cli, "%u devices were left out", untar_skipped(out->untar));
	if (untar_lowered(out->untar) > 0)
		cli_note(cli, "%u files lost their set-user-id or set-group-id bit",
			 untar_lowered(out->untar));
	return 0;
}

static int cp_out_run(struct cli *cli, const struct cp_place *from, const char *dest,
		      const struct cp_options *options, struct error *err)
{
	AUTO(free) char *shown = mem_printf("%s:%s", from->instance, from->path);
	AUTO(free) char *title = mem_printf("copying %s", shown);
	struct cp_out out = { .transfer = { .cli = cli, .title = title, .fd = STDOUT_FILENO } };
	int r;

	if (strcmp(dest, "-") == 0) {
		if (isatty(STDOUT_FILENO)) {
			cli_set_hint(cli, "like: brume cp %s - | tar -t", shown);
			return cli_usage(cli, err, "a tar is not written to a terminal");
		}
		return cp_receive(cli, from, options->follow, &out, err);
	}
	r = cp_out_unpack(cli, from, dest, options, &out, err);
	untar_free(out.untar);
	if (r == 0)
		cp_say(cli, shown, dest, out.transfer.done_bytes);
	return r;
}

/* -- into an instance ------------------------------------------------------------------------- */

static int cp_send(struct cli *cli, const struct cp_place *to, const char *folder,
		   const struct cp_options *options, struct transfer *transfer, struct error *err)
{
	AUTO(free) char *url = cp_url(to, folder, options->archive ? "&keep_ids=1" : "");
	struct client *client = NULL;
	int r = cli_connect(cli, &client, err);

	if (r < 0)
		return r;
	r = client_upload(client, "PUT", url, transfer_source, transfer, NULL, err);
	transfer_clear(transfer);
	return r < 0 ? cp_failed(cli, err, r) : 0;
}

static int cp_in_stream(struct cli *cli, const struct cp_place *to,
			const struct cp_options *options, struct transfer *transfer,
			struct error *err)
{
	if (isatty(STDIN_FILENO)) {
		cli_set_hint(cli, "like: tar -c FOLDER | brume cp - %s:%s", to->instance, to->path);
		return cli_usage(cli, err, "the input is a terminal, not a tar");
	}
	transfer->fd = STDIN_FILENO;
	return cp_send(cli, to, to->path, options, transfer, err);
}

static int cp_in_tree(struct cli *cli, const char *source, const struct cp_place *to,
		      const struct cp_options *options, struct transfer *transfer,
		      struct error *err)
{
	AUTO(cp_target_done) struct cp_target target = {};
	enum cp_kind there = CP_NOTHING;
	/* A slash at the end asks for what the link leads to, as everywhere. */
	enum cp_kind kind = cp_local_kind(source, options->follow);
	int r;

	if (kind == CP_NOTHING)
		return error_set(err, -errno, "cannot open %s", source);
	r = cp_stat_target(cli, to, &there, err);
	if (r == 0)
		r = cp_plan(source, kind, to->path, there, &target, err);
	if (r == 0)
		r = tar_new_tree(source, target.name, options->follow, &transfer->tar, err);
	if (r == 0)
		r = cp_send(cli, to, target.folder, options, transfer, err);
	tar_free(transfer->tar);
	transfer->tar = NULL;
	return r;
}

static int cp_in_run(struct cli *cli, const char *source, const struct cp_place *to,
		     const struct cp_options *options, struct error *err)
{
	AUTO(free) char *shown = mem_printf("%s:%s", to->instance, to->path);
	AUTO(free) char *title = mem_printf("copying to %s", shown);
	struct transfer transfer = { .cli = cli, .title = title, .fd = -1 };
	bool stream = strcmp(source, "-") == 0;
	int r = stream ? cp_in_stream(cli, to, options, &transfer, err)
		       : cp_in_tree(cli, source, to, options, &transfer, err);

	if (r == 0)
		cp_say(cli, stream ? "the input" : source, shown, transfer.done_bytes);
	return r;
}

static int cp_run(struct cli *cli, const void *userdata, const struct arguments *arguments,
		  struct error *err)
{
	const struct cp_options *options = userdata;
	const char *source = arguments->words[0], *dest = arguments->words[1];
	AUTO(cp_place_done) struct cp_place from = {};
	AUTO(cp_place_done) struct cp_place to = {};
	bool out = cp_place_parse(source, &from), in = cp_place_parse(dest, &to);

	if (out && in) {
		cli_set_hint(cli, "like: brume cp %s - | brume cp - %s:FOLDER", source,
			     to.instance);
		return cli_usage(cli, err, "files are not copied from instance to instance");
	}
	if (!out && !in) {
		cli_set_hint(cli, "like: brume cp ./file web:/srv");
		return cli_usage(cli, err, "one of the two must be in an instance: NAME:PATH");
	}
	if (!source[0] || !dest[0])
		return cli_usage(cli, err, "an empty name is none");
	return out ? cp_out_run(cli, &from, dest, options, err)
		   : cp_in_run(cli, source, &to, options, err);
}

const struct verb verb_cp = {
	.name = "cp",
	.synopsis = "[-a] [-L] NAME:SRC DEST|-\n       brume cp [-a] [-L] SRC|- NAME:DEST",
	.summary = "Copy files into an instance or out of it, whether it runs or not",
	.help = "A folder goes into an existing DEST under its own name; SRC/. means only what is "
		"in it.\nFiles arrive as the instance's root (or yours), with their modes.  A tar "
		"is read from or\nwritten to -.  What is mounted in an instance is there while it "
		"runs only.\n\n"
		"Examples:\n  brume cp web:/etc/nginx/nginx.conf .\n  brume cp ./site web:/srv\n"
		"  brume cp ./site/. web:/srv/www\n  brume cp web:/var/log - | tar -t\n"
		"  tar -c site | brume cp -a - web:/srv\n",
	.options = cp_options,
	.options_size = sizeof(struct cp_options),
	.words_min = 2,
	.words_max = 2,
	.completion = COMPLETE_INSTANCE_FILE,
	.run = cp_run,
};
