/*
 * Network cards that come and go while QEMU runs: each sits in a root port of its own, which the
 * command line has made (command_qemu.c), so that a guest can be asked to let go of it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mem.h"
#include "codec/frame.h"
#include "kern/sock.h"
#include "machine/qemu_internal.h"

enum {
	REMOVE_TIMEOUT_MS = 10000,
	REMOVE_TIMEOUT_MAX_MS = 600000,
	MAC_TEXT_SIZE = 18,
	ARGUMENTS_MAX = 256,
};

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* ---- those that it was started with ---- */

/* The value of "NAME=VALUE" among a word's parts; "" when it has none. */
static void read_part(const char *word, const char *name, char *ret, size_t size)
{
	const char *at = strstr(word, name);

	snprintf(ret, size, "%.*s", at ? (int) strcspn(at + strlen(name), ",") : 0,
		 at ? at + strlen(name) : "");
}

void qemu_cards_begin(struct qemu *qemu)
{
	static const char card[] = "virtio-net-pci,";

	for (char **word = qemu->options->argv; *word; word++) {
		char slot[4], id[MACHINE_NIC_ID_SIZE];
		unsigned long number;

		if (strncmp(*word, card, strlen(card)) != 0)
			continue;
		read_part(*word, ",bus=" QEMU_SLOT, slot, sizeof(slot));
		read_part(*word, ",id=", id, sizeof(id));
		number = strtoul(slot, NULL, 10);
		if (slot[0] && number < MACHINE_NICS_MAX)
			memcpy(qemu->cards[number].id, id, sizeof(id));
	}
}

/* ---- what QEMU is asked ---- */

static void ask(struct qemu *qemu, struct qemu_card *card, enum qemu_card_state state,
		const char *command, const char *arguments)
{
	card->state = state;
	card->qmp_id = ++qemu->next_qmp_id;
	qmp_append_command(&qemu->qmp_out, command, arguments, card->qmp_id);
}

/* Nobody waits for the answer. */
static void tell(struct qemu *qemu, const char *command, const char *name, const char *prefix,
		 const char *id)
{
	AUTO(free) char *arguments = mem_printf("{\"%s\":\"%s%s\"}", name, prefix, id);

	qmp_append_command(&qemu->qmp_out, command, arguments, ++qemu->next_qmp_id);
}

static struct qemu_card *find_card(struct qemu *qemu, const char *id)
{
	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++)
		if (qemu->cards[i].id[0] && strcmp(qemu->cards[i].id, id) == 0)
			return &qemu->cards[i];
	return NULL;
}

static bool is_there(const struct qemu_card *card)
{
	return card->id[0] && (card->state == QEMU_CARD_THERE || card->state == QEMU_CARD_LEAVES);
}

/* Steals `result`; who waits hears it once. */
static void answer(struct qemu *qemu, struct qemu_card *card, const char *error, json_t *result)
{
	json_t *body =
		error ? json_pack("{s:s}", "error", error) : json_pack("{s:o}", "result", result);

	if (card->client_serial != 0)
		qemu_control_return(qemu, card->client_serial, card->frame_id, json_incref(body));
	json_decref(body);
	card->client_serial = 0;
	card->qmp_id = 0;
}

json_t *qemu_cards_json(const struct qemu *qemu)
{
	json_t *list = json_array();

	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++)
		if (is_there(&qemu->cards[i]))
			json_array_append_new(list, json_string(qemu->cards[i].id));
	return list;
}

/* ---- coming ---- */

static bool is_mac(const char *text)
{
	return strlen(text) == MAC_TEXT_SIZE - 1 &&
	       strspn(text, "0123456789abcdef:") == MAC_TEXT_SIZE - 1;
}

static bool is_id(const char *text)
{
	size_t size = strlen(text);

	return size > 0 && size < MACHINE_NIC_ID_SIZE && strchr(LETTERS, text[0]) &&
	       strspn(text, LETTERS "0123456789._-") == size;
}

