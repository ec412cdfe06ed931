/* The agent's certificate authority: identities that the snapshot names get certificates, which go to the data plane beside it as Secrets, are renewed
 * there, and follow a change of roots. Keys are in our memory and in the data plane's, nowhere else.
 * Invariant: secrets[] is what the sender's newest set has of ours, in the order of their names; each has bytes of its own. */
#include "programs/foil_agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <xxhash.h>

#include "programs/log.h"

#define ROOTS "ROOTCA"
#define TURN_MS 1000
#define ISSUED_A_TURN 64u
#define ISSUED_AT_ONCE 1024u      /* before a snapshot is sent: what is over comes with the turns after it */
#define WARN_MS 3600000u          /* how often expiry is looked at */
#define WARN_S (7 * 24 * 3600)

static int64_t wall_s(void)
{
	return (int64_t)time(NULL);
}

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* packed, not changed */
}

/* ---- open and close */

int agent_ca_open(struct agent *a, struct foil_error *err)
{
	const struct agent_options *o = &a->options;
	const struct ca_params p = {.dir = o->ca_dir, .passphrase_file = o->ca_passphrase_file, .key_in_clear = o->ca_key_in_clear,
				    .trust_domain = "cluster.local", .root_overlap_s = o->ca_overlap_s, .now_s = wall_s()};
	const struct ca_rotation r = {.ttl_s = o->ca_ttl_s};
	struct ca_info info;
	int rc = ca_open(&p, &a->ca.authority, err);

	if (rc < 0)
		return rc;
	a->ca.workloads = ca_workloads_new(a->ca.authority, &r);
	if (!a->ca.workloads)
		return foil_error_set(err, -ENOMEM, "no memory for workload certificates");
	if (o->ca_address) {
		const struct ca_service_params sp = {.authority = a->ca.authority, .address = o->ca_address, .tokens_file = o->ca_tokens_file,
						     .jwks_file = o->ca_jwks_file, .audience = o->ca_audience, .issuer = o->ca_issuer,
						     .now_s = wall_s()};
		rc = ca_service_open(&sp, &a->ca.service, err);
		if (rc < 0)
			return rc;
	}
	ca_info(a->ca.authority, &info);
	log_line(LOG_LEVEL_NOTICE, "ca.open", "%s, serial %s, %u roots%s%s", info.subject, info.serial, info.n_roots, o->ca_dir ? ", from " : "",
		 o->ca_dir ? o->ca_dir : "; in memory alone: another one is made when the agent starts again (--ca-dir keeps it)");
	return 0;
}

static void secret_fini(struct ring_resource *s)
{
	if (s->bytes)
		OPENSSL_cleanse((void *)(uintptr_t)s->bytes, s->n_bytes);
	free((void *)(uintptr_t)s->bytes);
	free((void *)(uintptr_t)s->name);
}

static void secrets_free(struct ring_resource *list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		secret_fini(&list[i]);
	free(list);
}

void agent_ca_close(struct agent *a)
{
	secrets_free(a->ca.secrets, a->ca.n_secrets);
	secrets_free(a->ca.kept, a->ca.n_kept);
	ca_workloads_free(a->ca.workloads);
	ca_service_close(a->ca.service);
	ca_close(a->ca.authority);
	a->ca = (struct agent_ca){.authority = NULL};
}

/* ---- secrets as resources */

static bool pack(const Foil__Conf__Secret *m, struct ring_resource *out)
{
	size_t n = foil__conf__secret__get_packed_size(m);
	uint8_t *bytes = malloc(n + 1);
	char *name = strdup(m->name);

	if (!bytes || !name) {
		free(bytes);
		free(name);
		return false;
	}
	(void)foil__conf__secret__pack(m, bytes); /* n again */
	*out = (struct ring_resource){.type = FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET, .name = name, .bytes = bytes, .n_bytes = n,
				      .hash = XXH64(bytes, n, 0)};
	return true;
}

