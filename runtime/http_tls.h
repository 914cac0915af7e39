/* Clients' certificates at the HTTP door: libmicrohttpd asks for them, whether they are good is for
 * us to say. */
#ifndef MOEBIUS_RUNTIME_HTTP_TLS_H
#define MOEBIUS_RUNTIME_HTTP_TLS_H

#include <stdbool.h>
#include <stddef.h>

struct MHD_Connection;

/* The versions of TLS that the door speaks, as at the gRPC door: GnuTLS's words. */
#define HTTP_TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"

/* Before the handshake: it fails unless the client shows a certificate for clients that is valid
 * now and signed by one of the door's authorities. False: it cannot be asked for; the connection
 * must not be used then. Local. */
bool http_tls_require(struct MHD_Connection *connection);

/* The common name of the client's certificate; false: it has shown none. Local. */
bool http_tls_peer_name(struct MHD_Connection *connection, char *name, size_t size);

#endif
