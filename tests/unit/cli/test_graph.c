#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/strbuf.h"
#include "cli/graph.h"

static const char networks_text[] =
	"[{'meta':{'name':'default'},'spec':{'driver':'bridge','ipv4':'10.90.0.0/24',"
	"'ipv6':'fd00::/64','gateway4':'10.90.0.1','nat':true,'node':'local'}},"
	"{'meta':{'name':'inside'},'spec':{'ipv4':'10.1.0.0/24','isolated':true}},"
	"{'meta':{'name':'lab'},'spec':{'driver':'macvlan','uplink':'eth1',"
	"'ipv4':'192.0.2.0/24','gateway4':'192.0.2.1','node':'local'}},"
	"{'meta':{'name':'vault'},'spec':{'ipv4':'10.1.0.0/24','isolated':true,"
	"'tunnel':{'vni':4711,'peers':{'192.0.2.9':{}}}}}]";
static const char routers_text[] = "[{'meta':{'name':'edge'},'spec':{'uplink':true,'nat':true,"
				   "'networks':{'inside':{'ipv4':'10.1.0.1'}},"
				   "'floating':{'203.0.113.7':{'instance':'db'}},"
				   "'forwards':{'8443/tcp':{'instance':'db','port':443}}}}]";
static const char instances_text[] =
	"[{'meta':{'name':'web'},'spec':{'ports':[{'network':'default','interface':'eth0',"
	"'ipv4':'10.90.0.2'},{'network':'inside','interface':'eth1','ipv4':'10.1.0.9'}],"
	"'publish':[{'host_port':8080,'port':80}]},'status':{'state':'running'}},"
	"{'meta':{'name':'db'},'spec':{'ports':[{'network':'inside','interface':'eth0',"
	"'ipv4':'10.1.0.5'},{'network':'vault','interface':'eth1','ipv4':'10.1.0.5',"
	"'leaving':true}]},'status':{'state':'stopped'}},"
	"{'meta':{'name':'alone'},'spec':{'ports':[]},'status':{'state':'running'}}]";

static json_t *parse(const char *text)
{
	AUTO(free) char *copy = strdup(text);
	json_t *value;

	for (char *c = copy; *c; c++)
		if (*c == '\'')
			*c = '"';
	value = json_loads(copy, 0, NULL);
	assert_non_null(value);
	return value;
}

static char *draw(const char *networks, const char *instances, const char *routers,
		  char *const *only, void (*put)(const struct graph *graph, struct strbuf *out))
{
	AUTO(json_decref) json_t *network_list = parse(networks);
	AUTO(json_decref) json_t *instance_list = parse(instances);
	AUTO(json_decref) json_t *router_list = routers ? parse(routers) : NULL;
	AUTO(graph_free)
	struct graph *graph = graph_new(network_list, instance_list, router_list, only);
	AUTO(strbuf_done) struct strbuf out = {};

	put(graph, &out);
	return strbuf_take(&out);
}

static void a_tree_of_all(void **state)
{
	AUTO(free)
	char *text = draw(networks_text, instances_text, routers_text, NULL, graph_put_text);

	(void) state;
	assert_string_equal(text, "outside\n"
				  "├─ default  nat  10.90.0.0/24, fd00::/64  gateway 10.90.0.1\n"
				  "│  └─ web  eth0  10.90.0.2  8080->80\n"
				  "├─ lab  macvlan on eth1  192.0.2.0/24  gateway 192.0.2.1\n"
				  "└─ router edge  nat  203.0.113.7 = db, 8443/tcp = db:443\n"
				  "   └─ inside  isolated  10.1.0.0/24  gateway 10.1.0.1\n"
				  "      ├─ web  eth1  10.1.0.9  8080->80\n"
				  "      └─ db  eth0  10.1.0.5  (stopped)\n"
				  "vault  isolated  10.1.0.0/24\n"
				  "└─ tunnel  VXLAN 4711 to 192.0.2.9\n");
}

