/* News for the users of streams: collected while segments and timers are handled, told afterwards, in the order in which the
 * connections first had news. A callback may do anything that stream.h allows, freeing its own or other connections included;
 * ctx->telling turns NULL when the one being told is freed. */
#include "dataplane/tcp/tcp_priv.h"

void tcp_conn_notify(struct foil_worker *w, struct tcp_conn *c, uint8_t events)
{
	c->events |= events;
	if (!tcp_node_is_on(&c->ev_node))
		tcp_list_push_back(&w->tcp->events, &c->ev_node);
}

static void tell_accept(struct foil_worker *w, struct tcp_conn *c)
{
	struct tcp_listener *l = c->listener;

	c->listener = NULL;
	c->is_owned = true; /* before the call: the callee may use every function of stream.h in it */
	bool is_taken = l && l->p.accept && l->p.accept(w, l, &c->s);
	if (!is_taken && w->tcp->telling) {
		foil_reason(w, TCP, LISTENER_REFUSED);
		c->is_owned = false;
		tcp_conn_reset(w, c, STREAM_END_LOCAL);
	}
}

static void tell_closed(struct foil_worker *w, struct tcp_conn *c)
{
	const struct stream_user *user = c->s.user;

	if (user && user->closed)
		user->closed(w, &c->s, c->end);
	if (w->tcp->telling)
		tcp_conn_free(w, c);
}

/* The lowest event of events, as a bit. */
static void tell_one(struct foil_worker *w, struct tcp_conn *c, uint8_t event)
{
	const struct stream_user *user = c->s.user;

	switch (event) {
	case TCP_EV_ACCEPT:
		tell_accept(w, c);
		break;
	case TCP_EV_OPENED:
		if (user && user->opened)
			user->opened(w, &c->s);
		break;
	case TCP_EV_READABLE:
		if (user && user->readable)
			user->readable(w, &c->s);
		break;
	case TCP_EV_WRITABLE:
		if (user && user->writable && !c->is_finished)
			user->writable(w, &c->s);
		break;
	case TCP_EV_CLOSED:
		tell_closed(w, c);
		break;
	}
}

void tcp_events_run(struct foil_worker *w)
{
	struct tcp_ctx *t = w->tcp;
	struct tcp_node *n;

	while ((n = tcp_list_first(&t->events))) {
		struct tcp_conn *c = FOIL_CONTAINER_OF(n, struct tcp_conn, ev_node);
		tcp_node_remove(n);
		t->telling = c;
		while (t->telling && c->events) {
			uint8_t event = (uint8_t)(c->events & -c->events);
			c->events &= (uint8_t)~event;
			tell_one(w, c, event);
		}
		if (t->telling)
			tcp_node_remove(&c->ev_node); /* put on again by its own callbacks, and told all already */
		else
			FOIL_PROBE(w, TCP, USER_FREED_ITSELF);
		t->telling = NULL;
	}
}
