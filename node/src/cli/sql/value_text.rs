//! Values as text: for people, for CSV and for JSON. Pure.

use halite_client::Value;

/// A value of JSON; blobs are hexadecimal digits.
pub(super) fn json_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        // JSON has no infinities: a number too large for a double says the same.
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "9e999" } else { "-9e999" }.to_owned()
        }
        Value::Real(real) if real.is_nan() => "null".to_owned(),
        Value::Real(real) => real_text(*real),
        Value::Text(text) => json_text(text),
        Value::Blob(blob) => json_text(&hex(blob)),
    }
}

/// A string of JSON.
pub(super) fn json_text(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The value for people: `NULL`, numbers and text as they are, blobs as SQL literals.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "NULL".to_owned(),
        Value::Integer(integer) => integer.to_string(),
        Value::Real(real) if real.is_infinite() => {
            if *real > 0.0 { "Inf" } else { "-Inf" }.to_owned()
        }
        Value::Real(real) => real_text(*real),
        Value::Text(text) => text.clone(),
        Value::Blob(blob) => format!("x'{}'", hex(blob)),
    }
}

/// The same, or only its beginning, if that has more than `chars` characters already.
pub(super) fn beginning(value: &Value, chars: usize) -> String {
    match value {
        Value::Text(text) => text.chars().take(chars).collect(),
        Value::Blob(blob) if blob.len() > chars => format!("x'{}", hex(&blob[..chars])),
        value => shown(value),
    }
}

/// The shortest text that reads back as the same double, always with a point or an exponent.
fn real_text(real: f64) -> String {
    format!("{real:?}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A field of a CSV record (RFC 4180). An empty one is in quotes, since NULL is not.
pub(super) fn csv_field(field: &str) -> String {
    if field.is_empty() || field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
