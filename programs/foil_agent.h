/* foil-agent put together: what its parts share. Each part is a file by its duty:
 *
 *   foil_agent.c         command line, loop, signals
 *   foil_agent_config.c  readings of the sources, compiling, and what became of each snapshot at the data plane
 *   foil_agent_pages.c   what the HTTP pages say
 *   foil_agent_dump.c    a snapshot as JSON
 *   foil_agent_stats.c   metrics: the data plane's segment and the agent's own
 *   foil_agent_ca.c      certificates of the identities that the snapshot names
 *   foil_agent_dns.c     addresses of the names among its endpoints
 *
 * One thread, one poll loop; everything lives in one struct agent. */
#pragma once

#include "ctrl/admin/admin.h"
#include "ctrl/admin/prometheus.h"
#include "ctrl/ca/ca.h"
#include "ctrl/ca/service.h"
#include "ctrl/dns/dns.h"
#include "ctrl/istio/istio.h"
#include "ctrl/ring/sender.h"
#include "ctrl/source/source.h"
#include "dataplane/telemetry/reader.h"

#define AGENT_VERSION_BYTES 64

struct agent_options {
	const char *config_dir, *socket_path, *stats_path, *address, *log_path;
	const char *ca_dir, *ca_passphrase_file; /* NULL: a root in memory; no passphrase */
	const char *dns_servers, *resolv_conf; /* NULL: those of resolv_conf; /etc/resolv.conf */
	const char *ca_jwks_file, *ca_audience, *ca_issuer; /* of Kubernetes' tokens, for the signing service */
	const char *ca_address, *ca_tokens_file; /* of the signing service; NULL: there is none; client certificates only */
	bool ca_key_in_clear;
	uint32_t ca_ttl_s, ca_overlap_s;         /* 0: 24 h, 60 s */
};

struct agent_ca {
	struct ca_authority *authority;
	struct ca_workloads *workloads;
	struct ca_service *service;    /* or NULL */
	struct ring_resource *secrets; /* what goes beside the snapshot */
	size_t n_secrets;
	struct ring_resource *kept;    /* Secrets of the configuration as they last could be used */
	size_t n_kept;
	uint64_t files_stamp;          /* of the certificates' files, as they were looked at last */
	uint64_t turned_ms, warned_ms, n_sent;
	bool is_owed;                  /* what changed could not be sent */
};

struct agent_dns {
	struct dns_resolver *resolver;
	struct istio_names names;      /* what the compiler asks it through */
	bool is_held;                  /* the snapshot waits for first answers and is not sent yet */
	uint64_t held_until_ms, turned_ms, logged_ms;
	uint32_t n_logged;             /* in the second of logged_ms */
	size_t base_bytes;             /* of the snapshot, as it was compiled */
	uint64_t n_patches;
};

/* What became of the newest configuration at the data plane. */
struct agent_outcome {
	enum adm_snapshot_state state;
	char running_version[AGENT_VERSION_BYTES];
	char reason[512]; /* of the last rejection, "" = none */
};

struct agent_counters {
	uint64_t n_readings, n_failed_readings, n_compiles, n_patches, n_applied, n_rejected, n_connects, n_events, n_stats_failures;
};

#define AGENT_WORKERS_MAX 64u /* what a node file takes */

/* What the workers' counts of turns were when somebody looked (foil_agent_alive.c). */
struct agent_turns {
	uint64_t generation; /* of the segment */
	uint64_t counts[AGENT_WORKERS_MAX], moved_ms[AGENT_WORKERS_MAX]; /* the latter: when it was last seen to be another one */
	uint32_t n;
};

struct agent {
	struct agent_options options;
	uint64_t start_ms, start_wall_ms; /* the latter, Unix time, is in every version's name: no agent uses another's */

	/* configuration */
	struct src_dir *dir;
	struct istio_model *model;      /* of the newest reading that had anything to run; NULL before */
	struct istio_snapshot *snapshot; /* compiled from it; its version is what the data plane should run */
	struct istio_diags diags;       /* of the newest reading and compile */
	struct src_dir_stats read_stats;
	char config_version[AGENT_VERSION_BYTES]; /* of the newest reading */
	char model_version[AGENT_VERSION_BYTES];  /* of model's reading: an older one when the newest had nothing to run */
	uint64_t n_versions;
	unsigned int n_patches;      /* since the last whole reading */
	uint64_t first_patch_ms, last_patch_ms;
	struct agent_outcome outcome;

