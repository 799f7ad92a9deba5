//! What records say, as it is kept: one document per record.

use std::borrow::Cow;

use decisioning_core::identity::{FieldKind, Fields};

use crate::pg::error::Result;
use crate::pg::jsonb::{self, Value};
use crate::pg::{bulk, datum, query, scan};

/// Rows per statement and fetch.
const CHUNK: usize = 10_000;

/// Documents on their way into `_record_field`.
#[derive(Default)]
pub struct Documents {
    writer: jsonb::Writer,
    bytes: Vec<u8>,
    /// Record number, time of change, and where the document ends in `bytes`.
    rows: Vec<(i64, i64, usize)>,
}

impl Documents {
    /// Takes the fields of a record. `changed_at` as Postgres counts it.
    pub fn add(&mut self, record_number: i64, changed_at: i64, fields: &Fields) -> Result<()> {
        let mut values: Vec<(Cow<'static, str>, &str)> =
            fields.iter().map(|(kind, value)| (kind.name(), value)).collect();
        values.sort_by(|(a, _), (b, _)| a.cmp(b)); // stable: values of a kind stay in order
        let texts: Vec<&str> = values.iter().map(|(_, value)| *value).collect();
        let mut members = Vec::with_capacity(values.len());
        let mut start = 0;
        for of_kind in values.chunk_by(|a, b| a.0 == b.0) {
            let texts = &texts[start..start + of_kind.len()];
            start += of_kind.len();
            let value = if let [text] = texts { Value::Text(text) } else { Value::Texts(texts) };
            members.push((&*of_kind[0].0, value));
        }
        self.bytes.extend_from_slice(self.writer.object(&mut members)?);
        self.rows.push((record_number, changed_at, self.bytes.len()));
        Ok(())
    }

    pub fn record_numbers(&self) -> Vec<i64> {
        self.rows.iter().map(|row| row.0).collect()
    }

    /// Writes what was taken, over what is stored of these records if they are `known`.
    pub fn write(&mut self, known: bool, indexes: bulk::Indexes) -> Result<()> {
        if known {
            delete(self.rows.iter().map(|row| row.0))?;
        }
        let Documents { bytes, rows, .. } = self;
        let columns = [c"record_number", c"changed_at", c"fields"];
        bulk::append_with(indexes, c"_record_field", columns, rows.len(), |n| {
            let start = if n == 0 { 0 } else { rows[n - 1].2 };
            let (record_number, changed_at, end) = rows[n];
            Ok([
                Some(datum::number(record_number)),
                Some(datum::number(changed_at)),
                Some(datum::varlena(&bytes[start..end])?),
            ])
        })?;
        bytes.clear();
        rows.clear();
        Ok(())
    }
}

/// Deletes the documents of records. Runs as the owner.
pub fn delete(record_numbers: impl Iterator<Item = i64>) -> Result<()> {
    let mut record_numbers = record_numbers;
    loop {
        let chunk: Vec<i64> = record_numbers.by_ref().take(CHUNK).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        query::execute("DELETE FROM decisioning._record_field f WHERE f.record_number = ANY ($1)", &[chunk.into()])?;
    }
}

/// Reads a document into `fields`, which is emptied first.
pub fn read(document: &[u8], fields: &mut Fields) -> Result<()> {
    fields.clear();
    let mut last: Option<(&str, FieldKind)> = None;
    jsonb::texts(document, |name, value| {
        if last.as_ref().is_none_or(|(known, _)| *known != name) {
            last = Some((name, name.parse()?));
        }
        if let Some((_, kind)) = &last {
            fields.push(kind, value);
        }
        Ok(())
    })
}

/// Hands over number, time of change and fields of some records. Runs as the owner.
pub fn of_records(record_numbers: &[i64], mut each: impl FnMut(i64, i64, &mut Fields) -> Result<()>) -> Result<()> {
    let mut fields = Fields::new();
    for chunk in record_numbers.chunks(CHUNK) {
        scan::scan(
            "SELECT f.record_number, f.changed_at, f.fields FROM decisioning._record_field f
             WHERE f.record_number = ANY ($1)",
            &[chunk.to_vec().into()],
            CHUNK,
            |row| {
                if let (Some(number), Some(changed_at), Some(document)) =
                    (row.number(0)?, row.number(1)?, row.bytes(2)?)
                {
                    read(document, &mut fields)?;
                    each(number, changed_at, &mut fields)?;
                }
                Ok(())
            },
            || Ok(()),
        )?;
    }
    Ok(())
}
