/* The last good snapshot on disk: state_dir/snapshot.bin, mode 0600, written beside it and renamed over it. Numbers are big-endian:
 *
 *   "FOILSNAP"  format 1 (4)  abi (4)  whole file's bytes (8)  resources (4)  version's bytes (4)  version
 *   each resource: type (4)  name's bytes (4)  body's bytes (4)  name  body
 *   CRC-32C of all before (4)
 *
 * What is read is taken for what a stranger wrote: after the frame is checked it goes through snap_apply like an update from the agent. */
#include "dataplane/config/config_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/core/crc32c.h"
#include "dataplane/core/cursor.h"

#define MAGIC "FOILSNAP"
#define FORMAT 1u
#define HEAD_BYTES 32u
#define RESOURCE_HEAD_BYTES 12u
#define TAIL_BYTES 4u
#define BUFFER_BYTES 16384u

struct writer {
	int fd, rc;
	uint32_t crc;
	size_t n;
	uint8_t buffer[BUFFER_BYTES];
};

static void flush(struct writer *w)
{
	for (size_t at = 0; at < w->n && w->rc == 0;) {
		ssize_t n = write(w->fd, w->buffer + at, w->n - at);
		if (n < 0 && errno != EINTR)
			w->rc = -errno;
		at += n > 0 ? (size_t)n : 0;
	}
	w->n = 0;
}

static void put(struct writer *w, const void *data, size_t n_bytes)
{
	const uint8_t *p = data;
	w->crc = foil_crc32c(w->crc, data, n_bytes);
	while (n_bytes > 0 && w->rc == 0) {
		size_t n = FOIL_MIN(n_bytes, BUFFER_BYTES - w->n);
		memcpy(w->buffer + w->n, p, n);
		w->n += n;
		p += n;
		n_bytes -= n;
		if (w->n == BUFFER_BYTES)
			flush(w);
	}
}

