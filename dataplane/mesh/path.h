/* Path normalisation (features.md HD-16), once, before routing. */
#pragma once

#include "dataplane/http/message.h"
#include "dataplane/mesh/config.h"

enum mesh_path_result { MESH_PATH_OK, MESH_PATH_REFUSED /* 400 path_normalization_failed */, MESH_PATH_NO_MEMORY,
	MESH_PATH_REDIRECT /* 307 to head->path, which had escaped slashes */ };
/* head->path is replaced when it changes (bytes in the arena). */
enum mesh_path_result mesh_path_normalize(struct foil_worker *w, struct foil_arena *a, enum mesh_path_normalization mode, struct http_head *head);
