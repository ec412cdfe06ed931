/* Sources: a directory of YAML or JSON files with Istio and Kubernetes resources, read whole, watched, read again. Files named *.yaml, *.yml and *.json
 * in the directory and in its subdirectories down to SRC_DEPTH_MAX; names that begin with a dot are left out (editors, Kubernetes' ..data). */
#pragma once

#include "ctrl/istio/istio.h"

#define SRC_DEPTH_MAX 8u
#define SRC_FILES_MAX 100000u
#define SRC_FILE_BYTES_MAX ISTIO_DOC_BYTES_MAX
#define SRC_TOTAL_BYTES_MAX (128ull << 20) /* about 3 GiB of memory while it is read and compiled */
#define SRC_SETTLE_MS 100u       /* after the last change */
#define SRC_SETTLE_MS_MAX 2000u  /* after the first one */
#define SRC_POLL_MS 1000u        /* between looks, where there is no inotify */

struct src_dir;

struct src_dir_stats {
	size_t n_files;         /* read or kept */
	size_t n_stale_files;   /* unreadable now: their last good contents are in use */
	size_t n_refused_files; /* unreadable, and never were readable */
	size_t n_resources;     /* accepted */
	size_t n_refused;       /* resources with an error */
	size_t n_last_good;     /* of those: an earlier version stays in use */
	size_t n_unknown;       /* of kinds that we do not know */
	uint64_t n_bytes;
};

/* NULL after a sentence in err when there is no such directory or it cannot be read. */
struct src_dir *src_dir_open(const char *path, char *err, size_t n_err);
void src_dir_close(struct src_dir *own_d);

/* Reads what changed since the last time and makes a model of all of it. A file that cannot be read or is not YAML: a diagnostic, and its last good
 * contents stay; the same for a resource (see istio_model_new). The model outlives the directory; istio_model_free frees it. stats may be NULL.
 * NULL: no memory, or the directory is gone (a diagnostic says so): keep what you have. */
struct istio_model *src_dir_read(struct src_dir *d, struct istio_diags *diags, struct src_dir_stats *stats);

/* Another way, for when little changed: reads the files that changed and makes no model. True: since the last src_dir_read, and the src_dir_changes that
 * were taken since, nothing happened but that *n files (at most as many as *n said before) got other contents that can be read; list has them, borrowed
 * until the next call that takes d. After false, src_dir_read. */
bool src_dir_changes(struct src_dir *d, struct istio_file_change *list, size_t *n);
/* The changes of the last src_dir_changes are in use now. The next model is still made of everything. */
void src_dir_changes_taken(struct src_dir *d);

/* Begins to watch. From now on src_dir_fd, when it is not -1, becomes readable at a change. */
void src_dir_watch(struct src_dir *d);
int src_dir_fd(const struct src_dir *d); /* -1: no inotify (said by src_dir_is_polled); src_dir_turn looks for itself */
bool src_dir_is_polled(const struct src_dir *d);
/* Call when the fd is readable and at least every 100 ms. True: something changed and has settled, read again. now_ms: any monotonic clock. */
bool src_dir_turn(struct src_dir *d, uint64_t now_ms);
