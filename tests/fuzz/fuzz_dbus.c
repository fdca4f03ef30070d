/* Messages of systemd: whatever comes, only its own bytes are read. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "codec/dbus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int64_t whole = dbus_message_size(data, size);
	struct dbus_message message;
	uint32_t number;
	const char *text;
	size_t at = 0;

	if (whole > DBUS_MESSAGE_MAX)
		abort();
	if (dbus_message_decode(data, size, &message) < 0)
		return 0;
	if ((int64_t) size != whole || message.body + message.body_size != data + size)
		abort();
	while (dbus_read_text(&message, &at, &text) == 0)
		if (strlen(text) >= size)
			abort();
	at = 0;
	while (dbus_read_u32(&message, &at, &number) == 0)
		if (at > message.body_size)
			abort();
	return 0;
}
