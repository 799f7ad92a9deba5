//! The user's relations: named by schema and name, looked at afresh for every statement.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{CStr, CString};
use std::hash::{Hash, Hasher};

use pgrx::prelude::*;
use pgrx::PgTupleDesc;

use super::error::{Error, Result};
use super::query;
use super::transaction::explained;

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
    /// Type as SQL writes it under any search path, without modifiers: bpchar for char(n), since "character" would be char(1).
    pub type_name: String,
    type_oid: pg_sys::Oid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    Numeric,
    Boolean,
    /// date or timestamp: taken as UTC, so that it does not depend on the session.
    LocalTime,
    /// timestamptz
    Time,
    Text,
    /// Arrays, json, bytea, geometry: not usable as a feature.
    Other,
}

impl Column {
    /// Its value as text, as SQL over `relation`: the same in every session, under [`for_texts`](super::guard::for_texts).
    pub fn text(&self, relation: &str) -> String {
        let quoted = format!("{relation}.{}", quote_identifier(&self.name));
        match self.kind {
            ColumnKind::Time => {
                format!(
                    "(({quoted} AT TIME ZONE 'UTC')::pg_catalog.text OPERATOR(pg_catalog.||) '+00'::pg_catalog.text)"
                )
            }
            _ => format!("{quoted}::pg_catalog.text"),
        }
    }

    /// That it is what `other`, SQL of its type, says, as SQL over `relation`: by the operator that its indexes go by, whatever others of
    /// that name there are. In PostgreSQL one that anybody made for exactly these types is preferred to one that takes them by a cast, as
    /// `=` takes varchar, wherever in the search path it is.
    pub fn equals(&self, relation: &str, other: &str) -> String {
        let quoted = format!("{relation}.{}", quote_identifier(&self.name));
        let operator = equality(self.type_oid).unwrap_or_else(|| "OPERATOR(pg_catalog.=)".to_owned());
        format!("{quoted} {operator} {other}")
    }
}

/// The operator of equality of the default B-tree class of a type, with its schema.
fn equality(type_oid: pg_sys::Oid) -> Option<String> {
    // SAFETY: an entry of the type cache is never freed, and is read at once; what the system cache returns is released once what is
    // read of it is copied, and names end in NUL.
    unsafe {
        let operator = (*pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_EQ_OPR as i32)).eq_opr;
        let tuple = pg_sys::SearchSysCache1(pg_sys::SysCacheIdentifier::OPEROID as i32, operator.into());
        if tuple.is_null() {
            return None;
        }
        let form = &*pg_sys::GETSTRUCT(tuple).cast::<pg_sys::FormData_pg_operator>();
        let name = CStr::from_ptr(form.oprname.data.as_ptr()).to_string_lossy().into_owned();
        let schema = pg_sys::get_namespace_name(form.oprnamespace);
        pg_sys::ReleaseSysCache(tuple);
        (!schema.is_null())
            .then(|| format!("OPERATOR({}.{name})", quote_identifier(&CStr::from_ptr(schema).to_string_lossy())))
    }
}

