#include "cli/transfer.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/human.h"
#include "cli/terminal.h"
#include "client/tar.h"

enum { TRANSFER_REDRAW_BYTES = 4 * 1024 * 1024 };

void transfer_moved(struct transfer *transfer, size_t size)
{
	char done[HUMAN_SIZE], total[HUMAN_SIZE];

	transfer->done_bytes += size;
	if (!transfer->cli->progress ||
	    transfer->done_bytes - transfer->drawn_bytes < TRANSFER_REDRAW_BYTES)
		return;
	transfer->drawn_bytes = transfer->done_bytes;
	human_bytes(transfer->done_bytes, done);
	human_bytes(transfer->total_bytes, total);
	fprintf(transfer->cli->err, "\r%s: %s%s%s\033[K", transfer->title, done,
		transfer->total_bytes ? " / " : "", transfer->total_bytes ? total : "");
}

void transfer_clear(const struct transfer *transfer)
{
	if (transfer->drawn_bytes > 0)
		fputs("\r\033[K", transfer->cli->err);
}

ssize_t transfer_source(void *userdata, void *data, size_t size, struct error *err)
{
	struct transfer *transfer = userdata;
	ssize_t n;

	if (transfer->tar) {
		n = tar_read(transfer->tar, data, size, err);
	} else {
		do
			n = read(transfer->fd, data, size);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			n = error_set(err, -errno, "cannot read the input");
	}
	if (n > 0)
		transfer_moved(transfer, (size_t) n);
	return n;
}

int transfer_sink(void *userdata, const void *data, size_t size)
{
	struct transfer *transfer = userdata;
	int r = terminal_write(transfer->fd, data, size);

	transfer_moved(transfer, size);
	return r;
}
