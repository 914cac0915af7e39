/* Certificates of the HTTP door's clients, by GnuTLS as libmicrohttpd has it. */
#include "runtime/http_tls.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <microhttpd.h>
#include <stdint.h>

/* NULL: cleartext. */
static gnutls_session_t session_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION);
    return info != NULL ? info->tls_session : NULL;
}

bool http_tls_require(struct MHD_Connection *connection) {
    /* GnuTLS keeps the pointer. */
    static gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                            .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    gnutls_session_t session = session_of(connection);
    if (session == NULL)
        return false;
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert2(session, &purpose, 1, 0);
    return true;
}

bool http_tls_peer_name(struct MHD_Connection *connection, char *name, size_t size) {
    gnutls_session_t session = session_of(connection);
    unsigned count = 0;
    const gnutls_datum_t *chain =
        session != NULL ? gnutls_certificate_get_peers(session, &count) : NULL;
    gnutls_x509_crt_t certificate;
    if (chain == NULL || count == 0 || gnutls_x509_crt_init(&certificate) != GNUTLS_E_SUCCESS)
        return false;
    bool has_name =
        gnutls_x509_crt_import(certificate, &chain[0], GNUTLS_X509_FMT_DER) == GNUTLS_E_SUCCESS &&
        gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name,
                                      &size) == GNUTLS_E_SUCCESS;
    gnutls_x509_crt_deinit(certificate);
    return has_name;
}
