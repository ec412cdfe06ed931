/* The part of a WebSocket handshake that only HTTP/1.1 has (RFC 6455 4.2.2): Sec-WebSocket-Key and what proves that it was read. Over HTTP/2 there is
 * neither (RFC 8441 5), so who bridges the two makes what the HTTP/1.1 side asks for. */
#pragma once

#include "dataplane/http/message.h"

#define WEBSOCKET_KEY_BYTES 24u    /* 16 random ones in base64 */
#define WEBSOCKET_ACCEPT_BYTES 28u /* a SHA-1 in base64 */

/* A key that nobody has used. */
void websocket_key_make(struct foil_worker *w, char key[WEBSOCKET_KEY_BYTES]);
/* Sec-WebSocket-Accept for a key of any length. */
void websocket_accept_make(struct foil_slice key, char accept[WEBSOCKET_ACCEPT_BYTES]);