static ProtobufCBinaryData data(struct foil_slice s)
{
	return (ProtobufCBinaryData){.len = s.n_bytes, .data = (uint8_t *)(uintptr_t)s.data}; /* packed, not changed */
}

static bool pack_identity(const struct ca_secret *s, struct ring_resource *out)
{
	Foil__Conf__Secret m = FOIL__CONF__SECRET__INIT;

	m.name = word(s->id);
	m.has_certificate_chain = m.has_private_key = true;
	m.certificate_chain = data(s->chain);
	m.private_key = data(s->key);
	return pack(&m, out);
}

/* The authority's roots, and those that the mesh names beside them where they can be read. */
static bool pack_roots(struct agent *a, struct ring_resource *out)
{
	struct foil_slice own = ca_bundle(a->ca.authority), crl = ca_crl(a->ca.authority);
	struct foil_slice extra = foil_slice_str(a->snapshot && a->snapshot->extra_roots ? a->snapshot->extra_roots : "");
	bool is_good = extra.n_bytes == 0 || ca_pem_expiry_s(extra) != 0;
	char *all = malloc(own.n_bytes + extra.n_bytes + 1u);
	Foil__Conf__Secret m = FOIL__CONF__SECRET__INIT;

	if (!all)
		return false;
	if (!is_good)
		log_line(LOG_LEVEL_ERROR, "ca.roots", "MeshConfig caCertificates: not all of it is PEM of certificates; none of it is used");
	memcpy(all, own.data, own.n_bytes);
	if (is_good && extra.n_bytes)
		memcpy(all + own.n_bytes, extra.data, extra.n_bytes);
	m.name = word(ROOTS);
	m.has_ca = true;
	m.ca = data(foil_slice_of(all, own.n_bytes + (is_good ? extra.n_bytes : 0)));
	m.has_crl = crl.n_bytes > 0;
	m.crl = data(crl);
	bool ok = pack(&m, out);
	free(all);
	return ok;
}

/* What should be sent now. NULL: no memory. */
static struct ring_resource *make_secrets(struct agent *a, size_t *n)
{
	size_t n_ids = ca_workloads_n(a->ca.workloads);
	struct ring_resource *list = calloc(n_ids + 1, sizeof(*list));
	bool ok = list && (n_ids == 0 || pack_roots(a, &list[0]));

	*n = ok && n_ids ? 1 : 0;
	for (size_t i = 0; ok && i < n_ids; i++) {
		struct ca_secret s = ca_workloads_at(a->ca.workloads, i);
		if (s.chain.n_bytes == 0)
			continue; /* not made yet: handshakes that need it fail until it is */
		ok = pack_identity(&s, &list[*n]);
		*n += ok;
	}
	if (ok)
		return list;
	if (list)
		secrets_free(list, *n);
	return NULL;
}

static void tell_failure(const char *what, const struct foil_error *err)
{
	if (err->text[0])
		log_line(LOG_LEVEL_ERROR, what, "%s; what was there stays", err->text);
}

/* ---- beside a snapshot */

int agent_ca_prepare(struct agent *a)
{
	struct foil_error err = {0};
	size_t n = 0;

	if (!a->ca.workloads || !a->snapshot)
		return 0;
	if (ca_workloads_want(a->ca.workloads, a->snapshot->identities, a->snapshot->n_identities) < 0)
		return -ENOMEM;
	(void)ca_workloads_turn(a->ca.workloads, wall_s(), ISSUED_AT_ONCE, &err); /* whether anything is new does not matter: all of it is sent */
	tell_failure("ca.issue", &err);
	struct ring_resource *list = make_secrets(a, &n);
	if (!list)
		return -ENOMEM;
	secrets_free(a->ca.secrets, a->ca.n_secrets);
	a->ca.secrets = list;
	a->ca.n_secrets = n;
	return 0;
}

/* ---- secrets of the configuration that went bad */

