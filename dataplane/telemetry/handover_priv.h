/* The one message of the stats socket, between handover.c and handover_connect.c. */
#pragma once

#include "dataplane/telemetry/segment.h"
#include "dataplane/telemetry/shared.h"

struct tele_handover {
	uint64_t magic;
	uint32_t abi, reserved;
};
