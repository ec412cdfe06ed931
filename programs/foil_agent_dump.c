/* GET /config_dump: the snapshot as it was compiled for the node, in JSON, field by field from protobuf-c's own descriptors: what the .proto names is
 * what stands here. Absent fields are left out; bytes that are not UTF-8 become base64; secrets are named and not shown. */
#include "programs/foil_agent.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "channel.pb-c.h"

#define DEPTH_MAX 16 /* of messages in messages; the contract has no recursive one */

static const struct {
	Foil__Conf__ResourceType type;
	const ProtobufCMessageDescriptor *descriptor;
} kinds[] = {
	{FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, &foil__conf__mesh_settings__descriptor},
	{FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER, &foil__conf__listener__descriptor},
	{FOIL__CONF__RESOURCE_TYPE__RESOURCE_ROUTES, &foil__conf__route_config__descriptor},
	{FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, &foil__conf__cluster__descriptor},
	{FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS, &foil__conf__endpoints__descriptor},
};

static json_t *message_json(const ProtobufCMessage *m, int depth);

static json_t *bytes_json(const uint8_t *data, size_t n)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	json_t *text = json_stringn((const char *)data, n);
	char *out = text ? NULL : malloc((n + 2) / 3 * 4 + 1);
	if (!out)
		return text ? text : json_null();
	size_t at = 0;
	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)data[i] << 16 | (uint32_t)(i + 1 < n ? data[i + 1] : 0) << 8 | (i + 2 < n ? data[i + 2] : 0);
		out[at++] = digits[v >> 18];
		out[at++] = digits[v >> 12 & 63];
		out[at++] = i + 1 < n ? digits[v >> 6 & 63] : '=';
		out[at++] = i + 2 < n ? digits[v & 63] : '=';
	}
	text = json_pack("{s:s%}", "base64", out, (int)at);
	free(out);
	return text;
}

static json_t *enum_json(const ProtobufCEnumDescriptor *d, int value)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(d, value);
	return v ? json_string(v->name) : json_integer(value);
}

static json_t *value_json(const ProtobufCFieldDescriptor *f, const void *at, int depth)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_SINT32:
	case PROTOBUF_C_TYPE_SFIXED32: return json_integer(*(const int32_t *)at);
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_FIXED32: return json_integer(*(const uint32_t *)at);
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64: return json_integer(*(const json_int_t *)at);
	case PROTOBUF_C_TYPE_FLOAT: return json_real((double)*(const float *)at);
	case PROTOBUF_C_TYPE_DOUBLE: return json_real(*(const double *)at);
	case PROTOBUF_C_TYPE_BOOL: return json_boolean(*(const protobuf_c_boolean *)at);
	case PROTOBUF_C_TYPE_ENUM: return enum_json(f->descriptor, *(const int *)at);
	case PROTOBUF_C_TYPE_STRING: return bytes_json(*(uint8_t *const *)at, strlen(*(char *const *)at));
	case PROTOBUF_C_TYPE_BYTES: return bytes_json(((const ProtobufCBinaryData *)at)->data, ((const ProtobufCBinaryData *)at)->len);
	case PROTOBUF_C_TYPE_MESSAGE: return message_json(*(ProtobufCMessage *const *)at, depth + 1);
	}
	return json_null();
}

static size_t size_of(const ProtobufCFieldDescriptor *f)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_SINT64:
	case PROTOBUF_C_TYPE_SFIXED64:
	case PROTOBUF_C_TYPE_UINT64:
	case PROTOBUF_C_TYPE_FIXED64:
	case PROTOBUF_C_TYPE_DOUBLE: return 8;
	case PROTOBUF_C_TYPE_BOOL: return sizeof(protobuf_c_boolean);
	case PROTOBUF_C_TYPE_STRING:
	case PROTOBUF_C_TYPE_MESSAGE: return sizeof(void *);
	case PROTOBUF_C_TYPE_BYTES: return sizeof(ProtobufCBinaryData);
	default: return 4;
	}
}

static bool is_present(const uint8_t *m, const ProtobufCFieldDescriptor *f)
{
	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)(const void *)(m + f->quantifier_offset) == f->id;
	if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_MESSAGE) {
		const void *p = *(void *const *)(const void *)(m + f->offset);
		return p && p != f->default_value;
	}
	return f->label == PROTOBUF_C_LABEL_REQUIRED || *(const protobuf_c_boolean *)(const void *)(m + f->quantifier_offset);
}

