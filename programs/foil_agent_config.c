/* The agent's configuration: readings of the directory, compiling for the node that is connected, and what the data plane made of it.
 *
 * What a reading leads to:
 *   - every resource without an error is compiled and sent; those with an error are named in the diagnostics and run on in their last good version
 *     where they have one. The state becomes "applied" when the data plane has it: one bad resource blocks nobody else;
 *   - a reading with errors in which nothing at all is left to run (the only file is no YAML, say) is "rejected" here and not sent: the data plane
 *     keeps what it has. An empty directory is no error: it means an empty mesh;
 *   - what the data plane refuses is "rejected", with its reasons; it too keeps what it has.
 * Every reading gets a new version, and so does every compile for another node: a version names one set of resources.
 *
 * When nothing but endpoints changed, the snapshot is patched and only they are sent; a whole reading follows when the directory has been quiet for a
 * while, or patched for long. It must come to the same resources, keeps the version then, and brings diagnostics and the last good versions up to date.
 * Invariant: snapshot is compiled from model for node (or for any node before the first hello); what was sent is always the snapshot. */
#include "programs/foil_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.pb-c.h"
#include "programs/log.h"

#define LOGGED_DIAGS_MAX 20u
#define PATCH_FILES_MAX 64u
#define SETTLE_QUIET_MS 5000u  /* after the last patch */
#define SETTLE_LATEST_MS 60000u /* after the first */

static void version_name(const struct agent *a, uint64_t number, char out[AGENT_VERSION_BYTES])
{
	(void)snprintf(out, AGENT_VERSION_BYTES, "%llx-%llu", (unsigned long long)a->start_wall_ms, (unsigned long long)number); /* fits */
}

static void next_version(struct agent *a)
{
	version_name(a, ++a->n_versions, a->config_version);
}

int agent_config_open(struct agent *a, struct foil_error *err)
{
	char why[512] = "";
	istio_diags_init(&a->diags);
	a->dir = src_dir_open(a->options.config_dir, why, sizeof(why));
	if (!a->dir)
		return foil_error_set(err, -ENOENT, "--config: %s", why);
	src_dir_watch(a->dir);
	if (src_dir_is_polled(a->dir))
		log_line(LOG_LEVEL_WARNING, "config.polled", "%s cannot be watched by inotify: it is looked at every %u ms", a->options.config_dir,
			 SRC_POLL_MS);
	return 0;
}

static void forget_node(struct agent *a)
{
	istio_node_free(a->node);
	if (a->hello)
		foil__conf__node_hello__free_unpacked(a->hello, NULL);
	a->node = NULL;
	a->hello = NULL;
}

void agent_config_close(struct agent *a)
{
	istio_snapshot_free(a->snapshot);
	if (a->model)
		istio_model_free(a->model);
	istio_diags_fini(&a->diags);
	forget_node(a);
	if (a->dir)
		src_dir_close(a->dir);
	a->snapshot = NULL;
	a->model = NULL;
	a->dir = NULL;
}

/* ---- compile and send */

static void to_ring(const struct istio_resource *from, struct ring_resource *to, size_t n)
{
	for (size_t i = 0; i < n; i++)
		to[i] = (struct ring_resource){.type = from[i].type, .name = from[i].name, .bytes = from[i].bytes, .n_bytes = from[i].n_bytes,
					       .hash = from[i].hash};
}

static int send_snapshot(struct agent *a)
{
	const struct istio_snapshot *s = a->snapshot;
	int prepared = agent_ca_prepare(a);
	struct ring_resource *list = calloc(s->n_resources + a->ca.n_secrets + a->ca.n_kept + 1, sizeof(*list));
	if (!list || prepared < 0) {
		free(list);
		return -ENOMEM;
	}
	to_ring(s->resources, list, s->n_resources);
	if (a->ca.n_secrets)
		memcpy(list + s->n_resources, a->ca.secrets, a->ca.n_secrets * sizeof(*list));
	if (a->ca.n_kept)
		memcpy(list + s->n_resources + a->ca.n_secrets, a->ca.kept, a->ca.n_kept * sizeof(*list));
	int rc = ring_sender_set(a->sender, s->version, list, s->n_resources + a->ca.n_secrets + a->ca.n_kept);
	free(list);
	return rc;
}

/* What changed since the newest set, or everything when the sender has none to lay it over. A snapshot that waits for addresses takes it along. */
static int send_changed(struct agent *a, const struct ring_resource *changed, size_t n)
{
	if (a->dns.is_held)
		return 0;
	int rc = ring_sender_change(a->sender, a->snapshot->version, changed, n);
	return rc == -ENOENT ? send_snapshot(a) : rc;
}

