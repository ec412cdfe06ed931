/* What a compiled format is made of: format_compile.c makes it, format.c gives the values. */
#pragma once

#include "dataplane/mesh/header_ops.h"

enum format_op {
	FORMAT_LITERAL,
#define X(ID, name, argument) FORMAT_##ID,
#include "dataplane/mesh/format.def"
#undef X
	FORMAT_OP_COUNT
};

/* Of PATH and QUERY_PARAMS: which path, and what of it. */
enum format_path { FORMAT_PATH_ORIGINAL_OR_NOW, FORMAT_PATH_NOW, FORMAT_PATH_ORIGINAL };

enum format_grpc { FORMAT_GRPC_CAMEL, FORMAT_GRPC_SNAKE, FORMAT_GRPC_NUMBER };

struct mesh_format_part {
	enum format_op op;
	enum format_grpc grpc;
	enum format_path path;
	bool without_query;
	uint32_t bytes_max;           /* of the value; UINT32_MAX: all */
	struct foil_slice text;       /* literal text, header or parameter name, time format */
	struct foil_slice other;      /* the header to take when text's is absent; empty: none */
	uint16_t id, other_id;        /* enum http_header_id */
};

/* Time formats (format_time.c): strftime's words that need no locale, and fractions (%3f, %E3S). */
#define FORMAT_TIME_BYTES MESH_FORMAT_SCRATCH_BYTES /* of the longest result */
#define FORMAT_TIME_TEXT_MAX 96u  /* of a format: its longest word, "%A", gives 9 bytes for 2 */
#define FORMAT_TIME_DEFAULT FOIL_SLICE("%Y-%m-%dT%H:%M:%E3SZ")
bool mesh_format_time_check(struct foil_slice format);
struct foil_slice mesh_format_time(struct foil_slice format, uint64_t wall_us, char out[FORMAT_TIME_BYTES]);
