/* PeerAuthentication: its field table, and which mode is in force for a workload's port (features.md PA-1, PA-2): workload port, workload, namespace, mesh
 * (the root namespace), PERMISSIVE; several at one level: the oldest. What is said of a workload by a selector in the root namespace counts for nobody,
 * as in Istio. */
#include "ctrl/istio/identity.h"
#include "ctrl/istio/rows.h"

#include <stdlib.h>
#include <string.h>

struct mtls {
	struct istio_head head;
	struct istio_int mode;
};
struct peer_authentication {
	struct istio_head head;
	struct match_labels *selector;
	struct mtls *mtls;
	struct istio_list ports; /* struct mtls, named by the port */
};

static const char *const mode_words[] = {"UNSET", "DISABLE", "PERMISSIVE", "STRICT", NULL};
static const struct istio_field mtls_rows[] = {ROW(mtls, mode, "mode", F_ENUM, .words = mode_words)};
static const struct istio_table table_mtls = TABLE(mtls, "MutualTLS", mtls_rows);
static const struct istio_field match_labels_rows[] = {ROW(match_labels, labels, "matchLabels", F_STRING_MAP)};
const struct istio_table istio_table_match_labels = TABLE(match_labels, "WorkloadSelector", match_labels_rows);
static const struct istio_field peer_auth_rows[] = {
	ROW(peer_authentication, selector, "selector", F_OBJECT, .table = &istio_table_match_labels),
	ROW(peer_authentication, mtls, "mtls", F_OBJECT, .table = &table_mtls),
	ROW(peer_authentication, ports, "portLevelMtls", F_OBJECT_MAP, .table = &table_mtls),
};

static bool has_selector(const struct peer_authentication *p)
{
	return p->selector && p->selector->labels.n > 0;
}

static uint32_t port_number(const char *text)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	return text[0] >= '0' && text[0] <= '9' && *end == 0 && n >= 1 && n <= PORT_MAX ? (uint32_t)n : 0;
}

static void check_peer_auth(struct istio_decode *d, void *object)
{
	struct peer_authentication *p = object;

	if (p->ports.n && !has_selector(p))
		istio_decode_error(d, "IST0106", &p->head, "portLevelMtls", "needs a selector: ports belong to workloads");
	for (uint32_t i = 0; i < p->ports.n; i++) {
		const struct mtls *m = ISTIO_ITEM(p->ports, struct mtls, i);
		if (!port_number(m->head.name))
			istio_decode_error(d, "IST0106", &p->head, "portLevelMtls", "\"%.40s\" is not a port's number", m->head.name);
	}
}

const struct istio_table istio_table_peer_authentication =
	TABLE(peer_authentication, "PeerAuthentication", peer_auth_rows, .check = check_peer_auth);

/* ---- which one ---- */

static enum mtls_mode overlay(enum mtls_mode now, const struct mtls *m)
{
	return m && m->mode.value != MTLS_UNSET ? (enum mtls_mode)m->mode.value : now;
}

static enum mtls_mode of_port(enum mtls_mode now, const struct peer_authentication *p, uint32_t port)
{
	for (uint32_t i = 0; i < p->ports.n; i++) {
		const struct mtls *m = ISTIO_ITEM(p->ports, struct mtls, i);
		if (port_number(m->head.name) == port)
			return overlay(now, m);
	}
	return now;
}

enum mtls_mode istio_peer_auth_mode(const struct compile *c, const char *namespace, const struct istio_string_map *labels, uint32_t port)
{
	const struct resource_list *list = &c->model->kinds[KIND_PEER_AUTHENTICATION];
	const struct peer_authentication *mesh = NULL, *own = NULL, *workload = NULL;

	for (uint32_t i = 0; i < list->n; i++) { /* oldest first */
		const struct resource *r = list->list[i];
		const struct peer_authentication *p = r->spec;
		bool is_root = strcmp(r->namespace, c->root_namespace) == 0;
		if (!is_root && strcmp(r->namespace, namespace) != 0)
			continue;
		if (has_selector(p)) {
			if (!is_root && !workload && labels && istio_compile_labels_have(labels, &p->selector->labels))
				workload = p;
		} else if (is_root && !mesh) {
			mesh = p;
		} else if (!is_root && !own) {
			own = p;
		}
	}
	enum mtls_mode mode = overlay(overlay(MTLS_PERMISSIVE, mesh ? mesh->mtls : NULL), own ? own->mtls : NULL);
	return workload ? of_port(overlay(mode, workload->mtls), workload, port) : mode;
}

/* What is in force for a service's port: of its workloads the strictest, since at a service's address nobody knows yet which of them it will be. */
enum mtls_mode istio_peer_auth_of_service(const struct compile *c, const struct service *s, const struct service_port *port)
{
	enum mtls_mode mode = MTLS_UNSET;

	for (uint32_t i = 0; i < s->instances.n; i++) {
		const struct instance *in = s->instances.list[i];
		uint32_t number = istio_clusters_port_of(port, in);
		enum mtls_mode one = number ? istio_peer_auth_mode(c, in->namespace, in->labels, number) : MTLS_UNSET;
		mode = one > mode ? one : mode;
	}
	return mode == MTLS_UNSET ? istio_peer_auth_mode(c, s->namespace, NULL, port->number) : mode;
}