static bool copy_resource(uint32_t type, const char *name, const uint8_t *bytes, size_t n_bytes, struct ring_resource *out)
{
	uint8_t *own = malloc(n_bytes + 1);
	char *own_name = strdup(name);

	if (!own || !own_name) {
		free(own);
		free(own_name);
		return false;
	}
	memcpy(own, bytes, n_bytes);
	*out = (struct ring_resource){.type = type, .name = own_name, .bytes = own, .n_bytes = n_bytes, .hash = XXH64(bytes, n_bytes, 0)};
	return true;
}

/* As it last could be used: in the snapshot of before, or kept by that one. False: no memory. */
static bool keep_one(const struct agent *a, const char *name, struct ring_resource *list, size_t *n)
{
	for (size_t i = 0; a->snapshot && i < a->snapshot->n_resources; i++) {
		const struct istio_resource *r = &a->snapshot->resources[i];
		if (r->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET || strcmp(r->name, name) != 0)
			continue;
		bool ok = copy_resource(r->type, name, r->bytes, r->n_bytes, &list[*n]);
		*n += ok;
		return ok;
	}
	for (size_t i = 0; i < a->ca.n_kept; i++) {
		const struct ring_resource *r = &a->ca.kept[i];
		if (strcmp(r->name, name) != 0)
			continue;
		bool ok = copy_resource(r->type, name, r->bytes, r->n_bytes, &list[*n]);
		*n += ok;
		return ok;
	}
	return true;
}

int agent_ca_keep(struct agent *a, const struct istio_snapshot *s)
{
	struct ring_resource *list = calloc(s->n_unusable + 1, sizeof(*list));
	bool ok = list != NULL;
	size_t n = 0;

	for (size_t i = 0; ok && i < s->n_unusable; i++)
		ok = keep_one(a, s->unusable[i], list, &n);
	if (!ok) {
		if (list)
			secrets_free(list, n);
		return -ENOMEM;
	}
	for (size_t i = 0; i < n; i++)
		log_line(LOG_LEVEL_WARNING, "secret.kept", "%s cannot be used as it is now: the last good one stays", list[i].name);
	secrets_free(a->ca.kept, a->ca.n_kept);
	a->ca.kept = list;
	a->ca.n_kept = n;
	return 0;
}

/* A certificate and its key are two files: they are read when both have been still for a turn. */
bool agent_ca_files_changed(struct agent *a)
{
	if (!a->snapshot || a->snapshot->n_files == 0)
		return false;
	uint64_t before = a->ca.files_stamp, now = istio_files_stamp(a->snapshot->files, a->snapshot->n_files);
	a->ca.files_stamp = now;
	return now != a->snapshot->files_stamp && now == before;
}

/* ---- as time passes */

static bool has_same_names(const struct agent *a, const struct ring_resource *list, size_t n)
{
	bool same = n == a->ca.n_secrets;

	for (size_t i = 0; same && i < n; i++)
		same = strcmp(list[i].name, a->ca.secrets[i].name) == 0;
	return same;
}

/* Those that are others than before, at the cost of these; the whole where some are new. The version stays: what the mesh asks for is the same. */
static void send_changed(struct agent *a)
{
	size_t n = 0, n_changed = 0;
	struct ring_resource *list = make_secrets(a, &n), *changed = calloc(n + 1, sizeof(*changed));

	if (!list || !changed) {
		log_line(LOG_LEVEL_ERROR, "ca.memory", "no memory for new certificates: tried again");
		free(changed);
		if (list)
			secrets_free(list, n);
		a->ca.is_owed = true;
		return;
	}
	bool is_whole = !has_same_names(a, list, n);
	for (size_t i = 0; i < n && !is_whole; i++)
		if (list[i].hash != a->ca.secrets[i].hash)
			changed[n_changed++] = list[i];
	secrets_free(a->ca.secrets, a->ca.n_secrets);
	a->ca.secrets = list;
	a->ca.n_secrets = n;
	a->ca.is_owed = !a->node || (is_whole || n_changed ? agent_config_send_secrets(a, changed, is_whole ? 0 : n_changed) < 0 : false);
	if (!a->node)
		a->ca.is_owed = false; /* whoever connects gets all of it */
	a->ca.n_sent += is_whole ? n : n_changed;
	free(changed);
}

