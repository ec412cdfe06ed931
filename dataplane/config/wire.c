/* The scan of packed bytes before protobuf-c unpacks them, see config_priv.h. Rules of the wire: protobuf's encoding page; fields come from protobuf-c's
 * descriptors, so that a message added to the contract is checked without a line here. Iterative: one frame a nested message, DEPTH_MAX deep.
 * Invariant: frames[i].end <= frames[i-1].end, all inside packed. */
#include "dataplane/config/config_priv.h"

#include <errno.h>

#include "dataplane/core/cursor.h"

#define DEPTH_MAX 12u
#define FIELDS_MAX 64u

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct frame {
	const ProtobufCMessageDescriptor *desc;
	const uint8_t *end;
	uint64_t seen;              /* by index in desc->fields */
	const ProtobufCFieldDescriptor *field; /* the one at hand */
	uint32_t n_of[FIELDS_MAX];  /* elements so far of each repeated field */
};

struct scan {
	struct foil_cur c;
	struct frame frames[DEPTH_MAX];
	unsigned int depth;
	struct foil_error *err;
};

static int fail(struct scan *s, const char *what)
{
	size_t at = 0;
	char *out = s->err->field;
	out[0] = 0;
	for (unsigned int i = 0; i <= s->depth && at + 1 < sizeof(s->err->field); i++) {
		const struct frame *f = &s->frames[i];
		int n = 0;
		if (!f->field)
			break;
		if (f->field->label == PROTOBUF_C_LABEL_REPEATED)
			n = snprintf(out + at, sizeof(s->err->field) - at, "%s%s[%u]", at ? "." : "", f->field->name,
				     f->n_of[f->field - f->desc->fields] - 1);
		else
			n = snprintf(out + at, sizeof(s->err->field) - at, "%s%s", at ? "." : "", f->field->name);
		at += n > 0 ? (size_t)n : 0;
	}
	return foil_error_set(s->err, -EINVAL, "%s", what);
}

/* At most 10 bytes, RFC-less: protobuf's base-128. */
static uint64_t varint(struct foil_cur *c)
{
	uint64_t v = 0;
	for (unsigned int shift = 0; shift < 64; shift += 7) {
		uint8_t byte = cur_u8(c);
		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return shift == 63 && byte > 1 ? (c->short_read = true, 0) : v;
	}
	c->short_read = true;
	return 0;
}

static int wire_type_of(ProtobufCType type)
{
	switch (type) {
	case PROTOBUF_C_TYPE_INT32: case PROTOBUF_C_TYPE_SINT32: case PROTOBUF_C_TYPE_INT64: case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_UINT32: case PROTOBUF_C_TYPE_UINT64: case PROTOBUF_C_TYPE_BOOL: case PROTOBUF_C_TYPE_ENUM:
		return WIRE_VARINT;
	case PROTOBUF_C_TYPE_FIXED64: case PROTOBUF_C_TYPE_SFIXED64: case PROTOBUF_C_TYPE_DOUBLE:
		return WIRE_64;
	case PROTOBUF_C_TYPE_FIXED32: case PROTOBUF_C_TYPE_SFIXED32: case PROTOBUF_C_TYPE_FLOAT:
		return WIRE_32;
	case PROTOBUF_C_TYPE_STRING: case PROTOBUF_C_TYPE_BYTES: case PROTOBUF_C_TYPE_MESSAGE:
		return WIRE_BYTES;
	}
	return -1;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *desc, uint64_t id)
{
	for (unsigned int i = 0; i < desc->n_fields; i++)
		if (desc->fields[i].id == id)
			return &desc->fields[i];
	return NULL;
}

/* RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF; and no NUL, which C strings cannot hold. */
static bool is_text(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n;) {
		uint8_t b = p[i];
		size_t more = b < 0x80 ? 0 : b >= 0xc2 && b < 0xe0 ? 1 : b >= 0xe0 && b < 0xf0 ? 2 : b >= 0xf0 && b < 0xf5 ? 3 : SIZE_MAX;
		if (b == 0 || more > n - i - 1)
			return false;
		uint8_t second = more ? p[i + 1] : 0x80;
		if ((b == 0xe0 && second < 0xa0) || (b == 0xed && second > 0x9f) || (b == 0xf0 && second < 0x90) || (b == 0xf4 && second > 0x8f))
			return false;
		for (size_t k = 1; k <= more; k++)
			if ((p[i + k] & 0xc0) != 0x80)
				return false;
		i += more + 1;
	}
	return true;
}

