/* An instance's log over a stream: from the beginning or any place, and on as it grows. */
#include <errno.h>
#include <string.h>

#include "agent/agent_internal.h"
#include "agent/instance_actor.h"
#include "agent/logfeed.h"
#include "agent/stream.h"
#include "base/error.h"
#include "base/mem.h"

struct logs {
	struct logfeed feed;
	bool follow;
};

static void logs_free(void *data)
{
	struct logs *logs = data;

	logfeed_done(&logs->feed);
	free(logs);
}

static void at_end(void *data)
{
	struct logs *logs = data;
	struct logfeed *feed = &logs->feed;

	if (logfeed_is_over(feed) || !instance_is_alive(feed->agent, feed->uid))
		stream_close_code(feed->stream, 0);
}

static void logs_writable(void *data)
{
	struct logs *logs = data;

	logfeed_pump(&logs->feed);
}

static const struct stream_ops logs_ops = { NULL, logs_writable, logs_free };

static int begin(struct logs *logs, const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "logs" };
	int r;

	logfeed_read_arguments(&logs->feed, &in, arguments);
	json_read_bool(&in, arguments, "follow", &logs->follow);
	r = json_reader_finish(&in, arguments);
	if (r == 0)
		logfeed_start(&logs->feed, agent_state_path(logs->feed.agent, logs->feed.uid, NULL),
			      "log", logs->follow);
	return r;
}

int logs_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	      void **ret_data, struct error *err)
{
	struct logs *logs = mem_new0(struct logs);
	int r;

	logs->feed = (struct logfeed){
		.stream = stream, .agent = stream_agent(stream), .at_end = at_end, .data = logs
	};
	r = begin(logs, arguments, err);
	if (r < 0) {
		logs_free(logs);
		return r;
	}
	*ret_ops = &logs_ops;
	*ret_data = logs;
	return 0;
}

static void look_again(void *data, void *argument)
{
	struct logs *logs = data;

	if (strcmp(logs->feed.uid, argument) == 0)
		logfeed_go_on(&logs->feed);
}

void logs_instance_changed(struct agent *agent, const char *uid)
{
	stream_each(agent, &logs_ops, look_again, (void *) uid);
}