int agent_config_send_secrets(struct agent *a, const struct ring_resource *changed, size_t n)
{
	if (!a->snapshot || a->dns.is_held)
		return 0;
	return n ? send_changed(a, changed, n) : send_snapshot(a);
}

static void out_of_memory(struct agent *a, const char *doing)
{
	log_line(LOG_LEVEL_ERROR, "config.memory", "no memory for %s: what ran before stays", doing);
	a->outcome.state = ADM_SNAPSHOT_REJECTED;
	(void)snprintf(a->outcome.reason, sizeof(a->outcome.reason), "the agent has no memory for %s", doing); /* fits */
}

/* The model for the node; NULL when there is no memory. Diagnostics are added to diags. */
static struct istio_snapshot *compile(struct agent *a, const char *version)
{
	struct istio_snapshot *s = NULL;
	a->n.n_compiles++;
	if (istio_compile(a->model, a->node ? a->node : &istio_any_node, version, &s, &a->diags) < 0) {
		out_of_memory(a, "compiling");
		return NULL;
	}
	return s;
}

/* Makes s, which may be NULL, the snapshot, and hands it to the sender if there is a node. */
static void use_and_send(struct agent *a, struct istio_snapshot *s)
{
	if (!s)
		return;
	if (agent_ca_keep(a, s) < 0)
		out_of_memory(a, "certificates that went bad");
	istio_snapshot_free(a->snapshot);
	a->snapshot = s;
	a->outcome.state = ADM_SNAPSHOT_PENDING;
	a->outcome.reason[0] = 0;
	if (!a->node)
		return;
	agent_dns_want(a);
	if (!a->dns.is_held)
		agent_config_send_held(a);
}

void agent_config_send_held(struct agent *a)
{
	if (send_snapshot(a) < 0)
		out_of_memory(a, "sending");
}

/* ---- readings */

static void log_reading(struct agent *a)
{
	char line[1024];
	log_line(a->diags.n_errors ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE, "config.read", "version %s: %zu files, %zu resources, %zu errors, %zu warnings",
		 a->config_version, a->read_stats.n_files, a->read_stats.n_resources, a->diags.n_errors, a->diags.n_warnings);
	for (size_t i = 0, n = 0; i < a->diags.n && n < LOGGED_DIAGS_MAX; i++) {
		if (a->diags.list[i].severity != ISTIO_ERROR)
			continue;
		(void)istio_diag_format(&a->diags.list[i], line, sizeof(line)); /* a longer one is cut */
		log_line(LOG_LEVEL_WARNING, "config.error", "%s", line);
		n++;
	}
}

static bool has_nothing_to_run(const struct agent *a)
{
	return a->diags.n_errors > 0 && a->read_stats.n_resources == 0 && a->read_stats.n_last_good == 0;
}

/* NULL when nothing in the directory can run: said in the outcome. */
static struct istio_model *read_model(struct agent *a)
{
	struct istio_diags diags;
	struct src_dir_stats stats = {0};
	istio_diags_init(&diags);
	a->n.n_readings++;
	struct istio_model *model = src_dir_read(a->dir, &diags, &stats);
	istio_diags_fini(&a->diags);
	a->diags = diags;
	if (model)
		a->read_stats = stats;
	if (model && !has_nothing_to_run(a))
		return model;
	a->n.n_failed_readings++;
	a->outcome.state = ADM_SNAPSHOT_REJECTED;
	(void)snprintf(a->outcome.reason, sizeof(a->outcome.reason), "%s: nothing in it can run; the data plane keeps what it has",
		       a->options.config_dir); /* a longer one is cut */
	if (model)
		istio_model_free(model);
	return NULL;
}

static void use_model(struct agent *a, struct istio_model *own_model)
{
	if (a->model)
		istio_model_free(a->model);
	a->model = own_model;
	(void)snprintf(a->model_version, sizeof(a->model_version), "%s", a->config_version); /* of one size */
}

void agent_config_read(struct agent *a)
{
	a->n_patches = 0;
	next_version(a);
	struct istio_model *model = read_model(a);
	if (model) {
		use_model(a, model);
		use_and_send(a, compile(a, a->model_version));
	}
	istio_diags_sort(&a->diags);
	log_reading(a);
}

/* ---- patches */

int agent_config_send_changed(struct agent *a, const struct istio_resource *changed, size_t n)
{
	struct ring_resource *list = calloc(n + 1, sizeof(*list));
	if (!list)
		return -ENOMEM;
	to_ring(changed, list, n);
	int rc = send_changed(a, list, n);
	free(list);
	return rc;
}

