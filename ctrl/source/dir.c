/* Reading the directory: every file that changed since the last time is parsed, the others' documents are used again, and one model is made of all.
 * What cannot be used (gone half-way, unreadable, not YAML) keeps its last good contents, and its diagnostics are told at every read. */
#include "ctrl/source/dir_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

/* ---- the walk ---- */

static bool is_text_name(const char *name)
{
	static const char *const ends[] = {".yaml", ".yml", ".json"};
	size_t n = strlen(name);

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++)
		if (n > strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0)
			return true;
	return false;
}

uint64_t src_stamp(const struct stat *st)
{
	int64_t facts[] = {st->st_dev, (int64_t)st->st_ino, st->st_size, st->st_mtim.tv_sec, st->st_mtim.tv_nsec, st->st_ctim.tv_sec, st->st_ctim.tv_nsec};

	return XXH3_64bits(facts, sizeof(facts));
}

/* Folders still to be read: depth first would need recursion, and what a disk holds is not ours to trust. */
struct todo {
	struct {
		char *path;
		unsigned int depth;
	} *list;
	size_t n, n_room;
};

static int todo_add(struct todo *t, const char *path, unsigned int depth)
{
	if (t->n == t->n_room) {
		size_t room = t->n_room ? t->n_room * 2 : 16;
		void *more = realloc(t->list, sizeof(*t->list) * room);
		if (!more)
			return -ENOMEM;
		t->list = more;
		t->n_room = room;
	}
	t->list[t->n].path = strdup(path);
	t->list[t->n].depth = depth;
	return t->list[t->n++].path ? 0 : -ENOMEM;
}

struct walk {
	struct todo todo;
	int (*visit)(void *arg, const char *path, const struct stat *st);
	int (*folder)(void *arg, const char *path);
	void *arg;
	size_t n_files;
};

static int take_entry(struct walk *w, const char *folder, unsigned int depth, const char *name)
{
	char path[4096];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", folder, name);

	if (name[0] == '.' || n < 0 || (size_t)n >= sizeof(path) || stat(path, &st) != 0)
		return 0; /* gone between the two looks, or a dangling link: as if it were not there */
	if (S_ISDIR(st.st_mode))
		return depth < SRC_DEPTH_MAX ? todo_add(&w->todo, path, depth + 1) : 0;
	if (!S_ISREG(st.st_mode) || !is_text_name(name) || w->n_files >= SRC_FILES_MAX)
		return 0;
	w->n_files++;
	return w->visit(w->arg, path, &st);
}

static int read_folder(struct walk *w, const char *folder, unsigned int depth)
{
	DIR *dir = opendir(folder);
	int rc = 0;

	if (!dir)
		return depth == 0 ? -errno : 0;
	if (w->folder)
		rc = w->folder(w->arg, folder);
	for (struct dirent *e = readdir(dir); e && rc == 0; e = readdir(dir))
		rc = take_entry(w, folder, depth, e->d_name);
	closedir(dir);
	return rc;
}

int src_walk(const char *top, int (*visit)(void *arg, const char *path, const struct stat *st), int (*folder)(void *arg, const char *path), void *arg)
{
	struct walk w = {.visit = visit, .folder = folder, .arg = arg};
	int rc = todo_add(&w.todo, top, 0);

	for (size_t i = 0; i < w.todo.n && rc == 0; i++) {
		char *path = w.todo.list[i].path;
		rc = read_folder(&w, path, w.todo.list[i].depth);
	}
	for (size_t i = 0; i < w.todo.n; i++)
		free(w.todo.list[i].path);
	free(w.todo.list);
	return rc;
}

/* ---- files ---- */

static void file_fini(struct src_file *f)
{
	free(f->path);
	istio_doc_put_ref(f->good);
	istio_doc_put_ref(f->before);
	istio_diags_fini(&f->diags);
}

static struct src_file *file_add(struct src_dir *d, const char *path)
{
	if (d->n_files == d->n_room) {
		size_t room = d->n_room ? d->n_room * 2 : 16;
		struct src_file *more = realloc(d->files, sizeof(*more) * room);
		if (!more)
			return NULL;
		d->files = more;
		d->n_room = room;
	}
	struct src_file *f = &d->files[d->n_files];
	*f = (struct src_file){.path = strdup(path), .is_new = true};
	istio_diags_init(&f->diags);
	if (!f->path)
		return NULL;
	d->n_files++;
	return f;
}

