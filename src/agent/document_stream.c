#include "agent/document_stream.h"

#include "base/error.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"

struct document {
	struct stream *stream; /* NULL: the client has gone */
	const struct document_ops *ops;
	void *data;         /* NULL: the work has ended */
	struct strbuf text; /* the worker's, afterwards what is not sent yet */
	int result;
	struct error err;
};

static void destroy(struct document *document)
{
	strbuf_done(&document->text);
	free(document);
}

static void client_gone(void *data)
{
	struct document *document = data;

	document->stream = NULL;
	if (!document->data)
		destroy(document);
	else if (document->ops->cancel)
		document->ops->cancel(document->data);
}

static void work(void *data)
{
	struct document *document = data;

	document->result = document->ops->work(document->data, &document->text, &document->err);
}

static void send_some(struct document *document)
{
	if (stream_send_text(document->stream, FRAME_CHANNEL_OUT, &document->text))
		stream_close_code(document->stream, 0);
}

static void done(void *data)
{
	struct document *document = data;
	struct error err = document->err;

	document->ops->free(document->data);
	document->data = NULL;
	if (!document->stream)
		destroy(document);
	else if (document->result < 0)
		stream_close_error(document->stream, &err);
	else
		send_some(document);
}

static void writable(void *data)
{
	struct document *document = data;

	if (!document->data)
		send_some(document);
}

void document_stream_open(struct stream *stream, struct pool *pool, const struct document_ops *ops,
			  void *data, const struct stream_ops **ret_ops, void **ret_data)
{
	static const struct stream_ops stream_ops = { .writable = writable, .free = client_gone };
	struct document *document = mem_new0(struct document);

	document->stream = stream;
	document->ops = ops;
	document->data = data;
	pool_submit(pool, work, done, document);
	*ret_ops = &stream_ops;
	*ret_data = document;
}