static void warn_of_one(const char *what, int64_t end_s, int64_t now_s)
{
	if (end_s && end_s <= now_s)
		log_line(LOG_LEVEL_ERROR, "secret.expired", "%s expired %lld hours ago", what, (long long)(now_s - end_s) / 3600);
	else if (end_s && end_s - now_s < WARN_S)
		log_line(LOG_LEVEL_WARNING, "secret.expires", "%s expires in %lld hours", what, (long long)(end_s - now_s) / 3600);
}

static void warn(struct agent *a, int64_t now_s)
{
	struct ca_info info;
	ca_info(a->ca.authority, &info);
	warn_of_one("the authority's certificate", info.not_after_s, now_s);
	for (size_t i = 0; a->snapshot && i < a->snapshot->n_resources; i++) {
		const struct istio_resource *r = &a->snapshot->resources[i];
		if (r->type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET)
			warn_of_one(r->name, agent_ca_secret_expiry_s(r->bytes, r->n_bytes), now_s);
	}
}

int64_t agent_ca_secret_expiry_s(const uint8_t *bytes, size_t n_bytes)
{
	Foil__Conf__Secret *m = foil__conf__secret__unpack(NULL, n_bytes, bytes);
	int64_t end_s = 0;

	if (m) {
		end_s = ca_pem_expiry_s(m->certificate_chain.len ? foil_slice_of(m->certificate_chain.data, m->certificate_chain.len)
								: foil_slice_of(m->ca.data, m->ca.len));
		if (m->private_key.len)
			OPENSSL_cleanse(m->private_key.data, m->private_key.len);
		foil__conf__secret__free_unpacked(m, NULL);
	}
	return end_s;
}

static const char *change_word(enum ca_change c)
{
	return c == CA_SIGNER ? "another certificate signs now: all identities are issued anew" : "other roots are trusted now";
}

void agent_ca_turn(struct agent *a, uint64_t now_ms)
{
	struct foil_error err = {0};
	int64_t now_s = wall_s();

	if (a->ca.service)
		ca_service_turn(a->ca.service, a->snapshot ? a->snapshot->trust_domain : "cluster.local", now_s, now_ms);
	if (!a->ca.workloads || now_ms - a->ca.turned_ms < TURN_MS)
		return;
	a->ca.turned_ms = now_ms;
	if (agent_ca_files_changed(a)) {
		log_line(LOG_LEVEL_NOTICE, "config.files", "files of certificates have changed");
		agent_config_read(a);
	}
	enum ca_change change = ca_turn(a->ca.authority, now_s, &err);
	tell_failure("ca.files", &err);
	if (change != CA_SAME)
		log_line(LOG_LEVEL_NOTICE, "ca.changed", "%s", change_word(change));
	if (change == CA_SIGNER)
		ca_workloads_renew_all(a->ca.workloads);
	bool is_new = ca_workloads_turn(a->ca.workloads, now_s, change == CA_SIGNER ? ISSUED_AT_ONCE : ISSUED_A_TURN, &err);
	tell_failure("ca.issue", &err);
	if (change != CA_SAME || is_new || a->ca.is_owed)
		send_changed(a);
	if (a->ca.warned_ms == 0 || now_ms - a->ca.warned_ms >= WARN_MS) {
		a->ca.warned_ms = now_ms;
		warn(a, now_s);
	}
}

/* ---- pages: JSON, or text for people with ?text */

