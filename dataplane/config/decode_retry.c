/* RetryPolicy (features.md VS-36..VS-42): Envoy's words become bits, defaults are Envoy's. */
#include "dataplane/config/config_priv.h"

#define RETRIES_MAX 65535u
#define BACKOFF_BASE_US 25000ull
#define BACKOFF_FACTOR 10u
#define HOST_ATTEMPTS 5u
#define HOST_ATTEMPTS_MAX 1000u

static int decode_words(struct snap_dec *d, const Foil__Conf__RetryPolicy *m, struct mesh_retry_policy *out)
{
	for (size_t i = 0; i < m->n_retry_on; i++) {
		uint32_t bit;
		if (!mesh_retry_on_parse(foil_slice_str(m->retry_on[i]), &bit)) {
			(void)snap_enter(d, "retry_on", (long)i);
			return snap_fail(d, NULL, "\"%.60s\" is no condition to retry on", m->retry_on[i]);
		}
		out->retry_on |= bit;
	}
	return 0;
}

static int decode_times(struct snap_dec *d, const Foil__Conf__RetryPolicy *m, struct mesh_retry_policy *out)
{
	int rc = snap_duration(d, "per_try_timeout_us", true, m->per_try_timeout_us, 0, &out->per_try_timeout_us);
	if (rc == 0)
		rc = snap_duration(d, "backoff_base_us", m->has_backoff_base_us, m->backoff_base_us, BACKOFF_BASE_US, &out->backoff_base_us);
	if (rc == 0 && out->backoff_base_us == 0)
		rc = snap_fail(d, "backoff_base_us", "is 0; must be at least 1");
	if (rc == 0)
		rc = snap_duration(d, "backoff_max_us", m->has_backoff_max_us, m->backoff_max_us, BACKOFF_FACTOR * out->backoff_base_us,
				   &out->backoff_max_us);
	if (rc == 0 && out->backoff_max_us < out->backoff_base_us)
		rc = snap_fail(d, "backoff_max_us", "is less than backoff_base_us");
	return rc;
}

int snap_decode_retry(struct snap_dec *d, const Foil__Conf__RetryPolicy *m, const struct mesh_retry_policy **out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "retry", -1);
	struct mesh_retry_policy *own = foil_blob_alloc(d->b, sizeof(*own));
	if (!own)
		return snap_no_memory(d);
	own->num_retries = m->num_retries;
	own->host_selection_max_attempts = m->has_host_selection_max_attempts ? m->host_selection_max_attempts : HOST_ATTEMPTS;
	own->avoid_previous_hosts = m->avoid_previous_hosts;
	own->remote_localities = m->remote_localities;
	int rc = snap_range(d, "num_retries", m->num_retries, 0, RETRIES_MAX);
	if (rc == 0)
		rc = decode_words(d, m, own);
	if (rc == 0)
		rc = snap_statuses(d, "retriable_status_codes", m->retriable_status_codes, m->n_retriable_status_codes, &own->retriable_status_codes,
				   &own->n_retriable_status_codes);
	if (rc == 0)
		rc = decode_times(d, m, own);
	if (rc == 0)
		rc = snap_range(d, "host_selection_max_attempts", own->host_selection_max_attempts, 1, HOST_ATTEMPTS_MAX);
	if (rc < 0)
		return rc;
	*out = own;
	snap_leave(d, mark);
	return 0;
}
