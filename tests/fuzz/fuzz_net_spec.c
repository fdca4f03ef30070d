/*
 * tests/fuzz/fuzz_net_spec.c - what net/ is asked for, with arbitrary text in every place.
 *
 * The input is lines: network uid, ipv4, gateway4, ipv6, gateway6, domain, port uid, name, mac,
 * addresses, host ip, protocol, interface, driver, mode, uplink.  What passes the checks must be
 * safe to put into files and names.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/port.h"
#include "net/publish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINES = 17 };

static void check_safe(const char *text, const char *allowed)
{
	assert(text[strspn(text, allowed)] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO(free) char *text = mem_strndup((const char *) data, size);
	char *lines[LINES], *rest = text;
	struct error err = {};

	for (int i = 0; i < LINES; i++)
		lines[i] = rest ? strsep(&rest, "\n") : NULL;

	struct bridge_spec network = { .uid = lines[0],
				       .ipv4 = lines[1],
				       .gateway4 = lines[2],
				       .ipv6 = lines[3],
				       .gateway6 = lines[4],
				       .dns_domain = lines[5],
				       .driver = lines[14],
				       .mode = lines[15],
				       .uplink = lines[16],
				       .mtu = (uint32_t) (size * 7) };
	struct port_spec port = { .network = &network,
				  .uid = lines[6],
				  .interface = lines[13],
				  .name = lines[7],
				  .mac = lines[8],
				  .ipv4 = lines[9],
				  .ipv6 = lines[10] };
	struct publish_spec publish = {
		.host_ip = lines[11], .host_port = (uint16_t) size, .port = 1, .protocol = lines[12]
	};

	if (port_check(&port, &err) == 0) {
		assert(network_check(&network, NULL) == 0);
		if (network.uplink)
			check_safe(network.uplink, "abcdefghijklmnopqrstuvwxyz"
						   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");
		check_safe(network.uid, "0123456789abcdef");
		check_safe(port.uid, "0123456789abcdef");
		if (port.interface)
			check_safe(port.interface, "abcdefghijklmnopqrstuvwxyz"
						   "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");
		check_safe(port.name, "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
	} else {
		assert(err.msg[0] && !strchr(err.msg, '\n'));
	}
	(void) publish_check(&publish, &err);
	return 0;
}