static int by_path(const void *x, const void *y)
{
	return strcmp(((const struct src_file *)x)->path, ((const struct src_file *)y)->path);
}

struct reading {
	struct src_dir *d;
	size_t n_known; /* files[0..n_known) are in order */
	uint64_t n_bytes;
};

static void fail(struct src_file *f, const char *code, const char *text, const char *detail)
{
	istio_diags_add(&f->diags, ISTIO_ERROR, code, f->path, (struct istio_pos){0}, "", "", "%s%s%s", text, detail[0] ? ": " : "", detail);
}

/* The whole text, 0-terminated; NULL after a diagnostic. */
static char *slurp(struct src_file *f, size_t n_expected, size_t *n)
{
	int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = fd >= 0 ? malloc(n_expected + 1) : NULL;
	size_t got = 0;
	ssize_t one = 1;

	while (text && one > 0 && got < n_expected) {
		one = read(fd, text + got, n_expected - got);
		got += one > 0 ? (size_t)one : 0;
	}
	if (fd < 0 || !text || one < 0) {
		fail(f, "HF0001", "cannot read it", fd >= 0 && !text ? "no memory" : strerror(errno));
		free(text);
		text = NULL;
	} else {
		text[got] = 0;
		*n = got;
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static void read_file(struct src_file *f, const struct stat *st)
{
	size_t n = 0;

	istio_diags_fini(&f->diags);
	istio_diags_init(&f->diags);
	f->stamp = src_stamp(st);
	f->is_stale = true;
	if (st->st_size > (off_t)SRC_FILE_BYTES_MAX) {
		fail(f, "HF0003", "longer than 64 MiB: split it", "");
		return;
	}
	char *text = slurp(f, (size_t)st->st_size, &n);
	if (!text)
		return;
	struct doc_file *docs = istio_doc_read(f->path, text, n, (struct istio_pos){1, 1}, &f->diags);
	free(text);
	if (docs) {
		if (!f->before)
			f->before = f->good;
		else
			istio_doc_put_ref(f->good);
		f->good = docs;
		f->is_stale = false;
	}
}

static int take_file(void *arg, const char *path, const struct stat *st)
{
	struct reading *r = arg;
	struct src_dir *d = r->d;
	struct src_file *f = r->n_known ? bsearch(&(struct src_file){.path = (char *)(uintptr_t)path}, d->files, r->n_known, sizeof(*d->files), by_path) : NULL;

	if (!f) {
		f = file_add(d, path);
		if (!f)
			return -ENOMEM;
	}
	f->is_seen = true;
	r->n_bytes += (uint64_t)st->st_size;
	if (r->n_bytes > SRC_TOTAL_BYTES_MAX) {
		if (f->stamp != src_stamp(st))
			fail(f, "HF0003", "the directory's files are longer than 128 MiB together: this one is not read", "");
		f->stamp = src_stamp(st);
		f->is_stale = true;
		return 0;
	}
	if (f->stamp != src_stamp(st))
		read_file(f, st);
	return 0;
}

/* How many went. */
static size_t forget_unseen(struct src_dir *d)
{
	size_t n = 0, n_before = d->n_files;

	for (size_t i = 0; i < d->n_files; i++) {
		if (d->files[i].is_seen)
			d->files[n++] = d->files[i];
		else
			file_fini(&d->files[i]);
	}
	d->n_files = n;
	return n_before - n;
}

/* Brings files up to date with the directory. 0, or -errno after a diagnostic. *n_gone: files that are there no more. */
static int scan(struct src_dir *d, struct istio_diags *diags, uint64_t *n_bytes, size_t *n_gone)
{
	struct reading r = {.d = d, .n_known = d->n_files};

	for (size_t i = 0; i < d->n_files; i++)
		d->files[i].is_seen = false;
	int rc = src_walk(d->path, take_file, NULL, &r);
	if (rc) {
		istio_diags_add(diags, ISTIO_ERROR, "HF0001", d->path, (struct istio_pos){0}, "", "", "cannot read the directory: %s", strerror(-rc));
		return rc;
	}
	*n_bytes = r.n_bytes;
	*n_gone = forget_unseen(d);
	if (d->n_files)
		qsort(d->files, d->n_files, sizeof(*d->files), by_path);
	return 0;
}

/* ---- entry points ---- */

struct src_dir *src_dir_open(const char *path, char *err, size_t n_err)
{
	struct stat st;
	DIR *dir = opendir(path);

	if (!dir) {
		(void)snprintf(err, n_err, "%s: %s; give a directory with Istio and Kubernetes YAML", path, strerror(errno)); /* cut */
		return NULL;
	}
	closedir(dir);
	struct src_dir *d = calloc(1, sizeof(*d));
	if (d) {
		d->inotify_fd = -1;
		d->path = strdup(path);
	}
	if (!d || !d->path || stat(path, &st) != 0) {
		(void)snprintf(err, n_err, "%s: no memory", path); /* cut */
		if (d)
			free(d->path);
		free(d);
		return NULL;
	}
	for (size_t n = strlen(d->path); n > 1 && d->path[n - 1] == '/'; n--)
		d->path[n - 1] = 0;
	return d;
}

void src_dir_close(struct src_dir *own_d)
{
	if (!own_d)
		return;
	src_watch_close(own_d);
	for (size_t i = 0; i < own_d->n_files; i++)
		file_fini(&own_d->files[i]);
	free(own_d->files);
	istio_model_free(own_d->previous);
	free(own_d->path);
	free(own_d);
}

static void tell_again(const struct istio_diags *from, struct istio_diags *to, bool has_good)
{
	for (size_t i = 0; i < from->n; i++) {
		const struct istio_diag *one = &from->list[i];
		istio_diags_add(to, one->severity, one->code, one->file, one->at, one->resource, one->field, "%s%s", one->text,
				has_good ? "; its last good contents stay in use" : "");
	}
	to->n_dropped += from->n_dropped;
}

static int fill_model(struct src_dir *d, struct istio_model *m, struct istio_diags *diags, struct src_dir_stats *stats)
{
	int rc = 0;

	for (size_t i = 0; i < d->n_files && rc == 0; i++) {
		struct src_file *f = &d->files[i];
		tell_again(&f->diags, diags, f->is_stale && f->good);
		stats->n_files++;
		stats->n_stale_files += f->is_stale && f->good;
		stats->n_refused_files += f->is_stale && !f->good;
		if (f->good)
			rc = istio_model_add(m, f->good, diags);
	}
	return rc ? rc : istio_model_finish(m, diags);
}

static int make_model(struct src_dir *d, struct istio_model *m, struct istio_diags *diags, struct src_dir_stats *stats)
{
	int rc = fill_model(d, m, diags, stats);
	struct istio_model_stats s = istio_model_stats(m);

	stats->n_resources = s.n_resources;
	stats->n_refused = s.n_refused;
	stats->n_last_good = s.n_last_good;
	stats->n_unknown = s.n_unknown;
	return rc;
}

struct istio_model *src_dir_read(struct src_dir *d, struct istio_diags *diags, struct src_dir_stats *stats)
{
	struct src_dir_stats unasked;
	size_t n_gone;

	stats = stats ? stats : &unasked;
	*stats = (struct src_dir_stats){0};
	if (scan(d, diags, &stats->n_bytes, &n_gone))
		return NULL;
	src_dir_changes_taken(d);
	struct istio_model *m = istio_model_new(d->previous);
	if (!m || make_model(d, m, diags, stats)) {
		istio_model_free(m);
		istio_diags_add(diags, ISTIO_ERROR, "HF0001", d->path, (struct istio_pos){0}, "", "", "no memory to read the directory");
		return NULL;
	}
	istio_model_free(d->previous);
	d->previous = istio_model_get_ref(m);
	d->has_gone = false;
	return m;
}

bool src_dir_changes(struct src_dir *d, struct istio_file_change *list, size_t *n)
{
	struct istio_diags unheard; /* src_dir_read finds the same again */
	uint64_t n_bytes;
	size_t n_room = *n, n_gone = 0;

	istio_diags_init(&unheard);
	int rc = scan(d, &unheard, &n_bytes, &n_gone);
	istio_diags_fini(&unheard);
	d->has_gone = d->has_gone || n_gone;
	*n = 0;
	if (rc || d->has_gone || !d->previous)
		return false;
	for (size_t i = 0; i < d->n_files; i++) {
		const struct src_file *f = &d->files[i];
		if (f->is_new || f->is_stale || (f->before && (f->diags.n || *n == n_room)))
			return false;
		if (f->before)
			list[(*n)++] = (struct istio_file_change){.before = f->before, .after = f->good};
	}
	return true;
}

void src_dir_changes_taken(struct src_dir *d)
{
	for (size_t i = 0; i < d->n_files; i++) {
		istio_doc_put_ref(d->files[i].before);
		d->files[i].before = NULL;
		d->files[i].is_new = false;
	}
}