static void put32(struct writer *w, uint64_t v)
{
	uint8_t b[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
	put(w, b, sizeof(b));
}

/* Private keys never lie on disk: without an agent, TLS chains wait for their secrets. */
static bool is_secret(const struct snap_res *r)
{
	return r->res->type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_SECRET;
}

static void put_all(struct writer *w, const struct snap *s, const struct snap_set *set)
{
	size_t n_version = strlen(s->version), n_kept = 0;
	uint64_t n_bytes = HEAD_BYTES + n_version + TAIL_BYTES;
	for (size_t i = 0; i < set->n; i++) {
		if (is_secret(set->list[i]))
			continue;
		n_kept++;
		n_bytes += RESOURCE_HEAD_BYTES + (uint64_t)set->list[i]->res->name.n_bytes + set->list[i]->body.n_bytes;
	}
	put(w, MAGIC, sizeof(MAGIC) - 1);
	put32(w, FORMAT);
	put32(w, s->p.abi);
	put32(w, n_bytes >> 32);
	put32(w, n_bytes);
	put32(w, n_kept);
	put32(w, n_version);
	put(w, s->version, n_version);
	for (size_t i = 0; i < set->n; i++) {
		const struct snap_res *r = set->list[i];
		if (is_secret(r))
			continue;
		put32(w, r->res->type);
		put32(w, r->res->name.n_bytes);
		put32(w, r->body.n_bytes);
		put(w, r->res->name.data, r->res->name.n_bytes);
		put(w, r->body.data, r->body.n_bytes);
	}
	put32(w, w->crc);
	flush(w);
}

static int paths(const struct snap *s, char path[300], char fresh[300])
{
	(void)snprintf(path, 300, "%s/snapshot.bin", s->state_dir); /* state_dir has at most 255 bytes */
	(void)snprintf(fresh, 300, "%s/snapshot.bin.new", s->state_dir);
	return s->state_dir[0] ? 0 : -ENOENT;
}

/* The rename is on disk when the folder is. */
static void sync_folder(const struct snap *s)
{
	int fd = open(s->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return; /* the file itself is whole; only a power cut could bring the old one back */
	(void)fsync(fd);
	(void)close(fd);
}

int snap_disk_write(const struct snap *s, const struct snap_set *set, struct foil_error *err)
{
	char path[300], fresh[300];
	if (paths(s, path, fresh) < 0)
		return 0;
	if (mkdir(s->state_dir, 0700) < 0 && errno != EEXIST)
		return foil_error_set(err, -errno, "cannot make the folder %s: %s", s->state_dir, strerror(errno));
	(void)unlink(fresh); /* of a process that died while it wrote */
	struct writer w = {.fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600)};
	if (w.fd < 0)
		return foil_error_set(err, -errno, "cannot write %s: %s", fresh, strerror(errno));
	put_all(&w, s, set);
	if (w.rc == 0 && fsync(w.fd) < 0)
		w.rc = -errno;
	if (close(w.fd) < 0 && w.rc == 0)
		w.rc = -errno;
	if (w.rc == 0 && rename(fresh, path) < 0)
		w.rc = -errno;
	if (w.rc < 0) {
		(void)unlink(fresh); /* half a snapshot is of no use */
		return foil_error_set(err, w.rc, "cannot write %s: %s; the snapshot runs but is not kept", path, strerror(-w.rc));
	}
	sync_folder(s);
	return 0;
}

/* ---- reading */

static int parse_resources(struct foil_cur *c, struct foil_blob *b, uint32_t n, struct snap_update *out, struct foil_error *err)
{
	if (n > cur_left(c) / RESOURCE_HEAD_BYTES)
		return foil_error_set(err, -EBADMSG, "it says %u resources, which it has no room for", n);
	struct snap_resource *list = foil_blob_array(b, n, sizeof(*list));
	if (!list)
		return foil_error_set(err, -ENOMEM, "no memory for its %u resources", n);
	for (uint32_t i = 0; i < n; i++) {
		list[i].type = cur_be32(c);
		uint32_t n_name = cur_be32(c), n_body = cur_be32(c);
		list[i].name = cur_slice(c, n_name);
		list[i].body = cur_slice(c, n_body);
		if (c->short_read)
			return foil_error_set(err, -EBADMSG, "its resource %u is cut off", i);
	}
	out->resources = list;
	out->n_resources = n;
	return 0;
}

int snap_disk_parse(const struct snap *s, struct foil_slice file, struct foil_blob *b, struct snap_update *out, struct foil_error *err)
{
	struct foil_cur c = cur_of(file.data, file.n_bytes);
	struct foil_slice magic = cur_slice(&c, sizeof(MAGIC) - 1);
	uint32_t format = cur_be32(&c), abi = cur_be32(&c);
	uint64_t n_bytes = (uint64_t)cur_be32(&c) << 32;
	n_bytes |= cur_be32(&c);
	uint32_t n = cur_be32(&c), n_version = cur_be32(&c);
	if (c.short_read || !foil_slice_eq(magic, FOIL_SLICE(MAGIC)))
		return foil_error_set(err, -EBADMSG, "it is no snapshot");
	if (format != FORMAT || abi != s->p.abi)
		return foil_error_set(err, -EBADMSG, "it is of format %u and ABI %u, ours are %u and %u", format, abi, FORMAT, s->p.abi);
	if (n_bytes != file.n_bytes || cur_left(&c) < TAIL_BYTES)
		return foil_error_set(err, -EBADMSG, "it has %u bytes and says %llu", file.n_bytes, (unsigned long long)n_bytes);
	struct foil_cur tail = c;
	(void)cur_skip(&tail, cur_left(&c) - TAIL_BYTES); /* cannot be short */
	if (cur_be32(&tail) != foil_crc32c(0, file.data, file.n_bytes - TAIL_BYTES))
		return foil_error_set(err, -EBADMSG, "its CRC-32C is wrong");
	c.end -= TAIL_BYTES;
	*out = (struct snap_update){.full = true, .version = cur_slice(&c, n_version)};
	int rc = parse_resources(&c, b, n, out, err);
	if (rc == 0 && (c.short_read || cur_left(&c)))
		rc = foil_error_set(err, -EBADMSG, "it has bytes that belong to nothing");
	return rc;
}

static int read_whole(int fd, struct foil_blob *b, struct foil_slice *out, size_t bytes_max, struct foil_error *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return foil_error_set(err, -EBADMSG, "it is no regular file");
	if ((uint64_t)st.st_size > bytes_max)
		return foil_error_set(err, -EFBIG, "it has %lld bytes, the budget is %zu", (long long)st.st_size, bytes_max);
	uint8_t *data = foil_blob_alloc(b, (size_t)st.st_size + 1);
	if (!data)
		return foil_error_set(err, -ENOMEM, "no memory for its %lld bytes", (long long)st.st_size);
	size_t n = 0;
	while (n < (size_t)st.st_size) {
		ssize_t got = read(fd, data + n, (size_t)st.st_size - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return foil_error_set(err, -errno, "%s", strerror(errno));
		if (got == 0)
			break; /* shorter than it said: the frame's own length tells */
		n += (size_t)got;
	}
	*out = foil_slice_of(data, n);
	return 0;
}

int snap_disk_read(const struct snap *s, struct foil_blob *b, struct snap_update *out, struct foil_error *err)
{
	char path[300], fresh[300];
	struct foil_error why = {0};
	struct foil_slice file;
	int rc = paths(s, path, fresh);
	if (rc < 0)
		return rc;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ENOENT : foil_error_set(err, -errno, "%s: %s", path, strerror(errno));
	rc = read_whole(fd, b, &file, FOIL_MIN(s->p.bytes_max, (size_t)UINT32_MAX - 1), &why);
	(void)close(fd); /* only read */
	if (rc == 0)
		rc = snap_disk_parse(s, file, b, out, &why);
	return rc < 0 ? foil_error_set(err, rc, "%s is not used: %s", path, why.text) : 0;
}
