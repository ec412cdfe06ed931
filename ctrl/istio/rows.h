/* How a row of a field table is written: ROW(struct, member, "name", type, .what = else). Only files with tables include it. */
#pragma once

#include "ctrl/istio/kinds.h"

#define ROW(s, member, api_name, kind, ...) {.name = (api_name), .type = (kind), .offset = offsetof(struct s, member), ##__VA_ARGS__}
#define ROW_NOTED(s, member, api_name, kind, why, ...) \
	{.name = (api_name), .type = (kind), .status = NOTED, .offset = offsetof(struct s, member), .note = (why), ##__VA_ARGS__}
#define ROW_REFUSED(api_name, why) {.name = (api_name), .type = F_ANY, .status = REFUSED, .note = (why)}
#define ROW_IGNORED(api_name, why) {.name = (api_name), .type = F_ANY, .status = IGNORED, .note = (why)}
#define TABLE(s, name, rows, ...) {.what = (name), .size = sizeof(struct s), FIELDS_OF(rows), ##__VA_ARGS__}

#define PORT_MAX 65535
#define DESTINATIONS_MAX 1024 /* what the data plane takes */
#define DURATION_US_MIN 1000             /* Istio: "a valid duration greater than 1 ms" */
#define DURATION_US_MAX 1000000000000000LL /* 31 years: what the data plane takes */
#define INT32_MAX_ROW 2147483647
