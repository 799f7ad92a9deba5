//! Writing configuration. What a constraint refuses is told with what it asks for.

use pgrx::PgSqlErrorCode;

use crate::pg::error::{Error, Result};
use crate::pg::query::{self, Argument};
use crate::pg::transaction::{attempt, Failure};

/// As [`query::execute`], of a statement that writes rows of configuration. Runs as the owner.
pub fn execute(sql: &str, arguments: &[Argument<'_>]) -> Result<usize> {
    attempt(|| query::execute(sql, arguments)).or_else(|failure| Err(explain(&failure)?))
}

/// What to say of a row that was not written.
fn explain(failure: &Failure) -> Result<Error> {
    let same = || failure.error(failure.message());
    if failure.sql_error_code() != PgSqlErrorCode::ERRCODE_CHECK_VIOLATION {
        return Ok(same());
    }
    // The message names the constraint, in whatever language and quotes.
    let broken = query::read_one(
        "SELECT t.relname::text, pg_get_constraintdef(c.oid, true),
                ARRAY(SELECT a.attname::text FROM pg_attribute a
                      WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) ORDER BY a.attnum)
         FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid
         WHERE c.connamespace = 'decisioning'::regnamespace AND c.contype = 'c' AND strpos($1, c.conname) > 0
         ORDER BY length(c.conname) DESC LIMIT 1",
        &[failure.message().into()],
        |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<Vec<String>>(3)?)),
    )?;
    let Some((table, definition, columns)) = broken else { return Ok(same()) };
    let what = match columns.as_slice() {
        [column] => column.clone(),
        columns => format!("combination of {}", columns.join(", ")),
    };
    let condition = definition.strip_prefix("CHECK (").and_then(|rest| rest.strip_suffix(')')).unwrap_or(&definition);
    Ok(Error::new(PgSqlErrorCode::ERRCODE_CHECK_VIOLATION, format!("decisioning.{table} does not allow this {what}"))
        .detail(format!("What it asks for is {condition}.")))
}
