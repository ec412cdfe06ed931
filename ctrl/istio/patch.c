/* Endpoints without the mesh: when nothing but EndpointSlices changed, only the services that they belong to are looked at again, inside the
 * compilation that made the snapshot (its tables and its arenas are kept for this). Everything is checked before anything is changed: what is not plainly
 * a change of endpoints is left to a whole compilation. The same for names whose addresses changed.
 * Invariant: after every patch the snapshot's resources are what istio_compile makes of the same contents. */
#include "ctrl/istio/identity.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LABEL_SERVICE "kubernetes.io/service-name"

struct reslice {
	struct service *service; /* NULL: no Service has this name, its slices wait for one */
	const char *key;         /* in compile.slices */
	struct resource_list list;
};

struct patching {
	struct owned_snapshot *o;
	struct compile *c;
	const struct istio_file_change *changes;
	size_t n_changes;
	struct istio_model *after; /* of all new contents */
	struct istio_map services; /* key -> struct reslice */
};

/* ---- what may be patched ---- */

static bool is_slices_only(const struct doc_file *f)
{
	for (uint32_t i = 0; i < f->n_documents; i++) {
		const char *kind = istio_doc_text(f->documents[i], "kind");
		if (!kind || strcmp(kind, "EndpointSlice") != 0)
			return false;
	}
	return true;
}

static bool is_of_changed_file(const struct patching *p, const struct resource *r)
{
	for (size_t i = 0; i < p->n_changes; i++)
		if (r->file == p->changes[i].before)
			return true;
	return false;
}

/* A last good version of what a changed file has: whether that is better now is for the whole reading to say. */
static bool is_stale_of_changed_file(const struct patching *p, const struct resource *r)
{
	for (size_t i = 0; i < p->n_changes; i++)
		if (r->is_last_good && strcmp(r->file_name, p->changes[i].before->name) == 0)
			return true;
	return false;
}

static int read_after(struct patching *p)
{
	struct istio_diags diags;
	int rc = 0;

	istio_diags_init(&diags);
	p->after = istio_model_new(NULL);
	if (!p->after)
		rc = -ENOMEM;
	for (size_t i = 0; i < p->n_changes && rc == 0; i++) {
		if (!is_slices_only(p->changes[i].before) || !is_slices_only(p->changes[i].after))
			rc = -ENOTSUP;
		else
			rc = istio_model_add(p->after, p->changes[i].after, &diags);
	}
	if (rc == 0 && diags.n) /* something is wrong with them: that is for the whole reading to say, and to keep what was good */
		rc = -ENOTSUP;
	istio_diags_fini(&diags);
	return rc;
}

/* ---- the services ---- */

static struct reslice *reslice_of(struct patching *p, const struct resource *r)
{
	const char *name = istio_compile_label(&r->labels, LABEL_SERVICE);
	bool is_new;

	if (!name)
		return NULL;
	const char *key = istio_arena_printf(p->c->arena, "%s/%s", r->namespace, name);
	void **place = istio_map_put(p->c->arena, &p->services, key, &is_new);
	if (is_new) {
		struct reslice *fresh = ARENA_NEW(p->c->arena, struct reslice);
		const char *host = istio_arena_lower(p->c->arena, istio_arena_printf(p->c->arena, "%s.%s.svc.cluster.local", name, r->namespace));
		*fresh = (struct reslice){.key = key, .service = istio_registry_find(p->c, host)};
		*place = fresh;
	}
	return *place;
}

/* A resource that is neither of the files before nor new: it stands twice. */
static bool stands_elsewhere(const struct patching *p, const struct resource *r)
{
	const struct resource *same = istio_map_get(&p->o->model->by_id, r->id);

	for (uint32_t i = 0; i < p->o->patches.n && !same; i++)
		same = istio_map_get(&p->o->patches.list[i]->by_id, r->id);
	return same && same->file != r->file && strcmp(same->file_name, r->file_name) != 0;
}

/* The services of a set of slices, each once, and whether all may be patched. */
static bool note_services(struct patching *p, const struct resource_list *slices)
{
	for (uint32_t i = 0; i < slices->n; i++) {
		const struct resource *r = slices->list[i];
		const struct reslice *s = reslice_of(p, r);
		if (!s || stands_elsewhere(p, r))
			return false;
		if (s->service && (!s->service->is_k8s || !s->service->has_slices || s->service->is_united || s->service->next_same_host))
			return false;
	}
	return true;
}

/* Slices that the snapshot has of the files before. */
static int slices_before(const struct patching *p, struct resource_list *found)
{
	for (uint32_t i = 0; i < p->c->slices.n; i++) {
		const struct resource_list *list = p->c->slices.entries[i].value;
		for (uint32_t j = 0; j < list->n; j++) {
			if (is_stale_of_changed_file(p, list->list[j]))
				return -ENOTSUP;
			if (is_of_changed_file(p, list->list[j]))
				ARENA_PUSH(p->c->arena, found, list->list[j]);
		}
	}
	return 0;
}

/* The service's slices as they are now: those of other files, and the new ones. False: none is left. */
static bool gather(struct patching *p, struct reslice *s)
{
	const struct resource_list *old = istio_map_get(&p->c->slices, s->key), *fresh = &p->after->kinds[KIND_ENDPOINT_SLICE];

	for (uint32_t i = 0; old && i < old->n; i++)
		if (!is_of_changed_file(p, old->list[i]))
			ARENA_PUSH(p->c->arena, &s->list, old->list[i]);
	for (uint32_t i = 0; i < fresh->n; i++)
		if (reslice_of(p, fresh->list[i]) == s)
			ARENA_PUSH(p->c->arena, &s->list, fresh->list[i]);
	if (s->list.n)
		qsort(s->list.list, s->list.n, sizeof(s->list.list[0]), istio_resource_by_age);
	return s->list.n > 0;
}

