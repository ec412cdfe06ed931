/* Port URIs: what a person writes, as a DPDK device name and its driver's arguments. Pure text; nothing is opened here.
 * Arguments that are ours are taken out, all others go to the driver as they stand.
 * Invariant: what is put into out ends with a NUL and was not cut. */
#include "nic/nic_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define AF_PACKET_OVERHEAD_BYTES 128u /* tpacket2 header, link address and Ethernet header with a tag, rounded up */

static const struct scheme {
	const char *text, *device; /* device: a printf prefix of DPDK's name; NULL: the URI names it */
	enum nic_scheme scheme;
	const char *required; /* argument without which the driver cannot work */
} schemes[] = {
	{"af_packet", "net_af_packet", NIC_SCHEME_AF_PACKET, "iface"},
	{"af_xdp", "net_af_xdp", NIC_SCHEME_AF_XDP, "iface"},
	{"tap", "net_tap", NIC_SCHEME_TAP, "iface"},
	{"memif", "net_memif", NIC_SCHEME_MEMIF, "socket"},
	{"virtio-user", "net_virtio_user", NIC_SCHEME_VIRTIO_USER, "path"},
	{"vhost", "net_vhost", NIC_SCHEME_VHOST, "iface"},
	{"pcap", "net_pcap", NIC_SCHEME_PCAP, NULL},
	{"ring", "net_ring", NIC_SCHEME_RING, NULL},
};

bool nic_uri_is_zero_copy(const char *uri)
{
	return strncmp(uri, "memif:", 6) == 0 && strstr(uri, "zero-copy=yes");
}

bool nic_uri_is_pci(const char *uri)
{
	return strncmp(uri, "pci=", 4) == 0;
}

/* The value of key= in a comma-separated list: its start and length, or NULL. */
static const char *arg_find(const char *args, const char *key, size_t *n)
{
	size_t n_key = strlen(key);

	for (const char *at = args; *at;) {
		size_t len = strcspn(at, ",");
		if (len > n_key && strncmp(at, key, n_key) == 0 && at[n_key] == '=') {
			*n = len - n_key - 1;
			return at + n_key + 1;
		}
		at += len;
		at += *at == ',';
	}
	return NULL;
}

bool nic_args_have(const char *args, const char *key)
{
	size_t n;

	return arg_find(args, key, &n) != NULL;
}

struct foil_slice nic_args_get(const char *args, const char *key)
{
	size_t n = 0;
	const char *value = arg_find(args, key, &n);

	return foil_slice_of(value, n);
}

bool nic_memif_is_server(const char *args)
{
	struct foil_slice role = nic_args_get(args, "role");

	return role.data && (memmem(role.data, role.n_bytes, "server", 6) || memmem(role.data, role.n_bytes, "master", 6));
}

static int args_add(char *out, size_t n_out, const char *text, size_t n_text)
{
	size_t n = strlen(out), comma = n > 0;

	if (n + comma + n_text + 1 > n_out)
		return -ENAMETOOLONG;
	if (comma)
		out[n] = ',';
	memcpy(out + n + comma, text, n_text);
	out[n + comma + n_text] = 0;
	return 0;
}

static int own_arg(const char *port_name, struct nic_uri *u, const char *at, size_t len, bool *taken, struct foil_error *err)
{
	*taken = true;
	if (len == 15 && strncmp(at, "checksums=trust", len) == 0)
		u->checksums_trust = true;
	else if (len == 14 && strncmp(at, "checksums=none", len) == 0)
		u->checksums_trust = u->checksums_none = true;
	else if (len == 12 && strncmp(at, "offloads=off", len) == 0)
		u->offloads_off = true;
	else if (len == 12 && strncmp(at, "unsealed=yes", len) == 0)
		u->unsealed = true;
	else if (len == 11 && strncmp(at, "unsealed=no", len) == 0)
		u->unsealed = false;
	else if (len >= 9 && strncmp(at, "unsealed=", 9) == 0)
		return foil_error_set(err, -EINVAL, "port %s: '%.*s' is not known; write unsealed=yes or unsealed=no", port_name, (int)len, at);
	else if ((len >= 10 && strncmp(at, "checksums=", 10) == 0) || (len >= 9 && strncmp(at, "offloads=", 9) == 0))
		return foil_error_set(err, -EINVAL,
				      "port %s: '%.*s' is not known; write checksums=trust, checksums=none or offloads=off", port_name, (int)len, at);
	else
		*taken = false;
	return 0;
}

