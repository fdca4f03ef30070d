/* QEMU's control protocol: whatever a QEMU says that its guest has taken over, it is a message or
 * none. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "machine/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qmp_message message = {};

	if (qmp_decode((const char *) data, size, &message, NULL) < 0)
		return 0;
	if ((message.kind == QMP_RETURN || message.kind == QMP_EVENT) && !message.data)
		abort();
	if (message.kind != QMP_RETURN && !message.text)
		abort();
	(void) qmp_shutdown_cause(message.data);
	json_decref(qmp_disk_metrics(message.data));
	json_decref(qmp_guest_statistics(message.data));
	json_decref(qmp_kvm_counters(message.data));
	qmp_message_done(&message);
	return 0;
}
