"""What the transactions of an application write to the WAL, told from everybody else's."""

# Of whoever changed the table.  Images of whole pages depend on the last checkpoint alone, and
# bring records of another size with them: not those transactions.  Which share of the updates needs
# new index entries depends on the state of the pages, so the commonest is taken, not the average.
_PER_TRANSACTION = """
with records as materialized (
    select xid::text, record_length as bytes, fpi_length, block_ref like %s as is_ours
    from pg_get_wal_records_info(%s, %s)
    where xid <> '0'
), transactions as (
    select sum(bytes) as bytes
    from records
    group by xid
    having bool_or(is_ours) and sum(fpi_length) = 0
)
select count(*), mode() within group (order by bytes)::float8
from transactions"""


def position(database):
    return database.value("select pg_current_wal_flush_lsn()")


def bytes_per_transaction(database, table, begin, end):
    """Number of transactions of which that is known, and the bytes of most of them."""
    file = database.value("select format('%%%%rel %%s/%%s/%%s %%%%', dattablespace, oid, "
                          "pg_relation_filenode(%s)) from pg_database "
                          "where datname = current_database()", table)
    return database.query(_PER_TRANSACTION, file, begin, end)[0]