static int plan(struct patching *p)
{
	struct resource_list before = {0};
	int rc = read_after(p);

	if (rc == 0)
		rc = slices_before(p, &before);
	if (rc)
		return rc;
	if (!note_services(p, &before) || !note_services(p, &p->after->kinds[KIND_ENDPOINT_SLICE]))
		return -ENOTSUP;
	for (uint32_t i = 0; i < p->services.n; i++)
		if (!gather(p, p->services.entries[i].value))
			return -ENOTSUP; /* its endpoints come from somewhere else now */
	return 0;
}

/* ---- the change ---- */

/* -ENOTSUP: what the new endpoints are changes more than the endpoints (identities, mutual TLS); the whole compilation that follows begins anew. */
static int apply(struct patching *p)
{
	bool is_new;
	int rc = 0;

	ARENA_PUSH(p->c->arena, &p->o->patches, istio_model_get_ref(p->after));
	p->c->resources.n = 0;
	for (uint32_t i = 0; i < p->services.n; i++) {
		struct reslice *s = p->services.entries[i].value;
		*istio_map_put(p->c->arena, &p->c->slices, s->key, &is_new) = &s->list;
		if (!s->service)
			continue;
		struct identity_facts before = istio_identity_facts(p->c, s->service);
		istio_registry_reslice(p->c, s->service, &s->list);
		struct identity_facts after = istio_identity_facts(p->c, s->service);
		if (memcmp(&before, &after, sizeof(before)) != 0)
			rc = -ENOTSUP;
		istio_clusters_emit_endpoints(p->c, s->service);
	}
	return rc;
}

/* Only those that are others than before; they come first in compile.resources. */
static size_t take_resources(struct patching *p)
{
	struct owned_snapshot *o = p->o;
	size_t n = 0;

	for (uint32_t i = 0; i < p->c->resources.n; i++) {
		struct istio_resource fresh = p->c->resources.list[i];
		struct istio_resource *old = bsearch(&fresh, o->resources, o->snapshot.n_resources, sizeof(fresh), istio_resource_compare);
		if (!old || (old->hash == fresh.hash && old->n_bytes == fresh.n_bytes))
			continue; /* every cluster had its endpoints, if only none */
		o->snapshot.n_bytes += fresh.n_bytes - old->n_bytes;
		*old = fresh;
		p->c->resources.list[n++] = fresh;
	}
	return n;
}

/* Both arenas jump to the same place. p is the caller's: it outlives the jump. */
static int run(struct patching *p, const char *version)
{
	if (setjmp(p->o->arena.full) || setjmp(p->o->scratch.full))
		return -ENOMEM;
	int rc = plan(p);
	if (rc == 0)
		rc = apply(p);
	if (rc)
		return rc;
	p->o->snapshot.version = istio_arena_copy(p->c->out, version, strlen(version));
	return 0;
}

int istio_patch(struct istio_snapshot *s, const struct istio_node *node, const char *version, const struct istio_file_change *changes, size_t n_changes,
		struct istio_diags *diags, const struct istio_resource **changed, size_t *n_changed)
{
	struct owned_snapshot *o = (struct owned_snapshot *)(void *)s;
	struct patching p = {.o = o, .c = &o->compile, .changes = changes, .n_changes = n_changes};

	o->compile.node = node;
	o->compile.diags = diags;
	int rc = run(&p, version);
	if (rc == 0) {
		*n_changed = take_resources(&p);
		*changed = p.c->resources.list;
	}
	istio_model_free(p.after);
	return rc;
}

/* ---- names ---- */

static int run_names(struct patching *p, const char *const *names, size_t n_names)
{
	struct istio_map done = {0};

	if (setjmp(p->o->arena.full) || setjmp(p->o->scratch.full))
		return -ENOMEM;
	p->c->resources.n = 0;
	for (size_t i = 0; i < n_names; i++) {
		const struct service_list *users = istio_map_get(&p->c->names, names[i]);
		for (uint32_t j = 0; users && j < users->n; j++) {
			bool is_new;
			struct service *s = users->list[j];
			(void)istio_map_put(p->c->arena, &done, istio_arena_printf(p->c->arena, "%s/%s", s->namespace, s->host), &is_new);
			if (is_new)
				istio_clusters_emit_endpoints(p->c, s);
		}
	}
	return 0;
}

int istio_patch_names(struct istio_snapshot *s, const struct istio_node *node, const char *const *names, size_t n_names, const struct istio_resource **changed,
		      size_t *n_changed)
{
	struct owned_snapshot *o = (struct owned_snapshot *)(void *)s;
	struct patching p = {.o = o, .c = &o->compile};
	struct istio_diags diags; /* what there is to say of these services was said when they were compiled */

	istio_diags_init(&diags);
	o->compile.node = node;
	o->compile.diags = &diags;
	int rc = run_names(&p, names, n_names);
	if (rc == 0) {
		*n_changed = take_resources(&p);
		*changed = p.c->resources.list;
	}
	istio_diags_fini(&diags);
	o->compile.diags = NULL;
	return rc;
}
