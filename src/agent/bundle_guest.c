#include <errno.h>
#include <string.h>

#include "agent/bundle_internal.h"
#include "agent/bundle_vm.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/signame.h"
#include "base/strbuf.h"
#include "base/strv.h"
#include "codec/guest_config.h"

/* What the guest of a virtual machine is told: the same as a container's bundle says. */

enum { SHM_MODE = 01777 };
#define TMPFS_BYTES (UINT64_C(64) << 20)

/* The texts that a guest_config borrows. */
struct texts {
	struct strbuf hosts;
	char **sysctls; /* name, value, name, value */
	struct oci_pair *pairs;
};

static void texts_done(struct texts *texts)
{
	strbuf_done(&texts->hosts);
	strv_free(texts->sysctls);
	free(texts->pairs);
}
static inline void texts_done_autop(struct texts *texts)
{
	texts_done(texts);
}

static void add_text(const char **list, size_t *count, size_t max, const char *text)
{
	if (text && text[0] && *count < max)
		list[(*count)++] = text;
}

static void add_network(struct guest_config *config, const struct bundle_nic *from)
{
	struct guest_nic *nic = &config->nics[config->nic_count++];
	const struct tap_facts *tap = &from->tap;

	memcpy(nic->mac, tap->mac, sizeof(nic->mac));
	nic->name = from->name;
	nic->mtu = tap->mtu;
	add_text(nic->addresses, &nic->address_count, GUEST_ADDRESSES_MAX, tap->ipv4);
	add_text(nic->addresses, &nic->address_count, GUEST_ADDRESSES_MAX, tap->ipv6);
	if (tap->ipv4[0])
		add_text(nic->gateways, &nic->gateway_count, GUEST_ADDRESSES_MAX, from->gateway4);
	if (tap->ipv6[0])
		add_text(nic->gateways, &nic->gateway_count, GUEST_ADDRESSES_MAX, from->gateway6);
}

int bundle_guest_network(const struct bundle_nic *nics, size_t count, json_t **ret,
			 struct error *err)
{
	AUTO(free) struct guest_config *config = mem_new0(struct guest_config);

	for (size_t i = 0; i < count && i < GUEST_NICS_MAX; i++)
		add_network(config, &nics[i]);
	return guest_nics_encode(config->nics, config->nic_count, ret, err);
}

static void add_names(struct guest_config *config, const struct bundle *bundle)
{
	char *const *dns = bundle->spec->run.dns;
	const char *search[BUNDLE_SEARCH_MAX];
	size_t count;

	for (; dns && *dns; dns++)
		add_text(config->nameservers, &config->nameserver_count, GUEST_NAMES_MAX, *dns);
	if (config->nameserver_count == 0) {
		add_text(config->nameservers, &config->nameserver_count, GUEST_NAMES_MAX,
			 bundle->nameserver4);
		add_text(config->nameservers, &config->nameserver_count, GUEST_NAMES_MAX,
			 bundle->nameserver6);
	}
	count = bundle_search(bundle, search);
	for (size_t i = 0; i < count; i++)
		add_text(config->search, &config->search_count, GUEST_NAMES_MAX, search[i]);
}

static int add_tmpfs(struct guest_config *config, const struct run_options *run, struct error *err)
{
	bool shm = false;

	for (size_t i = 0; i < run->mount_count; i++) {
		const struct instance_mount *mount = &run->mounts[i];

		/* One place is left for /dev/shm. */
		if (config->tmpfs_count == GUEST_TMPFS_MAX - 1)
			return error_say(err, -EINVAL,
					 "mounts: a virtual machine can have %d at most",
					 GUEST_TMPFS_MAX - 1);
		shm = shm || strcmp(mount->target, "/dev/shm") == 0;
		config->tmpfs[config->tmpfs_count++] = (struct guest_tmpfs){
			.target = mount->target,
			.size_bytes = mount->size_bytes ? mount->size_bytes : TMPFS_BYTES,
			.mode = mount->mode ? mount->mode : SHM_MODE,
			.options = mount->no_exec     ? mount->read_only ? "nosuid,nodev,noexec,ro"
									 : "nosuid,nodev,noexec"
				   : mount->read_only ? "nosuid,nodev,ro"
						      : "nosuid,nodev",
		};
	}
	if (!shm)
		config->tmpfs[config->tmpfs_count++] = (struct guest_tmpfs){
			.target = "/dev/shm",
			.size_bytes = run->shm_size_bytes ? run->shm_size_bytes : TMPFS_BYTES,
			.mode = SHM_MODE,
			.options = "nosuid,nodev,noexec",
		};
	return 0;
}