static void only_some(void **state)
{
	char *only[] = { "inside", NULL };
	AUTO(free)
	char *text = draw(networks_text, instances_text, routers_text, only, graph_put_text);
	AUTO(free) char *lonely = draw(networks_text, instances_text, NULL, only, graph_put_text);

	(void) state;
	assert_string_equal(text, "outside\n"
				  "└─ router edge  nat  203.0.113.7 = db, 8443/tcp = db:443\n"
				  "   └─ inside  isolated  10.1.0.0/24  gateway 10.1.0.1\n"
				  "      ├─ web  eth1  10.1.0.9  8080->80\n"
				  "      └─ db  eth0  10.1.0.5  (stopped)\n");
	assert_string_equal(lonely, "outside\n"
				    "inside  isolated  10.1.0.0/24\n"
				    "├─ web  eth1  10.1.0.9  8080->80\n"
				    "└─ db  eth0  10.1.0.5  (stopped)\n");
}

/* Two routers between the same two networks: each is told of, and it ends. */
static void a_circle_ends(void **state)
{
	AUTO(free)
	char *text = draw("[{'meta':{'name':'a'},'spec':{'isolated':true,'ipv4':'10.1.0.0/24'}},"
			  "{'meta':{'name':'b'},'spec':{'isolated':true,'ipv4':'10.2.0.0/24'}}]",
			  "[]",
			  "[{'meta':{'name':'r'},'spec':{'networks':{'a':{'ipv4':'10.1.0.1'},"
			  "'b':{'ipv4':'10.2.0.1'}}}},{'meta':{'name':'s'},'spec':{'networks':"
			  "{'a':{'ipv4':'10.1.0.2'},'b':{'ipv4':'10.2.0.2'}}}}]",
			  NULL, graph_put_text);

	(void) state;
	assert_non_null(strstr(text, "a  isolated  10.1.0.0/24\n"
				     "├─ router r  10.1.0.1\n"
				     "│  └─ b  isolated  10.2.0.0/24  gateway 10.2.0.1\n"
				     "│     └─ router s  10.2.0.2\n"));
	assert_non_null(strstr(text, "(see above)"));
}

static size_t count(const char *text, const char *word)
{
	size_t found = 0;

	while ((text = strstr(text, word))) {
		found++;
		text += strlen(word);
	}
	return found;
}

static void a_picture(void **state)
{
	AUTO(free)
	char *svg = draw(networks_text, instances_text, routers_text, NULL, graph_put_svg);
	AUTO(free)
	char *hostile = draw("[{'meta':{'name':'a<script>&b'},'spec':{'ipv4':'10.1.0.0/24'}}]",
			     "[]", NULL, NULL, graph_put_svg);

	(void) state;
	/* Five networks with the outside; two gateways, one router, two instances; nine joints. */
	assert_int_equal(count(svg, "class=\"l\""), 5);
	assert_int_equal(count(svg, "<rect "), 5);
	assert_int_equal(count(svg, "<circle "), 9);
	assert_non_null(strstr(svg, "</svg>\n"));
	assert_null(strstr(hostile, "<script"));
	assert_non_null(strstr(hostile, "a&#60;script&#62;&#38;b"));
}

static void nothing_at_all(void **state)
{
	AUTO(free) char *text = draw("[]", "[]", "[]", NULL, graph_put_text);
	AUTO(free) char *svg = draw("[]", "[]", "[]", NULL, graph_put_svg);
	AUTO(free)
	char *odd = draw("[{},4,{'spec':{'tunnel':7}}]", "[{'spec':{'ports':[1,{}]}}]",
			 "[{'spec':{'networks':[]}},null]", NULL, graph_put_text);

	(void) state;
	assert_string_equal(text, "outside\n");
	assert_non_null(strstr(svg, "</svg>"));
	assert_non_null(odd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_tree_of_all),  cmocka_unit_test(only_some),
		cmocka_unit_test(a_circle_ends),  cmocka_unit_test(a_picture),
		cmocka_unit_test(nothing_at_all),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
