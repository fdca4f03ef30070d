#include "cli/info_run.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "cli/listing.h"
#include "cli/resource.h"

static void put_words(struct strbuf *out, const char *title, const json_t *instance,
		      const char *path)
{
	AUTO(strbuf_done) struct strbuf words = {};

	resource_put_words(&words, resource_at(instance, path));
	listing_fact(out, title, strbuf_str(&words));
}

static void put_switches(struct strbuf *out, const json_t *instance)
{
	static const char *const switches[][2] = { { "spec.init", "with an init" },
						   { "spec.read_only", "root read-only" },
						   { "spec.privileged", "privileged" } };
	AUTO(strbuf_done) struct strbuf text = {};

	for (size_t i = 0; i < ARRAY_COUNT(switches); i++)
		if (json_is_true(resource_at(instance, switches[i][0])))
			strbuf_printf(&text, "%s%s", text.size ? ", " : "", switches[i][1]);
	if (resource_text(instance, "spec.seccomp"))
		strbuf_printf(&text, "%sseccomp %s", text.size ? ", " : "",
			      resource_text(instance, "spec.seccomp"));
	if (resource_at(instance, "spec.seccomp_profile"))
		strbuf_printf(&text, "%sseccomp profile of its own", text.size ? ", " : "");
	listing_fact(out, "run", strbuf_str(&text));
}

static void put_given(struct strbuf *out, const json_t *instance)
{
	const json_t *one;
	size_t i;

	json_array_foreach(resource_at(instance, "spec.mounts"), i, one)
	{
		const char *source = resource_text(one, "source");
		AUTO(free)
		char *text = mem_printf(
			"%s on %s%s", source ? source : "memory", resource_text(one, "target"),
			json_is_true(resource_at(one, "read_only")) ? ", read-only" : "");

		listing_fact(out, i == 0 ? "mounts" : "", text);
	}
	json_array_foreach(resource_at(instance, "spec.devices"), i, one)
	{
		AUTO(free)
		char *text = mem_printf("%s as %s, %s", resource_text(one, "source"),
					resource_text(one, "target"), resource_text(one, "access"));

		listing_fact(out, i == 0 ? "devices" : "", text);
	}
}

static void put_check(struct strbuf *out, const json_t *instance)
{
	const char *type = resource_text(instance, "spec.health.type");
	const char *path = resource_text(instance, "spec.health.path");
	const char *action = resource_text(instance, "spec.health.on_failure");
	int64_t port = resource_int(instance, "spec.health.port", 0);
	AUTO(strbuf_done) struct strbuf text = {};

	if (!resource_at(instance, "spec.health"))
		return;
	strbuf_puts(&text, type ? type : "the image's");
	if (port > 0)
		strbuf_printf(&text, " %lld%s", (long long) port, path ? path : "");
	if (resource_at(instance, "spec.health.command")) {
		strbuf_puts(&text, " ");
		resource_put_words(&text, resource_at(instance, "spec.health.command"));
	}
	if (action)
		strbuf_printf(&text, "; then %s", action);
	listing_fact(out, "health check", strbuf_str(&text));
}

void info_put_run(struct strbuf *out, const json_t *instance)
{
	put_switches(out, instance);
	put_words(out, "cap-add", instance, "spec.cap_add");
	put_words(out, "cap-drop", instance, "spec.cap_drop");
	put_given(out, instance);
	listing_fact_map(out, "sysctls", resource_at(instance, "spec.sysctls"));
	put_words(out, "dns", instance, "spec.dns");
	put_check(out, instance);
}
