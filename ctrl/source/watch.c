/* Watching the directory: inotify on it and its folders where there is that, else a look at all files' metadata once a second. A change is told when
 * it has settled: editors write in several steps, and a copy of many files is one change. */
#include "ctrl/source/dir_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

#define EVENTS (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF | IN_MOVE_SELF | IN_MODIFY)

static int watch_folder(void *arg, const char *path)
{
	struct src_dir *d = arg;

	/* A folder that cannot be watched (a limit of the system) is found by looking. */
	if (d->inotify_fd >= 0 && inotify_add_watch(d->inotify_fd, path, EVENTS) < 0 && errno != ENOENT && errno != ENOTDIR) {
		close(d->inotify_fd);
		d->inotify_fd = -1;
	}
	return 0;
}

static int ignore_file(void *arg, const char *path, const struct stat *st)
{
	(void)arg;
	(void)path;
	(void)st;
	return 0;
}

static int add_to_shape(void *arg, const char *path, const struct stat *st)
{
	uint64_t *shape = arg;

	*shape += XXH3_64bits_withSeed(path, strlen(path), src_stamp(st)); /* a sum: the walk has no order */
	return 0;
}

static uint64_t shape_of(const struct src_dir *d)
{
	uint64_t shape = 0;

	return src_walk(d->path, add_to_shape, NULL, &shape) ? 1 : shape;
}

/* Adding a watch twice is one watch, so folders that are new are found by going over all of them. */
static void watch_all(struct src_dir *d)
{
	(void)src_walk(d->path, ignore_file, watch_folder, d); /* what cannot be read now is told by the next read */
}

void src_dir_watch(struct src_dir *d)
{
	if (d->is_watched)
		return;
	d->is_watched = true;
	d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	watch_all(d);
	d->shape = shape_of(d);
}

int src_dir_fd(const struct src_dir *d)
{
	return d->inotify_fd;
}

bool src_dir_is_polled(const struct src_dir *d)
{
	return d->is_watched && d->inotify_fd < 0;
}

void src_watch_close(struct src_dir *d)
{
	if (d->inotify_fd >= 0)
		close(d->inotify_fd);
	d->inotify_fd = -1;
}

static bool drain(struct src_dir *d)
{
	_Alignas(struct inotify_event) char events[8192];
	bool any = false;

	while (d->inotify_fd >= 0 && read(d->inotify_fd, events, sizeof(events)) > 0)
		any = true;
	return any;
}

static bool look(struct src_dir *d, uint64_t now_ms)
{
	if (now_ms < d->next_look_ms)
		return false;
	d->next_look_ms = now_ms + SRC_POLL_MS;
	uint64_t shape = shape_of(d);
	bool has_changed = shape != d->shape;
	d->shape = shape;
	return has_changed;
}

bool src_dir_turn(struct src_dir *d, uint64_t now_ms)
{
	bool changes = d->inotify_fd >= 0 ? drain(d) : d->is_watched && look(d, now_ms);

	if (changes) {
		d->first_change_ms = d->has_changed ? d->first_change_ms : now_ms;
		d->last_change_ms = now_ms;
		d->has_changed = true;
	}
	if (!d->has_changed || (now_ms - d->last_change_ms < SRC_SETTLE_MS && now_ms - d->first_change_ms < SRC_SETTLE_MS_MAX))
		return false;
	d->has_changed = false;
	if (d->inotify_fd >= 0)
		watch_all(d);
	return true;
}
