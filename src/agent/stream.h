#pragma once
/*
 * agent/stream.h - streams over the link: exec, logs, import, export, stats, top.
 *
 * stream.c keeps the table, the credits and the two closes of the protocol; what a stream does is
 * in changes.c, exec.c, files.c, flow_stream.c, kernels.c, logs.c, transfer.c, stats.c, top.c,
 * trace_stream.c and traffic_stream.c.  Used by agent/ on the loop's thread.  When the link breaks
 * all streams end.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "codec/frame.h"

struct agent;
struct error;
struct stream;

/* What a kind of stream does with its `data`.  `free` must not touch the stream any more. */
struct stream_ops {
	/*
	 * Bytes of the peer; the stream gives credit back when it has passed them on.  NULL: it
	 * takes none, and ends when some come.
	 */
	int (*received)(void *data, enum frame_channel channel, const char *bytes, size_t size,
			struct error *err);
	/* There is credit again, or room in the link.  May be NULL. */
	void (*writable)(void *data);
	void (*free)(void *data);
	/* Before `free`: the client has gone.  Not when the link broke.  May be NULL. */
	void (*left)(void *data);
};

/* From the link. */
void stream_open(struct agent *agent, uint64_t id, const json_t *arguments);
int stream_received(struct agent *agent, uint64_t id, enum frame_channel channel, const char *data,
		    size_t size, struct error *err);
void stream_credited(struct agent *agent, uint64_t id, uint32_t bytes);
void stream_peer_closed(struct agent *agent, uint64_t id);
void stream_link_drained(struct agent *agent);
void stream_free_all(struct agent *agent);

/* For the kinds of streams. */
struct agent *stream_agent(const struct stream *stream);
uint64_t stream_id(const struct stream *stream);
/* How many bytes may be sent now. */
size_t stream_credit(const struct stream *stream);
void stream_send(struct stream *stream, enum frame_channel channel, const void *data, size_t size);
/* Sends what the credit allows and drops it from `text`; true when nothing is left. */
struct strbuf;
bool stream_send_text(struct stream *stream, enum frame_channel channel, struct strbuf *text);
/* Lets the peer send that much more. */
void stream_grant(struct stream *stream, size_t bytes);
/* Ends it; `data` of the stream is freed.  Nothing of the stream may be used afterwards. */
void stream_close_code(struct stream *stream, int64_t exit_code);
void stream_close_error(struct stream *stream, const struct error *err);
/* An error that has an exit code of its own. */
void stream_close_failure(struct stream *stream, const struct error *err, int64_t exit_code);

/*
 * The kinds.  Each checks its arguments and returns what the stream works with.
 */
int exec_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	      void **ret_data, struct error *err);
int kernels_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		 void **ret_data, struct error *err);
int logs_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	      void **ret_data, struct error *err);
int attach_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err);
int import_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err);
int export_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		void **ret_data, struct error *err);
int stats_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err);
int top_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	     void **ret_data, struct error *err);

int flows_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err);
int usage_open_stream(struct stream *stream, const json_t *arguments,
		      const struct stream_ops **ret_ops, void **ret_data, struct error *err);

int changes_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
		 void **ret_data, struct error *err);
int files_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err);

int trace_open(struct stream *stream, const json_t *arguments, const struct stream_ops **ret_ops,
	       void **ret_data, struct error *err);

/* Something of an instance changed: streams that follow its log look again. */
void logs_instance_changed(struct agent *agent, const char *uid);
/* Networks, or their flow logs, have changed: streams that follow one look again. */
void flow_streams_look_again(struct agent *agent);
/* Runs of an instance: streams that are attached to it begin to write, end, or fail. */
void attach_instance_runs(struct agent *agent, const char *uid);
void attach_instance_ended(struct agent *agent, const char *uid, int64_t exit_code);
void attach_instance_failed(struct agent *agent, const char *uid, const char *message);
/* Events of exec jobs. */
struct keeper_msg;
void exec_keeper_event(struct agent *agent, const struct keeper_msg *msg);
void exec_keeper_lost(struct agent *agent);
void exec_keeper_listed(struct agent *agent);
/* The streams of one kind, for the functions above. */
void stream_each(struct agent *agent, const struct stream_ops *ops,
		 void (*fn)(void *data, void *argument), void *argument);
