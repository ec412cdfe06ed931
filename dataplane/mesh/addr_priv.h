/* Addresses as text, shared inside the room. */
#pragma once

#include "dataplane/stream/stream.h"

#define ADDR_TEXT_BYTES 64 /* "[" 45 bytes "]:" 5 digits, terminated */

/* "198.18.0.2:80", "[fd00::1]:80"; without port "198.18.0.2", "fd00::1". The slice points into text. */
struct foil_slice mesh_addr_text(const struct stream_addr *addr, bool with_port, char text[ADDR_TEXT_BYTES]);
/* An IPv4 or IPv6 address without port, spaces around it allowed, into the 16-byte form. */
bool mesh_addr_parse(struct foil_slice text, uint8_t ip[16]);
/* The decimal text of 0 to 255, which lives for ever. */
struct foil_slice mesh_octet_text(uint8_t n);
/* A number in decimal. The slice points into text. */
struct foil_slice mesh_addr_number(uint64_t n, char text[ADDR_TEXT_BYTES]);
