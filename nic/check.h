/* What this machine has for a poll-mode data plane and what it lacks. Reads /proc and /sys only: no EAL, no root needed. */
#pragma once

#include "dataplane/core/base.h"

enum nic_check_level { NIC_CHECK_OK, NIC_CHECK_WARN };

struct nic_check_line {
	enum nic_check_level level;
	const char *topic;   /* "hugepages", "iommu", "cores", "governor", "smt", "nic", "packet-socket" */
	const char *subject; /* "node0", "0000:3b:00.0", "eth1"; may be empty */
	const char *text;    /* what is */
	const char *remedy;  /* what to do; empty when OK */
};
typedef void (*nic_check_fn)(void *arg, const struct nic_check_line *line);

/* Calls fn once a line; returns how many were WARN. root: "" for this machine, or a folder that holds proc/ and sys/ (tests). */
unsigned int nic_check(const char *root, nic_check_fn fn, void *arg);
