//! `soundpost_webhooks_*`: what becomes of the events that apps are told of.

use std::{fmt, sync::Arc};

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::MetricType,
};
use soundpost_protocol::webhook::{Webhook, queue::QueueLimits};

use super::metrics::{ReasonLabels, family, label};
use crate::{
    apps::AppTable,
    webhook::{Meters, WebhookMetrics, metrics::Dropped},
};

/// Nothing of apps without webhooks.
pub(super) fn encode(
    apps: &AppTable,
    meters: &Meters,
    encoder: &mut DescriptorEncoder<'_>,
) -> Result<(), fmt::Error> {
    let apps: Vec<_> = apps
        .all()
        .iter()
        .filter_map(|app| {
            let queued_max = app.app.webhooks.iter().map(|webhook| queued_max(webhook)).sum();
            Some(Of { app: app.app.id.as_str(), queued_max, metrics: meters.find(app.index)? })
        })
        .collect();
    if apps.is_empty() {
        return Ok(());
    }
    counters(&apps, encoder)?;
    dropped(&apps, encoder)?;
    gauges(&apps, encoder)?;
    let help = "From when an event happened until its receiver has taken it";
    let name = "soundpost_webhooks_delivery_seconds";
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for of in &apps {
        of.metrics.delivery_seconds.encode(metric.encode_family(&label(of.app))?)?;
    }
    Ok(())
}

/// An app that has webhooks, or had some since the start.
struct Of<'a> {
    app: &'a str,
    queued_max: usize,
    metrics: Arc<WebhookMetrics>,
}

/// Events that wait for a webhook at most, and those of its bodies that are sent or will be sent again.
fn queued_max(webhook: &Webhook) -> usize {
    let QueueLimits { events_max, requests_max, retrying_max, .. } = QueueLimits::default();
    events_max.get() + (requests_max.get() + retrying_max) * webhook.target.batching.events_max()
}

fn counters(apps: &[Of<'_>], encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    type Value = fn(&WebhookMetrics) -> u64;
    let all: [(&str, &str, Value); 4] = [
        ("soundpost_webhooks_sent", "Requests to webhooks, repeated ones too", |all| all.sent.value()),
        ("soundpost_webhooks_failed", "Those without success", |all| all.failed.value()),
        ("soundpost_webhooks_retried", "Those that were not the first with their body", |all| {
            all.retried.value()
        }),
        ("soundpost_webhooks_delivered", "Events that receivers have taken", |all| all.delivered.value()),
    ];
    for (name, help, value) in all {
        let by_app = apps.iter().map(|of| (label(of.app), value(&of.metrics)));
        family(encoder, name, help, MetricType::Counter, by_app)?;
    }
    Ok(())
}

fn dropped(apps: &[Of<'_>], encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let by_reason = apps.iter().flat_map(|of| {
        Dropped::ALL.map(|(dropped, reason)| {
            (ReasonLabels { app: of.app.to_owned(), reason }, of.metrics.dropped(dropped).value())
        })
    });
    let help = "Events that no receiver gets";
    family(encoder, "soundpost_webhooks_dropped", help, MetricType::Counter, by_reason)
}

fn gauges(apps: &[Of<'_>], encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
    let queued = apps.iter().map(|of| (label(of.app), of.metrics.depth.value()));
    family(encoder, "soundpost_webhooks_queued", "Events that are to be sent", MetricType::Gauge, queued)?;
    let max = apps.iter().map(|of| (label(of.app), of.queued_max as u64));
    let help = "How many may be, in the queues of all webhooks of the app; the oldest give way";
    family(encoder, "soundpost_webhooks_queued_max", help, MetricType::Gauge, max)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus_client::{collector::Collector, encoding::text::encode as text_of, registry::Registry};
    use soundpost_protocol::{
        app::{App, AppId, AppKey, AppSecret},
        webhook::{
            Carrier, HttpTarget,
            queue::Fate,
            target::{ExtraHeaders, Target, TargetUrl},
        },
    };

    use super::*;
    use crate::apps::Apps;

    #[derive(Debug)]
    struct Scrape(Arc<AppTable>, Arc<Meters>);

    impl Collector for Scrape {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
            encode(&self.0, &self.1, &mut encoder)
        }
    }

    fn scrape(apps: &Apps, meters: &Arc<Meters>) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(apps.table(), Arc::clone(meters))));
        let mut text = String::new();
        text_of(&mut text, &registry).unwrap();
        text
    }

    fn app(id: &str) -> App {
        App::new(AppId::parse(id).unwrap(), AppKey::parse(id).unwrap(), AppSecret::new("secret"))
    }

    fn hooked(id: &str, urls: &[&str]) -> App {
        let webhook = |url: &&str| {
            let url = TargetUrl::parse(url).unwrap();
            let http = HttpTarget { url, headers: ExtraHeaders::default(), ca: None, refuses_private: false };
            Arc::new(Webhook::new(Target::default(), Carrier::Http(http)))
        };
        App { webhooks: urls.iter().map(webhook).collect(), ..app(id) }
    }

    #[test]
    fn every_number_of_an_app_with_webhooks_has_its_line_and_no_other_app_any() {
        let apps = Apps::new(vec![app("plain"), hooked("shop", &["http://a.test/", "http://b.test/"])], 1);
        let meters = Arc::new(Meters::default());
        assert_eq!(scrape(&apps, &meters), "# EOF\n");
        let metrics = meters.of(apps.by_id("shop").unwrap().index);
        metrics.sent.add(5);
        metrics.failed.add(2);
        metrics.retried.add(1);
        metrics.depth.moved(0, 7);
        metrics.dropped(Dropped::Inbox).add(3);
        metrics.settled(Fate::Delivered, Duration::from_millis(30));
        metrics.settled(Fate::Refused(410), Duration::ZERO);
        let text = scrape(&apps, &meters);
        for line in [
            r#"soundpost_webhooks_sent_total{app="shop"} 5"#,
            r#"soundpost_webhooks_failed_total{app="shop"} 2"#,
            r#"soundpost_webhooks_retried_total{app="shop"} 1"#,
            r#"soundpost_webhooks_delivered_total{app="shop"} 1"#,
            r#"soundpost_webhooks_dropped_total{app="shop",reason="refused"} 1"#,
            r#"soundpost_webhooks_dropped_total{app="shop",reason="expired"} 0"#,
            r#"soundpost_webhooks_dropped_total{app="shop",reason="inbox"} 3"#,
            r#"soundpost_webhooks_queued{app="shop"} 7"#,
            r#"soundpost_webhooks_queued_max{app="shop"} 20072"#,
            r#"soundpost_webhooks_delivery_seconds_bucket{le="0.025",app="shop"} 0"#,
            r#"soundpost_webhooks_delivery_seconds_bucket{le="0.05",app="shop"} 1"#,
            r#"soundpost_webhooks_delivery_seconds_count{app="shop"} 1"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
        }
        assert!(!text.contains("plain"), "{text}");
    }
}
