/* See fixture.h. */
#include "tests/unit/istio/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = {"istio"}, *const ingress[] = {"ingressgateway"}, *const egress[] = {"egressgateway"};
static const char *const addresses[] = {"198.18.0.1", "fd00:f011:0::1"}, *const inner[] = {"198.19.0.1"}, *const cidrs[] = {"198.18.10.0/24"};
static const struct istio_gateway_address gateways[] = {{keys, ingress, 1, addresses, 2}, {keys, egress, 1, inner, 1}};
const struct istio_node t_node = {.gateways = gateways, .n_gateways = 2, .service_cidrs = cidrs, .n_service_cidrs = 1};

static struct t_mesh *compile(const struct istio_model *before, const struct istio_node *node, const char *text)
{
	struct t_mesh *m = calloc(1, sizeof(*m));

	assert_non_null(m);
	istio_diags_init(&m->diags);
	m->file = istio_doc_read("test.yaml", text, strlen(text), (struct istio_pos){1, 1}, &m->diags);
	m->model = istio_model_new(before);
	assert_non_null(m->model);
	if (m->file)
		assert_int_equal(istio_model_add(m->model, m->file, &m->diags), 0);
	assert_int_equal(istio_model_finish(m->model, &m->diags), 0);
	assert_int_equal(istio_compile(m->model, node, "v1", &m->snapshot, &m->diags), 0);
	return m;
}

static struct t_mesh *join(const struct istio_node *node, const char *first, va_list *ap)
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);

	for (const char *part = first; part; part = va_arg(*ap, const char *))
		fprintf(f, "%s%s", part == first ? "" : "---\n", part);
	assert_int_equal(fclose(f), 0);
	struct t_mesh *m = compile(NULL, node, text);
	free(text);
	return m;
}

struct t_mesh *t_mesh_new(const char *first, ...)
{
	va_list ap;

	va_start(ap, first);
	struct t_mesh *m = join(&t_node, first, &ap);
	va_end(ap);
	return m;
}

struct t_mesh *t_mesh_at(const struct istio_node *node, const char *first, ...)
{
	va_list ap;

	va_start(ap, first);
	struct t_mesh *m = join(node, first, &ap);
	va_end(ap);
	return m;
}

struct t_mesh *t_mesh_after(const struct t_mesh *before, const char *text)
{
	return compile(before->model, &t_node, text);
}

void t_mesh_free(struct t_mesh *own_m)
{
	istio_snapshot_free(own_m->snapshot);
	istio_model_free(own_m->model);
	istio_doc_put_ref(own_m->file);
	istio_diags_fini(&own_m->diags);
	free(own_m);
}

static const struct istio_resource *find(const struct t_mesh *m, uint32_t type, const char *name)
{
	for (size_t i = 0; i < m->snapshot->n_resources; i++)
		if (m->snapshot->resources[i].type == type && strcmp(m->snapshot->resources[i].name, name) == 0)
			return &m->snapshot->resources[i];
	return NULL;
}

bool t_has(const struct t_mesh *m, uint32_t type, const char *name)
{
	return find(m, type, name) != NULL;
}

Foil__Conf__RouteConfig *t_routes(const struct t_mesh *m, const char *name)
{
	const struct istio_resource *r = find(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, name);

	return r ? foil__conf__route_config__unpack(NULL, r->n_bytes, r->bytes) : NULL;
}

Foil__Conf__Listener *t_listener(const struct t_mesh *m, const char *name)
{
	const struct istio_resource *r = find(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, name);

	return r ? foil__conf__listener__unpack(NULL, r->n_bytes, r->bytes) : NULL;
}

Foil__Conf__Cluster *t_cluster(const struct t_mesh *m, const char *name)
{
	const struct istio_resource *r = find(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, name);

	return r ? foil__conf__cluster__unpack(NULL, r->n_bytes, r->bytes) : NULL;
}

Foil__Conf__Endpoints *t_endpoints(const struct t_mesh *m, const char *name)
{
	const struct istio_resource *r = find(m, FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, name);

	return r ? foil__conf__endpoints__unpack(NULL, r->n_bytes, r->bytes) : NULL;
}

Foil__Conf__VirtualHost *t_vhost(const Foil__Conf__RouteConfig *r, const char *domain)
{
	for (size_t i = 0; i < r->n_virtual_hosts; i++)
		for (size_t j = 0; j < r->virtual_hosts[i]->n_domains; j++)
			if (strcmp(r->virtual_hosts[i]->domains[j], domain) == 0)
				return r->virtual_hosts[i];
	return NULL;
}

static void print_diags(const struct t_mesh *m)
{
	char line[1024];

	for (size_t i = 0; i < m->diags.n; i++) {
		(void)istio_diag_format(&m->diags.list[i], line, sizeof(line));
		fprintf(stderr, "# %s\n", line);
	}
}

const struct istio_diag *t_diag(const struct t_mesh *m, const char *code, const char *part)
{
	for (size_t i = 0; i < m->diags.n; i++)
		if (strcmp(m->diags.list[i].code, code) == 0 && strstr(m->diags.list[i].text, part))
			return &m->diags.list[i];
	print_diags(m);
	fail_msg("no diagnostic %s with \"%s\"", code, part);
	return NULL;
}

void t_assert_no_diags(const struct t_mesh *m)
{
	if (m->diags.n)
		print_diags(m);
	assert_int_equal(m->diags.n, 0);
}

void t_assert_at(const struct istio_diag *d, uint32_t line, uint32_t column, const char *field)
{
	assert_string_equal(d->file, "test.yaml");
	assert_int_equal(d->at.line, line);
	assert_int_equal(d->at.column, column);
	assert_string_equal(d->field, field);
}
