/* Matching of one text, one header, one query parameter, shared inside the room (routes now; CORS and other filters use the same). */
#pragma once

#include "dataplane/http/message.h"
#include "dataplane/mesh/config.h"

/* text is there; MESH_MATCH_PRESENT is always true. */
bool mesh_string_match(struct foil_worker *w, const struct mesh_string_match *m, struct foil_slice text);
bool mesh_header_match(struct foil_worker *w, const struct mesh_header_match *m, const struct http_head *head);
/* query: what follows '?', not decoded; {NULL, 0} when there is none. */
bool mesh_query_match(struct foil_worker *w, const struct mesh_query_match *m, struct foil_slice query);
/* The first value of a query parameter: false when it is absent. */
bool mesh_query_value(struct foil_slice query, struct foil_slice name, struct foil_slice *value);
/* Path without, and query after, the first '?'; split: the former, and the latter into *query. */
struct foil_slice mesh_path_split(struct foil_slice path, struct foil_slice *query);
struct foil_slice mesh_path_only(struct foil_slice path);
struct foil_slice mesh_path_query(struct foil_slice path);
