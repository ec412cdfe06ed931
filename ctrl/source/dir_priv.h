/* The directory source inside: shared by reading (dir.c) and watching (watch.c). */
#pragma once

#include "ctrl/source/source.h"

struct src_file {
	char *path;              /* as shown: the directory's path, a slash, the name inside */
	struct doc_file *good;   /* its last good contents, or NULL */
	struct doc_file *before; /* the contents in use, when good is newer; or NULL */
	bool is_new;             /* nothing of it is in use yet */
	uint64_t stamp;          /* of the state on disk that was last looked at */
	bool is_seen;            /* in the walk that is going on */
	bool is_stale;           /* good is older than what is on disk, which cannot be used */
	struct istio_diags diags; /* what was found when it was last read, told again until it changes */
};

struct src_dir {
	char *path;
	struct src_file *files; /* in the order of their paths */
	size_t n_files, n_room;
	struct istio_model *previous;
	bool has_gone;          /* files that previous was made of are not there any more */
	/* watching */
	bool is_watched;
	int inotify_fd;          /* -1: none */
	uint64_t next_look_ms, shape; /* polling: when, and what the directory looked like */
	bool has_changed;
	uint64_t first_change_ms, last_change_ms;
};

/* Calls visit for every file that counts, in no order. 0, or -errno when the top cannot be read. n_left: files beyond SRC_FILES_MAX. */
struct stat;
int src_walk(const char *top, int (*visit)(void *arg, const char *path, const struct stat *st), int (*folder)(void *arg, const char *path), void *arg);
/* What a file's metadata says about its state. */
uint64_t src_stamp(const struct stat *st);
void src_watch_close(struct src_dir *d);
