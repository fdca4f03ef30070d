#include <errno.h>
#include <string.h>

#include "agent/bundle_internal.h"
#include "agent/bundle_vm.h"
#include "base/error.h"
#include "base/strv.h"
#include "machine/seed.h"
#include "net/tap.h"

static void add(char ***list, const char *text)
{
	if (text && text[0])
		strv_append(list, text);
}

int bundle_seed(const struct bundle *bundle, const struct network_args *network,
		const struct tap_facts *tap, int *ret_fd, struct error *err)
{
	const struct instance_spec *spec = bundle->spec;
	AUTO(strv_free)
	char **addresses = NULL, **gateways = NULL, **nameservers = NULL, **search = NULL;
	struct seed seed = { .instance_id = bundle->uid,
			     .hostname = bundle_host_name(bundle),
			     .ssh_keys = spec->vm.ssh_keys,
			     .user_data = spec->vm.user_data };
	int fd;

	if (tap) {
		add(&addresses, tap->ipv4);
		add(&addresses, tap->ipv6);
		add(&gateways, tap->ipv4[0] ? network->gateway4 : NULL);
		add(&gateways, tap->ipv6[0] ? network->gateway6 : NULL);
		memcpy(seed.nics[0].mac, tap->mac, sizeof(seed.nics[0].mac));
		seed.nics[0].addresses = addresses;
		seed.nics[0].gateways = gateways;
		seed.nics[0].mtu = tap->mtu;
		seed.nic_count = 1;
	}
	nameservers = strv_copy(spec->run.dns);
	if (!nameservers || !nameservers[0]) {
		add(&nameservers, bundle->nameserver4);
		add(&nameservers, bundle->nameserver6);
	}
	add(&search, bundle->dns_domain);
	seed.nameservers = nameservers;
	seed.search = search;
	fd = seed_make(&seed, err);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}