static int read_card(const json_t *arguments, struct qemu_card *ret, struct error *err)
{
	struct json_reader in = { .err = err, .where = "arguments" };
	AUTO(free) char *id = NULL;
	AUTO(free) char *mac = NULL;

	json_read_string(&in, arguments, "id", &id);
	json_read_string(&in, arguments, "mac", &mac);
	json_read_uint32(&in, arguments, "mtu", UINT16_MAX, &ret->mtu);
	int r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	if (!id || !is_id(id))
		return error_say(err, -EINVAL, "arguments.id: must be a name of at most %d letters",
				 MACHINE_NIC_ID_SIZE - 1);
	if (!mac || !is_mac(mac))
		return error_say(err, -EINVAL, "arguments.mac: must be like 02:00:00:00:00:01");
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	snprintf(ret->mac, sizeof(ret->mac), "%s", mac);
	return 0;
}

static int check_new(struct qemu *qemu, const struct qemu_card *card, struct qemu_card **ret,
		     struct error *err)
{
	if (find_card(qemu, card->id))
		return error_say(err, -EEXIST, "there is a device %s already", card->id);
	if (qemu->passed.fd >= 0)
		return error_say(err, -EBUSY, "another card is on its way");
	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++)
		if (!qemu->cards[i].id[0]) {
			*ret = &qemu->cards[i];
			return 0;
		}
	return error_say(err, -ENOSPC, "there can be %d network cards", MACHINE_NICS_MAX);
}

int qemu_cards_add(struct qemu *qemu, struct qemu_client *client, uint64_t frame_id,
		   const json_t *arguments, struct error *err)
{
	struct qemu_card card = { .client_serial = client->serial, .frame_id = frame_id };
	struct qemu_card *slot = NULL;
	char text[ARGUMENTS_MAX];
	int r = read_card(arguments, &card, err);

	if (r == 0 && client->given_fd < 0)
		r = error_say(err, -EBADF, "a descriptor must come with this call (SCM_RIGHTS)");
	if (r == 0)
		r = check_new(qemu, &card, &slot, err);
	if (r < 0)
		return r;
	*slot = card;
	qemu->passed.fd = client->given_fd;
	client->given_fd = -1;
	qemu->passed.at = qemu->qmp_out.size;
	snprintf(text, sizeof(text), "{\"fdname\":\"%s\"}", slot->id);
	ask(qemu, slot, QEMU_CARD_GETS_FD, "getfd", text);
	qemu->passed.size = qemu->qmp_out.size - qemu->passed.at;
	return 0;
}

static void add_netdev(struct qemu *qemu, struct qemu_card *card)
{
	char text[ARGUMENTS_MAX];

	snprintf(text, sizeof(text),
		 "{\"type\":\"tap\",\"id\":\"" QEMU_NETDEV "%s\",\"fd\":\"%s\",\"vhost\":false}",
		 card->id, card->id);
	ask(qemu, card, QEMU_CARD_GETS_NETDEV, "netdev_add", text);
}

static void add_device(struct qemu *qemu, struct qemu_card *card)
{
	char text[2 * ARGUMENTS_MAX], mtu[32] = "";

	if (card->mtu > 0)
		snprintf(mtu, sizeof(mtu), ",\"host_mtu\":%u", card->mtu);
	snprintf(text, sizeof(text),
		 "{\"driver\":\"virtio-net-pci\",\"id\":\"%s\",\"bus\":\"" QEMU_SLOT
		 "%u\",\"netdev\":\"" QEMU_NETDEV "%s\",\"mac\":\"%s\",\"romfile\":\"\","
		 "\"disable-legacy\":\"on\"%s}",
		 card->id, (unsigned int) (card - qemu->cards), card->id, card->mac, mtu);
	ask(qemu, card, QEMU_CARD_GETS_DEVICE, "device_add", text);
}

/* ---- going ---- */

