/* The agent link's frames: whatever arrives, the reader stays within its buffer and ends. */
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/json.h"
#include "base/strbuf.h"
#include "codec/frame.h"

static int on_frame(const struct frame *frame, void *data, struct error *err)
{
	AUTO(json_decref) json_t *body = NULL;
	enum frame_channel channel;
	const char *bytes;
	uint32_t credit;
	size_t size;

	(void) data;
	if (frame->type == FRAME_STREAM_DATA)
		return frame_data(frame, &channel, &bytes, &size, err);
	if (frame->type == FRAME_STREAM_CREDIT)
		return frame_credit(frame, &credit, err);
	return frame_json(frame, &body, err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(strbuf_done) struct strbuf in = {};
	struct error err = {};

	strbuf_append(&in, data, size);
	(void) frame_read_all(&in, on_frame, NULL, &err);
	return 0;
}
