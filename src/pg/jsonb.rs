//! Flat jsonb objects, written as they are stored: no text is parsed and no tree is built. For documents of many rows.
//!
//! The format (jsonb.h of Postgres) has not changed since 9.4. A container is a header, one entry per key and value, and their
//! bytes. An entry gives a length; every 32nd the end of its bytes instead. Keys come shorter first, then bytewise.

use super::error::{Error, Result};
use super::numeric;

/// A value of an object.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    Null,
    Bool(bool),
    /// Null if it is not finite, as in JSON text.
    Number(f64),
    Text(&'a str),
    Texts(&'a [&'a str]),
}

const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;

const STRING: u32 = 0;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
const KINDS: u32 = 0x7000_0000;

/// Marks an entry that holds an end instead of a length.
const IS_END: u32 = 0x8000_0000;
const STRIDE: usize = 32;

/// Bytes that a member has room for at first.
const MEMBER: usize = 32;

/// Longest that a container may be, and most members that it may have.
const LIMIT: usize = 0x0fff_ffff;

/// One object, as [`Writer::bytes`].
///
/// # Errors
/// As there.
pub fn object(members: &mut [(&str, Value<'_>)]) -> Result<Vec<u8>> {
    let mut writer = Writer { buffer: Vec::with_capacity(MEMBER * members.len()), digits: String::new() };
    writer.bytes(members)?;
    Ok(writer.buffer)
}

/// Writes objects one after the other, with one buffer for all.
#[derive(Default)]
pub struct Writer {
    buffer: Vec<u8>,
    digits: String,
}

impl Writer {
    /// The object with these members, as bytes after the varlena header. Sorts `members`; members that stay in order cost nothing.
    ///
    /// # Errors
    /// A key occurs twice, a text has a zero byte, or the document is larger than Postgres allows.
    pub fn bytes(&mut self, members: &mut [(&str, Value<'_>)]) -> Result<&[u8]> {
        members.sort_unstable_by(|(a, _), (b, _)| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        if let Some(pair) = members.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(Error::invalid(format!("a JSON object has two members \"{}\"", pair[0].0)));
        }
        self.buffer.clear();
        let mut object = self.open(OBJECT, members.len(), 2 * members.len())?;
        for (key, _) in members.iter() {
            self.text(&mut object, key)?;
        }
        for (_, value) in members.iter() {
            match value {
                Value::Null => self.entry(&mut object, NULL, 0)?,
                Value::Bool(true) => self.entry(&mut object, TRUE, 0)?,
                Value::Bool(false) => self.entry(&mut object, FALSE, 0)?,
                Value::Number(number) if number.is_finite() => {
                    let start = self.pad();
                    numeric::write(&mut self.buffer, *number, &mut self.digits);
                    let length = self.buffer.len() - start;
                    self.entry(&mut object, NUMERIC, length)?;
                }
                Value::Number(_) => self.entry(&mut object, NULL, 0)?,
                Value::Text(text) => self.text(&mut object, text)?,
                Value::Texts(texts) => {
                    let start = self.pad();
                    let mut array = self.open(ARRAY, texts.len(), texts.len())?;
                    for text in *texts {
                        self.text(&mut array, text)?;
                    }
                    let length = self.buffer.len() - start;
                    self.entry(&mut object, CONTAINER, length)?;
                }
            }
        }
        Ok(&self.buffer)
    }

    /// Aligns what follows; returns where the padding starts, which counts as part of that.
    fn pad(&mut self) -> usize {
        let start = self.buffer.len();
        self.buffer.resize(start.next_multiple_of(4), 0);
        start
    }

    fn open(&mut self, kind: u32, members: usize, entries: usize) -> Result<Open> {
        if members > LIMIT {
            return Err(too_large());
        }
        self.buffer.extend_from_slice(&(kind | members as u32).to_ne_bytes());
        let next_entry = self.buffer.len();
        self.buffer.resize(next_entry + entries * size_of::<u32>(), 0);
        Ok(Open { next_entry, entries: 0, end: 0 })
    }

    fn text(&mut self, container: &mut Open, text: &str) -> Result<()> {
        if text.as_bytes().contains(&0) {
            return Err(Error::invalid("a JSON document contains a zero byte"));
        }
        self.buffer.extend_from_slice(text.as_bytes());
        self.entry(container, STRING, text.len())
    }

    fn entry(&mut self, container: &mut Open, kind: u32, length: usize) -> Result<()> {
        container.end += length;
        if container.end > LIMIT {
            return Err(too_large());
        }
        let entry = match container.entries % STRIDE {
            0 => kind | IS_END | container.end as u32,
            _ => kind | length as u32,
        };
        self.buffer[container.next_entry..][..size_of::<u32>()].copy_from_slice(&entry.to_ne_bytes());
        container.next_entry += size_of::<u32>();
        container.entries += 1;
        Ok(())
    }
}

/// A container whose members are being written.
struct Open {
    /// Place of its next entry in the buffer.
    next_entry: usize,
    entries: usize,
    /// Bytes of its members so far.
    end: usize,
}

fn too_large() -> Error {
    Error::new(pgrx::PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, "a JSON document is too large")
}

/// The texts of an object that holds texts and arrays of texts, with their keys, from its bytes. What is neither is passed
/// over.
///
/// # Errors
/// Not the bytes of an object, or what `each` returns.
pub fn texts<'a>(object: &'a [u8], mut each: impl FnMut(&'a str, &'a str) -> Result<()>) -> Result<()> {
    let object = Closed::open(object, OBJECT)?;
    let (mut key_start, mut start) = (0, 0);
    for member in 0..object.members {
        start = object.entry(member, start)?.1;
    }
    for member in 0..object.members {
        let (_, key_end) = object.entry(member, key_start)?;
        let (kind, end) = object.entry(object.members + member, start)?;
        let key = text(object.bytes(key_start, key_end)?)?;
        match kind {
            STRING => each(key, text(object.bytes(start, end)?)?)?,
            CONTAINER => {
                let array = object.bytes(start.next_multiple_of(4), end)?;
                if let Ok(array) = Closed::open(array, ARRAY) {
                    let mut start = 0;
                    for member in 0..array.members {
                        let (kind, end) = array.entry(member, start)?;
                        if kind == STRING {
                            each(key, text(array.bytes(start, end)?)?)?;
                        }
                        start = end;
                    }
                }
            }
            _ => {}
        }
        (key_start, start) = (key_end, end);
    }
    Ok(())
}

/// A container that is read.
struct Closed<'a> {
    members: usize,
    entries: &'a [u8],
    data: &'a [u8],
}

impl<'a> Closed<'a> {
    fn open(bytes: &'a [u8], kind: u32) -> Result<Self> {
        let (header, rest) = bytes.split_first_chunk::<4>().ok_or_else(damaged)?;
        let header = u32::from_ne_bytes(*header);
        if header & (OBJECT | ARRAY) != kind {
            return Err(damaged());
        }
        let members = header as usize & LIMIT;
        let entries = if kind == OBJECT { 2 * members } else { members };
        let (entries, data) = rest.split_at_checked(entries * size_of::<u32>()).ok_or_else(damaged)?;
        Ok(Closed { members, entries, data })
    }

    /// Kind of an entry whose bytes begin at `start`, and where they end.
    fn entry(&self, entry: usize, start: usize) -> Result<(u32, usize)> {
        let bytes =
            self.entries.get(entry * size_of::<u32>()..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(damaged)?;
        let entry = u32::from_ne_bytes(*bytes);
        let length = entry as usize & LIMIT;
        Ok((entry & KINDS, if entry & IS_END == 0 { start + length } else { length }))
    }

    fn bytes(&self, start: usize, end: usize) -> Result<&'a [u8]> {
        self.data.get(start..end).ok_or_else(damaged)
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| damaged())
}

fn damaged() -> Error {
    Error::corrupted("a JSON document is damaged")
}

#[cfg(any(test, feature = "pg_test"))]
#[pgrx::pg_schema]
mod tests {
    use pgrx::prelude::*;
    use serde_json::json;

    use super::{Value, Writer};
    use crate::pg::datum;

    /// A generator of its own, so that every run tests the same documents.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 33) % limit) as usize
        }

        /// Of any size, with few or many digits; now and then none.
        fn number(&mut self) -> f64 {
            let number = self.below(1 << 31) as f64;
            match self.below(8) {
                0 => 0.0,
                1 => -0.0,
                2 => (number % 10_000.0).floor(),
                3 => -number / 100.0,
                4 => (number / 1e9).powi(self.below(90) as i32 - 45),
                5 => 10_f64.powi(self.below(600) as i32 - 300),
                6 => f64::from_bits((number as u64) << 32 | number as u64),
                _ => number * number * number,
            }
        }

        fn text(&mut self) -> String {
            let length = [0, 1, 3, 8, 200, 5000][self.below(6)];
            (0..length).map(|_| ['a', 'Z', '"', '\\', '\n', 'ß', '漢', '😀'][self.below(8)]).collect()
        }
    }

    /// A number that has one shortest text; where there are several, printers may choose different ones.
    fn plain(random: &mut Random) -> f64 {
        let digits = |text: String| {
            let mantissa = text.split('e').next().unwrap_or_default();
            mantissa.chars().filter(char::is_ascii_digit).collect::<String>().trim_matches('0').to_owned()
        };
        loop {
            let number = random.number();
            if digits(format!("{number:e}")) == digits(json!(number).to_string()) {
                return number;
            }
        }
    }

    fn bytes(datum: pg_sys::Datum) -> Vec<u8> {
        // SAFETY: the datum is a jsonb that was just made.
        unsafe { pgrx::varlena_to_byte_slice(datum.cast_mut_ptr()).to_vec() }
    }

    /// Byte by byte what Postgres makes of the same document.
    #[pg_test]
    fn objects_are_as_postgres_writes_them() {
        let (mut random, mut writer) = (Random(1), Writer::default());
        for _ in 0..500 {
            let count = [0, 1, 5, 20, 33, 70][random.below(6)];
            let keys: Vec<String> = (0..count).map(|n| format!("{}{n}", &"abcdefghij"[random.below(10)..])).collect();
            let texts: Vec<Vec<String>> =
                (0..count).map(|_| (0..[1, 0, 1, 2, 40][random.below(5)]).map(|_| random.text()).collect()).collect();
            let slices: Vec<Vec<&str>> =
                texts.iter().map(|of_one| of_one.iter().map(String::as_str).collect()).collect();
            let mut members = Vec::new();
            let mut document = serde_json::Map::new();
            for (key, texts) in keys.iter().zip(&slices) {
                let (value, json) = match (texts.as_slice(), random.below(5)) {
                    (_, 0) => (Value::Null, json!(null)),
                    (_, 4) => {
                        let number = plain(&mut random);
                        (Value::Number(number), json!(number))
                    }
                    ([], 1) => (Value::Bool(true), json!(true)),
                    ([], 2) => (Value::Bool(false), json!(false)),
                    ([text], 1 | 2) => (Value::Text(text), json!(text)),
                    (texts, _) => (Value::Texts(texts), json!(texts)),
                };
                members.push((key.as_str(), value));
                document.insert(key.clone(), json);
            }
            let expected = datum::jsonb(&serde_json::Value::Object(document).to_string());
            let (Ok(expected), Ok(written)) = (expected, writer.bytes(&mut members)) else { panic!("refused") };
            assert_eq!(written, bytes(expected));
            let mut read = Vec::new();
            let outcome = super::texts(written, |key, text| {
                read.push((key.to_owned(), text.to_owned()));
                Ok(())
            });
            assert!(outcome.is_ok());
            let told: Vec<(String, String)> = members
                .iter()
                .flat_map(|(key, value)| match value {
                    Value::Text(text) => vec![((*key).to_owned(), (*text).to_owned())],
                    Value::Texts(texts) => texts.iter().map(|text| ((*key).to_owned(), (*text).to_owned())).collect(),
                    _ => Vec::new(),
                })
                .collect();
            assert_eq!(read, told);
        }
    }

    #[pg_test]
    fn what_is_no_object_does_not_read() {
        for bytes in [&b""[..], b"\0\0\0\x20\0", &[0xff; 12]] {
            let mut calls = 0;
            let outcome = super::texts(bytes, |_, _| {
                calls += 1;
                Ok(())
            });
            assert!(calls == 0 && (outcome.is_err() || bytes.len() == 5));
        }
    }

    #[pg_test]
    fn what_no_jsonb_holds_is_refused() {
        assert!(super::object(&mut [("a", Value::Null), ("b", Value::Null), ("a", Value::Null)]).is_err());
        assert!(super::object(&mut [("a", Value::Text("\0"))]).is_err());
    }
}
