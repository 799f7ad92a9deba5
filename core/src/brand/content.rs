//! Content as it is stored: a JSON document with texts in it.

use serde_json::Value;

/// A text of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Such as `subject`, `body.title` or `items[0]`; empty if the document is a text itself.
    pub path: String,
    pub text: String,
}

impl Field {
    /// Whether it is `name`, or within it.
    pub fn is_within(&self, name: &str) -> bool {
        self.path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

/// All texts of a document, in the order of its names.
pub fn fields(document: &Value) -> Vec<Field> {
    let mut found = Vec::new();
    collect(document, String::new(), &mut found);
    found
}

fn collect(value: &Value, path: String, found: &mut Vec<Field>) {
    match value {
        Value::String(text) => found.push(Field { path, text: text.clone() }),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| collect(item, format!("{path}[{at}]"), found));
        }
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(member, path, found);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_paths() {
        let document = serde_json::json!({"subject": "Hi", "body": {"title": "T", "parts": ["a", {"b": "c"}]}, "n": 3});
        let paths: Vec<String> = fields(&document).into_iter().map(|field| field.path).collect();
        assert_eq!(paths, ["body.parts[0]", "body.parts[1].b", "body.title", "subject"]);
        assert_eq!(fields(&serde_json::json!("plain"))[0].path, "");
        let title = Field { path: "body.title".to_owned(), text: String::new() };
        assert!(title.is_within("body") && title.is_within("body.title") && !title.is_within("bod"));
    }
}
