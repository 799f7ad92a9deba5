//! The user's relations: named by schema and name, looked at afresh for every statement.

use pgrx::prelude::*;

use super::error::{Error, Result};
use super::query;

/// A relation of the user, by name. dbt and its kind replace relations by rename, so an oid would dangle.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationName {
    pub schema: String,
    pub name: String,
}

/// A column and the kind of values it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Column {
    pub name: String,
    pub kind: ColumnKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    Numeric,
    Boolean,
    Time,
    Text,
    /// Arrays, json, bytea, geometry: not usable as a feature.
    Other,
}

impl RelationName {
    /// Name of a relation passed as `regclass`; a temporary relation is refused, as no other session sees it.
    pub fn of(relation: pg_sys::Oid) -> Result<Self> {
        let found = query::read_one(
            "SELECT n.nspname::text, c.relname::text, c.relpersistence = 't', c.relkind::text
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[relation.into()],
            |row| Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<bool>(3)?, row.value::<String>(4)?)),
        )?;
        let Some((schema, name, temporary, kind)) = found else {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "relation does not exist"));
        };
        let relation = RelationName { schema, name };
        if temporary {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{} is a temporary relation", relation.quoted()),
            )
            .hint("Use a permanent table or view: other sessions must be able to read it."));
        }
        if !matches!(kind.as_str(), "r" | "v" | "m" | "f" | "p") {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("{} is not a table or view", relation.quoted()),
            ));
        }
        Ok(relation)
    }

    /// `schema.name`, quoted for SQL.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quote_identifier(&self.schema), quote_identifier(&self.name))
    }

    /// Columns as they are now.
    ///
    /// # Errors
    /// The relation is gone, or the caller may not see its schema.
    pub fn columns(&self) -> Result<Vec<Column>> {
        let columns = query::read(
            "SELECT a.attname::text,
                    CASE WHEN coalesce(b.typcategory, t.typcategory) = 'N' THEN 'n'
                         WHEN coalesce(b.typcategory, t.typcategory) = 'B' THEN 'b'
                         WHEN coalesce(b.oid, t.oid) IN ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype) THEN 't'
                         WHEN coalesce(b.typcategory, t.typcategory) IN ('S', 'E') OR coalesce(b.oid, t.oid) = 'uuid'::regtype THEN 's'
                         ELSE 'o' END
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             LEFT JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
             WHERE n.nspname = $1 AND c.relname = $2
             ORDER BY a.attnum",
            &[self.schema.as_str().into(), self.name.as_str().into()],
            |row| {
                let kind = match row.value::<String>(2)?.as_str() {
                    "n" => ColumnKind::Numeric,
                    "b" => ColumnKind::Boolean,
                    "t" => ColumnKind::Time,
                    "s" => ColumnKind::Text,
                    _ => ColumnKind::Other,
                };
                Ok(Column { name: row.value(1)?, kind })
            },
        )?;
        if columns.is_empty() {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("relation {} does not exist", self.quoted()),
            )
            .detail("It is stored by name, and nothing has that name now.")
            .hint("Restore or rename the relation, or point the configuration to another one."));
        }
        Ok(columns)
    }

    /// The column called `name`.
    pub fn column<'a>(&self, columns: &'a [Column], name: &str) -> Result<&'a Column> {
        columns.iter().find(|column| column.name == name).ok_or_else(|| {
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            Error::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("column \"{name}\" of relation {} does not exist", self.quoted()),
            )
            .hint(format!("Its columns are: {}.", names.join(", ")))
        })
    }
}

pub fn quote_identifier(name: &str) -> String {
    pgrx::spi::quote_identifier(name)
}

pub fn quote_literal(text: &str) -> String {
    pgrx::spi::quote_literal(text)
}

/// Checks that `predicate` is one boolean expression over the relation, by planning it as the caller.
///
/// # Errors
/// More than one statement, an unknown column, a type other than boolean: Postgres' own message.
pub fn check_predicate(relation: &RelationName, predicate: &str, what: &str) -> Result<()> {
    let sql = format!("SELECT FROM {} AS relation WHERE (\n{predicate}\n) LIMIT 0", relation.quoted());
    if !is_single_select(&sql) {
        return Err(Error::new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, format!("{what} must be one SQL expression"))
            .detail(format!("Given: {predicate}")));
    }
    query::read(&sql, &[], |_| Ok(()))?;
    Ok(())
}

fn is_single_select(sql: &str) -> bool {
    let Ok(text) = std::ffi::CString::new(sql) else { return false };
    // SAFETY: raw_parser takes a NUL-terminated string, raises an ERROR on bad syntax and returns a List of RawStmt
    // in the current memory context; we read its length and the tag of the first statement.
    unsafe {
        let list = pg_sys::raw_parser(text.as_ptr(), pg_sys::RawParseMode::RAW_PARSE_DEFAULT);
        if list.is_null() || (*list).length != 1 {
            return false;
        }
        let raw = (*(*list).elements).ptr_value as *const pg_sys::RawStmt;
        (*(*raw).stmt).type_ == pg_sys::NodeTag::T_SelectStmt
    }
}
