//! A record as it was read: raw values by kind.

use std::hash::Hasher;

use serde_json::{Map, Value};
use siphasher::sip128::{Hasher128, SipHasher13};

use super::{FieldKind, IdentityError};

/// Values of one record in the spelling of their source. A kind may have several values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    text: String,
    /// Kind, and where its value ends in `text`.
    entries: Vec<(FieldKind, usize)>,
}

impl Fields {
    pub fn new() -> Self {
        Fields::default()
    }

    /// Adds a value; what is blank is no value.
    pub fn push(&mut self, kind: &FieldKind, value: &str) {
        if !value.trim().is_empty() {
            self.text.push_str(value);
            self.entries.push((kind.clone(), self.text.len()));
        }
    }

    /// Forgets the values and keeps the room they took.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Kinds and values in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&FieldKind, &str)> {
        let starts = std::iter::once(0).chain(self.entries.iter().map(|entry| entry.1));
        starts.zip(&self.entries).map(|(start, (kind, end))| (kind, &self.text[start..*end]))
    }

    /// First value of a kind.
    pub fn get(&self, kind: &FieldKind) -> Option<&str> {
        self.iter().find(|(of, _)| *of == kind).map(|(_, value)| value)
    }

    /// `{"email": ["A@x.com", "b@x.com"], "given_name": "Anna"}`: one value as it is, several as an array.
    pub fn to_json(&self) -> Value {
        let mut fields = Map::new();
        for (kind, value) in self.iter() {
            let value = Value::from(value);
            match fields.get_mut(&kind.to_string()) {
                None => {
                    fields.insert(kind.to_string(), value);
                }
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        Value::Object(fields)
    }

    /// Reads what [`Fields::to_json`] writes; numbers are taken as their text, `null` as no value.
    ///
    /// # Errors
    /// Not an object, a kind that does not exist, a value that is neither text nor number nor an array of them.
    pub fn from_json(document: &Value) -> Result<Self, IdentityError> {
        let Value::Object(entries) = document else { return Err(IdentityError::NoFields) };
        let mut fields = Fields::new();
        for (kind, values) in entries {
            let parsed = kind.parse()?;
            for value in values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice) {
                match value {
                    Value::Null => {}
                    Value::String(text) => fields.push(&parsed, text),
                    Value::Number(number) => fields.push(&parsed, &number.to_string()),
                    _ => return Err(IdentityError::NoText { field: kind.clone() }),
                }
            }
        }
        Ok(fields)
    }

    /// Tells whether a record changed: equal values in the same order have the same fingerprint, on every machine and in
    /// every version.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(0x6669_656c_6473, 1);
        for (kind, value) in self.iter() {
            match kind {
                FieldKind::Identifier(identifier) => {
                    hasher.write(identifier.kind.name().as_bytes());
                    hasher.write(identifier.namespace.as_bytes());
                }
                kind => hasher.write(kind.to_string().as_bytes()),
            }
            hasher.write(&[0]);
            hasher.write(&(value.len() as u64).to_le_bytes());
            hasher.write(value.as_bytes());
        }
        hasher.finish128().h1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_read_as_they_are_written() {
        let document = json!({"email": ["A@x.com", "b@x.com"], "given_name": "Anna", "external_id:crm": "7"});
        let fields = Fields::from_json(&document).unwrap();
        assert_eq!(fields.to_json(), document);
        assert_eq!(fields.get(&FieldKind::GivenName), Some("Anna"));
        let loose = json!({"external_id": 7, "phone": [null, " "], "city": null});
        assert_eq!(Fields::from_json(&loose).unwrap().to_json(), json!({"external_id": "7"}));
        for wrong in [json!([]), json!({"shoe": "x"}), json!({"email": {"a": 1}}), json!({"email": true})] {
            assert!(Fields::from_json(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fingerprints_stay() {
        let of = |document| Fields::from_json(&document).unwrap().fingerprint();
        assert_eq!(of(json!({"given_name": "Anna", "email": "a@x.com"})), FINGERPRINT);
        assert_ne!(of(json!({"given_name": "Ann", "email": "aa@x.com"})), FINGERPRINT);
        assert_ne!(of(json!({"given_name": "ab", "email": "c"})), of(json!({"given_name": "a", "email": "bc"})));
    }

    const FINGERPRINT: u64 = 12_731_458_880_046_211_441;
}