static int check_number(struct scan *s, const ProtobufCFieldDescriptor *fd)
{
	uint64_t v = varint(&s->c);
	if (s->c.short_read)
		return fail(s, "a number that is cut off or too long");
	if (fd->type == PROTOBUF_C_TYPE_BOOL && v > 1)
		return fail(s, "a boolean that is neither 0 nor 1");
	if (fd->type == PROTOBUF_C_TYPE_UINT32 && v > UINT32_MAX)
		return fail(s, "a number beyond 32 bits");
	if (fd->type == PROTOBUF_C_TYPE_ENUM && (v > INT32_MAX || !protobuf_c_enum_descriptor_get_value(fd->descriptor, (int)v)))
		return fail(s, "a value that this enumeration does not have");
	return 0;
}

static int check_bytes(struct scan *s, const ProtobufCFieldDescriptor *fd)
{
	uint64_t n = varint(&s->c);
	if (s->c.short_read || n > cur_left(&s->c))
		return fail(s, "a length beyond the end");
	if (fd->type == PROTOBUF_C_TYPE_MESSAGE) {
		const ProtobufCMessageDescriptor *desc = fd->descriptor;
		if (s->depth + 1 == DEPTH_MAX || desc->n_fields > FIELDS_MAX)
			return fail(s, "messages nested deeper than the contract knows");
		s->depth++;
		s->frames[s->depth] = (struct frame){.desc = desc, .end = s->c.at + n};
		s->c.end = s->frames[s->depth].end;
		return 0;
	}
	const uint8_t *p = cur_bytes(&s->c, (size_t)n);
	if (fd->type == PROTOBUF_C_TYPE_STRING && !is_text(p, (size_t)n))
		return fail(s, "text that is not UTF-8, or holds a NUL");
	return 0;
}

/* Once unless repeated; one of a oneof. */
static bool may_come(struct frame *f, const ProtobufCFieldDescriptor *fd)
{
	unsigned int index = (unsigned int)(fd - f->desc->fields);
	if (fd->label == PROTOBUF_C_LABEL_REPEATED) {
		f->n_of[index]++;
		return true;
	}
	for (unsigned int i = 0; i < f->desc->n_fields; i++) {
		const ProtobufCFieldDescriptor *other = &f->desc->fields[i];
		bool rivals = i == index || ((fd->flags & other->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) && fd->quantifier_offset == other->quantifier_offset);
		if (rivals && (f->seen & 1ull << i))
			return false;
	}
	f->seen |= 1ull << index;
	return true;
}

static int check_field(struct scan *s)
{
	struct frame *f = &s->frames[s->depth];
	f->field = NULL;
	uint64_t tag = varint(&s->c);
	if (s->c.short_read)
		return fail(s, "a field's tag that is cut off");
	const ProtobufCFieldDescriptor *fd = find_field(f->desc, tag >> 3);
	if (!fd)
		return fail(s, "a field that this hydrofoil does not know; is the agent of another version?");
	f->field = fd;
	if (!may_come(f, fd))
		return fail(s, "given twice, or beside another of its kind");
	if ((int)(tag & 7) != wire_type_of(fd->type))
		return fail(s, "of another wire type than the contract says");
	if ((tag & 7) == WIRE_VARINT)
		return check_number(s, fd);
	if ((tag & 7) == WIRE_BYTES)
		return check_bytes(s, fd);
	return cur_skip(&s->c, (tag & 7) == WIRE_64 ? 8 : 4) ? 0 : fail(s, "a number that is cut off");
}

int snap_wire_check(const ProtobufCMessageDescriptor *desc, struct foil_slice packed, struct foil_error *err)
{
	struct scan s = {.c = cur_of(packed.data, packed.n_bytes), .err = err};
	s.frames[0] = (struct frame){.desc = desc, .end = s.c.end};
	for (;;) { /* each turn consumes a byte or leaves a frame */
		while (s.c.at == s.frames[s.depth].end) {
			if (s.depth == 0)
				return 0;
			s.depth--;
			s.c.end = s.frames[s.depth].end;
		}
		int rc = check_field(&s);
		if (rc < 0)
			return rc;
	}
}