int qemu_cards_remove(struct qemu *qemu, struct qemu_client *client, uint64_t frame_id,
		      const json_t *arguments, struct error *err)
{
	struct json_reader in = { .err = err, .where = "arguments" };
	uint32_t timeout_ms = REMOVE_TIMEOUT_MS;
	AUTO(free) char *id = NULL;
	struct qemu_card *card;
	char text[ARGUMENTS_MAX];

	json_read_string(&in, arguments, "id", &id);
	json_read_uint32(&in, arguments, "timeout_ms", REMOVE_TIMEOUT_MAX_MS, &timeout_ms);
	int r = json_reader_finish(&in, arguments);
	if (r < 0)
		return r;
	card = id ? find_card(qemu, id) : NULL;
	if (!card)
		return error_say(err, -ENOENT, "there is no card '%.40s'", id ? id : "");
	if (card->state != QEMU_CARD_THERE)
		return error_say(err, -EBUSY, "%s is being added or removed already", card->id);
	card->client_serial = client->serial;
	card->frame_id = frame_id;
	card->timeout_ms = timeout_ms;
	card->deadline_us = clock_monotonic_us(clock_system()) + timeout_ms * 1000ull;
	snprintf(text, sizeof(text), "{\"id\":\"%s\"}", card->id);
	ask(qemu, card, QEMU_CARD_LEAVES, "device_del", text);
	return 0;
}

void qemu_cards_deleted(struct qemu *qemu, const char *id)
{
	struct qemu_card *card = find_card(qemu, id);

	if (!card || !is_there(card))
		return;
	tell(qemu, "netdev_del", "id", QEMU_NETDEV, card->id);
	answer(qemu, card, NULL, json_object());
	*card = (struct qemu_card){};
}

int qemu_cards_wait_ms(const struct qemu *qemu)
{
	uint64_t now = clock_monotonic_us(clock_system()), first = UINT64_MAX;

	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++)
		if (qemu->cards[i].state == QEMU_CARD_LEAVES && qemu->cards[i].deadline_us < first)
			first = qemu->cards[i].deadline_us;
	if (first == UINT64_MAX)
		return -1;
	return first <= now ? 0 : (int) ((first - now) / 1000) + 1;
}

/* It stays, until it is asked for again; when the guest lets go later, it goes all the same. */
void qemu_cards_tick(struct qemu *qemu)
{
	uint64_t now = clock_monotonic_us(clock_system());

	for (unsigned int i = 0; i < MACHINE_NICS_MAX; i++) {
		struct qemu_card *card = &qemu->cards[i];
		char why[128];

		if (card->state != QEMU_CARD_LEAVES || card->deadline_us > now)
			continue;
		snprintf(why, sizeof(why), "the guest did not let go of %s within %u ms; it stays",
			 card->id, card->timeout_ms);
		answer(qemu, card, why, NULL);
		card->state = QEMU_CARD_THERE;
	}
}

/* ---- QEMU's answers ---- */

static void failed(struct qemu *qemu, struct qemu_card *card, const char *words)
{
	if (card->state == QEMU_CARD_LEAVES) {
		answer(qemu, card, words, NULL);
		card->state = QEMU_CARD_THERE;
		return;
	}
	if (card->state == QEMU_CARD_GETS_NETDEV)
		tell(qemu, "closefd", "fdname", "", card->id);
	else if (card->state == QEMU_CARD_GETS_DEVICE)
		tell(qemu, "netdev_del", "id", QEMU_NETDEV, card->id);
	answer(qemu, card, words, NULL);
	*card = (struct qemu_card){};
}

static void succeeded(struct qemu *qemu, struct qemu_card *card)
{
	switch (card->state) {
	case QEMU_CARD_GETS_FD:
		add_netdev(qemu, card);
		return;
	case QEMU_CARD_GETS_NETDEV:
		add_device(qemu, card);
		return;
	case QEMU_CARD_GETS_DEVICE:
		answer(qemu, card, NULL, json_pack("{s:s}", "id", card->id));
		card->state = QEMU_CARD_THERE;
		return;
	case QEMU_CARD_LEAVES: /* the guest has been asked */
	case QEMU_CARD_THERE:
		return;
	}
}

bool qemu_cards_answered(struct qemu *qemu, const struct qmp_message *message)
{
	for (unsigned int i = 0; message->id != 0 && i < MACHINE_NICS_MAX; i++) {
		struct qemu_card *card = &qemu->cards[i];

		if (card->qmp_id != message->id)
			continue;
		card->qmp_id = 0;
		if (message->kind == QMP_RETURN)
			succeeded(qemu, card);
		else
			failed(qemu, card, message->text);
		return true;
	}
	return false;
}
