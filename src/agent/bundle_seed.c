#include <errno.h>
#include <string.h>

#include "agent/bundle_internal.h"
#include "agent/bundle_vm.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/strv.h"
#include "machine/seed.h"

static void add(char ***list, const char *text)
{
	if (text && text[0])
		strv_append(list, text);
}

/* The texts of one interface. */
struct nic_texts {
	char **addresses, **gateways;
};

static void nic_texts_done(struct nic_texts *texts)
{
	for (size_t i = 0; i < SEED_NICS_MAX; i++) {
		strv_free(texts[i].addresses);
		strv_free(texts[i].gateways);
	}
	free(texts);
}
static inline void nic_texts_done_autop(struct nic_texts **texts)
{
	nic_texts_done(*texts);
}

static void add_nic(struct seed *seed, struct nic_texts *texts, const struct bundle_nic *from)
{
	struct seed_nic *nic = &seed->nics[seed->nic_count++];
	const struct tap_facts *tap = &from->tap;

	add(&texts->addresses, tap->ipv4);
	add(&texts->addresses, tap->ipv6);
	add(&texts->gateways, tap->ipv4[0] ? from->gateway4 : NULL);
	add(&texts->gateways, tap->ipv6[0] ? from->gateway6 : NULL);
	memcpy(nic->mac, tap->mac, sizeof(nic->mac));
	nic->name = from->name;
	nic->addresses = texts->addresses;
	nic->gateways = texts->gateways;
	nic->mtu = tap->mtu;
}

int bundle_seed(const struct bundle *bundle, const struct bundle_nic *nics, size_t nic_count,
		int *ret_fd, struct error *err)
{
	const struct instance_spec *spec = bundle->spec;
	AUTO(nic_texts_done)
	struct nic_texts *texts = mem_new0_array(struct nic_texts, SEED_NICS_MAX);
	AUTO(strv_free) char **nameservers = NULL, **search = NULL;
	struct seed seed = { .instance_id = bundle->uid,
			     .hostname = bundle_host_name(bundle),
			     .ssh_keys = spec->vm.ssh_keys,
			     .user_data = spec->vm.user_data };
	const char *domains[BUNDLE_SEARCH_MAX];
	size_t count;
	int fd;

	for (size_t i = 0; i < nic_count && i < SEED_NICS_MAX; i++)
		add_nic(&seed, &texts[i], &nics[i]);
	nameservers = strv_copy(spec->run.dns);
	if (!nameservers || !nameservers[0]) {
		add(&nameservers, bundle->nameserver4);
		add(&nameservers, bundle->nameserver6);
	}
	count = bundle_search(bundle, domains);
	for (size_t i = 0; i < count; i++)
		add(&search, domains[i]);
	seed.nameservers = nameservers;
	seed.search = search;
	fd = seed_make(&seed, err);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}