/* False: the change needs a whole reading. */
static bool patch(struct agent *a, uint64_t now_ms)
{
	struct istio_file_change changes[PATCH_FILES_MAX];
	size_t n_changes = PATCH_FILES_MAX, n_changed = 0;
	const struct istio_resource *changed = NULL;
	char version[AGENT_VERSION_BYTES];
	if (!a->snapshot || !a->node || a->outcome.state == ADM_SNAPSHOT_REJECTED || strcmp(a->model_version, a->config_version) != 0)
		return false; /* not what runs, or not of what is there */
	if (!src_dir_changes(a->dir, changes, &n_changes) || n_changes == 0)
		return false;
	version_name(a, a->n_versions + 1, version);
	if (istio_patch(a->snapshot, a->node, version, changes, n_changes, &a->diags, &changed, &n_changed) < 0)
		return false;
	src_dir_changes_taken(a->dir);
	next_version(a);
	(void)snprintf(a->model_version, sizeof(a->model_version), "%s", a->config_version); /* of one size */
	a->n.n_patches++;
	a->first_patch_ms = a->n_patches++ ? a->first_patch_ms : now_ms;
	a->last_patch_ms = now_ms;
	a->outcome.state = ADM_SNAPSHOT_PENDING;
	a->outcome.reason[0] = 0;
	if (agent_config_send_changed(a, changed, n_changed) < 0)
		out_of_memory(a, "sending");
	istio_diags_sort(&a->diags);
	log_line(LOG_LEVEL_NOTICE, "config.patched", "version %s: %zu files with endpoints only, %zu resources are others", a->config_version, n_changes,
		 n_changed);
	return true;
}

static bool same_resources(const struct istio_snapshot *x, const struct istio_snapshot *y)
{
	bool same = x->n_resources == y->n_resources;
	for (size_t i = 0; same && i < x->n_resources; i++)
		same = x->resources[i].type == y->resources[i].type && strcmp(x->resources[i].name, y->resources[i].name) == 0 &&
		       x->resources[i].hash == y->resources[i].hash;
	return same;
}

void agent_config_compact(struct agent *a)
{
	struct istio_diags said = a->diags; /* of the reading: this compile finds the same */
	istio_diags_init(&a->diags);
	struct istio_snapshot *s = compile(a, a->snapshot->version);
	if (s && same_resources(s, a->snapshot) && agent_ca_keep(a, s) == 0) {
		istio_snapshot_free(a->snapshot);
		a->snapshot = s;
	} else {
		istio_snapshot_free(s); /* what is there serves on */
	}
	istio_diags_fini(&a->diags);
	a->diags = said;
}

/* The whole reading after patches. Nothing is sent, and the version stays, when it comes to the same; else something changed since, and it is as any. */
static void settle(struct agent *a)
{
	a->n_patches = 0;
	struct istio_model *model = read_model(a);
	if (!model) {
		next_version(a);
	} else {
		istio_model_free(a->model);
		a->model = model;
		struct istio_snapshot *s = compile(a, a->model_version);
		if (s && same_resources(s, a->snapshot) && agent_ca_keep(a, s) == 0) {
			istio_snapshot_free(a->snapshot);
			a->snapshot = s;
		} else {
			istio_snapshot_free(s);
			agent_config_read(a);
			return;
		}
	}
	istio_diags_sort(&a->diags);
	log_reading(a);
}

void agent_config_turn(struct agent *a, uint64_t now_ms)
{
	if (src_dir_turn(a->dir, now_ms)) {
		if (!patch(a, now_ms))
			agent_config_read(a);
	} else if (a->n_patches && (now_ms - a->last_patch_ms >= SETTLE_QUIET_MS || now_ms - a->first_patch_ms >= SETTLE_LATEST_MS)) {
		settle(a);
	}
}

/* ---- the data plane's word */

/* A copy of a message of protobuf-c's: through its bytes. */
static Foil__Conf__NodeHello *copy_hello(const Foil__Conf__NodeHello *from)
{
	size_t n = foil__conf__node_hello__get_packed_size(from);
	uint8_t *bytes = malloc(n + 1);
	Foil__Conf__NodeHello *to = NULL;
	if (bytes)
		to = foil__conf__node_hello__unpack(NULL, foil__conf__node_hello__pack(from, bytes), bytes);
	free(bytes);
	return to;
}

