//! What was written, key by key, before anything is checked. The field names are the keys of `docs/configuration.md`.
//!
//! A value is kept as it stands in its source, because from the environment everything comes as text; what it means
//! and whether it is allowed is for [`super::settings`].

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, de};

/// Text, a whole number, a fraction, or true and false, as TOML has them; from the environment always text.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scalar {
    Text(String),
    Whole(i64),
    Fraction(f64),
    Boolean(bool),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Whole(number) => write!(f, "{number}"),
            Self::Fraction(number) => write!(f, "{number}"),
            Self::Boolean(boolean) => write!(f, "{boolean}"),
        }
    }
}

/// A secret as written. Its `Debug` prints nothing.
#[derive(Clone)]
pub(super) struct Secret(pub(super) Scalar);

impl fmt::Debug for Secret {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Several values: an array, numbered variables (`..__0`, `..__1`), or one text with commas.
#[derive(Clone, Debug)]
pub(super) struct List(pub(super) Vec<Scalar>);

/// Everything but the apps, which are layered one by one.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SettingsFile {
    pub(super) server: ServerFile,
    pub(super) admin: AdminFile,
    pub(super) redis: RedisFile,
}

/// `[server]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ServerFile {
    pub(super) host: Option<List>,
    pub(super) port: Option<Scalar>,
    pub(super) path: Option<Scalar>,
    pub(super) hostname: Option<Scalar>,
    pub(super) unix_socket: Option<Scalar>,
    pub(super) unix_socket_mode: Option<Scalar>,
    pub(super) trusted_proxies: Option<List>,
    pub(super) proxy_protocol: Option<Scalar>,
    pub(super) workers: Option<Scalar>,
    pub(super) drain_seconds: Option<Scalar>,
    pub(super) connections_max: Option<Scalar>,
    pub(super) connections_per_address_max: Option<Scalar>,
    pub(super) connections_per_address_per_second: Option<Scalar>,
    pub(super) queue_bytes_max: Option<Scalar>,
    pub(super) send_buffer_bytes: Option<Scalar>,
    pub(super) request_bytes_max: Option<Scalar>,
    pub(super) watch_files: Option<Scalar>,
    pub(super) tls: TlsFile,
    pub(super) debug: Option<Scalar>,
    pub(super) log_format: Option<Scalar>,
    pub(super) ready_requires_redis: Option<Scalar>,
}

/// `[server.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsFile {
    pub(super) certificate: Option<Scalar>,
    pub(super) key: Option<Scalar>,
    pub(super) passphrase: Option<Secret>,
    /// By index, in digits.
    pub(super) certificates: BTreeMap<String, CertificateFile>,
}

/// `[[server.tls.certificates]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct CertificateFile {
    pub(super) certificate: Option<Scalar>,
    pub(super) key: Option<Scalar>,
    pub(super) passphrase: Option<Secret>,
}

/// `[admin]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AdminFile {
    pub(super) host: Option<Scalar>,
    pub(super) port: Option<Scalar>,
}

/// `[redis]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RedisFile {
    pub(super) enabled: Option<Scalar>,
    /// A secret: it may hold the password.
    pub(super) url: Option<Secret>,
    pub(super) username: Option<Scalar>,
    pub(super) password: Option<Secret>,
    pub(super) database: Option<Scalar>,
    pub(super) sentinels: Option<List>,
    pub(super) master: Option<Scalar>,
    pub(super) sentinel_username: Option<Scalar>,
    pub(super) sentinel_password: Option<Secret>,
    pub(super) cluster: Option<List>,
    pub(super) prefix: Option<Scalar>,
    pub(super) channel: Option<Scalar>,
    pub(super) local_first: Option<Scalar>,
    pub(super) on_outage: Option<Scalar>,
    pub(super) tls: RedisTlsFile,
}

/// `[redis.tls]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RedisTlsFile {
    pub(super) ca: Option<Scalar>,
    pub(super) certificate: Option<Scalar>,
    pub(super) key: Option<Scalar>,
}

