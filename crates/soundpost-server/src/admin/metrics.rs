//! What Prometheus gets: the workers' counters, summed when it asks, and what is counted from what there is.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use soundpost_protocol::{channel::ChannelKind, close::CloseReason, connection::Refused};
use tracing::error;

use super::{redis, webhooks};
use crate::{
    api,
    apps::{AppTable, RunningApp},
    metrics::{AppCounters, ClientEventResult, ReloadResult, TriggerResult},
    node::Node,
    process,
    tls::Handshake,
};

/// Everything, as OpenMetrics text.
pub(super) fn metrics(node: &Arc<Node>) -> Response<Full<Bytes>> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { node: Arc::clone(node), apps: node.apps.table() }));
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry) {
        error!(%error, "metrics could not be written");
        return api::refusal(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be written");
    }
    let mut response = Response::new(Full::from(text));
    let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Sums the workers' counters when asked.
#[derive(Debug)]
struct Scrape {
    node: Arc<Node>,
    /// As they were when it was asked.
    apps: Arc<AppTable>,
}

#[derive(Clone, Debug, EncodeLabelSet)]
pub(super) struct AppLabel {
    app: String,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct KindLabels {
    app: String,
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ResultLabels {
    app: String,
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct HandshakeLabel {
    result: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
pub(super) struct ReasonLabels {
    pub(super) app: String,
    pub(super) reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet)]
struct ReloadLabel {
    result: &'static str,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.gauges(&mut encoder)?;
        self.bounds(&mut encoder)?;
        self.counters(&mut encoder)?;
        self.endings(&mut encoder)?;
        self.reloads(&mut encoder)?;
        self.handshakes(&mut encoder)?;
        redis::encode(&self.node.adapter, &mut encoder)?;
        webhooks::encode(&self.apps, &self.node.webhooks, &mut encoder)?;
        process::encode(&mut encoder)
    }
}

impl Scrape {
    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (node, apps) = (&self.node, self.apps.all());
        let by_app = apps.iter().map(|app| (label(app.app.id.as_str()), app.quota.open() as u64));
        family(encoder, "soundpost_connections", "Open connections", MetricType::Gauge, by_app)?;
        // Of each app its channels by kind, and the connections on them; what a removed app leaves is nobody's.
        let mut occupied: HashMap<_, _> =
            apps.iter().map(|app| (app.index, ([0_u64; ChannelKind::ALL.len()], 0_u64))).collect();
        node.delivery.directory.survey(|app, kind, subscribers| {
            if let Some((kinds, subscriptions)) = occupied.get_mut(&app) {
                kinds.iter_mut().skip(kind as usize).take(1).for_each(|count| *count += 1);
                *subscriptions += u64::from(subscribers);
            }
        });
        let of = |app: &RunningApp| occupied.get(&app.index).copied().unwrap_or_default();
        let by_kind = apps.iter().flat_map(|app| {
            let label = |kind: ChannelKind| KindLabels { app: app.app.id.to_string(), kind: kind.word() };
            ChannelKind::ALL.into_iter().zip(of(app).0).map(move |(kind, count)| (label(kind), count))
        });
        family(encoder, "soundpost_channels", "Occupied channels", MetricType::Gauge, by_kind)?;
        let by_app = apps.iter().map(|app| (label(app.app.id.as_str()), of(app).1));
        family(encoder, "soundpost_subscriptions", "Connections on channels", MetricType::Gauge, by_app)?;
        let help = "Bytes that wait for slow clients";
        gauge(encoder, "soundpost_queued_bytes", help, node.queued.bytes() as u64)
    }

    /// What the gauges must stay below; a bound that is not set is left out.
    fn bounds(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let node = &self.node;
        let of_app = |app: &Arc<RunningApp>| Some((label(app.app.id.as_str()), u64::from(app.quota.max()?)));
        let by_app = self.apps.all().iter().filter_map(of_app);
        let help = "Connections the app may have open";
        family(encoder, "soundpost_connections_max", help, MetricType::Gauge, by_app)?;
        if let Some(max) = node.quota.max() {
            let help = "Connections this node may have open";
            gauge(encoder, "soundpost_node_connections_max", help, u64::from(max))?;
        }
        let help = "Bytes of all queues above which the largest are cut";
        gauge(encoder, "soundpost_queued_bytes_max", help, node.queued.node_bytes_max as u64)
    }

    fn counters(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        type Of = fn(&AppCounters) -> u64;
        let plain: [(&str, &str, Of); 3] = [
            ("soundpost_deliveries", "Frames of events handed to connections", |app| app.deliveries.value()),
            ("soundpost_sent_bytes", "Bytes of frames handed to connections", |app| app.sent_bytes.value()),
            ("soundpost_received_messages", "Messages received from clients", |app| {
                app.received_messages.value()
            }),
        ];
        for (name, help, of) in plain {
            let by_app = self.apps().map(|(id, counters)| (label(id), counters.iter().map(of).sum()));
            family(encoder, name, help, MetricType::Counter, by_app)?;
        }
        let by_result = self.apps().flat_map(|(id, counters)| {
            TriggerResult::ALL.map(|(result, word)| {
                let count = counters.iter().map(|app| app.triggers(result).value()).sum();
                (ResultLabels { app: id.to_owned(), result: word }, count)
            })
        });
        family(encoder, "soundpost_triggers", "Requests to publish", MetricType::Counter, by_result)?;
        let by_result = self.apps().flat_map(|(id, counters)| {
            ClientEventResult::ALL.map(|(result, word)| {
                let count = counters.iter().map(|app| app.client_events(result).value()).sum();
                (ResultLabels { app: id.to_owned(), result: word }, count)
            })
        });
        family(encoder, "soundpost_client_events", "Client events", MetricType::Counter, by_result)
    }

    fn endings(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let closed = self.reasons(|app, reason| app.closed(reason).value());
        family(
            encoder,
            "soundpost_closed",
            "Connections that ended",
            MetricType::Counter,
            closed.into_iter(),
        )?;
        let mut refused = self.reasons(|app, reason| app.refused(reason).value());
        for (id, counters) in self.apps() {
            let requests: u64 = counters.iter().map(|app| app.refused_requests.value()).sum();
            if requests > 0 {
                refused.push((ReasonLabels { app: id.to_owned(), reason: "request_rate" }, requests));
            }
            let of = |kind| counters.iter().map(|app| app.refused_messages(kind).value()).sum();
            let counts = Refused::ALL.map(|kind| (kind, of(kind)));
            refused.extend(
                counts
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .map(|(kind, count)| (ReasonLabels { app: id.to_owned(), reason: kind.word() }, count)),
            );
        }
        let before_any_app =
            [("address", &self.node.refused_addresses), ("proxy_header", &self.node.refused_headers)];
        for (reason, count) in before_any_app.map(|(reason, count)| (reason, count.load(Relaxed))) {
            if count > 0 {
                refused.push((ReasonLabels { app: String::new(), reason }, count));
            }
        }
        let help = "Connections, messages and requests that were refused; without an app if none was named";
        family(encoder, "soundpost_refused", help, MetricType::Counter, refused.into_iter())
    }

    fn reloads(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let reloads = &self.node.reloads;
        let by_result = ReloadResult::ALL
            .map(|(result, word)| (ReloadLabel { result: word }, reloads.of(result).value()));
        let help = "Times the settings were read again";
        family(encoder, "soundpost_reloads", help, MetricType::Counter, by_result.into_iter())?;
        for (name, help, value) in [
            (
                "soundpost_config_last_reload_successful",
                "Whether the settings were good when they were last read",
                u64::from(reloads.is_good()),
            ),
            (
                "soundpost_config_last_reload_success_timestamp_seconds",
                "When good settings were last read, in seconds since 1970",
                reloads.good_at(),
            ),
        ] {
            gauge(encoder, name, help, value)?;
        }
        Ok(())
    }

    /// Nothing where the listeners speak no TLS.
    fn handshakes(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(tls) = &self.node.tls else { return Ok(()) };
        let by_result = Handshake::ALL
            .iter()
            .map(|(outcome, word)| (HandshakeLabel { result: word }, tls.handshakes.value(*outcome)));
        family(encoder, "soundpost_tls_handshakes", "TLS handshakes", MetricType::Counter, by_result)
    }

    /// What has happened at least once, for each app and for none.
    fn reasons(&self, of: impl Fn(&AppCounters, CloseReason) -> u64) -> Vec<(ReasonLabels, u64)> {
        let all = self.apps().flat_map(|(id, counters)| {
            let of = &of;
            CloseReason::ALL.into_iter().map(move |reason| {
                let count = counters.iter().map(|app| of(app, reason)).sum();
                (ReasonLabels { app: id.to_owned(), reason: reason.word() }, count)
            })
        });
        all.filter(|(_, count)| *count > 0).collect()
    }

    fn apps(&self) -> impl Iterator<Item = (&str, &[AppCounters])> {
        let named = self.apps.all().iter().map(|app| (app.app.id.as_str(), app.all_counters()));
        named.chain([("", self.node.apps.all_nobody())])
    }
}

/// What says whose a number is.
pub(super) fn label(id: &str) -> AppLabel {
    AppLabel { app: id.to_owned() }
}

/// One metric with one value.
pub(super) fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    value: u64,
) -> Result<(), fmt::Error> {
    let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric)
}

/// One metric with a value for each set of labels.
pub(super) fn family<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    kind: MetricType,
    values: impl Iterator<Item = (L, u64)>,
) -> Result<(), fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        let family = metric.encode_family(&labels)?;
        if matches!(kind, MetricType::Counter) {
            ConstCounter::new(value).encode(family)?;
        } else {
            ConstGauge::new(value).encode(family)?;
        }
    }
    Ok(())
}
