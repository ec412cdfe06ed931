/* Joins mesh to tcp: mesh knows streams and is told here how to listen and to connect. Each worker has a fixed table of listeners; a slot is written by
 * its worker alone. Invariant: a slot with listener != NULL is registered with tcp under the slot as its data. */
#include "programs/transport.h"

#include <errno.h>
#include <stdlib.h>

#include "dataplane/tcp/tcp.h"

#define LISTENERS_MAX 4096

struct mesh_listen_handle {
	struct tcp_listener *listener;
	bool (*accept)(struct foil_worker *w, void *data, struct stream *s);
	void *data;
};

static struct mesh_listen_handle *slots;
static uint16_t n_slot_workers;

int transport_init(uint16_t n_workers, struct foil_error *err)
{
	slots = calloc((size_t)n_workers * LISTENERS_MAX, sizeof(*slots));
	if (!slots)
		return foil_error_set(err, -ENOMEM, "no memory for the table of %d listeners for %u workers", LISTENERS_MAX, n_workers);
	n_slot_workers = n_workers;
	return 0;
}

void transport_fini(void)
{
	free(slots);
	slots = NULL;
}

static bool accept_stream(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	struct mesh_listen_handle *h = tcp_listener_data(l);
	return h->accept(w, h->data, s);
}

static struct mesh_listen_handle *free_slot(const struct foil_worker *w)
{
	FOIL_ASSERT(w->id < n_slot_workers);
	struct mesh_listen_handle *mine = slots + (size_t)w->id * LISTENERS_MAX;
	for (uint32_t i = 0; i < LISTENERS_MAX; i++)
		if (!mine[i].listener)
			return &mine[i];
	return NULL;
}

static int transport_listen(struct foil_worker *w, const uint8_t ip[16], uint16_t port,
			    bool (*accept)(struct foil_worker *w, void *data, struct stream *s), void *data, struct mesh_listen_handle **out)
{
	struct mesh_listen_handle *h = free_slot(w);
	if (!h)
		return -ENOBUFS;
	struct tcp_listen_params p = {.port = port, .accept = accept_stream, .user_data = h};
	memcpy(p.addr.b, ip, 16);
	h->accept = accept;
	h->data = data;
	int rc = tcp_listen(w, &p, &h->listener);
	if (rc == 0)
		*out = h;
	else
		h->listener = NULL;
	return rc;
}

static void transport_unlisten(struct foil_worker *w, struct mesh_listen_handle *h)
{
	tcp_unlisten(w, h->listener);
	*h = (struct mesh_listen_handle){0};
}

static int transport_connect(struct foil_worker *w, const uint8_t ip[16], uint16_t port, const struct stream_user *user, void *user_data,
			     struct stream **out)
{
	struct tcp_connect_params p = {.remote_port = port, .user = user, .user_data = user_data};
	memcpy(p.remote.b, ip, 16);
	return tcp_connect(w, &p, out);
}

static bool transport_is_captured(const struct foil_worker *w, const uint8_t ip[16])
{
	struct net_addr a;

	memcpy(a.b, ip, sizeof(a.b));
	return net_is_captured(w, &a);
}

const struct mesh_transport transport_tcp = {
	.is_captured = transport_is_captured,
	.listen = transport_listen,
	.unlisten = transport_unlisten,
	.connect = transport_connect,
};