/* As in containers a program may listen on any port, whoever it runs as. */
static void add_sysctls(struct guest_config *config, const struct run_options *run,
			struct texts *texts)
{
	size_t count = strv_count(run->sysctls);

	strv_append(&texts->sysctls, "net.ipv4.ip_unprivileged_port_start");
	strv_append(&texts->sysctls, "0");
	for (size_t i = 0; i < count; i++) {
		const char *equals = strchr(run->sysctls[i], '=');

		strv_append_take(&texts->sysctls,
				 mem_strndup(run->sysctls[i], (size_t) (equals - run->sysctls[i])));
		strv_append(&texts->sysctls, equals + 1);
	}
	texts->pairs = mem_new0_array(struct oci_pair, count + 1);
	for (size_t i = 0; i <= count; i++)
		texts->pairs[i] =
			(struct oci_pair){ texts->sysctls[2 * i], texts->sysctls[2 * i + 1] };
	config->sysctls = texts->pairs;
	config->sysctl_count = count + 1;
}

/* What an image says that nobody understands does not keep it from being stopped. */
static const char *stop_signal(const struct instance_spec *spec,
			       const struct oci_image_config *image)
{
	const char *name =
		spec->stop_signal && spec->stop_signal[0] ? spec->stop_signal : image->stop_signal;

	return name && name[0] && signame_number(name) > 0 ? name : NULL;
}

int bundle_guest(const struct bundle *bundle, const struct bundle_nic *nics, size_t nic_count,
		 int64_t now_ms, char **ret, struct error *err)
{
	const struct instance_spec *spec = bundle->spec;
	const char *user = bundle_user(bundle);
	AUTO(free) struct guest_config *config = mem_new0(struct guest_config);
	AUTO(texts_done) struct texts texts = {};
	AUTO(json_decref) json_t *process = NULL, *document = NULL;
	int r = bundle_guest_process(bundle, bundle_host_name(bundle), &process, err);

	if (r < 0)
		return r;
	bundle_put_hosts(bundle, &texts.hosts);
	config->hostname = bundle_host_name(bundle);
	config->process_object = process;
	config->user = user && user[0] ? user : NULL;
	config->input = spec->stdio.tty || spec->stdio.stdin_mode != STDIN_NONE;
	config->stop_signal = stop_signal(spec, bundle->image);
	config->lower = BUNDLE_VM_LOWER;
	config->upper = BUNDLE_VM_UPPER;
	config->read_only = spec->run.read_only;
	config->hosts = strbuf_str(&texts.hosts);
	config->reap = spec->run.init;
	config->pids_max = spec->pids;
	config->time_ms = now_ms;
	for (size_t i = 0; i < nic_count && i < GUEST_NICS_MAX; i++)
		add_network(config, &nics[i]);
	add_names(config, bundle);
	add_sysctls(config, &spec->run, &texts);
	r = add_tmpfs(config, &spec->run, err);
	if (r == 0)
		r = guest_config_encode(config, &document, err);
	if (r < 0)
		return r;
	*ret = json_text(document);
	if (strlen(*ret) > GUEST_CONFIG_MAX) {
		free(*ret);
		return error_say(err, -E2BIG, "command, environment and the like are too long");
	}
	return 0;
}