static void time_text(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (!s || !gmtime_r(&t, &tm) || strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		(void)snprintf(out, 32, "-"); /* fits */
}

static bool wants_text(const struct adm_request *q)
{
	return foil_slice_eq(q->query, FOIL_SLICE("text"));
}

void agent_ca_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	struct agent *a = arg;
	struct ca_info i;
	char from[32], to[32];

	ca_info(a->ca.authority, &i);
	time_text(i.not_before_s, from);
	time_text(i.not_after_s, to);
	if (wants_text(q)) {
		const char *place = a->options.ca_dir ? i.is_saved ? a->options.ca_dir : "not yet" : "in memory alone (--ca-dir keeps it)";
		adm_reply_printf(r, "signs    %s, serial %s, %s to %s%s\nkept     %s\n", i.subject, i.serial, from, to,
				 i.is_brought ? ", brought along" : "", place);
		adm_reply_printf(r, "roots    %u%s\n", i.n_roots, i.is_rotating ? ", the newest does not sign yet" : "");
		for (uint32_t k = 0; k < i.n_roots; k++) {
			time_text(i.roots[k].not_after_s, to);
			adm_reply_printf(r, "         %.16s %s, to %s\n", i.roots[k].fingerprint, i.roots[k].subject, to);
		}
		adm_reply_printf(r, "issued   %llu, refused %llu, changes of the root %llu\n", (unsigned long long)i.n_issued,
				 (unsigned long long)i.n_refused, (unsigned long long)i.n_rotations);
		return;
	}
	adm_reply_type(r, "application/json");
	adm_reply_printf(r, "{\"signer\": {\"subject\": ");
	adm_reply_json_str(r, i.subject);
	adm_reply_printf(r, ", \"serial\": \"%s\", \"not_before\": \"%s\", \"not_after\": \"%s\"}, \"brought\": %s, \"saved\": %s, \"rotating\": %s, "
			 "\"issued\": %llu, \"refused\": %llu, \"rotations\": %llu, \"roots\": [", i.serial, from, to, i.is_brought ? "true" : "false",
			 i.is_saved ? "true" : "false", i.is_rotating ? "true" : "false", (unsigned long long)i.n_issued,
			 (unsigned long long)i.n_refused, (unsigned long long)i.n_rotations);
	for (uint32_t k = 0; k < i.n_roots; k++) {
		time_text(i.roots[k].not_after_s, to);
		adm_reply_printf(r, "%s{\"fingerprint\": \"%s\", \"not_after\": \"%s\", \"subject\": ", k ? ", " : "", i.roots[k].fingerprint, to);
		adm_reply_json_str(r, i.roots[k].subject);
		adm_reply_printf(r, "}");
	}
	adm_reply_printf(r, "]}\n");
}

void agent_ca_rotate(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	struct agent *a = arg;
	struct foil_error err = {0};

	(void)q;
	if (a->options.address) {
		adm_reply_status(r, 403);
		adm_reply_printf(r, "the root is changed over loopback only, and this agent listens at %s\n", a->options.address);
		return;
	}
	if (ca_rotate_root(a->ca.authority, wall_s(), &err) < 0) {
		adm_reply_status(r, 409);
		adm_reply_printf(r, "%s\n", err.text);
		return;
	}
	log_line(LOG_LEVEL_NOTICE, "ca.rotate", "a new root is trusted and will sign in %u s", a->options.ca_overlap_s ? a->options.ca_overlap_s : 60);
	send_changed(a);
	adm_reply_printf(r, "a new root is trusted now, and signs in %u s\n", a->options.ca_overlap_s ? a->options.ca_overlap_s : 60);
}

static void secret_line(struct adm_reply *r, bool is_text, bool is_first, const char *name, const char *state, int64_t end_s, int64_t renew_s)
{
	char end[32], renew[32];

	time_text(end_s, end);
	time_text(renew_s, renew);
	if (is_text) {
		adm_reply_printf(r, "%-9s %-21s %-21s %s\n", state, end, renew, name);
		return;
	}
	adm_reply_printf(r, "%s{\"name\": ", is_first ? "" : ", ");
	adm_reply_json_str(r, name);
	adm_reply_printf(r, ", \"state\": \"%s\", \"not_after\": \"%s\", \"renewed\": \"%s\"}", state, end, renew);
}

static const char *state_of(int64_t end_s, int64_t now_s)
{
	return end_s == 0 ? "missing" : end_s <= now_s ? "expired" : end_s - now_s < WARN_S ? "expiring" : "good";
}

