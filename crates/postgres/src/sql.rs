//! What whoever keeps tables for an application asks of a session.

use ensue_core::{BoxFuture, Error, Replacement, RowDifference, SqlSession};
use futures_util::FutureExt;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::error;
use crate::pool::Parameters;
use crate::transaction::Session;

/// How long a table that is replaced is waited for. Who reads it meanwhile holds it, and whoever comes later waits behind us.
const REPLACING_MS: u32 = 1_000;

/// Everything that goes with a table and not with its name.
const HANGING: &str = "
    WITH ours AS (SELECT to_regclass(name)::oid AS oid FROM unnest($1) AS name)
    SELECT CASE relkind WHEN 'm' THEN 'materialized view ' ELSE 'view ' END || pg_class.oid::regclass
      FROM pg_depend JOIN pg_rewrite ON pg_rewrite.oid = objid JOIN pg_class ON pg_class.oid = ev_class
     WHERE classid = 'pg_rewrite'::regclass AND refclassid = 'pg_class'::regclass
       AND refobjid IN (SELECT oid FROM ours) AND ev_class NOT IN (SELECT oid FROM ours WHERE oid IS NOT NULL)
    UNION
    SELECT 'a foreign key of table ' || conrelid::regclass FROM pg_constraint
     WHERE contype = 'f' AND confrelid IN (SELECT oid FROM ours)
       AND conrelid NOT IN (SELECT oid FROM ours WHERE oid IS NOT NULL)
    UNION
    SELECT 'trigger ' || tgname || ' of ' || tgrelid::regclass FROM pg_trigger
     WHERE tgrelid IN (SELECT oid FROM ours) AND NOT tgisinternal
    UNION
    SELECT 'row security of ' || oid::regclass FROM pg_class
     WHERE oid IN (SELECT oid FROM ours) AND relrowsecurity
    UNION
    SELECT 'publication ' || pubname FROM pg_publication_rel JOIN pg_publication ON pg_publication.oid = prpubid
     WHERE prrelid IN (SELECT oid FROM ours)
    UNION
    SELECT 'table ' || inhrelid::regclass || ', which inherits' FROM pg_inherits
     WHERE inhparent IN (SELECT oid FROM ours)
    UNION
    SELECT 'rights on single columns of ' || attrelid::regclass FROM pg_attribute
     WHERE attrelid IN (SELECT oid FROM ours) AND attacl IS NOT NULL
    ORDER BY 1";

/// The statements that give a new table the rights on the old one, and no others; the owner is whoever makes tables.
const RIGHTS: &str = "
    SELECT format('REVOKE ALL ON TABLE %I FROM %s', $2, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END)
      FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass($2) AND grantee <> relowner
    UNION ALL
    SELECT format('GRANT %s ON TABLE %I TO %s%s', privilege_type, $2,
                  CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
      FROM pg_class, aclexplode(relacl) WHERE oid = to_regclass($1) AND grantee <> relowner
     -- What is revoked comes first.
     ORDER BY 1 DESC";

impl SqlSession for Session {
    fn run_statements(&self, statements: String) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.batch("a statement of the application failed", &statements).await }.boxed()
    }

    fn hangs_on(&self, tables: Vec<String>) -> BoxFuture<'_, Result<Vec<String>, Error>> {
        async move {
            let parameters: &Parameters<'_> = &[(&tables, Type::TEXT_ARRAY)];
            let rows = self.rows("cannot look what hangs on tables", HANGING, parameters).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        }
        .boxed()
    }

    fn replace_tables(&self, replacement: Replacement) -> BoxFuture<'_, Result<(), Error>> {
        async move { self.replace(&replacement).await }.boxed()
    }

    fn compare_tables(
        &self,
        one: String,
        other: String,
        listed_max: usize,
    ) -> BoxFuture<'_, Result<RowDifference, Error>> {
        async move { self.compare(&one, &other, listed_max).await }.boxed()
    }
}

impl Session {
    async fn batch(&self, trying: &str, statements: &str) -> Result<(), Error> {
        let done = self.answer(trying, self.client()?.batch_execute(statements)).await;
        done.map_err(|cause| error::of(trying, cause))
    }

    async fn rows(&self, trying: &str, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>, Error> {
        let rows = self.answer(trying, self.client()?.query_typed(sql, parameters)).await;
        rows.map_err(|cause| error::of(trying, cause))
    }

    async fn replace(&self, replacement: &Replacement) -> Result<(), Error> {
        const TRYING: &str = "cannot replace tables";
        let locked: Vec<String> = replacement.dropped.iter().map(|table| format!("\"{table}\"")).collect();
        if !replacement.renamed.is_empty() && !locked.is_empty() {
            let patience = self.setting("lock_timeout").await?;
            // All at once, so that the time of waiting is that of one.
            let lock = format!(
                "SET LOCAL lock_timeout = {REPLACING_MS}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; \
                 SET LOCAL lock_timeout = '{patience}'",
                locked.join(", ")
            );
            self.batch("somebody reads the tables that are to be replaced", &lock).await?;
        }
        for (from, to) in &replacement.renamed {
            let parameters: &Parameters<'_> = &[(to, Type::TEXT), (from, Type::TEXT)];
            for row in self.rows(TRYING, RIGHTS, parameters).await? {
                self.batch(TRYING, row.get(0)).await?;
            }
        }
        for table in &replacement.dropped {
            self.batch(TRYING, &format!("DROP TABLE IF EXISTS \"{table}\"")).await?;
        }
        for (from, to) in &replacement.renamed {
            self.batch(TRYING, &format!("ALTER TABLE \"{from}\" RENAME TO \"{to}\"")).await?;
        }
        Ok(())
    }

    async fn setting(&self, name: &str) -> Result<String, Error> {
        let parameters: &Parameters<'_> = &[(&name, Type::TEXT)];
        let row = self.rows("cannot read a setting", "SELECT current_setting($1)", parameters).await?;
        Ok(row.first().map(|row| row.get(0)).unwrap_or_default())
    }

    async fn compare(&self, one: &str, other: &str, listed_max: usize) -> Result<RowDifference, Error> {
        const TRYING: &str = "cannot compare tables";
        let count = self.rows(TRYING, &format!("SELECT count(*) FROM \"{one}\""), &[]).await?;
        let rows: i64 = count.first().map(|row| row.get(0)).unwrap_or_default();
        let mut difference = RowDifference { rows: whole(rows), ..RowDifference::default() };
        let limit = i64::try_from(listed_max).unwrap_or(i64::MAX);
        for (these, those) in [(one, other), (other, one)] {
            // As text, because not every type can be compared.
            let sql = format!(
                "WITH more AS (SELECT t::text AS line FROM \"{these}\" t EXCEPT ALL SELECT t::text FROM \"{those}\" t)
                 SELECT line, count(*) OVER () FROM more ORDER BY line LIMIT $1"
            );
            let found = self.rows(TRYING, &sql, &[(&limit, Type::INT8)]).await?;
            let all = found.first().map_or(0, |row| whole(row.get(1)));
            let list = if these == one { &mut difference.added } else { &mut difference.missing };
            list.extend(found.iter().map(|row| format!("{one}: {}", row.get::<_, String>(0))));
            difference.unlisted += all - list.len() as u64;
        }
        Ok(difference)
    }
}

fn whole(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
