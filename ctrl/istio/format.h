/* Format operators in header values and in the access log's format, checked by the data plane's own compilers: what they would refuse is refused here,
 * where file, line and column are known. */
#pragma once

#include <stdbool.h>

struct foil_error;

/* False, with a sentence. */
bool istio_format_check_header(const char *value, struct foil_error *err);
bool istio_format_check_log(const char *format, bool is_json, struct foil_error *err);