void agent_ca_secrets_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	struct agent *a = arg;
	bool is_text = wants_text(q), is_first = true;
	int64_t now_s = wall_s();

	if (is_text)
		adm_reply_printf(r, "%-9s %-21s %-21s %s\n", "state", "until", "renewed", "secret");
	else
		adm_reply_type(r, "application/json");
	if (!is_text)
		adm_reply_printf(r, "[");
	for (size_t i = 0; i < ca_workloads_n(a->ca.workloads); i++, is_first = false) {
		struct ca_secret s = ca_workloads_at(a->ca.workloads, i);
		const char *state = s.chain.n_bytes == 0 ? "missing" : s.not_after_s <= now_s ? "expired" : "good"; /* it renews itself */
		secret_line(r, is_text, is_first, s.id, state, s.not_after_s, s.renew_s);
	}
	if (ca_workloads_n(a->ca.workloads)) {
		int64_t end_s = ca_pem_expiry_s(ca_bundle(a->ca.authority));
		secret_line(r, is_text, is_first, ROOTS, state_of(end_s, now_s), end_s, 0);
		is_first = false;
	}
	for (size_t i = 0; a->snapshot && i < a->snapshot->n_resources; i++) {
		const struct istio_resource *s = &a->snapshot->resources[i];
		if (s->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET)
			continue;
		int64_t end_s = agent_ca_secret_expiry_s(s->bytes, s->n_bytes);
		secret_line(r, is_text, is_first, s->name, state_of(end_s, now_s), end_s, 0);
		is_first = false;
	}
	if (!is_text)
		adm_reply_printf(r, "]\n");
}

/* ---- metrics */

void agent_ca_metrics(struct agent *a, struct adm_prometheus *p)
{
	struct ca_info i;
	size_t n_missing = 0;
	int64_t first_s = 0;

	if (!a->ca.authority)
		return;
	ca_info(a->ca.authority, &i);
	for (size_t k = 0; k < ca_workloads_n(a->ca.workloads); k++) {
		struct ca_secret s = ca_workloads_at(a->ca.workloads, k);
		n_missing += s.chain.n_bytes == 0;
		if (s.chain.n_bytes && (first_s == 0 || s.not_after_s < first_s))
			first_s = s.not_after_s;
	}
	adm_prometheus_gauge(p, "foil_agent_ca_expiration_timestamp_seconds", "When the certificate that signs expires, Unix time", NULL, NULL, i.not_after_s);
	adm_prometheus_gauge(p, "foil_agent_ca_roots", "Roots that are trusted", NULL, NULL, (int64_t)i.n_roots);
	adm_prometheus_counter(p, "foil_agent_ca_issued_total", "Certificates signed", NULL, NULL, i.n_issued);
	adm_prometheus_counter(p, "foil_agent_ca_refused_total", "Certificate requests refused", NULL, NULL, i.n_refused);
	adm_prometheus_counter(p, "foil_agent_ca_root_changes_total", "Times that another root began to sign", NULL, NULL, i.n_rotations);
	adm_prometheus_gauge(p, "foil_agent_identities", "Identities that the snapshot needs", NULL, NULL, (int64_t)ca_workloads_n(a->ca.workloads));
	adm_prometheus_gauge(p, "foil_agent_identities_missing", "Identities without a certificate", NULL, NULL, (int64_t)n_missing);
	adm_prometheus_gauge(p, "foil_agent_identity_expiration_timestamp_seconds", "When the first of the identities' certificates expires, Unix time", NULL,
			     NULL, first_s);
	adm_prometheus_counter(p, "foil_agent_secrets_sent_total", "Secrets sent to the data plane as they were renewed", NULL, NULL, a->ca.n_sent);
	for (size_t k = 0; a->snapshot && k < a->snapshot->n_resources; k++) {
		const struct istio_resource *s = &a->snapshot->resources[k];
		if (s->type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET)
			adm_prometheus_gauge(p, "foil_agent_secret_expiration_timestamp_seconds", "When a Secret of the configuration expires, Unix time",
					     "secret", s->name, agent_ca_secret_expiry_s(s->bytes, s->n_bytes));
	}
}
