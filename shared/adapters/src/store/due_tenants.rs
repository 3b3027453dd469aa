//! Whose work is due: the one way in which scheduled flows find the tenants that they have something to do for.

/// Runs the statement that lists active tenants with due rows in a table: some of them, in no order, so that none is always
/// the last. `waits` is the predicate of a partial index of the table on `(tenant_id, due)`, and `due` the column of the time.
///
/// Steps from tenant to tenant through that index, however many rows each has; then one look into it for each, where a
/// semi-join would read the whole backlog. Suspended tenants are left out: their work waits until they may send again.
macro_rules! list_due_tenants {
    ($database:expr, $table:literal, waits: $waits:literal, due: $due:literal, except: $except:expr, limit: $limit:expr) => {{
        let except: Vec<_> = $except.iter().map(|tenant: &domain::id::TenantId| tenant.as_uuid()).collect();
        let mut connection = $database.connection().await?;
        let tenants = sqlx::query_scalar!(
            "WITH RECURSIVE open AS (
                 (SELECT w.tenant_id FROM "
                + $table
                + " w WHERE "
                + $waits
                + " ORDER BY w.tenant_id LIMIT 1)
                 UNION ALL
                 SELECT (SELECT w.tenant_id FROM "
                + $table
                + " w
                         WHERE "
                + $waits
                + " AND w.tenant_id > o.tenant_id ORDER BY w.tenant_id LIMIT 1)
                 FROM open o WHERE o.tenant_id IS NOT NULL
             )
             SELECT o.tenant_id AS \"tenant_id!\" FROM open o
             JOIN harkara.tenants t ON t.tenant_id = o.tenant_id AND t.state = 'active'
             CROSS JOIN LATERAL (
                 SELECT FROM "
                + $table
                + " w
                 WHERE w.tenant_id = o.tenant_id AND "
                + $waits
                + " AND w."
                + $due
                + " <= harkara.now()
                 ORDER BY w."
                + $due
                + " LIMIT 1
             ) due
             WHERE o.tenant_id <> ALL ($1)
             ORDER BY random()
             LIMIT $2",
            &except,
            $limit,
        )
        .fetch_all(&mut *connection)
        .await?;
        connection.give_back();
        tenants.into_iter().map(domain::id::TenantId::from_uuid).collect::<Vec<_>>()
    }};
}
pub(super) use list_due_tenants;
