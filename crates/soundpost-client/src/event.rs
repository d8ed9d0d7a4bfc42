//! What a server sends: one JSON object a message.

use serde::Deserialize;
use serde_json::Value;

use crate::ClientError;

/// One message from the server.
///
/// Shape: `{"event":"NAME","channel":"NAME","data":...,"user_id":"42"}`, all but `event` optional.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Event {
    /// The name as on the wire: `pusher_internal:subscription_succeeded`, not what pusher-js makes of it.
    #[serde(rename = "event")]
    pub name: String,
    /// The channel, for events that have one.
    pub channel: Option<String>,
    /// `data` as on the wire, mostly a string of JSON; null if absent. See [`Event::decoded`].
    #[serde(default)]
    pub data: Value,
    /// Who sent a client event on a presence channel.
    pub user_id: Option<String>,
    /// The whole message, byte for byte.
    #[serde(skip)]
    pub text: String,
}

impl Event {
    /// Reads a message. Errors: [`ClientError::NotAnEvent`].
    pub fn parse(text: &str) -> Result<Self, ClientError> {
        match serde_json::from_str::<Self>(text) {
            Ok(event) => Ok(Self { text: text.to_owned(), ..event }),
            Err(_) => Err(ClientError::NotAnEvent { text: text.to_owned() }),
        }
    }

    /// `data` as pusher-js shows it: a string that holds JSON is parsed, anything else stays as it is.
    pub fn decoded(&self) -> Value {
        let decoded = self.data.as_str().and_then(|text| serde_json::from_str(text).ok());
        decoded.unwrap_or_else(|| self.data.clone())
    }

    /// The refusal in a `pusher:error` or `pusher:subscription_error`; `None` for any other event.
    pub fn refusal(&self) -> Option<ClientError> {
        let (code, message) = match self.name.as_str() {
            "pusher:error" => ("code", "message"),
            "pusher:subscription_error" => ("status", "error"),
            _ => return None,
        };
        let data = self.decoded();
        let code = data.get(code).and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
        let message = data.get(message).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(ClientError::Refused { code: code.unwrap_or(0), message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn data_is_decoded_once_and_only_if_it_is_json() {
        for (data, expected) in [
            (json!(r#"{"id":1}"#), json!({"id": 1})),
            (json!("text"), json!("text")),
            (json!({"on": true}), json!({"on": true})),
            (json!(r#""\"7\"""#), json!(r#""7""#)),
        ] {
            let event = Event::parse(&json!({"event": "e", "data": data}).to_string()).unwrap();
            assert_eq!(event.decoded(), expected);
        }
        assert_eq!(Event::parse(r#"{"event":"pusher:ping"}"#).unwrap().decoded(), Value::Null);
        assert!(matches!(Event::parse("{}"), Err(ClientError::NotAnEvent { .. })));
    }

    #[test]
    fn a_refusal_has_its_code_in_either_form() {
        for text in [
            r#"{"event":"pusher:error","data":{"code":4001,"message":"no"}}"#,
            r#"{"event":"pusher:error","data":"{\"code\":4001,\"message\":\"no\"}"}"#,
            r#"{"event":"pusher:subscription_error","channel":"c","data":{"status":4001,"error":"no"}}"#,
        ] {
            let refusal = Event::parse(text).unwrap().refusal().unwrap();
            assert_eq!(refusal.code(), Some(4001), "{text}");
            assert_eq!(refusal.to_string(), "refused with 4001: no", "{text}");
        }
        assert!(Event::parse(r#"{"event":"e"}"#).unwrap().refusal().is_none());
    }
}
