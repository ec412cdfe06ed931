/* What strangers send is hashed: cookie headers, paths, header values. Input: path, a header's value and a cookie header, separated by line feeds.
 *
 * What must hold: the cookie that is found is the one that a search from the front finds; a made cookie has no byte of the request in it; the same request
 * gives the same hash; whatever the hash, a host of the table is chosen. */
#include "tests/unit/mesh/clusters.h"

#include "dataplane/mesh/hash_policy.h"

#include <xxhash.h>

static struct foil_worker *w;
static struct mesh_shared *shared;
static struct t_config *config;
static struct mesh_endpoints *endpoints;

static void set_up(void)
{
	w = t_worker(.seed = 1);
	shared = t_shared(1);
	config = t_config_new(1);
	endpoints = t_endpoints(7, NULL);
	t_config_add(config, 0, "ring", MESH_LB_RING_HASH, endpoints);
	t_config_add(config, 1, "maglev", MESH_LB_MAGLEV, endpoints)->maglev_table_size = 251;
	t_config_publish(shared, config);
}

/* The value of "k" in a cookie header, found the slow way: every place where a cookie may begin. */
static bool find_slowly(struct foil_slice header, struct foil_slice *value)
{
	for (uint32_t from = 0; from < header.n_bytes;) {
		uint32_t to = from, name;
		while (to < header.n_bytes && header.data[to] != ';')
			to++;
		for (name = from; name < to && header.data[name] == ' '; name++)
			;
		if (name + 1 < to && header.data[name] == 'k' && header.data[name + 1] == '=') {
			uint32_t a = name + 2, b = to;
			if (b - a >= 2 && header.data[a] == '"' && header.data[b - 1] == '"')
				a++, b--;
			*value = foil_slice_of(header.data + a, b - a);
			return true;
		}
		from = to + 1;
	}
	return false;
}

static struct foil_slice line(struct foil_slice *rest)
{
	const char *end = rest->n_bytes ? memchr(rest->data, '\n', rest->n_bytes) : NULL;
	struct foil_slice one = end ? foil_slice_of(rest->data, (size_t)(end - rest->data)) : *rest;

	*rest = end ? foil_slice_of(end + 1, (size_t)(rest->data + rest->n_bytes - end - 1)) : (struct foil_slice){"", 0};
	return one;
}

static void choose(uint64_t hash)
{
	const struct mesh_lb_want want = {.has_hash = true, .hash = hash};

	for (uint32_t slot = 0; slot < 2; slot++)
		FOIL_ASSERT(mesh_lb_choose(w, endpoints, config->sets[slot], &want) != NULL);
}

static void check_cookie(struct foil_slice header, const struct mesh_hash *out)
{
	struct foil_slice value = {"", 0};
	bool is_there = find_slowly(header, &value) && value.n_bytes;

	FOIL_ASSERT(out->is_there && out->n_set_cookies == !is_there);
	if (is_there)
		FOIL_ASSERT(out->hash == XXH64(value.data, value.n_bytes, 0));
	else
		FOIL_ASSERT(out->set_cookies[0].n_bytes == sizeof("k=\"0123456789abcdef\"; Max-Age=9; HttpOnly") - 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	static const struct stream_addr client = {.ip = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 18, [15] = 2}, .port = 4711};
	static const struct mesh_hash_policy cookie = {.kind = MESH_HASH_COOKIE, .name = {"k", 1}, .has_ttl = true, .ttl_s = 9};
	const struct mesh_hash_policy all[] = {
		{.kind = MESH_HASH_HEADER, .name = {"x-a", 3}}, {.kind = MESH_HASH_QUERY, .name = {"k", 1}, .terminal = true},
		{.kind = MESH_HASH_SOURCE_IP}, cookie,
	};
	struct foil_slice rest = {(const char *)data, (uint32_t)n_bytes};
	struct foil_arena a = {0};
	struct mesh_hash one, again;

	if (!w)
		set_up();
	if (n_bytes > 65536)
		return 0;
	struct http_head head = {.path = line(&rest)};
	struct foil_slice value = line(&rest), cookies = line(&rest);
	const struct mesh_hash_request r = {.head = &head, .client = &client, .remote = &client, .local = &client};
	if (http_header_add(w, &a, &head.headers, FOIL_SLICE("x-a"), value) == 0 && http_header_add(w, &a, &head.headers, FOIL_SLICE("cookie"), cookies) == 0 &&
	    mesh_hash_of_request(w, &a, &cookie, 1, &r, &one) == 0) {
		check_cookie(cookies, &one);
		choose(one.hash);
	}
	if (mesh_hash_of_request(w, &a, all, FOIL_COUNT_OF(all), &r, &one) == 0 && mesh_hash_of_request(w, &a, all, FOIL_COUNT_OF(all), &r, &again) == 0) {
		FOIL_ASSERT(one.is_there && one.hash == again.hash);
		choose(one.hash);
	}
	foil_arena_reset(w, &a);
	return 0;
}
