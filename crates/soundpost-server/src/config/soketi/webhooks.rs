//! The webhooks of soketi's app: a list in one variable, and two variables that batch what is sent to all of them.
//! Source: soketi's `app.ts` (`WebhookInterface`) and `webhook-sender.ts`.

use config::{Value, ValueKind};
use serde_json::{Map, Value as Json};

use super::{
    super::{ConfigError, checks, error::Place},
    Reader,
};

const WEBHOOKS: &str = "DEFAULT_APP_WEBHOOKS";
const BATCHING: &str = "WEBHOOKS_BATCHING";
const DURATION: &str = "WEBHOOKS_BATCHING_DURATION";

/// How long soketi gathers events where it is told to and not how long, milliseconds.
pub(in super::super) const DURATION_DEFAULT: i64 = 50;

/// Names of soketi's filter, and ours.
pub(in super::super) const FILTERS: [(&str, &str); 2] =
    [("channel_name_starts_with", "filter.prefix"), ("channel_name_ends_with", "filter.suffix")];

/// What is read here.
pub(super) fn variables() -> [&'static str; 3] {
    [WEBHOOKS, BATCHING, DURATION]
}

impl Reader<'_> {
    /// Errors: a webhook without a URL or events, or one that calls a function of AWS; to leave it out would do harm.
    /// What else is wrong with one is said where all webhooks are judged.
    pub(super) fn webhooks(&mut self) -> Result<(), ConfigError> {
        let wait = self.batch_milliseconds()?;
        for (index, webhook) in self.list().iter().enumerate() {
            self.webhook(index, webhook)?;
            if let Some((wait, name)) = &wait {
                self.put_app(&format!("webhooks.{index}.batch_milliseconds"), name, *wait);
            }
        }
        Ok(())
    }

    /// Why a variable of these says nothing, if it does not.
    pub(super) fn idle_webhooks(&self, name: &str) -> Option<&'static str> {
        if ![BATCHING, DURATION].contains(&name) {
            return None;
        }
        if self.list().is_empty() {
            return Some("without webhooks in SOKETI_DEFAULT_APP_WEBHOOKS");
        }
        let is_on = self.text(BATCHING).is_some_and(|text| checks::boolean(&text) == Some(true));
        (name == DURATION && !is_on).then_some("without SOKETI_WEBHOOKS_BATCHING=true")
    }

    /// soketi takes what is no list for an empty one.
    fn list(&self) -> Vec<Json> {
        if let Some(Json::Array(list)) = self.json(WEBHOOKS) { list } else { Vec::new() }
    }

    /// How long events wait for others, and the variable that says so; `None`: soketi sends each alone.
    fn batch_milliseconds(&self) -> Result<Option<(i64, &'static str)>, ConfigError> {
        if self.switch(BATCHING)? != Some(true) {
            return Ok(None);
        }
        let wait = self.whole(DURATION)?;
        Ok(Some(wait.map_or((DURATION_DEFAULT, BATCHING), |wait| (wait, DURATION))))
    }

    fn webhook(&mut self, index: usize, webhook: &Json) -> Result<(), ConfigError> {
        let place = Place { key: format!("webhooks.{index}"), origin: self.origin(WEBHOOKS) };
        let refuse = |problem| Err(ConfigError::Secret { place: place.clone(), problem });
        let Some(webhook) = webhook.as_object() else { return refuse("is no JSON object") };
        let is_said = |key| webhook.get(key).is_some_and(|value| !value.is_null() && value != "");
        let key = |name: &str| format!("webhooks.{index}.{name}");
        match webhook.get("url") {
            Some(Json::String(url)) if !url.is_empty() => self.put_app(&key("url"), WEBHOOKS, url.as_str()),
            _ if is_said("lambda_function") => {
                let feature = "webhooks that call AWS Lambda";
                return Err(ConfigError::Lacking { place, feature });
            }
            _ => return refuse("has no url"),
        }
        match webhook.get("event_types") {
            Some(Json::Array(events)) if events.iter().all(Json::is_string) => {
                let events = events.iter().filter_map(Json::as_str);
                let events: Vec<Value> = events.map(|event| Value::new(None, event)).collect();
                self.put_app(&key("events"), WEBHOOKS, events);
            }
            _ => return refuse("has no event_types, a list of the events to send"),
        }
        self.headers_and_filter(index, webhook);
        Ok(())
    }

    fn headers_and_filter(&mut self, index: usize, webhook: &Map<String, Json>) {
        let key = |name: &str| format!("webhooks.{index}.{name}");
        if let Some(headers) = webhook.get("headers").filter(|headers| !headers.is_null()) {
            self.put_app(&key("headers"), WEBHOOKS, headers.to_string());
        }
        for (theirs, ours) in FILTERS {
            let text = webhook.get("filter").and_then(|filter| filter.get(theirs)).and_then(Json::as_str);
            if let Some(text) = text.filter(|text| !text.is_empty()) {
                self.put_app(&key(ours), WEBHOOKS, ValueKind::from(text));
            }
        }
    }
}