impl RelationName {
    /// Name of a relation passed as `regclass`; a temporary relation is refused, as no other session sees it.
    pub fn of(relation: pg_sys::Oid) -> Result<Self> {
        let found = query::read_one(
            "SELECT n.nspname::text, c.relname::text, c.relpersistence = 't', c.relkind::text
             FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1",
            &[relation.into()],
            |row| {
                Ok((row.value::<String>(1)?, row.value::<String>(2)?, row.value::<bool>(3)?, row.value::<String>(4)?))
            },
        )?;
        let Some((schema, name, temporary, kind)) = found else {
            return Err(Error::new(PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE, "relation does not exist"));
        };
        let relation = RelationName { schema, name };
        if temporary {
            return Err(Error::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("\"{}\" is a temporary relation", relation.name),
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

    /// Whether it is there, and the current user may read all of it.
    pub fn may_read(&self) -> Result<bool> {
        let sql = "SELECT coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass($1), 'SELECT'), false)";
        Ok(query::read_one(sql, &[self.quoted().into()], |row| row.value(1))?.unwrap_or(false))
    }

    /// Columns as they are now.
    ///
    /// # Errors
    /// The relation is gone, or the caller may not see its schema.
    pub fn columns(&self) -> Result<Vec<Column>> {
        let columns = query::read(
            "SELECT a.attname::text,
                    CASE WHEN b.type IN ('int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'money') THEN 'n'
                         WHEN b.type = 'bool' THEN 'b'
                         WHEN b.type IN ('date', 'timestamp') THEN 'd'
                         WHEN b.type = 'timestamptz' THEN 't'
                         WHEN b.category IN ('S', 'E') OR b.type = 'uuid' THEN 's'
                         ELSE 'o' END,
                    CASE WHEN t.typnamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace THEN pg_catalog.format_type(a.atttypid, -1)
                         ELSE (SELECT pg_catalog.format('%I.%I', s.nspname, t.typname) FROM pg_catalog.pg_namespace s WHERE s.oid = t.typnamespace) END,
                    a.atttypid
             FROM pg_catalog.pg_class c
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
             JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             CROSS JOIN LATERAL (
                 SELECT coalesce(d.typname, t.typname)::text AS type, coalesce(d.typcategory, t.typcategory) AS category
                 FROM (SELECT) AS one LEFT JOIN pg_catalog.pg_type d ON d.oid = t.typbasetype AND t.typtype = 'd') b
             WHERE n.nspname = $1 AND c.relname = $2
             ORDER BY a.attnum",
            &[self.schema.as_str().into(), self.name.as_str().into()],
            |row| {
                let kind = match row.value::<String>(2)?.as_str() {
                    "n" => ColumnKind::Numeric,
                    "b" => ColumnKind::Boolean,
                    "d" => ColumnKind::LocalTime,
                    "t" => ColumnKind::Time,
                    "s" => ColumnKind::Text,
                    _ => ColumnKind::Other,
                };
                Ok(Column { name: row.value(1)?, kind, type_name: row.value(3)?, type_oid: row.value(4)? })
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

    /// A number that changes when the relation behind the name gets other columns or types, or is another relation.
    /// Cheap enough for every call. `None` if there is no such relation.
    pub fn shape(&self) -> Option<u64> {
        let (schema, name) = (CString::new(self.schema.as_str()).ok()?, CString::new(self.name.as_str()).ok()?);
        let mut hasher = DefaultHasher::new();
        // SAFETY: both names are NUL-terminated; a lock is taken before the relation is opened and held to the end of
        // the transaction, so its descriptor stays valid while we read it; it is closed again.
        unsafe {
            let namespace = pg_sys::LookupExplicitNamespace(schema.as_ptr(), true);
            let oid = pg_sys::get_relname_relid(name.as_ptr(), namespace);
            if oid == pg_sys::InvalidOid {
                return None;
            }
            let relation = pg_sys::try_relation_open(oid, pg_sys::AccessShareLock as pg_sys::LOCKMODE);
            if relation.is_null() {
                return None;
            }
            oid.to_u32().hash(&mut hasher);
            let descriptor = PgTupleDesc::from_pg_copy((*relation).rd_att);
            for attribute in descriptor.iter() {
                attribute.name().hash(&mut hasher);
                attribute.atttypid.to_u32().hash(&mut hasher);
                // Statements name the types of users, which may be renamed or moved.
                if attribute.atttypid.to_u32() >= pg_sys::FirstNormalObjectId {
                    CStr::from_ptr(pg_sys::format_type_be_qualified(attribute.atttypid)).hash(&mut hasher);
                }
                attribute.attisdropped.hash(&mut hasher);
            }
            pg_sys::relation_close(relation, pg_sys::NoLock as pg_sys::LOCKMODE);
        }
        Some(hasher.finish())
    }

    /// A statement for the rows that meet a condition, of which it returns none.
    fn meeting(&self, condition: &str) -> String {
        format!("SELECT FROM {} AS relation WHERE (\n{condition}\n) LIMIT 0", self.quoted())
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

/// Checks that `predicate` is one boolean expression over the relation, by planning it as the caller.
///
/// # Errors
/// More than one statement, an unknown column, a type other than boolean: Postgres' own message. A volatile function, unless
/// allowed: it would answer otherwise from one reading to the next.
pub fn check_predicate(relation: &RelationName, predicate: &str, what: &str, allow_volatile: bool) -> Result<()> {
    if predicate.trim().is_empty() {
        return Err(Error::invalid(format!("{what} must not be empty"))
            .hint("Give one boolean SQL expression over the columns; true, or NULL where it may be left out, means every row."));
    }
    let sql = relation.meeting(predicate);
    check_condition(relation, predicate, what)?;
    check_single(&sql, predicate, what)?;
    if query::is_volatile(&sql)? && !allow_volatile {
        return Err(Error::invalid(format!("{what} calls a volatile function"))
            .detail("It may answer otherwise whenever it is asked, so nobody could say later why it did.")
            .hint("Use now() instead of clock_timestamp(), or put the value into a column."));
    }
    query::read(&sql, &[], |_| Ok(()))?;
    Ok(())
}

/// Checks that a condition over the relation can be read as SQL, without looking at a row.
///
/// # Errors
/// Bad syntax, a column or type that is not there, no boolean: what Postgres says, and of `what` it says it.
pub fn check_condition(relation: &RelationName, condition: &str, what: &str) -> Result<()> {
    explained(
        || query::is_volatile(&relation.meeting(condition)).map(drop),
        |problem| {
            let said = format!("{what} cannot be read on {}: {}", relation.quoted(), problem.message());
            Error::new(problem.sql_error_code(), said)
                .detail(format!("It is: {condition}"))
                .hint("It is one boolean SQL expression over columns of the relation.")
        },
    )
}

/// Checks that `sql`, in which `expression` stands, is one SELECT.
///
/// # Errors
/// More than one statement, or bad syntax.
pub fn check_single(sql: &str, expression: &str, what: &str) -> Result<()> {
    if is_single_select(sql) {
        return Ok(());
    }
    Err(Error::new(PgSqlErrorCode::ERRCODE_SYNTAX_ERROR, format!("{what} must be one SQL expression"))
        .detail(format!("Given: {expression}")))
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