/// `[[apps]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AppFile {
    pub(super) id: Option<Scalar>,
    pub(super) key: Option<Scalar>,
    pub(super) secret: Option<Secret>,
    pub(super) previous_secret: Option<Secret>,
    pub(super) enabled: Option<Scalar>,
    pub(super) tls_only: Option<Scalar>,
    pub(super) client_events: Option<Scalar>,
    pub(super) client_events_per_second: Option<Scalar>,
    pub(super) client_events_on_public: Option<Scalar>,
    pub(super) messages_per_minute: Option<Scalar>,
    pub(super) messages_per_window: Option<Scalar>,
    pub(super) messages_window_seconds: Option<Scalar>,
    pub(super) terminate_on_limit: Option<Scalar>,
    pub(super) allowed_origins: Option<List>,
    pub(super) requests_per_second: Option<Scalar>,
    pub(super) connections_max: Option<Scalar>,
    pub(super) channels_per_connection_max: Option<Scalar>,
    pub(super) activity_timeout_seconds: Option<Scalar>,
    pub(super) ping_interval_seconds: Option<Scalar>,
    pub(super) pong_timeout_seconds: Option<Scalar>,
    pub(super) message_bytes_max: Option<Scalar>,
    pub(super) event_data_bytes_max: Option<Scalar>,
    pub(super) channel_name_chars_max: Option<Scalar>,
    pub(super) event_name_chars_max: Option<Scalar>,
    pub(super) user_id_chars_max: Option<Scalar>,
    pub(super) user_info_bytes_max: Option<Scalar>,
    pub(super) presence_members_max: Option<Scalar>,
    pub(super) presence_leave_hold_milliseconds: Option<Scalar>,
    pub(super) authorized_timeout_seconds: Option<Scalar>,
    pub(super) watchlists: Option<Scalar>,
    pub(super) terminate_presence: Option<Scalar>,
    pub(super) subscription_count: Option<Scalar>,
    pub(super) cache_ttl_seconds: Option<Scalar>,
    pub(super) cache_bytes_max: Option<Scalar>,
    pub(super) timestamp_window_seconds: Option<Scalar>,
    pub(super) strict_info: Option<Scalar>,
    /// By index, in digits.
    pub(super) webhooks: BTreeMap<String, WebhookFile>,
}

/// `[[apps.webhooks]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WebhookFile {
    /// A secret: its query may hold a token.
    pub(super) url: Option<Secret>,
    pub(super) events: Option<List>,
    /// A JSON object of texts, also where the file has a table.
    pub(super) headers: Option<Secret>,
    pub(super) batch_milliseconds: Option<Scalar>,
    pub(super) batch_events: Option<Scalar>,
    pub(super) ca: Option<Scalar>,
    pub(super) refuse_private_addresses: Option<Scalar>,
    pub(super) filter: FilterFile,
    pub(super) laravel_queue: LaravelQueueFile,
}

/// `filter` of `[[apps.webhooks]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilterFile {
    pub(super) prefix: Option<Scalar>,
    pub(super) suffix: Option<Scalar>,
}

/// `laravel_queue` of `[[apps.webhooks]]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LaravelQueueFile {
    pub(super) job: Option<Scalar>,
    pub(super) queue: Option<Scalar>,
    pub(super) prefix: Option<Scalar>,
    /// A secret: it may hold the password.
    pub(super) redis: Option<Secret>,
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Scalar::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

struct ScalarVisitor;

impl de::Visitor<'_> for ScalarVisitor {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one value: text, a number, true or false")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Scalar, E> {
        Ok(Scalar::Boolean(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
        Ok(Scalar::Whole(v))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Scalar, E> {
        // No range goes that far, so the largest number is refused as well as the one found.
        Ok(Scalar::Whole(i64::try_from(v).unwrap_or(i64::MAX)))
    }

    fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
        Ok(Scalar::Fraction(v))
    }

    fn visit_str<E>(self, v: &str) -> Result<Scalar, E> {
        Ok(Scalar::Text(v.to_owned()))
    }
}

struct ListVisitor;

impl<'de> de::Visitor<'de> for ListVisitor {
    type Value = List;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of texts")
    }

    fn visit_str<E>(self, v: &str) -> Result<List, E> {
        let parts = v.split(',').map(str::trim).filter(|part| !part.is_empty());
        Ok(List(parts.map(|part| Scalar::Text(part.to_owned())).collect()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<List, A::Error> {
        let mut list = Vec::new();
        while let Some(scalar) = seq.next_element()? {
            list.push(scalar);
        }
        Ok(List(list))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<List, A::Error> {
        let mut list = BTreeMap::new();
        while let Some((index, scalar)) = map.next_entry::<String, Scalar>()? {
            let index: u16 =
                index.parse().map_err(|_| de::Error::custom(format!("{index:?} is not an index")))?;
            list.insert(index, scalar);
        }
        Ok(List(list.into_values().collect()))
    }
}
