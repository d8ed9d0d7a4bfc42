//! From the units and words of other servers to ours.

use serde_json::Value;

/// What a value means where it was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A text; a number counts as its digits.
    Text,
    /// A whole number, perhaps in quotes.
    Whole,
    /// A count: below 0 there is no limit, which is 0 here.
    Count,
    /// 1024 bytes, fractions allowed.
    Kilobytes,
    /// 1024 times as many bytes.
    Megabytes,
    /// Seconds that are milliseconds here.
    Seconds,
    /// Milliseconds that are whole seconds here, rounded up.
    Milliseconds,
    /// True or false.
    Flag,
    /// What stands before every route; `/` is nothing.
    Path,
    /// The permissions of a file in octal digits: `660` is `0660`.
    Mode,
}

/// The value as we write it. Errors: what was expected instead, in words.
pub(super) fn convert(value: &Value, form: Form) -> Result<Value, &'static str> {
    let whole = |number: f64| match number {
        number if number.is_finite() && number.abs() < 9e15 => Ok(Value::from(number.ceil() as i64)),
        _ => Err("a number"),
    };
    match form {
        Form::Text => text(value).map(Value::from).ok_or("a text"),
        Form::Whole => whole(number(value)?),
        Form::Count => whole(number(value)?.max(0.0)),
        Form::Kilobytes => whole((number(value)? * 1024.0).floor()),
        Form::Megabytes => whole(number(value)? * 1_048_576.0),
        Form::Seconds => whole(number(value)? * 1000.0),
        Form::Milliseconds => whole(number(value)? / 1000.0),
        Form::Flag => flag(value).map(Value::from).ok_or("true or false"),
        Form::Path => text(value).map(|text| Value::from(text.trim_matches('/'))).ok_or("a text"),
        Form::Mode => text(value).map(|text| Value::from(format!("{text:0>4}"))).ok_or("a text"),
    }
}

/// A text, or a whole number's digits: ids are often written so.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(number.to_string()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A number, perhaps in quotes.
pub(super) fn number(value: &Value) -> Result<f64, &'static str> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    number.filter(|number| number.is_finite()).ok_or("a number")
}

/// True or false, perhaps as a word or as 1 or 0.
pub(super) fn flag(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| super::super::checks::boolean(text(value)?.trim()))
}

/// Texts of an array, or the parts of one text with commas.
pub(super) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(text).collect(),
        Value::String(text) => {
            text.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn units_become_ours() {
        for (value, form, expected) in [
            (json!("a"), Form::Text, Ok(json!("a"))),
            (json!(42), Form::Text, Ok(json!("42"))),
            (json!(1.5), Form::Text, Err("a text")),
            (json!("8080"), Form::Whole, Ok(json!(8080))),
            (json!("x"), Form::Whole, Err("a number")),
            (json!("inf"), Form::Whole, Err("a number")),
            (json!(1e300), Form::Megabytes, Err("a number")),
            (json!(-1), Form::Count, Ok(json!(0))),
            (json!("-1"), Form::Count, Ok(json!(0))),
            (json!(7), Form::Count, Ok(json!(7))),
            (json!(0.5), Form::Kilobytes, Ok(json!(512))),
            (json!(10), Form::Megabytes, Ok(json!(10_485_760))),
            (json!(2), Form::Seconds, Ok(json!(2000))),
            (json!(3001), Form::Milliseconds, Ok(json!(4))),
            (json!("true"), Form::Flag, Ok(json!(true))),
            (json!(0), Form::Flag, Ok(json!(false))),
            (json!("maybe"), Form::Flag, Err("true or false")),
            (json!("/ws/"), Form::Path, Ok(json!("ws"))),
            (json!("660"), Form::Mode, Ok(json!("0660"))),
        ] {
            assert_eq!(convert(&value, form), expected, "{value} {form:?}");
        }
        assert_eq!(texts(&json!("a.test, b.test,")), ["a.test", "b.test"]);
        assert_eq!(texts(&json!(["a", 1, null])), ["a", "1"]);
    }
}