/* The newest reading has nothing to run: the node gets the last one that had, and what is said of the newest stays. */
static void send_last_good(struct agent *a)
{
	struct istio_diags of_reading = a->diags;
	struct agent_outcome before = a->outcome;
	istio_diags_init(&a->diags);
	use_and_send(a, compile(a, a->model_version));
	istio_diags_fini(&a->diags);
	a->diags = of_reading;
	a->outcome = before;
}

void agent_config_node(void *arg, const Foil__Conf__NodeHello *hello)
{
	struct agent *a = arg;
	agent_stats_forget(a); /* it may be another process */
	forget_node(a);
	a->n.n_connects++;
	a->disconnected_why[0] = 0;
	a->hello = copy_hello(hello);
	a->node = a->hello ? istio_node_from_hello(a->hello) : NULL;
	if (a->node)
		a->node->names = &a->dns.names;
	(void)snprintf(a->outcome.running_version, sizeof(a->outcome.running_version), "%s",
		       hello->running_version ? hello->running_version : ""); /* a longer one is not ours */
	log_line(LOG_LEVEL_NOTICE, "node.connected", "node %s, version %s, %u workers, running on %s", hello->node_name ? hello->node_name : "?",
		 hello->version ? hello->version : "?", hello->n_workers,
		 a->outcome.running_version[0] ? a->outcome.running_version : "no snapshot");
	if (!a->node) {
		out_of_memory(a, "the node's hello");
		return;
	}
	if (!a->model)
		return; /* nothing that could run was read yet */
	if (strcmp(a->model_version, a->config_version) == 0)
		agent_config_read(a); /* a compile for another node is another version, with diagnostics of its own */
	else
		send_last_good(a);
}

static void log_rejection(struct agent *a, const Foil__Conf__UpdateResult *result)
{
	a->outcome.reason[0] = 0;
	for (size_t i = 0; i < result->n_rejections; i++) {
		const Foil__Conf__Rejection *why = result->rejections[i];
		const ProtobufCEnumValue *type = protobuf_c_enum_descriptor_get_value(&foil__conf__resource_type__descriptor, (int)why->type);
		char text[sizeof(a->outcome.reason)];
		(void)snprintf(text, sizeof(text), "the data plane refused %s %s: %s%s%s", type ? type->name : "a resource", why->name ? why->name : "?",
			       why->field ? why->field : "", why->field && why->field[0] ? ": " : "", why->reason ? why->reason : "no reason given");
		if (i == 0)
			memcpy(a->outcome.reason, text, sizeof(text));
		if (i < LOGGED_DIAGS_MAX)
			log_line(LOG_LEVEL_ERROR, "snapshot.rejected", "version %s: %s", result->version ? result->version : "?", text);
	}
	if (!a->outcome.reason[0])
		(void)snprintf(a->outcome.reason, sizeof(a->outcome.reason), "the data plane refused the snapshot and gave no reason"); /* fits */
}

void agent_config_result(void *arg, const Foil__Conf__UpdateResult *result)
{
	struct agent *a = arg;
	bool is_newest = result->version && strcmp(result->version, a->config_version) == 0;
	if (result->applied) {
		a->n.n_applied++;
		(void)snprintf(a->outcome.running_version, sizeof(a->outcome.running_version), "%s", result->version ? result->version : "");
		log_line(LOG_LEVEL_NOTICE, "snapshot.applied", "version %s in %llu us", a->outcome.running_version,
			 (unsigned long long)result->apply_us);
	} else {
		a->n.n_rejected++;
	}
	if (!is_newest)
		return; /* a newer one is on its way */
	a->outcome.state = result->applied ? ADM_SNAPSHOT_APPLIED : ADM_SNAPSHOT_REJECTED;
	a->outcome.reason[0] = 0;
	if (!result->applied)
		log_rejection(a, result);
}

void agent_config_event(void *arg, const Foil__Conf__Event *event)
{
	struct agent *a = arg;
	a->n.n_events++;
	log_line(LOG_LEVEL_NOTICE, "node.event", "%s: %s", event->name ? event->name : "?", event->text ? event->text : "");
}

void agent_config_disconnected(void *arg, const char *why)
{
	struct agent *a = arg;
	agent_stats_forget(a);
	(void)snprintf(a->disconnected_why, sizeof(a->disconnected_why), "%s", why); /* as long as it may be */
	log_line(LOG_LEVEL_WARNING, "node.disconnected", "%s; trying again", why);
	if (a->outcome.state == ADM_SNAPSHOT_APPLIED)
		a->outcome.state = ADM_SNAPSHOT_PENDING; /* the next node begins anew */
}
