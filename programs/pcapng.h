/* The pcapng file format (draft-ietf-opsawg-pcapng), as far as a capture of ours needs it: one section, an interface a port, packets with a comment.
 * Each function writes one block into out and returns its length, or 0 when n_out is too little; PCAPNG_BLOCK_BYTES and the packet's own always do. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define PCAPNG_BLOCK_BYTES 512u /* of a block beside the packet; comments and names are cut to PCAPNG_TEXT_BYTES */
#define PCAPNG_TEXT_BYTES 255u

enum pcapng_dir { PCAPNG_UNKNOWN, PCAPNG_IN, PCAPNG_OUT };

struct pcapng_packet {
	uint32_t interface;
	uint64_t wall_us;
	const void *data;
	uint32_t n_bytes, n_bytes_all; /* in the capture, and on the wire */
	enum pcapng_dir dir;
	const char *comment;           /* UTF-8; NULL: none */
};

size_t pcapng_section(uint8_t *out, size_t n_out, const char *application);
/* Interfaces count from 0, in the order in which they are written. Ethernet, microseconds. */
size_t pcapng_interface(uint8_t *out, size_t n_out, const char *name, const char *description, uint32_t snap_bytes);
size_t pcapng_packet(uint8_t *out, size_t n_out, const struct pcapng_packet *p);
/* At the end: how many packets interface's filter let through, and how many of them are not in the file. */
size_t pcapng_statistics(uint8_t *out, size_t n_out, uint32_t interface, uint64_t wall_us, uint64_t n_seen, uint64_t n_lost);