	/* the data plane */
	struct ring_sender *sender;
	Foil__Conf__NodeHello *hello; /* our copy; NULL before the first */
	struct istio_node *node;              /* borrows from hello */
	char disconnected_why[RING_REASON_BYTES];

	/* metrics */
	struct tele_reader *reader; /* of the data plane that is connected; NULL: ask again */
	struct tele_reader_stats reader_stats;
	struct agent_turns turns;

	struct agent_ca ca;
	struct agent_dns dns;

	struct adm_server *admin;
	struct adm_sources sources;
	struct agent_counters n;
};

uint64_t agent_now_ms(void); /* monotonic */

/* ---- foil_agent_config.c */
int agent_config_open(struct agent *a, struct foil_error *err) FOIL_MUST_USE;
void agent_config_close(struct agent *a);
/* Reads when something changed and has settled. Call it when the source's descriptor is readable and at least every 100 ms. */
void agent_config_turn(struct agent *a, uint64_t now_ms);
/* One reading: everything, now. */
void agent_config_read(struct agent *a);
/* Sends these of the CA's secrets, or with n 0 everything, under the snapshot's version. */
int agent_config_send_secrets(struct agent *a, const struct ring_resource *changed, size_t n) FOIL_MUST_USE;
/* Sends these of the snapshot, which are others than when it was sent last, under its version. */
int agent_config_send_changed(struct agent *a, const struct istio_resource *changed, size_t n) FOIL_MUST_USE;
/* The snapshot that waited for addresses goes. */
void agent_config_send_held(struct agent *a);
/* Compiles the same configuration again, so that what patches left behind is freed. */
void agent_config_compact(struct agent *a);
/* Callbacks of the ring's sender; arg is the agent. */
void agent_config_node(void *arg, const Foil__Conf__NodeHello *hello);
void agent_config_result(void *arg, const Foil__Conf__UpdateResult *result);
void agent_config_event(void *arg, const Foil__Conf__Event *event);
void agent_config_disconnected(void *arg, const char *why);

/* ---- foil_agent_pages.c */
void agent_pages_init(struct agent *a);

/* ---- foil_agent_dump.c: arg is the agent; ?type=CLUSTER and ?name=… choose */
void agent_dump(void *arg, const struct adm_request *q, struct adm_reply *r);

/* ---- foil_agent_ca.c */
int agent_ca_open(struct agent *a, struct foil_error *err) FOIL_MUST_USE;
void agent_ca_close(struct agent *a);
/* Before s becomes the snapshot: what of its Secrets cannot be used stays as it was. 0 or -ENOMEM. */
int agent_ca_keep(struct agent *a, const struct istio_snapshot *s) FOIL_MUST_USE;
/* Certificates' files are others than when the snapshot was made, and have been so since the last look. */
bool agent_ca_files_changed(struct agent *a);
/* Makes a->ca.secrets what the snapshot needs; before it is sent. 0 or -ENOMEM. */
int agent_ca_prepare(struct agent *a) FOIL_MUST_USE;
void agent_ca_turn(struct agent *a, uint64_t now_ms);
int64_t agent_ca_secret_expiry_s(const uint8_t *bytes, size_t n_bytes); /* of a packed Secret; 0: not known */
void agent_ca_page(void *arg, const struct adm_request *q, struct adm_reply *r);
void agent_ca_rotate(void *arg, const struct adm_request *q, struct adm_reply *r);
void agent_ca_secrets_page(void *arg, const struct adm_request *q, struct adm_reply *r);
void agent_ca_metrics(struct agent *a, struct adm_prometheus *p);

/* ---- foil_agent_dns.c */
int agent_dns_open(struct agent *a, struct foil_error *err) FOIL_MUST_USE;
void agent_dns_close(struct agent *a);
/* The snapshot is another one, and there is a node: its names are resolved. Sets dns.is_held where it should wait. */
void agent_dns_want(struct agent *a);
void agent_dns_turn(struct agent *a, uint64_t now_ms);
/* Requests at the data plane name this host: it hears of its addresses. arg is the agent. */
void agent_dns_question(void *arg, const char *name);
void agent_dns_page(void *arg, const struct adm_request *q, struct adm_reply *r);
void agent_dns_metrics(struct agent *a, struct adm_prometheus *p);

/* ---- foil_agent_stats.c */
void agent_stats(void *arg, struct adm_reply *r);
void agent_stats_forget(struct agent *a); /* the data plane went: its segment is not of the next one */
