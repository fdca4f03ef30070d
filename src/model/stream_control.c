#include "model/stream_control.h"

#include <errno.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/signame.h"
#include "model/quantity.h"

static int read_size(const json_t *size, struct stream_control *control, struct error *err)
{
	struct json_reader in = { .err = err, .where = "control message.resize" };

	json_read_uint32(&in, size, "width", UINT16_MAX, &control->width);
	json_read_uint32(&in, size, "height", UINT16_MAX, &control->height);
	int r = json_reader_finish(&in, size);
	if (r == 0 && (control->width == 0 || control->height == 0))
		r = error_say(err, -EINVAL,
			      "control message.resize: needs a width and a height above 0");
	return r;
}

int stream_control_decode(const json_t *message, struct stream_control *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "control message" };
	struct stream_control control = {};
	AUTO(free) char *name = NULL;
	json_t *resize = NULL;

	json_read_object(&in, message, "resize", &resize);
	json_read_string(&in, message, "signal", &name);
	json_read_bool(&in, message, "eof", &control.eof);
	json_read_bool(&in, message, "detach", &control.detach);
	int r = json_reader_finish(&in, message);
	if (r == 0 && resize)
		r = read_size(resize, &control, err);
	if (r < 0)
		return r;
	control.signal = name ? signame_number(name) : 0;
	if (name && control.signal <= 0)
		return error_say(err, -EINVAL, "control message.signal: '%.40s' is not a signal",
				 name);
	*ret = control;
	return 0;
}