static json_t *repeated_json(const uint8_t *m, const ProtobufCFieldDescriptor *f, int depth)
{
	size_t n = *(const size_t *)(const void *)(m + f->quantifier_offset);
	const uint8_t *list = *(uint8_t *const *)(const void *)(m + f->offset);
	json_t *out = n ? json_array() : NULL;
	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, value_json(f, list + i * size_of(f), depth));
	return out;
}

/* Recursion is bounded by the schema (no message of the contract holds itself) and by DEPTH_MAX. */
static json_t *message_json(const ProtobufCMessage *message, int depth)
{
	json_t *out = json_object();
	const uint8_t *m = (const uint8_t *)message;
	for (unsigned int i = 0; out && depth < DEPTH_MAX && i < message->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &message->descriptor->fields[i];
		json_t *value = NULL;
		if (f->label == PROTOBUF_C_LABEL_REPEATED)
			value = repeated_json(m, f, depth);
		else if (is_present(m, f))
			value = value_json(f, m + f->offset, depth);
		if (value)
			json_object_set_new(out, f->name, value);
	}
	return out;
}

static json_t *body_json(const struct istio_resource *r)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(kinds); i++) {
		if ((uint32_t)kinds[i].type != r->type)
			continue;
		ProtobufCMessage *m = protobuf_c_message_unpack(kinds[i].descriptor, NULL, r->n_bytes, r->bytes);
		json_t *body = m ? message_json(m, 0) : json_null();
		if (m)
			protobuf_c_message_free_unpacked(m, NULL);
		return body;
	}
	return json_string("not shown");
}

static const char *type_name(uint32_t type)
{
	const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(&foil__conf__resource_type__descriptor, (int)type);
	static const char prefix[] = "RESOURCE_";
	return !v ? "UNKNOWN" : strncmp(v->name, prefix, sizeof(prefix) - 1) == 0 ? v->name + sizeof(prefix) - 1 : v->name;
}

/* ---- the page */

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The value of key in a query string, percent-decoded, into out; false when it is not there or too long. */
static bool query_value(struct foil_slice query, const char *key, char *out, size_t n_room)
{
	size_t n_key = strlen(key), at = 0;
	while (at < query.n_bytes) {
		const char *end = memchr(query.data + at, '&', query.n_bytes - at);
		size_t n = end ? (size_t)(end - query.data) - at : query.n_bytes - at, k = 0;
		const char *p = query.data + at;
		if (n > n_key && memcmp(p, key, n_key) == 0 && p[n_key] == '=') {
			for (size_t i = n_key + 1; i < n; i++) {
				bool is_coded = p[i] == '%' && i + 2 < n && hex_digit(p[i + 1]) >= 0 && hex_digit(p[i + 2]) >= 0;
				if (k + 1 == n_room)
					return false;
				out[k++] = is_coded ? (char)(hex_digit(p[i + 1]) << 4 | hex_digit(p[i + 2])) : p[i];
				i += is_coded ? 2 : 0;
			}
			out[k] = 0;
			return true;
		}
		at += n + 1;
	}
	return false;
}

static int append(const char *data, size_t n, void *to)
{
	adm_reply_bytes(to, data, n);
	return 0;
}

void agent_dump(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct agent *a = arg;
	const struct istio_snapshot *s = a->snapshot;
	char type[64], name[512];
	bool by_type = query_value(q->query, "type", type, sizeof(type)), by_name = query_value(q->query, "name", name, sizeof(name)), is_first = true;
	adm_reply_printf(r, "{\"version\": ");
	adm_reply_json_str(r, s ? s->version : NULL);
	adm_reply_printf(r, ", \"node\": ");
	adm_reply_json_str(r, a->hello ? a->hello->node_name : NULL);
	adm_reply_printf(r, ", \"resources\": [");
	for (size_t i = 0; s && i < s->n_resources; i++) {
		const struct istio_resource *one = &s->resources[i];
		if ((by_type && strcasecmp(type, type_name(one->type)) != 0) || (by_name && strcmp(name, one->name) != 0))
			continue;
		json_t *body = body_json(one);
		adm_reply_printf(r, "%s\n{\"type\": \"%s\", \"name\": ", is_first ? "" : ",", type_name(one->type));
		adm_reply_json_str(r, one->name);
		adm_reply_printf(r, ", \"hash\": \"%016llx\", \"body\": ", (unsigned long long)one->hash);
		if (json_dump_callback(body, append, r, JSON_INDENT(1) | JSON_ENCODE_ANY) < 0)
			adm_reply_printf(r, "null");
		adm_reply_printf(r, "}");
		json_decref(body);
		is_first = false;
	}
	adm_reply_printf(r, "\n]}\n");
}