static int args_sort(const char *port_name, const char *text, struct nic_uri *u, struct foil_error *err)
{
	while (*text) {
		size_t len = strcspn(text, ",");
		bool taken;
		int rc = own_arg(port_name, u, text, len, &taken, err);

		if (rc)
			return rc;
		if (!taken && len && args_add(u->args, sizeof(u->args), text, len))
			return foil_error_set(err, -ENAMETOOLONG, "port %s: its URI is too long", port_name);
		text += len;
		text += *text == ',';
	}
	if (u->checksums_none && u->scheme != NIC_SCHEME_MEMIF)
		return foil_error_set(err, -EINVAL, "port %s: checksums=none is for memif, whose packets stay in this machine's memory; write checksums=trust",
				      port_name);
	if (u->unsealed && u->scheme != NIC_SCHEME_MEMIF)
		return foil_error_set(err, -EINVAL, "port %s: unsealed=yes is for memif, where peers bring memory; take it away", port_name);
	return 0;
}

static int pci_parse(const char *port_name, const char *text, struct nic_uri *u, struct foil_error *err)
{
	unsigned int domain, bus, device, function;
	int n = 0;
	size_t len = strcspn(text, ",");

	if (len >= sizeof(u->device) || sscanf(text, "%4x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &n) != 4 || (size_t)n != len)
		return foil_error_set(err, -EINVAL, "port %s: '%s' is no PCI address; write pci=0000:3b:02.0 as lspci -D shows it", port_name, text);
	snprintf(u->device, sizeof(u->device), "%04x:%02x:%02x.%x", domain, bus, device, function);
	u->scheme = NIC_SCHEME_PCI;
	return args_sort(port_name, text + len + (text[len] == ','), u, err);
}

static int iface_take(const char *port_name, const struct scheme *s, struct nic_uri *u, struct foil_error *err)
{
	size_t n = 0;
	const char *value = s->required ? arg_find(u->args, s->required, &n) : NULL;

	if (s->required && (!value || n == 0))
		return foil_error_set(err, -EINVAL, "port %s: a %s port needs %s=; write %s:%s=NAME", port_name, s->text, s->required, s->text,
				      s->required);
	if (s->scheme != NIC_SCHEME_AF_PACKET && s->scheme != NIC_SCHEME_AF_XDP)
		return 0;
	if (n >= 16)
		return foil_error_set(err, -EINVAL, "port %s: '%.*s' is too long for an interface's name (15 characters)", port_name, (int)n, value);
	memcpy(u->iface, value, n);
	u->iface[n] = 0;
	return 0;
}

int nic_uri_parse(const char *port_name, const char *text, uint16_t index, struct nic_uri *out, struct foil_error *err)
{
	struct nic_uri u = {0};
	size_t n_scheme = strcspn(text, ":=");
	int rc;

	if (nic_uri_is_pci(text)) {
		rc = pci_parse(port_name, text + 4, &u, err);
		if (rc == 0)
			*out = u;
		return rc;
	}
	for (size_t i = 0; i < FOIL_COUNT_OF(schemes); i++) {
		const struct scheme *s = &schemes[i];
		if (text[n_scheme] != ':' || strlen(s->text) != n_scheme || strncmp(text, s->text, n_scheme) != 0)
			continue;
		u.scheme = s->scheme;
		snprintf(u.device, sizeof(u.device), "%s%u", s->device, index);
		rc = s->scheme == NIC_SCHEME_RING ? 0 : args_sort(port_name, text + n_scheme + 1, &u, err);
		if (rc == 0)
			rc = iface_take(port_name, s, &u, err);
		if (rc == 0)
			*out = u;
		return rc;
	}
	return foil_error_set(err, -EINVAL,
			      "port %s: '%.*s' is no kind of port; known are pci=ADDRESS, af_packet:, af_xdp:, tap:, memif:, virtio-user:, vhost:, "
			      "pcap: and ring:",
			      port_name, (int)n_scheme, text);
}

/* key=value if the user did not say it. */
static int default_arg(const struct nic_uri *u, char *out, size_t n_out, const char *key, unsigned int value)
{
	char text[64];

	if (nic_args_have(u->args, key))
		return 0;
	snprintf(text, sizeof(text), "%s=%u", key, value);
	return args_add(out, n_out, text, strlen(text));
}

static int af_packet_args(const struct nic_uri *u, uint16_t n_queues, uint16_t mtu, uint16_t n_desc, char *out, size_t n_out)
{
	unsigned int frame = 2048, block = 65536, n_frames;

	while (frame < mtu + AF_PACKET_OVERHEAD_BYTES)
		frame += 1024;
	if (block % frame)
		block = 16 * frame; /* whole pages; the driver takes frames for contiguous, so they must fill their block */
	n_frames = n_desc - n_desc % (block / frame); /* whole blocks only */
	if (n_frames == 0)
		n_frames = block / frame;
	int rc = default_arg(u, out, n_out, "qpairs", n_queues);
	rc = rc ? rc : default_arg(u, out, n_out, "blocksz", block);
	rc = rc ? rc : default_arg(u, out, n_out, "framesz", frame);
	rc = rc ? rc : default_arg(u, out, n_out, "framecnt", n_frames);
	return rc ? rc : default_arg(u, out, n_out, "qdisc_bypass", 1);
}

/* rx= and tx= are shorter than the driver's own words. */
static int pcap_args(const struct nic_uri *u, char *out, size_t n_out)
{
	out[0] = 0;
	for (const char *at = u->args; *at;) {
		size_t len = strcspn(at, ",");
		char one[512];
		bool rx = strncmp(at, "rx=", 3) == 0, tx = strncmp(at, "tx=", 3) == 0;
		int n = rx || tx ? snprintf(one, sizeof(one), "%s_pcap=%.*s", rx ? "rx" : "tx", (int)len - 3, at + 3)
				 : snprintf(one, sizeof(one), "%.*s", (int)len, at);

		if (n < 0 || (size_t)n >= sizeof(one) || args_add(out, n_out, one, (size_t)n))
			return -ENAMETOOLONG;
		at += len;
		at += *at == ',';
	}
	return 0;
}

int nic_uri_devargs(const struct nic_uri *u, uint16_t n_queues, uint16_t mtu, uint16_t n_desc, char *out, size_t n_out)
{
	size_t n = strlen(u->args);

	if (n + 1 > n_out)
		return -ENAMETOOLONG;
	memcpy(out, u->args, n + 1);
	switch (u->scheme) {
	case NIC_SCHEME_AF_PACKET:
		return af_packet_args(u, n_queues, mtu, n_desc, out, n_out);
	case NIC_SCHEME_AF_XDP:
		return default_arg(u, out, n_out, "queue_count", n_queues);
	case NIC_SCHEME_VIRTIO_USER:
	case NIC_SCHEME_VHOST:
		return default_arg(u, out, n_out, "queues", n_queues);
	case NIC_SCHEME_MEMIF:
		return nic_args_have(u->args, "socket-abstract") ? 0 : args_add(out, n_out, "socket-abstract=no", 18);
	case NIC_SCHEME_PCAP:
		return pcap_args(u, out, n_out);
	case NIC_SCHEME_PCI:
	case NIC_SCHEME_TAP:
	case NIC_SCHEME_RING:
		return 0;
	}
	FOIL_UNREACHABLE();
}
