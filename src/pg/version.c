/* Differences between server versions; see version.h. */
#include "pg/version.h"

/* PQserverVersion's number of a version's first release. */
enum { V14 = 140000, V15 = 150000 };

bool
version_has_binary_stream(const Conn *conn)
{
    return conn_version(conn) >= V14;
}

bool
version_has_tid_range_scan(const Conn *conn)
{
    return conn_version(conn) >= V14;
}

bool
version_has_publication_filters(const Conn *conn)
{
    return conn_version(conn) >= V15;
}
