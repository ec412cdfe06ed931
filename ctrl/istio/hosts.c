/* The hosts of a Gateway's server, prepared so that thousands of VirtualServices are held against them without going through all (features.md GW-3). */
#include "ctrl/istio/compile.h"

#include <string.h>

struct server_host {
	const char *name;      /* lower case: exact, "*.x" or "*" */
	const char *namespace; /* of the VirtualServices that it is for; NULL: any */
	struct server_host *next_same_name;
};

struct server_hosts {
	struct server_host *all;
	uint32_t n_all;
	struct istio_map exact; /* name -> struct server_host */
	struct {
		struct server_host **list;
		uint32_t n, n_room;
	} wild;
};

/* "ns/host", "./host" (the Gateway's own namespace), "*" with "/host", or a host for all. */
static struct server_host split(struct compile *c, const struct resource *gateway, const char *text)
{
	const char *slash = strchr(text, '/');

	if (!slash)
		return (struct server_host){.name = istio_arena_lower(c->arena, text)};
	struct server_host h = {.name = istio_arena_lower(c->arena, slash + 1), .namespace = istio_arena_copy(c->arena, text, (size_t)(slash - text))};
	if (strcmp(h.namespace, ".") == 0)
		h.namespace = gateway->namespace;
	else if (strcmp(h.namespace, "*") == 0)
		h.namespace = NULL;
	return h;
}

static void index_host(struct compile *c, struct server_hosts *s, struct server_host *h)
{
	bool is_new;

	if (h->name[0] == '*') {
		ARENA_PUSH(c->arena, &s->wild, h);
		return;
	}
	void **place = istio_map_put(c->arena, &s->exact, h->name, &is_new);
	h->next_same_name = *place;
	*place = h;
}

const struct server_hosts *istio_hosts_of_server(struct compile *c, const struct resource *gateway, const struct gateway_server *server, uint32_t index)
{
	bool is_new;
	void **place = istio_map_put(c->arena, &c->server_hosts, istio_arena_printf(c->arena, "%s#%u", gateway->id, index), &is_new);

	if (is_new) {
		struct server_hosts *fresh = ARENA_NEW(c->arena, struct server_hosts);
		fresh->all = ARENA_ARRAY(c->arena, struct server_host, server->hosts.n);
		for (uint32_t i = 0; i < server->hosts.n; i++) {
			fresh->all[fresh->n_all] = split(c, gateway, server->hosts.list[i]);
			index_host(c, fresh, &fresh->all[fresh->n_all++]);
		}
		*place = fresh;
	}
	return *place;
}

static bool is_for(const struct server_host *h, const char *namespace)
{
	return !h->namespace || strcmp(h->namespace, namespace) == 0;
}

/* Whether a host without a wildcard is one of the server's. */
static bool has_exact(const struct server_hosts *s, const char *host, const char *namespace)
{
	for (const struct server_host *h = istio_map_get(&s->exact, host); h; h = h->next_same_name)
		if (is_for(h, namespace))
			return true;
	for (uint32_t i = 0; i < s->wild.n; i++)
		if (is_for(s->wild.list[i], namespace) && istio_compile_host_has_subset(s->wild.list[i]->name, host))
			return true;
	return false;
}

static void add(struct compile *c, struct host_list *to, struct istio_map *seen, const char *host)
{
	bool is_new;

	(void)istio_map_put(c->arena, seen, host, &is_new);
	if (is_new)
		ARENA_PUSH(c->arena, to, host);
}

struct host_list istio_hosts_meet(struct compile *c, const struct server_hosts *s, const struct vs *v)
{
	struct host_list out = {0};
	struct istio_map seen = {0};
	const char *namespace = v->source->namespace;

	for (uint32_t i = 0; i < v->spec->hosts.n; i++) {
		const char *theirs = v->hosts[i];
		if (theirs[0] != '*') {
			if (has_exact(s, theirs, namespace))
				add(c, &out, &seen, theirs);
			continue;
		}
		for (uint32_t j = 0; j < s->n_all; j++) {
			if (!is_for(&s->all[j], namespace))
				continue;
			if (istio_compile_host_has_subset(theirs, s->all[j].name))
				add(c, &out, &seen, s->all[j].name);
			else if (istio_compile_host_has_subset(s->all[j].name, theirs))
				add(c, &out, &seen, theirs);
		}
	}
	return out;
}

bool istio_hosts_are_any(const struct host_list *l)
{
	for (uint32_t i = 0; i < l->n; i++)
		if (strcmp(l->list[i], "*") == 0)
			return true;
	return false;
}

bool istio_hosts_touch(const struct server_hosts *s, const char *host, const char *namespace)
{
	if (host[0] != '*')
		return has_exact(s, host, namespace);
	for (uint32_t i = 0; i < s->n_all; i++)
		if (is_for(&s->all[i], namespace) &&
		    (istio_compile_host_has_subset(s->all[i].name, host) || istio_compile_host_has_subset(host, s->all[i].name)))
			return true;
	return false;
}
